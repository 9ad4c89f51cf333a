"""A cluster for disruption: nodes that cost something, pods that fit somewhere, in a few words.

    estate = Estate(pool(), node("n1", "m5.xlarge"), pod("a", on="n1", cpu="500m"))
    estate.decide().commands

Types and prices are a small catalogue of the test's own: four sizes of one family and one GPU type,
on-demand and Spot in two zones. Time is NOW.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.apis import labels, manifest
from outrider.apis.duration import stamp
from outrider.core.catalog.instancetype import Catalog, InstanceType, Offering
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.decide import decide
from outrider.core.disruption.result import Command, Decision
from outrider.core.disruption.scene import Policy
from outrider.core.requirements import Requirements

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
DAY = timedelta(days=1)
ZONES = ("us-east-1a", "us-east-1b")
GIB = 1024**3
PRICES: Mapping[str, float] = {
    "m5.large": 0.10,
    "m5.xlarge": 0.20,
    "m5.2xlarge": 0.40,
    "m5.4xlarge": 0.80,
    "g6.xlarge": 0.80,
}
CPUS: Mapping[str, int] = {
    "m5.large": 2,
    "m5.xlarge": 4,
    "m5.2xlarge": 8,
    "m5.4xlarge": 16,
    "g6.xlarge": 4,
}
SPOT_SHARE = 0.4


def catalog(**changed: float) -> Catalog:
    """Return the catalogue, some prices *changed* (`m5_large=0.3`)."""
    prices = {**PRICES, **{name.replace("_", "."): price for name, price in changed.items()}}
    return Catalog(tuple(_kind(name, price) for name, price in prices.items()))


def _kind(name: str, price: float) -> InstanceType:
    capacity = {"cpu": CPUS[name] * 1000, "memory": CPUS[name] * 4 * GIB, "pods": 58}
    if name.startswith("g"):
        capacity["nvidia.com/gpu"] = 1
    shown = {labels.ARCH: "amd64", labels.OS: "linux", labels.INSTANCE_TYPE: name}
    offerings = tuple(
        Offering(zone, bought, price * share)
        for zone in ZONES
        for bought, share in ((labels.ON_DEMAND, 1.0), (labels.SPOT, SPOT_SHARE))
    )
    return InstanceType(name, Requirements.from_labels(shown), capacity, {}, offerings)


def pool(name: str = "pool", *, disruption: Any = None, template: Any = None, **spec: Any) -> Any:
    """Return a NodePool whose budgets let everything go unless *disruption* says otherwise."""
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    document = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {
            "name": name,
            "annotations": spec.pop("annotations", {}),
        },
        "spec": {
            "template": {"spec": {"nodeClassRef": reference, **(template or {})}},
            "disruption": {"budgets": [{"nodes": "100%"}], **(disruption or {})},
            **spec,
        },
    }
    return manifest.parse(document)


def node(
    name: str,
    instance_type: str = "m5.xlarge",
    *,
    of: str = "pool",
    bought: str = labels.ON_DEMAND,
    zone: str = ZONES[0],
    initialized: bool = True,
    **metadata: Any,
) -> Any:
    """Return a Ready Node of a NodePool."""
    amounts = {
        "cpu": str(CPUS[instance_type]),
        "memory": f"{CPUS[instance_type] * 4}Gi",
        "pods": "58",
        **({"nvidia.com/gpu": "1"} if instance_type.startswith("g") else {}),
    }
    marked = {labels.INITIALIZED: "true"} if initialized else {}
    document = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "creationTimestamp": stamp(NOW - DAY),
            **metadata,
            "labels": {
                labels.NODEPOOL: of,
                labels.INSTANCE_TYPE: instance_type,
                labels.ZONE: zone,
                labels.CAPACITY_TYPE: bought,
                labels.ARCH: "amd64",
                labels.OS: "linux",
                labels.HOSTNAME: name,
                labels.REGISTERED: "true",
                **marked,
                **metadata.get("labels", {}),
            },
        },
        "spec": {"providerID": f"aws:///{zone}/i-{zlib.crc32(name.encode()):017x}"},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    return manifest.parse(document)


def claim(of: Any, *, age: timedelta = DAY, status: Any = None, **spec: Any) -> Any:
    """Return the NodeClaim of a node."""
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    document = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": f"claim-{of.name}",
            "creationTimestamp": stamp(NOW - age),
            "labels": {labels.NODEPOOL: of.node_pool},
            "annotations": spec.pop("annotations", {}),
        },
        "spec": {"nodeClassRef": reference, **spec},
        "status": {"providerID": of.provider_id, "nodeName": of.name, **(status or {})},
    }
    return manifest.parse(document)


def pod(
    name: str, on: str = "", *, cpu: str = "500m", owner: str = "ReplicaSet", **more: Any
) -> Any:
    """Return a Pod, running on a node or waiting."""
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "creationTimestamp": stamp(NOW - DAY),
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "u", "controller": True}
        ],
        **more.pop("metadata", {}),
    }
    spec = {
        "containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}
        ],
        **more.pop("spec", {}),
    }
    status: dict[str, Any] = {"phase": "Pending"}
    if on:
        spec["nodeName"] = on
        status = {
            "phase": "Running",
            "startTime": stamp(NOW - DAY),
            "conditions": [{"type": "Ready", "status": "True"}],
            **more.pop("status", {}),
        }
    return manifest.parse(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
    )


def budget(name: str, allowed: int, app: str = "x") -> Any:
    """Return a PodDisruptionBudget over the pods of an app."""
    return manifest.parse(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed},
        }
    )


class Estate:
    """A cluster and what a pass of disruption makes of it."""

    def __init__(self, *objects: object, prices: Catalog | None = None) -> None:
        self.state = ClusterState.of(objects)
        self.catalog = prices or catalog()
        self.policy = Policy(plan=replace(Policy().plan, spot_flexibility=3))

    def decide(self, at: datetime = NOW) -> Decision:
        """Return what one pass does."""
        return decide(self.state, self.catalog, self.policy, at)

    def command(self, at: datetime = NOW) -> Command:
        """Return the only command of a pass."""
        decision = self.decide(at)
        assert len(decision.commands) == 1, decision
        return decision.commands[0]

    def code(self, name: str, at: datetime = NOW) -> str:
        """Return why a node stays."""
        decision = self.decide(at)
        codes = {blocked.node: blocked.code.value for blocked in decision.blocked}
        return codes.get(name, f"goes: {[command.nodes for command in decision.commands]}")
