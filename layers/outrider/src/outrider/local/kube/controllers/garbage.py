"""The garbage collector: dependents go when their last owner has gone.

Matches kube-controller-manager: background by default; `Foreground` removes dependents first,
`Orphan` cuts them loose; a dependent that names an owner which never existed goes too.
"""

from __future__ import annotations

from collections.abc import Callable

from outrider.local.kube.api import API
from outrider.local.kube.calls import Call, Deletion
from outrider.local.kube.objects import Key, Obj, User, is_leaving, key_of, uid_of
from outrider.local.kube.status import StatusError
from outrider.local.kube.store import EVERY, Change
from outrider.local.kube.workqueue import WorkQueue

_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"
_GRACE_FOR_OWNERS = 1.0  # an owner may be created a moment after what it owns


class Garbage:
    """Follows owner references."""

    name = "generic-garbage-collector"

    def __init__(self, api: API) -> None:
        self.api = api
        self.store = api.store
        user = User(f"system:serviceaccount:kube-system:{self.name}", ("system:masters",))
        self.call = Call(user=user, manager="kube-controller-manager")
        self.queue: WorkQueue[tuple[str, Key]] = WorkQueue(api.clock, self.name, self._dependent)
        self.owners: WorkQueue[tuple[str, Key]] = WorkQueue(
            api.clock, f"{self.name}-owners", self._owner
        )
        self.store.subscribe(EVERY, self._heard)

    def _heard(self, change: Change) -> None:
        obj = change.entry.object
        if change.type == "DELETED":
            for storage, dependent in self.store.owned_by(uid_of(obj)):
                self.queue.add((storage, key_of(dependent)))
            for reference in obj["metadata"].get("ownerReferences") or ():
                self._wake_owner(reference.get("uid", ""))
        elif is_leaving(obj) and obj["metadata"].get("finalizers"):
            self.owners.add((change.storage, key_of(obj)))
        elif change.type == "ADDED" and obj["metadata"].get("ownerReferences"):
            missing = [
                one
                for one in obj["metadata"]["ownerReferences"]
                if self.store.with_uid(one.get("uid", "")) is None
            ]
            if missing:
                self.queue.add_after((change.storage, key_of(obj)), _GRACE_FOR_OWNERS)

    def _wake_owner(self, uid: str) -> None:
        found = self.store.with_uid(uid)
        if found is not None and is_leaving(found[1]):
            self.owners.add((found[0], key_of(found[1])))

    def _dependent(self, place: tuple[str, Key]) -> None:
        """Remove the object at *place*, or its dead references when somebody else owns it too."""
        storage, key = place
        found = self.store.get(storage, key)
        if found is None:
            return
        references = found.object["metadata"].get("ownerReferences") or []
        living = [one for one in references if self._lives(one)]
        if len(living) == len(references):
            return
        if living:
            self._keep(storage, found.object, [one["uid"] for one in living])
        else:
            self._delete(storage, found.object)

    def _lives(self, reference: Obj) -> bool:
        return self.store.with_uid(reference.get("uid", "")) is not None

    def _owner(self, place: tuple[str, Key]) -> None:
        """Carry out the deletion policy of the object at *place*, which waits by finalizer."""
        storage, key = place
        found = self.store.get(storage, key)
        if found is None or not is_leaving(found.object):
            return
        finalizers = found.object["metadata"].get("finalizers") or ()
        uid = uid_of(found.object)
        dependents = self.store.owned_by(uid)
        if _ORPHAN in finalizers:
            for where, one in dependents:
                references = one["metadata"]["ownerReferences"]
                self._keep(
                    where, one, [other["uid"] for other in references if other["uid"] != uid]
                )
            self._drop_finalizer(storage, found.object, _ORPHAN)
        elif _FOREGROUND in finalizers:
            for where, one in dependents:
                if not is_leaving(one):
                    self._delete(where, one)
            if not self.store.owned_by(uid):
                self._drop_finalizer(storage, found.object, _FOREGROUND)

    def _keep(self, storage: str, obj: Obj, uids: list[str]) -> None:
        def change(current: Obj) -> Obj:
            references = current["metadata"].get("ownerReferences") or ()
            kept = [one for one in references if one["uid"] in uids]
            return {**current, "metadata": {**current["metadata"], "ownerReferences": kept}}

        self._modify(storage, obj, change)

    def _drop_finalizer(self, storage: str, obj: Obj, name: str) -> None:
        def change(current: Obj) -> Obj:
            kept = [one for one in current["metadata"].get("finalizers") or () if one != name]
            return {**current, "metadata": {**current["metadata"], "finalizers": kept}}

        self._modify(storage, obj, change)

    def _modify(self, storage: str, obj: Obj, change: Callable[[Obj], Obj]) -> None:
        try:
            self.api.patch(self.api.resource(storage), key_of(obj), change, self.call)
        except StatusError as refusal:
            if refusal.code != 404:
                raise

    def _delete(self, storage: str, obj: Obj) -> None:
        try:
            self.api.delete(
                self.api.resource(storage), key_of(obj), Deletion(uid=uid_of(obj)), self.call
            )
        except StatusError as refusal:
            if refusal.code not in {404, 409}:
                raise
