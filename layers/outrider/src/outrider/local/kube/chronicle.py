"""The cluster's part of the timeline: pods and nodes as they come, change and go.

Listens to changes and writes timeline entries; the kubelets add how a pod ended. Refuses to know
who caused what.
"""

from __future__ import annotations

import threading

from outrider.local.kube.client import Client
from outrider.local.kube.objects import Obj, User, is_true, labels_of, path_of, uid_of
from outrider.local.timeline import Timeline

INITIALIZED = "karpenter.sh/initialized"


class Chronicle:
    """Writes what happens to pods and nodes."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._ends: dict[str, str] = {}
        self._lock = threading.Lock()

    def follow(self, client: Client) -> None:
        """Listen to the pods and nodes of *client*'s cluster."""
        client.subscribe("pods", self._pod_changed)
        client.subscribe("nodes", self._node_changed)

    def asked_to_go(self, pod: Obj, how: str, grace: int, user: User) -> None:
        """Note that somebody asked for the deletion of *pod*: by eviction, preemption or delete."""
        self._timeline.record("evict", pod=path_of(pod), how=how, grace=grace, by=user.name)

    def ended(self, pod: Obj, how: str) -> None:
        """Note *how* the containers of *pod* came to their end, once."""
        with self._lock:
            if uid_of(pod) in self._ends:
                return
            self._ends[uid_of(pod)] = how
        self._timeline.record(
            "podGone", pod=path_of(pod), node=pod["spec"].get("nodeName"), how=how
        )

    def _pod_changed(self, kind: str, pod: Obj, before: Obj | None) -> None:
        if kind == "DELETED":
            self.ended(pod, "deleted")
            with self._lock:
                self._ends.pop(uid_of(pod), None)
            return
        node, had = pod["spec"].get("nodeName"), before and before["spec"].get("nodeName")
        if before is None and not node:
            self._timeline.record("podPending", pod=path_of(pod))
        if node and not had:
            self._timeline.record("podBound", pod=path_of(pod), node=node)
        if _phase(pod) == "Running" and (before is None or _phase(before) != "Running"):
            self._timeline.record("podRunning", pod=path_of(pod), node=node)

    def _node_changed(self, kind: str, node: Obj, before: Obj | None) -> None:
        if kind == "DELETED":
            return
        name = node["metadata"]["name"]
        if is_true(node, "Ready") and (before is None or not is_true(before, "Ready")):
            self._timeline.record("nodeReady", node=name)
        if labels_of(node).get(INITIALIZED) == "true" and (
            before is None or labels_of(before).get(INITIALIZED) != "true"
        ):
            self._timeline.record("nodeInitialized", node=name)
        have, had = _taints(node), _taints(before)
        for change, some in (("added", have - had), ("removed", had - have)):
            for taint in sorted(some):
                self._timeline.record("taint", node=name, taint=taint, change=change)


def _phase(pod: Obj) -> str:
    return (pod.get("status") or {}).get("phase") or ""


def _taints(node: Obj | None) -> set[str]:
    spec = (node or {}).get("spec") or {}
    return {
        f"{one['key']}{'=' + one['value'] if one.get('value') else ''}:{one['effect']}"
        for one in spec.get("taints") or ()
    }
