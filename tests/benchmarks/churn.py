"""Clusters left behind by a day of churn: seeded, planned by the planner itself, hour by hour.

Pods of a mix (services, and one in fifty a model server; from the public GPU trace
where its folder is given) arrive and leave around the clock, more by day than by night. Each hour
what has ended leaves, empty nodes go, and what has arrived is planned onto what is there and what
has to be launched. Nothing is ever consolidated, so the morning after is half empty.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from outrider.apis import manifest
from outrider.apis.labels import CAPACITY_TYPE
from outrider.apis.pod import Pod
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.outcome import expected_nodes
from outrider.core.scheduling.plan import plan
from outrider.core.scheduling.policy import Policy
from tests.benchmarks.packing import batches
from tests.support.builders import HOSTNAME, ZONE, expression, node, nodepool, pod, spread

MORNING = datetime(2026, 11, 22, tzinfo=UTC)
HOURS = 24
MEAN_HOURS = 7.0
PODS_A_NODE = 13
HEAVY_SHARE = 50
REPLICAS = 5
GROUPS = 60
MACHINES = (
    ("m5.4xlarge", "16", "60Gi"),
    ("m5.2xlarge", "8", "30Gi"),
    ("c5.4xlarge", "16", "30Gi"),
    ("m5.8xlarge", "32", "120Gi"),
)


@dataclass
class Day:
    """A cluster on its way through a day."""

    nodes: int
    seed: int = 1
    trace: Path | None = None
    swing: float = 0.6
    catalog: Catalog = field(default_factory=bundled)
    state: ClusterState = field(init=False)
    now: datetime = MORNING
    _ends: dict[str, int] = field(default_factory=dict)
    _number: int = 0

    def __post_init__(self) -> None:
        """Begin with an empty cluster of one NodePool."""
        self.dice = np.random.default_rng(self.seed)
        self.state = ClusterState.of([manifest.parse(item) for item in (pool(),)])

    def run(self, hours: int = HOURS) -> ClusterState:
        """Return the cluster after so many *hours*."""
        for hour in range(hours):
            self.hour(hour)
        return self.state

    def hour(self, hour: int) -> None:
        """Let one hour pass."""
        staying = tuple(pod for pod in self.state.pods if self._ends[pod.key] > hour)
        used = {pod.node_name for pod in staying}
        nodes = tuple(node for node in self.state.nodes if node.name in used)
        self.state = replace(self.state, pods=staying, nodes=nodes, _index={})
        self.now += timedelta(hours=1)
        self._arrive(self._arrivals(hour), hour)

    def _arrivals(self, hour: int) -> tuple[Pod, ...]:
        standing = self.nodes * PODS_A_NODE
        swing = 1.0 + self.swing * math.sin((hour - 5) / HOURS * 2 * math.pi)
        count = int(self.dice.poisson(standing / MEAN_HOURS * swing * (3.0 if not hour else 1.0)))
        return tuple(self._pod(shape, hour) for shape in mix(count, self._draw(), self.trace))

    def _draw(self) -> int:
        return int(self.dice.integers(1, 2**31))

    def _pod(self, shape: Sequence[float], hour: int) -> Pod:
        self._number += 1
        name = f"p{self._number:06}"
        self._ends[f"default/{name}"] = hour + 1 + int(self.dice.exponential(MEAN_HOURS))
        milli_cpu, mebibytes, _, gpus = shape
        requests = {"cpu": int(milli_cpu), "memory": int(mebibytes) * 2**20, "pods": 1}
        if gpus:
            requests["nvidia.com/gpu"] = int(gpus)
        found = manifest.parse(_document(name, requests))
        assert isinstance(found, Pod)
        return found

    def _arrive(self, pods: tuple[Pod, ...], hour: int) -> None:
        made = plan(self.state, pods, self.catalog, Policy(), self.now)
        launches = tuple(
            replace(launch, name=f"n{hour:02}-{place:04}")
            for place, launch in enumerate(made.launches)
        )
        home = {item.pod: item.node for item in made.placements}
        home |= {pod: launch.name for launch in launches for pod in launch.pods}
        running = tuple(
            replace(pod, node_name=home[pod.key], started=self.now, created=self.now, ready=True)
            for pod in pods
            if pod.key in home
        )
        nodes = expected_nodes(launches, self.catalog, self.state, self.now)
        self.state = replace(
            self.state,
            pods=(*self.state.pods, *running),
            nodes=(*self.state.nodes, *nodes),
            _index={},
        )


def pool() -> dict[str, Any]:
    """Return a NodePool of on-demand nodes of middle size that lets everything go."""
    document = nodepool(
        requirements=[
            expression(CAPACITY_TYPE, "In", "on-demand"),
            expression("karpenter.k8s.aws/instance-category", "In", "c", "m", "r", "g"),
            expression("karpenter.k8s.aws/instance-generation", "Gt", "4"),
            expression("karpenter.k8s.aws/instance-cpu", "Gt", "7"),
            expression("karpenter.k8s.aws/instance-cpu", "Lt", "33"),
            expression("kubernetes.io/arch", "In", "amd64"),
        ]
    )
    document["spec"]["disruption"] = {"budgets": [{"nodes": "100%"}], "consolidateAfter": "0s"}
    return document


def crowded(nodes: int, pods: int, seed: int = 1) -> ClusterState:
    """Return so many *nodes* and small *pods* on them by turns, a third of which are spread."""
    dice = random.Random(seed)
    documents = [pool()]
    for number in range(nodes):
        kind, cpu, memory = dice.choice(MACHINES)
        zone = f"us-east-1{dice.choice('abc')}"
        documents.append(
            node(f"n{number:04}", zone=zone, instance_type=kind, cpu=cpu, memory=memory)
        )
    for number in range(pods):
        group = number % GROUPS
        app = {"app": f"app-{group}"}
        even = {0: [spread(ZONE, app, max_skew=5)], 1: [spread(HOSTNAME, app, max_skew=2)]}
        documents.append(
            pod(
                f"p{number:05}",
                cpu=dice.choice(("100m", "250m", "500m", "500m", "1", "1500m")),
                memory=dice.choice(("64Mi", "256Mi", "512Mi", "1Gi")),
                node=f"n{number % nodes:04}",
                labels=app,
                owner=("ReplicaSet", app["app"]),
                spread=even.get(group % 6),
            )
        )
    return ClusterState.of(
        [read for item in documents if (read := manifest.parse(item)) is not None]
    )


def mix(count: int, seed: int, trace: Path | None) -> list[tuple[float, ...]]:
    """Return the shapes of *count* pods: services, and a few that ask for a GPU."""
    heavy = count // HEAVY_SHARE
    services = batches.synthetic("services", count - heavy, seed=seed)
    if trace is not None:
        others = batches.from_trace(trace, "inference", heavy, seed=seed)
    else:
        others = batches.synthetic("serving", heavy, seed=seed)
    return [tuple(map(float, row)) for row in (*services, *others)]


def _document(name: str, requests: dict[str, int]) -> dict[str, Any]:
    asked = {
        "cpu": f"{requests['cpu']}m",
        "memory": str(requests["memory"]),
        **(
            {"nvidia.com/gpu": str(requests["nvidia.com/gpu"])}
            if "nvidia.com/gpu" in requests
            else {}
        ),
    }
    group = f"r{int(name[1:]) // REPLICAS}"
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": group,
        "uid": group,
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": asked}}]},
        "status": {"phase": "Running"},
    }
