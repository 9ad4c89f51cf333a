"""Builders for launches and their surroundings, as the planner would hand them over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from outrider.apis import manifest
from outrider.apis.nodeclass import EC2NodeClass, EC2NodeClassStatus
from outrider.core.catalog.bundled import bundled
from outrider.core.launch import images
from outrider.core.launch.bootstrap import ClusterIdentity
from outrider.core.launch.fleet import Order, Subnet, Surroundings
from outrider.core.requirements import Requirements
from outrider.core.scheduling.result import Choice, Launch
from outrider.core.taints import Taint

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
CLUSTER = ClusterIdentity(
    name="prod",
    endpoint="https://EXAMPLE.gr7.us-east-1.eks.amazonaws.com",
    certificate_authority="Q0E=",
    service_cidr="172.20.0.0/16",
    version="1.33",
)


def nodeclass(name: str = "gpu", **spec: Any) -> EC2NodeClass:
    """Return a resolved EC2NodeClass with an AMI for every variant; *spec* overrides."""
    alias = spec.pop("alias", "al2023@v20260301")
    document = {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": name, "uid": "c-1", "generation": 1},
        "spec": {
            "role": "node",
            "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": "prod"}}],
            "securityGroupSelectorTerms": [{"tags": {"karpenter.sh/discovery": "prod"}}],
            "amiSelectorTerms": [{"alias": alias}],
            **spec,
        },
    }
    parsed = manifest.parse(document)
    assert isinstance(parsed, EC2NodeClass)
    amis = [
        {"id": f"ami-{place:08x}", "requirements": [dict(entry) for entry in one.requirements]}
        for place, one in enumerate(images.parameters(parsed, CLUSTER.version), 1)
    ]
    status = EC2NodeClassStatus.model_validate(
        {
            "subnets": [{"id": f"subnet-{zone[-1]}", "zone": zone} for zone in ZONES],
            "securityGroups": [{"id": "sg-1", "name": "nodes"}],
            "amis": amis or [{"id": "ami-1", "requirements": []}],
            "instanceProfile": "outrider-prod-node",
            "conditions": [{"type": "Ready", "status": "True"}],
        }
    )
    return replace(parsed, status=status)


def choices(*types: str, capacity_type: str = "spot", zones: tuple[str, ...] = ZONES) -> Any:
    """Return choices of *types* in *zones* at rising prices."""
    return tuple(
        Choice(name, zone, capacity_type, 0.1 * (place + 1))
        for place, name in enumerate(types)
        for zone in zones
    )


def launch(name: str = "gpu-1", **changes: Any) -> Launch:
    """Return a launch for one pod on a GPU node."""
    made = Launch(
        name=name,
        node_pool="gpu",
        node_class="gpu",
        pods=(f"default/{name}",),
        requirements=Requirements(),
        labels={"team": "ml"},
        annotations={},
        taints=(Taint("nvidia.com/gpu", "true", "NoSchedule"),),
        startup_taints=(),
        requests={"cpu": 3000, "nvidia.com/gpu": 1},
        choices=choices("g6.xlarge", "g5.xlarge"),
        max_pods={"g6.xlarge": 58, "g5.xlarge": 58},
    )
    return replace(made, **changes)


def orders(*launches: Launch) -> list[Order]:
    """Return an order for each launch."""
    return [Order(f"claim-{place}", one) for place, one in enumerate(launches)]


def around(node_class: EC2NodeClass | None = None, **changes: Any) -> Surroundings:
    """Return surroundings with one node class and three subnets."""
    found = node_class or nodeclass()
    made = Surroundings(
        cluster=CLUSTER,
        stack="outrider",
        decision="d1",
        node_classes={found.name: found},
        subnets={found.name: tuple(Subnet(f"subnet-{z[-1]}", z, "", 200) for z in ZONES)},
        types={kind.name: kind for kind in bundled().instance_types},
    )
    return replace(made, **changes)
