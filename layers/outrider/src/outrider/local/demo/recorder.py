"""The demo's memory: listens to the timeline and to the decisions, and keeps a Record of them.

Refuses to know the story: whatever happens in the cloud is recorded the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any

from outrider.local.clock import every
from outrider.local.cloud import Cloud
from outrider.local.cluster import described
from outrider.local.demo.record import Mark, NodeLife, PodLife, Record, Sample, Stage
from outrider.local.market import price, spot_price
from outrider.local.timeline import Entry

SAMPLE_SECONDS = 5.0
DECISION_BUS = "outrider-"
TOLD = ("pod", "node", "nodePool", "instanceId", "reason", "pods", "placed", "launches")


class Recorder:
    """Keeps the record of one cloud."""

    def __init__(self, cloud: Cloud, title: str) -> None:
        self.record = Record(title)
        self._cloud = cloud
        self.daemons: tuple[str, ...] = ()  # DaemonSets, whose pods come with the nodes
        self._by_node: dict[str, NodeLife] = {}
        self._handlers: dict[str, Callable[[Entry], None]] = {
            "podPending": self._pod_pending,
            "podBound": self._pod_bound,
            "podRunning": self._pod_running,
            "podGone": self._pod_gone,
            "instance": self._instance,
            "nodeJoined": self._node_joined,
            "nodeReady": self._node_ready,
            "nodeInitialized": self._node_initialized,
            "taint": self._taint,
            "signal": self._signal,
        }
        cloud.timeline.listen(self._heard)
        cloud.router.listeners.append(self._decided)
        every(cloud.clock, SAMPLE_SECONDS, self.sample)

    def mark(self, label: str, tone: str = "info") -> None:
        """Put a mark on every time axis."""
        self.record.marks.append(Mark(self._cloud.timeline.at(), label, tone))

    def count(self, kind: str, since: float = 0.0) -> int:
        """Return how many decisions of *kind* were published since then."""
        return sum(name == kind and at >= since for at, name, _ in self.record.decisions)

    def sample(self) -> None:
        """Take the cluster's measure now."""
        pods = [life for life in self.record.pods.values() if life.gone is None]
        nodes = [life for life in self.record.nodes.values() if life.gone is None]
        running = sum(life.running is not None for life in pods)
        pending = sum(life.bound is None for life in pods)
        self.record.samples.append(
            Sample(
                self._cloud.timeline.at(),
                pending,
                len(pods) - running - pending,
                running,
                len(nodes),
                sum(life.price_per_hour for life in nodes),
            )
        )

    def stages(self) -> tuple[Stage, ...]:
        """Return how long each stage took, over everything recorded."""
        pods, nodes = self.record.pods.values(), self.record.nodes.values()
        spans = {
            "pod: pending to bound": [life.bound - life.created for life in pods if life.bound],
            "pod: bound to running": [
                life.running - life.bound for life in pods if life.running and life.bound
            ],
            "pod: pending to running": [
                life.running - life.created for life in pods if life.running
            ],
            "node: launched to joined": [
                life.joined - life.launched for life in nodes if life.joined
            ],
            "node: joined to Ready": [
                life.ready - life.joined for life in nodes if life.ready and life.joined
            ],
            "node: launched to initialized": [
                life.initialized - life.launched for life in nodes if life.initialized
            ],
        }
        return tuple(_stage(name, span) for name, span in spans.items() if span)

    def _heard(self, entry: Entry) -> None:
        if handle := self._handlers.get(entry["kind"]):
            handle(entry)

    def _decided(self, bus: str, event: Mapping[str, Any]) -> None:
        if not bus.startswith(DECISION_BUS):
            return
        detail = event["detail"]
        told = ", ".join(f"{name} {_short(detail[name])}" for name in TOLD if detail.get(name))
        self.record.decisions.append((self._cloud.timeline.at(), event["detail-type"], told))

    def _pod_pending(self, entry: Entry) -> None:
        if entry["pod"].startswith(self.daemons):
            return
        self.record.pods[entry["pod"]] = PodLife(entry["pod"], entry["at"])

    def _pod_bound(self, entry: Entry) -> None:
        if life := self.record.pods.get(entry["pod"]):
            life.bound = entry["at"]

    def _pod_running(self, entry: Entry) -> None:
        if life := self.record.pods.get(entry["pod"]):
            life.running = entry["at"]

    def _pod_gone(self, entry: Entry) -> None:
        if life := self.record.pods.get(entry["pod"]):
            life.gone, life.how = entry["at"], entry.get("how", "")
            # A StatefulSet's next pod has the same name and is another pod.
            self.record.pods[f"{entry['pod']}@{entry['at']}"] = self.record.pods.pop(entry["pod"])

    def _instance(self, entry: Entry) -> None:
        life = self.record.nodes.get(entry["id"])
        if life is None:
            self._launched(entry)
        elif entry["state"] in ("shutting-down", "stopping", "terminated") and life.gone is None:
            life.gone = entry["at"]

    def _launched(self, entry: Entry) -> None:
        tags = self._tags(entry["id"])
        if "karpenter.sh/nodepool" not in tags or "outrider.dev/seed" in tags:
            return
        kind, zone, capacity_type = entry["type"], entry["zone"], entry["capacityType"]
        hourly = (
            spot_price(kind, zone, self._cloud.clock.now())
            if capacity_type == "spot"
            else price(kind)
        )
        self.record.nodes[entry["id"]] = NodeLife(
            entry["id"],
            kind,
            zone,
            capacity_type,
            tags.get("karpenter.sh/nodepool", ""),
            hourly or 0.0,
            entry["at"],
        )

    def _tags(self, instance_id: str) -> dict[str, str]:
        instance = self._cloud.instances.find(instance_id)
        return {tag["key"]: tag["value"] for tag in instance.get_tags()} if instance else {}

    def _node_joined(self, entry: Entry) -> None:
        if life := self.record.nodes.get(entry["id"]):
            life.node, life.joined = entry["node"], entry["at"]
            instance = self._cloud.instances.find(entry["id"])
            life.seeded = bool(described(instance, self._cloud.endpoint).images)
            self._by_node[life.node] = life

    def _node_ready(self, entry: Entry) -> None:
        if life := self._by_node.get(entry["node"]):
            life.ready = life.ready or entry["at"]

    def _node_initialized(self, entry: Entry) -> None:
        if life := self._by_node.get(entry["node"]):
            life.initialized = life.initialized or entry["at"]

    def _taint(self, entry: Entry) -> None:
        life = self._by_node.get(entry["node"])
        if life and "karpenter.sh/disrupted" in entry["taint"] and entry["change"] == "added":
            life.draining = life.draining or entry["at"]

    def _signal(self, entry: Entry) -> None:
        life = self.record.nodes.get(entry.get("instance") or "")
        if life and "Interruption Warning" in entry["detailType"]:
            life.interrupted = entry["at"]


def _short(value: object) -> str:
    text = str(len(value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _stage(name: str, span: list[float]) -> Stage:
    p95 = quantiles(span, n=20, method="inclusive")[-1] if len(span) > 1 else span[0]
    return Stage(name, len(span), median(span), p95)
