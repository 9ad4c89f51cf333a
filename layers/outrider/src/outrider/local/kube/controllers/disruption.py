"""The disruption controller: how many more pods each PodDisruptionBudget can lose.

Matches kube-controller-manager: percentages are of the owners' scale, an eviction that was granted
counts as lost until its pod is gone or two minutes have passed, and the status says which
generation of the spec it is about.
"""

from __future__ import annotations

from datetime import timedelta

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller, scaled
from outrider.local.kube.eviction import PDBS
from outrider.local.kube.objects import (
    Obj,
    controller_of,
    is_finished,
    is_leaving,
    is_ready,
    key_of,
    labels_of,
    read_stamp,
    with_condition,
)
from outrider.local.kube.selectors import structured
from outrider.local.kube.store import Change

_GRANTED_FOR = timedelta(minutes=2)
_SCALED = {
    "ReplicaSet": "replicasets.apps",
    "StatefulSet": "statefulsets.apps",
    "Deployment": "deployments.apps",
    "ReplicationController": "replicationcontrollers",
}


class Budgets(Controller):
    """Keeps the status of every budget."""

    name = "disruption-controller"
    storage = PDBS

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.store.subscribe("pods", self._pod_changed)
        for storage in _SCALED.values():
            self.store.subscribe(storage, self._owner_changed)

    def reconcile(self, obj: Obj) -> None:
        """Count, and write what is left."""
        selects = structured(obj["spec"].get("selector"))
        pods = [
            pod
            for pod in self.store.objects("pods", obj["metadata"]["namespace"])
            if selects(labels_of(pod)) and not is_finished(pod)
        ]
        expected, desired = self._wanted(obj, pods)
        granted = self._granted(obj, pods)
        healthy = sum(
            1
            for pod in pods
            if is_ready(pod) and not is_leaving(pod) and pod["metadata"]["name"] not in granted
        )
        allowed = max(healthy - desired, 0) if expected > 0 else 0
        condition = {
            "type": "DisruptionAllowed",
            "status": "True" if allowed else "False",
            "reason": "SufficientPods" if allowed else "InsufficientPods",
            "message": "",
            "observedGeneration": obj["metadata"]["generation"],
        }
        have = obj.get("status") or {}
        status = {
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "disruptionsAllowed": allowed,
            "disruptedPods": granted or None,
            "observedGeneration": obj["metadata"]["generation"],
            "conditions": with_condition(have.get("conditions"), condition, self.api.now()),
        }
        if not granted and "disruptedPods" not in have:
            del status["disruptedPods"]
        self._write(obj, status)

    def _write(self, obj: Obj, status: Obj) -> None:
        revision = obj["metadata"]["resourceVersion"]

        def change(current: Obj) -> Obj:
            if current["metadata"]["resourceVersion"] != revision:
                return current  # an eviction was granted meanwhile: its change queued us again
            merged = {**(current.get("status") or {}), **status}
            return {
                **current,
                "status": {name: value for name, value in merged.items() if value is not None},
            }

        have = obj.get("status") or {}
        if any(have.get(name) != value for name, value in status.items()):
            self.modify(self.storage, obj, change, "status")

    def _wanted(self, obj: Obj, pods: list[Obj]) -> tuple[int, int]:
        spec = obj["spec"]
        if spec.get("maxUnavailable") is not None:
            expected = self._scale(pods)
            return expected, max(expected - scaled(spec["maxUnavailable"], expected, up=True), 0)
        least = spec.get("minAvailable")
        if isinstance(least, str):
            expected = self._scale(pods)
            return expected, scaled(least, expected, up=True)
        return len(pods), int(least if least is not None else 1)

    def _scale(self, pods: list[Obj]) -> int:
        """Return how many pods the controllers of *pods* want in all; a bare pod counts for
        itself.
        """
        total = 0
        seen: set[str] = set()
        for pod in pods:
            owner = controller_of(pod)
            if owner is None:
                total += 1
            elif owner["uid"] not in seen:
                seen.add(owner["uid"])
                total += self._replicas(owner)
        return total

    def _replicas(self, reference: Obj) -> int:
        found = self.store.with_uid(reference["uid"])
        if found is None:
            return 0
        owner = found[1]
        above = controller_of(owner)
        if reference["kind"] == "ReplicaSet" and above is not None:
            deployment = self.store.with_uid(above["uid"])
            owner = deployment[1] if deployment else owner
        spec = owner.get("spec") or {}
        return int(spec.get("replicas", spec.get("parallelism", 1)))

    def _granted(self, obj: Obj, pods: list[Obj]) -> Obj:
        names = {pod["metadata"]["name"] for pod in pods if not is_leaving(pod)}
        now = self.api.clock.now()
        granted: Obj = {}
        for name, since in ((obj.get("status") or {}).get("disruptedPods") or {}).items():
            end = (read_stamp(since) or now) + _GRANTED_FOR
            if name in names and end > now:
                granted[name] = since
                self.queue.add_after(key_of(obj), (end - now).total_seconds())
        return granted

    def _pod_changed(self, change: Change) -> None:
        entries = [one.object for one in (change.entry, change.before) if one is not None]
        if (
            change.type == "MODIFIED"
            and len(entries) == 2
            and _counted(entries[0]) == _counted(entries[1])
        ):
            return
        namespace = entries[0]["metadata"]["namespace"]
        for budget in self.store.objects(PDBS, namespace):
            selects = structured(budget["spec"].get("selector"))
            if any(selects(labels_of(pod)) for pod in entries):
                self.queue.add(key_of(budget))

    def _owner_changed(self, change: Change) -> None:
        before = change.before.object if change.before else None
        if before is not None and before.get("spec") == change.entry.object.get("spec"):
            return
        for budget in self.store.objects(PDBS, change.entry.object["metadata"]["namespace"]):
            self.queue.add(key_of(budget))


def _counted(pod: Obj) -> tuple[object, ...]:
    return is_ready(pod), is_leaving(pod), is_finished(pod), labels_of(pod)
