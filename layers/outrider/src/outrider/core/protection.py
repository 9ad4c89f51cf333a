"""What protects a running pod from being moved: do-not-disrupt, budgets, its own nature.

The rules are Karpenter's (core pkg/utils/pod, pkg/utils/pdb): `karpenter.sh/do-not-disrupt` is
"true" or a Go duration counted from the pod's start, one that has not started counts as protected,
and text that is neither protects nothing. Two budgets on one pod block it, since the Eviction API
refuses it. An unhealthy pod under `AlwaysAllow` is free. Refuses to know why the pod should move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from outrider.apis import duration, labels
from outrider.apis.node import Node
from outrider.apis.placement import NO_SCHEDULE, Taint
from outrider.apis.pod import Pod
from outrider.apis.policy import ALWAYS_ALLOW, PodDisruptionBudget
from outrider.errors import InvalidManifest

DISRUPTED = Taint(labels.DISRUPTED_TAINT, "", NO_SCHEDULE)
STUCK = timedelta(minutes=1)
CRITICAL = frozenset({"system-cluster-critical", "system-node-critical"})


def drainable(pod: Pod, now: datetime) -> bool:
    """Return whether a drain has to see *pod* off: the others go, or stay, with the node itself.

    Static pods, finished ones, those that tolerate the disrupted taint, and those stuck a minute
    past the end of their grace hold no node.
    """
    return not (
        pod.from_node
        or pod.finished
        or tolerates_disruption(pod)
        or (pod.deleted is not None and now > pod.deleted + STUCK)
    )


def movable(pod: Pod) -> bool:
    """Return whether *pod* will need another place: neither a node's own, nor ended, nor ending."""
    return not (pod.from_node or pod.from_daemon or pod.finished or pod.deleted is not None)


def tolerates_disruption(pod: Pod) -> bool:
    """Return whether *pod* tolerates the taint of a node that is being disrupted."""
    return any(toleration.tolerates(DISRUPTED) for toleration in pod.constraints.tolerations)


def forbids_disruption(pod: Pod, now: datetime) -> bool:
    """Return whether *pod*'s do-not-disrupt annotation is in force at *now*."""
    text = pod.annotations.get(labels.DO_NOT_DISRUPT)
    if text is None or pod.finished or pod.deleted is not None:
        return False
    if text == "true":
        return True
    try:
        span = duration.parse(text)
    except InvalidManifest:
        return False
    if span <= timedelta():
        return False
    return pod.started is None or now < pod.started + span


def node_forbids_disruption(node: Node) -> bool:
    """Return whether *node* itself carries do-not-disrupt; only "true" counts there."""
    return node.annotations.get(labels.DO_NOT_DISRUPT) == "true"


def is_critical(pod: Pod) -> bool:
    """Return whether *pod* is of a class that the system itself needs."""
    return pod.priority_class_name in CRITICAL


class Budgets:
    """The PodDisruptionBudgets of a cluster, and what is left of each while it is being spent."""

    def __init__(self, budgets: Iterable[PodDisruptionBudget]) -> None:
        self._of: dict[str, list[PodDisruptionBudget]] = {}
        self._left: dict[str, int] = {}
        for budget in budgets:
            self._of.setdefault(budget.namespace, []).append(budget)
            self._left[budget.key] = budget.disruptions_allowed

    @property
    def left(self) -> Mapping[str, int]:
        """Return how many pods each budget, by `namespace/name`, still lets go."""
        return self._left

    def holding(self, pod: Pod) -> str:
        """Return why budgets hold *pod* now, or ""."""
        matching = self._matching(pod)
        if len(matching) > 1:
            names = ", ".join(sorted(budget.name for budget in matching))
            return f"pod {pod.key} is under more than one PodDisruptionBudget: {names}"
        for budget in matching:
            if self._left[budget.key] <= 0 and not _free(pod, budget):
                return f"PodDisruptionBudget {budget.key} lets no pod go"
        return ""

    def spend(self, pod: Pod) -> None:
        """Count *pod* as gone against its budget."""
        for budget in self._matching(pod):
            if not _free(pod, budget):
                self._left[budget.key] -= 1

    def _matching(self, pod: Pod) -> list[PodDisruptionBudget]:
        return [
            budget
            for budget in self._of.get(pod.namespace, ())
            if budget.covers(pod.namespace, pod.labels)
        ]


def _free(pod: Pod, budget: PodDisruptionBudget) -> bool:
    """Return whether *budget* lets *pod* go without counting it: it does not serve anyway."""
    return not pod.ready and budget.unhealthy_policy == ALWAYS_ALLOW
