"""The namespace controller: a namespace that is asked to go takes its content with it."""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.calls import Deletion
from outrider.local.kube.controllers.base import Controller
from outrider.local.kube.objects import Obj, is_leaving
from outrider.local.kube.store import EVERY, Change


class Namespaces(Controller):
    """Empties and finalizes namespaces."""

    name = "namespace-controller"
    storage = "namespaces"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.store.subscribe(EVERY, self._something_gone)

    def reconcile(self, obj: Obj) -> None:
        """Delete what the namespace still has, then let it go."""
        if not is_leaving(obj) or not obj["spec"].get("finalizers"):
            return
        name = obj["metadata"]["name"]
        left = 0
        for resource in {one.storage: one for one in self.api.table if one.namespaced}.values():
            entries, _ = self.store.entries(resource.storage, name)
            waiting = [one for one in entries if not is_leaving(one.object)]
            self.api.delete_all(resource, waiting, Deletion(), self.call)
            left += len(self.store.entries(resource.storage, name)[0])
        if left == 0:
            self.modify("namespaces", obj, _finalized, "finalize")

    def _something_gone(self, change: Change) -> None:
        namespace = change.entry.object["metadata"].get("namespace")
        if change.type != "DELETED" or not namespace:
            return
        found = self.store.get("namespaces", ("", namespace))
        if found is not None and is_leaving(found.object):
            self.queue.add(("", namespace))


def _finalized(current: Obj) -> Obj:
    return {**current, "spec": {**current["spec"], "finalizers": []}}
