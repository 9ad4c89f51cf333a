"""Gangs: pods that start together or not at all.

Decides which pods belong together, how many of them must run at once, and whether they must share
a zone: from `outrider.dev/gang*` on the pod or its owner's template, from a Workload's or a
coscheduling PodGroup, from a JobSet, from Kueue's pod groups. Members that run already count.
Refuses to pack: `plan` leaves out the whole gang where a plan does not hold enough of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from outrider.apis.labels import GANG, GANG_SIZE, GANG_ZONE, ZONE
from outrider.apis.meta import IN, NOT_IN, Expression, LabelSelector
from outrider.apis.placement import Condition, PodTerm
from outrider.apis.pod import Pod
from outrider.apis.workload import Workload
from outrider.core.clusterstate import ClusterState

SAME = "same"
_COSCHEDULING = ("scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io")
_JOB_SET = "jobset.sigs.k8s.io/jobset-name"
_KUEUE_GROUP = "kueue.x-k8s.io/pod-group-name"
_MARKS = frozenset((GANG, *_COSCHEDULING, _JOB_SET, _KUEUE_GROUP))
_KUEUE_COUNT = "kueue.x-k8s.io/pod-group-total-count"


@dataclass(frozen=True, slots=True)
class Gang:
    """A group of pods: `least` members must run at once; `running` do so already."""

    name: str
    least: int
    members: tuple[str, ...]
    running: int = 0
    same_zone: bool = False
    home: str = ""  # the zone of those that run, where they share one

    @property
    def missing(self) -> int:
        """Return how many members a plan must place at least."""
        return max(self.least - self.running, 0)


def gangs(state: ClusterState, pods: Iterable[Pod]) -> dict[str, Gang]:
    """Return the gangs among *pods*, by name."""
    book = _Book(state)
    planned = tuple(pods)
    found: dict[str, list[Pod]] = {}
    for pod in planned:
        name = book.name(pod)
        if name:
            found.setdefault(name, []).append(pod)
    keys = {pod.key for pod in planned} if found else set()
    placed = [
        (name, pod.node_name)
        for pod in (state.pods if found else ())
        if pod.node_name and not pod.finished and pod.deleted is None and pod.key not in keys
        if (name := book.name(pod))
    ]
    running = Counter(name for name, _ in placed)
    return {
        name: Gang(
            name=name,
            least=book.least(members[0]) or len(members) + running[name],
            members=tuple(sorted(pod.key for pod in members)),
            running=running[name],
            same_zone=any(book.mark(pod, GANG_ZONE) == SAME for pod in members),
            home=_home(state, (node for gang, node in placed if gang == name)),
        )
        for name, members in sorted(found.items())
    }


def _home(state: ClusterState, nodes: Iterable[str]) -> str:
    """Return the zone that most of *nodes* are in, the first by name of several, or ""."""
    zones = Counter(
        node.labels[ZONE]
        for name in nodes
        if (node := state.node(name)) is not None and ZONE in node.labels
    )
    return min(zones, key=lambda zone: (-zones[zone], zone), default="")


class _Book:
    """What the cluster says about groups, by name."""

    def __init__(self, state: ClusterState) -> None:
        self._owners = {(item.kind, item.namespace, item.name): item for item in state.owners}
        self._groups = {
            (item.namespace, item.workload, item.name): item.least for item in state.pod_groups
        }
        self._job_sets = {(item.namespace, item.name): item for item in state.job_sets}

    def mark(self, pod: Pod, key: str) -> str:
        """Return label or annotation *key* of *pod*, else of its owners' templates."""
        own = pod.labels.get(key) or pod.annotations.get(key)
        if own:
            return own
        for owner in self._chain(pod):
            for marks in (
                owner.template_labels,
                owner.template_annotations,
                owner.labels,
                owner.annotations,
            ):
                if marks.get(key):
                    return marks[key]
        return ""

    def _chain(self, pod: Pod) -> Iterable[Workload]:
        """Yield the owners of *pod*, nearest first, as far as they are known."""
        waiting = [(owner.kind, pod.namespace, owner.name) for owner in pod.owners]
        seen = set()
        while waiting:
            identity = waiting.pop(0)
            owner = self._owners.get(identity)
            if owner is None or identity in seen:
                continue
            seen.add(identity)
            yield owner
            waiting.extend((item.kind, owner.namespace, item.name) for item in owner.owners)

    def name(self, pod: Pod) -> str:
        """Return the name of the gang of *pod*, or ""."""
        if not (
            pod.workload
            or pod.pod_group
            or (pod.owners and self._owners)
            or not _MARKS.isdisjoint(pod.labels)
            or GANG in pod.annotations
        ):
            return ""
        own = self.mark(pod, GANG)
        if own:
            return f"{pod.namespace}/{own}"
        group = self._group(pod)
        if group is not None:
            return "/".join(filter(None, group))
        for key in (_JOB_SET, _KUEUE_GROUP):
            named = pod.labels.get(key)
            if named and (key != _JOB_SET or (pod.namespace, named) in self._job_sets):
                return f"{pod.namespace}/{named}"
        return ""

    def _group(self, pod: Pod) -> tuple[str, str, str] | None:
        if pod.workload or pod.pod_group:
            identity = (pod.namespace, pod.workload, pod.pod_group)
            return identity if self._groups.get(identity) else None
        named = next((pod.labels[key] for key in _COSCHEDULING if pod.labels.get(key)), "")
        identity = (pod.namespace, "", named)
        return identity if named and self._groups.get(identity) else None

    def least(self, pod: Pod) -> int:
        """Return how many members the gang of *pod* needs, 0 where nothing says."""
        stated = self.mark(pod, GANG_SIZE) or pod.annotations.get(_KUEUE_COUNT, "")
        if stated.isascii() and stated.isdigit():
            return int(stated)
        group = self._group(pod)
        if group is not None:
            return self._groups[group]
        job_set = self._job_sets.get((pod.namespace, pod.labels.get(_JOB_SET, "")))
        return job_set.pods if job_set is not None else 0


def in_one_zone(
    pods: Iterable[Pod], found: Mapping[str, Gang], shut: Mapping[str, Collection[str]]
) -> tuple[Pod, ...]:
    """Return *pods*, those of gangs that share a zone bound to their own gang.

    *shut* names, by gang, the zones that were tried and are too small.
    """
    of_pod = {key: gang for gang in found.values() if gang.same_zone for key in gang.members}
    if not of_pod:
        return tuple(pods)
    return tuple(
        _tied(pod, gang, shut.get(gang.name, ())) if (gang := of_pod.get(pod.key)) else pod
        for pod in pods
    )


def _tied(pod: Pod, gang: Gang, shut: Collection[str]) -> Pod:
    mark = f"{GANG}-of"
    near = PodTerm(ZONE, LabelSelector((Expression(mark, IN, (gang.name,)),)))
    confined = pod.constraints.confined
    if shut:
        confined = (*confined, Condition(ZONE, NOT_IN, tuple(sorted(shut))))
    if gang.home:
        confined = (*confined, Condition(ZONE, IN, (gang.home,)))
    constraints = replace(
        pod.constraints, company=(*pod.constraints.company, near), confined=confined
    )
    return replace(pod, labels={**pod.labels, mark: gang.name}, constraints=constraints)
