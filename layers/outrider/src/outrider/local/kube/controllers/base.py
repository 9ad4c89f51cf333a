"""What every controller does: hear changes, queue keys, create and remove pods of an owner.

Refuses to know any kind of owner.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from outrider.local.kube.api import API
from outrider.local.kube.calls import Call, Deletion
from outrider.local.kube.objects import (
    Key,
    Obj,
    User,
    clone,
    condition_of,
    controller_of,
    is_finished,
    is_leaving,
    is_ready,
    key_of,
    owner_reference,
    uid_of,
)
from outrider.local.kube.status import StatusError
from outrider.local.kube.store import Change
from outrider.local.kube.workqueue import WorkQueue


class Controller:
    """A work queue over the objects of one storage."""

    name = ""
    storage = ""

    def __init__(self, api: API) -> None:
        self.api = api
        self.store = api.store
        account = f"system:serviceaccount:kube-system:{self.name}"
        self.call = Call(user=User(account, ("system:masters",)), manager="kube-controller-manager")
        self.queue: WorkQueue[Key] = WorkQueue(api.clock, self.name, self._work)
        self.store.subscribe(
            self.storage, lambda change: self.queue.add(key_of(change.entry.object))
        )

    def reconcile(self, obj: Obj) -> None:
        """Bring the world nearer to what *obj* wants."""
        raise NotImplementedError

    def follow_owned(self, storage: str, kind: str) -> None:
        """Queue the owner of the given *kind* whenever an object of *storage* that it controls
        changes.
        """

        def heard(change: Change) -> None:
            for entry in (change.entry, change.before):
                owner = controller_of(entry.object) if entry else None
                if entry and owner and owner["kind"] == kind:
                    self.queue.add((entry.object["metadata"].get("namespace", ""), owner["name"]))

        self.store.subscribe(storage, heard)

    def owned(self, owner: Obj, storage: str) -> list[Obj]:
        """Return the objects of *storage* that *owner* controls, oldest first."""
        found = []
        for where, obj in self.store.owned_by(uid_of(owner)):
            reference = controller_of(obj)
            if where == storage and reference and reference["uid"] == uid_of(owner):
                found.append(obj)
        return sorted(
            found, key=lambda obj: (obj["metadata"]["creationTimestamp"], obj["metadata"]["name"])
        )

    def create_pod(
        self,
        owner: Obj,
        template: Obj,
        *,
        name: str = "",
        change: Callable[[Obj], None] | None = None,
    ) -> None:
        """Create a pod from *template* for *owner*, named or with the owner's name as prefix."""
        meta = clone(template.get("metadata") or {})
        for unwanted in ("creationTimestamp", "name", "namespace"):
            meta.pop(unwanted, None)
        meta["namespace"] = owner["metadata"]["namespace"]
        meta["ownerReferences"] = [owner_reference(owner)]
        meta.update({"name": name} if name else {"generateName": f"{owner['metadata']['name']}-"})
        pod: Obj = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": clone(template["spec"]),
        }
        if change is not None:
            change(pod)
        self.create("pods", pod)

    def create(self, storage: str, obj: Obj) -> None:
        """Create *obj*; one that exists already is no error."""
        try:
            self.api.create(
                self.api.resource(storage), obj["metadata"].get("namespace", ""), obj, self.call
            )
        except StatusError as refusal:
            if refusal.reason != "AlreadyExists":
                raise

    def remove(self, storage: str, obj: Obj, *, grace: int | None = None) -> None:
        """Delete *obj*, this one and not its successor; one that is gone is no error."""
        options = Deletion(grace=grace, uid=uid_of(obj))
        try:
            self.api.delete(self.api.resource(storage), key_of(obj), options, self.call)
        except StatusError as refusal:
            if refusal.code not in {404, 409}:
                raise

    def modify(
        self, storage: str, obj: Obj, change: Callable[[Obj], Obj], subresource: str = ""
    ) -> None:
        """Write what *change* makes of *obj*; one that is gone is no error."""
        try:
            self.api.patch(self.api.resource(storage), key_of(obj), change, self.call, subresource)
        except StatusError as refusal:
            if refusal.code != 404:
                raise

    def set_status(self, obj: Obj, wanted: Obj) -> None:
        """Write the fields of *wanted* into the status of *obj* where they differ; None removes
        one.
        """
        have = obj.get("status") or {}
        if all(have.get(name) == value for name, value in wanted.items()):
            return

        def change(current: Obj) -> Obj:
            status = {**(current.get("status") or {}), **wanted}
            return {
                **current,
                "status": {name: value for name, value in status.items() if value is not None},
            }

        self.modify(self.storage, obj, change, "status")

    def _work(self, key: Key) -> None:
        found = self.store.get(self.storage, key)
        if found is not None:
            self.reconcile(found.object)


def active(pods: Iterable[Obj]) -> list[Obj]:
    """Return the pods that are neither finished nor leaving."""
    return [pod for pod in pods if not is_finished(pod) and not is_leaving(pod)]


def least_wanted(pods: Iterable[Obj]) -> list[Obj]:
    """Return *pods* in the order in which a ReplicaSet gives them up: unbound, pending, unready,
    newest.
    """

    def rank(pod: Obj) -> tuple[bool, bool, bool, int]:
        meta = pod["metadata"]
        cost = int(
            (meta.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost") or 0
        )
        phase = (pod.get("status") or {}).get("phase")
        return bool(pod["spec"].get("nodeName")), phase == "Running", is_ready(pod), cost

    newest_first = sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
    return sorted(newest_first, key=rank)


def template_hash(template: Any) -> str:
    """Return a short name for a pod template, equal for equal templates."""
    text = orjson.dumps(template, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:10]


def scaled(value: Any, total: int, *, up: bool) -> int:
    """Return an int-or-percent *value* of *total*, rounded *up* or down."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value or 0)


def has_condition(obj: Obj, kind: str, status: str, reason: str) -> bool:
    """Tell whether *obj* has exactly this condition already."""
    condition = condition_of(obj, kind)
    return condition is not None and (condition["status"], condition.get("reason")) == (
        status,
        reason,
    )
