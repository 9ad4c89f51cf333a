"""The NodePools and EC2NodeClasses that Karpenter's documentation teaches, field by field.

Said here in our own words: every entry has the kinds, fields and values of the published example
that its name names (examples/v1 of the AWS provider, all that have a NodePool or an EC2NodeClass),
so that whoever wrote theirs by it can bring it along. SLIPS are what some of them said at one time
and Karpenter's own definitions refuse.
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


def windows(year: int, *, group: str = "karpenter.k8s.aws", **spec: Any) -> list[Json]:
    """Return the NodePool and EC2NodeClass of a Windows Server, the class known by its *group*."""
    name = f"windows{year}"
    pool = node_pool(
        name, [wish("kubernetes.io/os", "In", "windows"), GENERAL[0], *GENERAL[2:]], node_class=name
    )
    pool["spec"]["template"]["spec"]["nodeClassRef"]["group"] = group
    options = {"httpProtocolIPv6": "disabled", "httpTokens": "required"}
    image = [{"alias": f"{name}@latest"}]
    return [pool, node_class(name, amiSelectorTerms=image, metadataOptions=options, **spec)]


def script(*lines: str) -> str:
    """Return user data of several parts with one, a shell script of *lines*."""
    head = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="PART"\n\n--PART\n'
    kind = 'Content-Type: text/x-shellscript; charset="us-ascii"\n\n'
    return head + kind + "\n".join(("#!/bin/bash", *lines)) + "\n\n--PART--\n"


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
        node_pool(
            template={"expireAfter": "168h", "terminationGracePeriod": "24h"},
            disruption={"consolidationPolicy": "WhenEmpty", "consolidateAfter": "60s"},
        ),
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
    "min-values-family": [
        node_pool(
            "spot",
            [
                *GENERAL[:2],
                wish("karpenter.sh/capacity-type", "In", "spot"),
                GENERAL[3],
                wish("karpenter.k8s.aws/instance-family", "Exists", least=5),
                GENERAL[4],
            ],
        ),
        node_class(amiSelectorTerms=[{"alias": "al2023@v20240625"}]),
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
        node_pool(
            requirements=[*GENERAL, wish("karpenter.k8s.aws/instance-local-nvme", "Gt", "300")],
            node_class="instance-store",
        ),
        node_class("instance-store", instanceStorePolicy="RAID0"),
    ],
    "bottlerocket": [
        node_pool(),
        node_class(
            amiSelectorTerms=[{"alias": "bottlerocket@latest"}],
            blockDeviceMappings=[disk("/dev/xvda", "4Gi"), disk("/dev/xvdb", "20Gi")],
        ),
    ],
    "bottlerocket-fips": [
        node_pool(),
        node_class(
            amiSelectorTerms=[{"alias": "bottlerocket-fips@latest"}],
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
    "al2-custom-userdata": [
        node_pool(node_class="al2"),
        node_class("al2", userData=script("echo 'before the bootstrap'")),
    ],
    "al2-kubelet-log-query": [
        node_pool(node_class="al2"),
        node_class(
            "al2",
            userData=script(
                "set -e",
                "drop_in=/etc/systemd/system/kubelet.service.d/90-feature-gates.conf",
                "printf '[Service]\\nEnvironment=\"KUBELET_EXTRA_ARGS=--feature-gates=%s\"\\n'"
                " NodeLogQuery=true > $drop_in",
            ),
        ),
    ],
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
    "windows-2019": windows(2019),
    "windows-2022": windows(2022),
    "windows-2025": windows(2025),
    "windows-custom-userdata": windows(
        2022, amiFamily="Windows2022", userData="New-Item -Path 'C:\\data' -ItemType Directory\n"
    ),
    "placement-group": [
        node_pool(
            "placement-group",
            [wish("topology.kubernetes.io/zone", "In", "us-west-2a")],
            node_class="placement-group",
        ),
        node_class(
            "placement-group",
            amiFamily="AL2023",
            placementGroupSelector={"name": "analytics"},
        ),
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
SLIPS: dict[str, tuple[Json, str]] = {
    "a group with a version": (
        windows(2022, group="karpenter.k8s.aws/v1")[0],
        "spec.template.spec.nodeClassRef.group",
    ),
    "a misspelt grace period": (
        node_pool(template={"terminationGracePeirod": "24h"}),
        'unknown field "spec.template.spec.terminationGracePeirod"',
    ),
    "a placement group by the name that its field had before its release": (
        node_class(placementGroup={"name": "analytics", "partition": 2}),
        'unknown field "spec.placementGroup"',
    ),
}
