"""Pod garbage collection: pods whose Node is gone go too, without a kubelet's leave.

Matches the pod-garbage-collector: force deletion after a quarantine in which the Node may come
back. The quarantine is 5 s here, 40 s in kube-controller-manager.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller
from outrider.local.kube.objects import Key, Obj, key_of
from outrider.local.kube.store import Change

QUARANTINE = 5.0


class Orphans(Controller):
    """Removes pods that are bound to no Node."""

    name = "pod-garbage-collector"
    storage = "pods"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.store.subscribe("nodes", self._node_changed)

    def reconcile(self, obj: Obj) -> None:
        """Remove the pod if its Node is still missing after the quarantine."""
        node = obj["spec"].get("nodeName")
        if not node or self.store.get("nodes", ("", node)) is not None:
            return
        since = obj["metadata"]["uid"]
        self.api.clock.call_later(QUARANTINE, lambda: self._remove_if_orphaned(key_of(obj), since))

    def _remove_if_orphaned(self, key: Key, uid: str) -> None:
        found = self.store.get("pods", key)
        if found is None or found.object["metadata"]["uid"] != uid:
            return
        node = found.object["spec"].get("nodeName", "")
        if self.store.get("nodes", ("", node)) is None:
            self.remove("pods", found.object, grace=0)

    def _node_changed(self, change: Change) -> None:
        if change.type == "DELETED":
            name = change.entry.object["metadata"]["name"]
            for pod in self.store.indexed("pods", "node", name):
                self.queue.add((pod["metadata"]["namespace"], pod["metadata"]["name"]))
