"""Node lifecycle: conditions become taints, and NoExecute taints evict.

Matches the node-lifecycle and taint-eviction controllers: Ready False taints not-ready, Unknown
taints unreachable, each NoSchedule and NoExecute; a pod that does not tolerate a NoExecute taint is
deleted, one that tolerates it for a time after that time. A Node without a Ready condition (one
that a client posted, with no kubelet) is left alone.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller
from outrider.local.kube.matching import tolerates
from outrider.local.kube.objects import (
    Key,
    Obj,
    condition_of,
    is_finished,
    is_leaving,
    key_of,
    read_stamp,
)
from outrider.local.kube.store import Change
from outrider.local.kube.workqueue import WorkQueue

_NOT_READY, _UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
_OURS = frozenset({_NOT_READY, _UNREACHABLE})
_EFFECTS = ("NoSchedule", "NoExecute")


class NodeLifecycle(Controller):
    """Taints nodes and evicts pods."""

    name = "node-controller"
    storage = "nodes"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.evictions: WorkQueue[Key] = WorkQueue(
            api.clock, "taint-eviction-controller", self._judge
        )
        self.store.subscribe("pods", self._pod_changed)

    def reconcile(self, obj: Obj) -> None:
        """Make the taints follow the Ready condition, and look at the pods under NoExecute."""
        ready = condition_of(obj, "Ready")
        if ready is not None:
            wanted = {"True": "", "False": _NOT_READY}.get(ready["status"], _UNREACHABLE)
            self._taint(obj, wanted)
        found = self.store.get("nodes", key_of(obj))
        if found is not None and _evicting(found.object):
            for pod in self.store.indexed("pods", "node", obj["metadata"]["name"]):
                self.evictions.add(key_of(pod))

    def _taint(self, node: Obj, wanted: str) -> None:
        have = (node.get("spec") or {}).get("taints") or []
        mine = [one for one in have if one["key"] in _OURS]
        if {(one["key"], one["effect"]) for one in mine} == {
            (wanted, effect) for effect in _EFFECTS if wanted
        }:
            return
        now = self.api.now()

        def change(current: Obj) -> Obj:
            taints = (current.get("spec") or {}).get("taints") or []
            kept = [one for one in taints if one["key"] not in _OURS]
            added = [
                {"key": wanted, "effect": effect, "timeAdded": now} for effect in _EFFECTS if wanted
            ]
            spec = {**(current.get("spec") or {}), "taints": kept + added}
            if not spec["taints"]:
                del spec["taints"]
            return {**current, "spec": spec}

        self.modify("nodes", node, change)

    def _pod_changed(self, change: Change) -> None:
        pod = change.entry.object
        node = pod["spec"].get("nodeName")
        was = change.before.object["spec"].get("nodeName") if change.before else None
        if change.type == "DELETED" or not node or node == was:
            return
        found = self.store.get("nodes", ("", node))
        if found is not None and _evicting(found.object):
            self.evictions.add(key_of(pod))

    def _judge(self, key: Key) -> None:
        """Delete the pod at *key* when a NoExecute taint of its node says so, now or later."""
        found = self.store.get("pods", key)
        if found is None or is_leaving(found.object) or is_finished(found.object):
            return
        pod = found.object
        node = self.store.get("nodes", ("", pod["spec"].get("nodeName", "")))
        if node is None:
            return
        now = self.api.clock.now()
        deadlines: list[float] = []
        for taint in _evicting(node.object):
            toleration = tolerates(pod["spec"].get("tolerations") or (), taint)
            if toleration is None:
                deadlines.append(0.0)
            elif toleration.get("tolerationSeconds") is not None:
                since = read_stamp(taint.get("timeAdded")) or now
                deadlines.append(toleration["tolerationSeconds"] - (now - since).total_seconds())
        if not deadlines:
            return
        if min(deadlines) <= 0:
            self.remove("pods", pod)
        else:
            self.evictions.add_after(key, min(deadlines))


def _evicting(node: Obj) -> list[Obj]:
    return [
        one for one in (node.get("spec") or {}).get("taints") or () if one["effect"] == "NoExecute"
    ]
