"""DaemonSet: one pod on every node that it fits, placed by the default scheduler.

Matches the DaemonSet controller: a pod for each eligible node with a node affinity to its name and
the daemons' tolerations; a node with a taint that the pod does not tolerate (such as
karpenter.sh/unregistered:NoExecute) gets none, and loses it when the taint is NoExecute.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller, template_hash
from outrider.local.kube.matching import node_affinity, untolerated
from outrider.local.kube.objects import (
    Obj,
    is_finished,
    is_leaving,
    is_ready,
    key_of,
    labels_of,
)
from outrider.local.kube.store import Change

_REVISION = "controller-revision-hash"
_TOLERATIONS: tuple[Obj, ...] = (
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/disk-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/pid-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
)
_HOST_NETWORK: Obj = {
    "key": "node.kubernetes.io/network-unavailable",
    "operator": "Exists",
    "effect": "NoSchedule",
}


class DaemonSets(Controller):
    """Creates a pod for each node."""

    name = "daemon-set-controller"
    storage = "daemonsets.apps"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.follow_owned("pods", "DaemonSet")
        self.store.subscribe("nodes", self._node_changed)

    def reconcile(self, obj: Obj) -> None:
        """Give every eligible node its pod and take it from the others."""
        if is_leaving(obj):
            return
        spec = obj["spec"]["template"]["spec"]
        tolerations = _tolerations(spec)
        fits = node_affinity(spec)
        mark = template_hash(obj["spec"]["template"])
        by_node: dict[str, list[Obj]] = {}
        for pod in self.owned(obj, "pods"):
            by_node.setdefault(_node_of(pod), []).append(pod)
        desired = 0
        for node in self.store.objects("nodes"):
            name = node["metadata"]["name"]
            pods = by_node.pop(name, [])
            eligible = (fits is None or fits(node)) and not is_leaving(node)
            if eligible and untolerated(node, tolerations, ("NoSchedule", "NoExecute")) is None:
                desired += 1
                self._ensure(obj, name, pods, mark)
            elif not eligible or untolerated(node, tolerations, ("NoExecute",)) is not None:
                self._remove(pods)
            else:
                desired += bool(pods)
        for pods in by_node.values():
            self._remove(pods)
        self._report(obj, desired, mark)

    def _ensure(self, obj: Obj, node: str, pods: list[Obj], mark: str) -> None:
        living = [pod for pod in pods if not is_leaving(pod)]
        for pod in living:
            if is_finished(pod):
                self.remove("pods", pod)
        if not living:
            if not pods:
                self._create(obj, node, mark)
            return
        self._remove(living[1:])
        update = (obj["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
        if update == "RollingUpdate" and labels_of(living[0]).get(_REVISION) != mark:
            self._remove(living[:1])

    def _create(self, obj: Obj, node: str, mark: str) -> None:
        def complete(pod: Obj) -> None:
            pod["metadata"].setdefault("labels", {})[_REVISION] = mark
            spec = pod["spec"]
            spec["tolerations"] = _tolerations(spec)
            affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
            field = "requiredDuringSchedulingIgnoredDuringExecution"
            terms = (affinity.get(field) or {}).get("nodeSelectorTerms") or [{}]
            only = {"key": "metadata.name", "operator": "In", "values": [node]}
            affinity[field] = {
                "nodeSelectorTerms": [{**term, "matchFields": [only]} for term in terms]
            }

        self.create_pod(obj, obj["spec"]["template"], change=complete)

    def _remove(self, pods: list[Obj]) -> None:
        for pod in pods:
            if not is_leaving(pod):
                self.remove("pods", pod)

    def _report(self, obj: Obj, desired: int, mark: str) -> None:
        pods = [pod for pod in self.owned(obj, "pods") if not is_leaving(pod)]
        ready = sum(map(is_ready, pods))
        self.set_status(
            obj,
            {
                "currentNumberScheduled": len(pods),
                "desiredNumberScheduled": desired,
                "numberMisscheduled": 0,
                "numberReady": ready,
                "numberAvailable": ready,
                "numberUnavailable": max(desired - ready, 0),
                "updatedNumberScheduled": sum(
                    labels_of(pod).get(_REVISION) == mark for pod in pods
                ),
                "observedGeneration": obj["metadata"]["generation"],
            },
        )

    def _node_changed(self, change: Change) -> None:
        before = change.before.object if change.before else None
        if (
            change.type == "MODIFIED"
            and before is not None
            and _placing(before) == _placing(change.entry.object)
        ):
            return
        for one in self.store.objects(self.storage):
            self.queue.add(key_of(one))


def _placing(node: Obj) -> tuple[object, ...]:
    spec = node.get("spec") or {}
    return labels_of(node), spec.get("taints"), spec.get("unschedulable"), is_leaving(node)


def _tolerations(spec: Obj) -> list[Obj]:
    tolerations = list(spec.get("tolerations") or ())
    for one in (*_TOLERATIONS, *([_HOST_NETWORK] if spec.get("hostNetwork") else [])):
        if one not in tolerations:
            tolerations.append(one)
    return tolerations


def _node_of(pod: Obj) -> str:
    """Return the node that a daemon's pod is on or is meant for."""
    bound: str = pod["spec"].get("nodeName") or ""
    if bound:
        return bound
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for one in term.get("matchFields") or ():
            if one["key"] == "metadata.name" and one.get("values"):
                name: str = one["values"][0]
                return name
    return ""
