"""The NodePools and EC2NodeClasses that Karpenter's documentation teaches, field by field.

Said here in our own words: every entry has the kinds, fields and values of the published example
that its name names (examples/v1 of the AWS provider), so that whoever wrote theirs by it can bring
it along.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
DISCOVERY: Json = {"tags": {"karpenter.sh/discovery": "my-cluster"}}
GENERAL: list[Json] = [
    {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
    {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
    {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
    {"key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["c", "m", "r"]},
    {"key": "karpenter.k8s.aws/instance-generation", "operator": "Gt", "values": ["2"]},
]


def node_pool(
    name: str = "default",
    requirements: list[Json] | None = None,
    *,
    node_class: str = "default",
    template: Json | None = None,
    **spec: Any,
) -> Json:
    """Return a NodePool; *template* and *spec* add fields to the node's spec and to the pool's."""
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": node_class}
    inner = {
        "requirements": GENERAL if requirements is None else requirements,
        "nodeClassRef": reference,
        **(template or {}),
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name, "annotations": {"kubernetes.io/description": "an example"}},
        "spec": {"template": {"spec": inner}, **spec},
    }


def node_class(name: str = "default", **spec: Any) -> Json:
    """Return an EC2NodeClass; *spec* adds or replaces fields."""
    usual = {
        "role": "KarpenterNodeRole-my-cluster",
        "subnetSelectorTerms": [DISCOVERY],
        "securityGroupSelectorTerms": [DISCOVERY],
        "amiSelectorTerms": [{"alias": "al2023@latest"}],
    }
    return {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": name},
        "spec": {**usual, **spec},
    }


def disk(device: str, size: str) -> Json:
    """Return a block device of gp3."""
    volume = {"volumeType": "gp3", "volumeSize": size, "deleteOnTermination": True}
    return {"deviceName": device, "ebs": volume}


def wish(key: str, operator: str, *values: str, least: int | None = None) -> Json:
    """Return a requirement, *least* being its minValues."""
    line: Json = {"key": key, "operator": operator}
    if values:
        line["values"] = list(values)
    if least is not None:
        line["minValues"] = least
    return line


OWN_USER_DATA = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="//"\n\n--//--\n'
EXAMPLES: dict[str, list[Json]] = {
    "general-purpose": [node_pool("general-purpose"), node_class()],
    "spot": [
        node_pool("spot", [*GENERAL[:2], wish("karpenter.sh/capacity-type", "In", "spot")]),
        node_class(),
    ],
    "100-cpu-limit": [
        node_pool(
            "hundred-cpu",
            disruption={
                "consolidationPolicy": "WhenEmptyOrUnderutilized",
                "consolidateAfter": "0s",
            },
            limits={"cpu": 100},
        ),
        node_class(),
    ],
    "node-ttls": [
        node_pool(
            template={"expireAfter": "168h"},
            disruption={"consolidationPolicy": "WhenEmpty", "consolidateAfter": "60s"},
        ),
        node_class(),
    ],
    "max-node-lifetime": [
        node_pool("max-node-lifetime", template={"expireAfter": "24h"}),
        node_class(),
    ],
    "large-instances": [
        node_pool(
            "large-instances",
            [
                wish("karpenter.k8s.aws/instance-cpu", "Gt", "3"),
                wish("karpenter.k8s.aws/instance-memory", "Gt", "8191"),
            ],
        ),
        node_class(),
    ],
    "min-values-multiple-keys": [
        node_pool(
            "spot",
            [
                *GENERAL[:2],
                wish("karpenter.k8s.aws/instance-category", "In", "c", "m", "r", least=2),
                wish("karpenter.k8s.aws/instance-family", "Exists", least=5),
                wish("node.kubernetes.io/instance-type", "Exists", least=2),
            ],
        ),
        node_class(amiSelectorTerms=[{"alias": "al2023@v20240625"}]),
    ],
    "multiple-arch": [
        node_pool("arm64", [wish("kubernetes.io/arch", "In", "arm64"), *GENERAL[1:]]),
        node_pool("amd64"),
        node_class(),
    ],
    "multiple-ebs": [
        node_pool(node_class="multiple-ebs"),
        node_class(
            "multiple-ebs",
            blockDeviceMappings=[
                disk("/dev/xvda", "20Gi"),
                disk("/dev/xvdb", "100Gi"),
                disk("/dev/xvdc", "2000Gi"),
            ],
        ),
    ],
    "instance-store-ephemeral-storage": [
        node_pool(node_class="instance-store"),
        node_class("instance-store", instanceStorePolicy="RAID0"),
    ],
    "bottlerocket": [
        node_pool(),
        node_class(
            amiSelectorTerms=[{"alias": "bottlerocket@latest"}],
            blockDeviceMappings=[disk("/dev/xvda", "4Gi"), disk("/dev/xvdb", "20Gi")],
        ),
    ],
    "br-custom-userdata": [
        node_pool(),
        node_class(
            amiSelectorTerms=[{"alias": "bottlerocket@latest"}],
            userData="[settings.kubernetes]\nkube-api-qps = 30\n",
        ),
    ],
    "al2023-custom-userdata": [node_pool(), node_class(userData=OWN_USER_DATA)],
    "al2-custom-ami": [
        node_pool(),
        node_class(
            amiFamily="AL2",
            amiSelectorTerms=[{"id": "ami-123"}, {"name": "my-ami"}, {"tags": {"team": "a"}}],
        ),
    ],
    "custom-family": [
        node_pool(node_class="custom"),
        node_class(
            "custom",
            amiFamily="Custom",
            amiSelectorTerms=[{"id": "ami-0b6c1b1a2b3c4d5e6"}],
            userData=OWN_USER_DATA,
        ),
    ],
    "custom-family-with-alias": [
        node_pool(node_class="custom"),
        node_class(
            "custom", amiFamily="Custom", amiSelectorTerms=[{"alias": "bottlerocket@latest"}]
        ),
    ],
    "windows-2022": [
        node_pool("windows", [wish("kubernetes.io/os", "In", "windows")]),
        node_class(amiSelectorTerms=[{"alias": "windows2022@latest"}]),
    ],
    "security-group-with-vpc": [
        node_pool(limits={"cpu": 1000}, disruption={"consolidateAfter": "1m"}),
        node_class(
            securityGroupSelectorTerms=[
                {"name": "k8s-node", "vpcID": "vpc-12345678"},
                {**DISCOVERY, "vpcID": "vpc-12345678"},
            ]
        ),
    ],
}
