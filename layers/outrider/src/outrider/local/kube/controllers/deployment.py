"""Deployment: one ReplicaSet for each template, rolled over within maxSurge and maxUnavailable.

Matches the Deployment controller for RollingUpdate and Recreate, revision annotations and status;
rollback and progress deadlines are not acted upon.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller, scaled, template_hash
from outrider.local.kube.objects import (
    Obj,
    annotations_of,
    clone,
    is_leaving,
    owner_reference,
    with_condition,
)

_REVISION = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"


class Deployments(Controller):
    """Scales ReplicaSets up and down."""

    name = "deployment-controller"
    storage = "deployments.apps"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.follow_owned("replicasets.apps", "Deployment")

    def reconcile(self, obj: Obj) -> None:
        """Roll towards the current template."""
        if is_leaving(obj):
            return
        sets = self.owned(obj, "replicasets.apps")
        mark = template_hash(obj["spec"]["template"])
        new = next((one for one in sets if one["metadata"]["labels"].get(_HASH) == mark), None)
        old = [one for one in sets if one is not new]
        if not obj["spec"].get("paused"):
            if new is None:
                self._create_set(obj, mark, len(sets), first=not any(map(_replicas, old)))
                return
            self._roll(obj, new, old)
            self._forget_oldest(obj, old)
        self._report(obj, new, self.owned(obj, "replicasets.apps"))

    def _create_set(self, obj: Obj, mark: str, count: int, *, first: bool) -> None:
        template = clone(obj["spec"]["template"])
        template["metadata"].setdefault("labels", {})[_HASH] = mark
        selector = clone(obj["spec"]["selector"])
        selector.setdefault("matchLabels", {})[_HASH] = mark
        replica_set: Obj = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{obj['metadata']['name']}-{mark}",
                "namespace": obj["metadata"]["namespace"],
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {_REVISION: str(count + 1)},
                "ownerReferences": [owner_reference(obj)],
            },
            "spec": {
                "replicas": obj["spec"]["replicas"] if first else 0,
                "selector": selector,
                "template": template,
            },
        }
        self.create("replicasets.apps", replica_set)

    def _roll(self, obj: Obj, new: Obj, old: list[Obj]) -> None:
        wanted = obj["spec"]["replicas"]
        strategy = obj["spec"].get("strategy") or {}
        living = [one for one in old if _replicas(one)]
        if strategy.get("type") == "Recreate":
            for one in living:
                self._scale(one, 0)
            if not any((one.get("status") or {}).get("replicas") for one in old):
                self._scale(new, wanted)
            return
        if not living:
            self._scale(new, wanted)
            return
        rolling = strategy.get("rollingUpdate") or {}
        surge = scaled(rolling.get("maxSurge", "25%"), wanted, up=True)
        missing = scaled(rolling.get("maxUnavailable", "25%"), wanted, up=False)
        if not surge and not missing:
            missing = 1
        total = sum(map(_replicas, [new, *living]))
        self._scale(new, max(min(wanted, _replicas(new) + wanted + surge - total), _replicas(new)))
        self._shrink(living, [new, *living], total, wanted - missing)

    def _shrink(self, living: list[Obj], every: list[Obj], total: int, least: int) -> None:
        """Give up old replicas: those that are not available first, then while enough stay
        available.
        """
        available = sum((one.get("status") or {}).get("availableReplicas", 0) for one in every)
        new = every[0]
        waiting = _replicas(new) - (new.get("status") or {}).get("availableReplicas", 0)
        spare = total - least - waiting
        for one in living:
            broken = _replicas(one) - (one.get("status") or {}).get("availableReplicas", 0)
            go = min(max(broken, 0), max(spare, 0), _replicas(one))
            healthy = max(min(available - least, _replicas(one) - go, spare - go), 0)
            spare -= go + healthy
            available -= healthy
            self._scale(one, _replicas(one) - go - healthy)

    def _scale(self, replica_set: Obj, replicas: int) -> None:
        if _replicas(replica_set) != replicas:
            self.modify(
                "replicasets.apps",
                replica_set,
                lambda current: {**current, "spec": {**current["spec"], "replicas": replicas}},
            )

    def _forget_oldest(self, obj: Obj, old: list[Obj]) -> None:
        limit = obj["spec"].get("revisionHistoryLimit", 10)
        empty = [
            one
            for one in old
            if not _replicas(one) and not (one.get("status") or {}).get("replicas")
        ]
        for one in empty[: max(len(empty) - limit, 0)]:
            self.remove("replicasets.apps", one)

    def _report(self, obj: Obj, new: Obj | None, sets: list[Obj]) -> None:
        def total(field: str) -> int:
            return sum((one.get("status") or {}).get(field, 0) for one in sets)

        name = new["metadata"]["name"] if new else ""
        fresh = next((one for one in sets if one["metadata"]["name"] == name), {})
        wanted = obj["spec"]["replicas"]
        available = total("availableReplicas")
        rolling = (obj["spec"].get("strategy") or {}).get("rollingUpdate") or {}
        enough = available >= wanted - scaled(rolling.get("maxUnavailable", 0), wanted, up=False)
        condition = {
            "type": "Available",
            "status": "True" if enough else "False",
            "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        }
        updated = (fresh.get("status") or {}).get("replicas", 0)
        done = updated == wanted == total("replicas") and available == wanted
        word = "has successfully progressed" if done else "is progressing"
        progress = {
            "type": "Progressing",
            "status": "True",
            "reason": "NewReplicaSetAvailable" if done else "ReplicaSetUpdated",
            "message": f'ReplicaSet "{name}" {word}.',
        }
        now = self.api.now()
        conditions = (obj.get("status") or {}).get("conditions")
        for one in (condition, progress):
            conditions = with_condition(conditions, one, now)
        self.set_status(
            obj,
            {
                "observedGeneration": obj["metadata"]["generation"],
                "replicas": total("replicas"),
                "updatedReplicas": updated,
                "readyReplicas": total("readyReplicas"),
                "availableReplicas": available,
                "unavailableReplicas": max(wanted - available, 0),
                "conditions": conditions,
            },
        )
        if new is not None:
            self._show_revision(obj, annotations_of(new).get(_REVISION, "1"))

    def _show_revision(self, obj: Obj, revision: str) -> None:
        if annotations_of(obj).get(_REVISION) == revision:
            return

        def change(current: Obj) -> Obj:
            annotations = {**annotations_of(current), _REVISION: revision}
            return {**current, "metadata": {**current["metadata"], "annotations": annotations}}

        self.modify(self.storage, obj, change)


def _replicas(replica_set: Obj) -> int:
    replicas: int = replica_set["spec"].get("replicas", 1)
    return replicas
