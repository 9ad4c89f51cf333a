"""Manifests of Karpenter's kinds: one full sample each, and what makes them bad or odd.

Judged by the models, by the local API server and, on a real control plane, by Kubernetes itself.
"""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]
GROUPS = {
    "NodePool": "karpenter.sh/v1",
    "NodeClaim": "karpenter.sh/v1",
    "EC2NodeClass": "karpenter.k8s.aws/v1",
    "NodeOverlay": "karpenter.sh/v1alpha1",
}
REF = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"}
SPECS: dict[str, Json] = {
    "NodePool": {
        "template": {
            "metadata": {"labels": {"team": "ml"}, "annotations": {"a": "b"}},
            "spec": {
                "nodeClassRef": REF,
                "requirements": [
                    {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
                    {
                        "key": "karpenter.k8s.aws/instance-family",
                        "operator": "In",
                        "values": ["g5", "g6"],
                        "minValues": 2,
                    },
                    {
                        "key": "karpenter.k8s.aws/instance-cpu",
                        "operator": "Gt",
                        "values": ["3"],
                    },
                ],
                "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
                "startupTaints": [{"key": "boot", "effect": "NoExecute"}],
                "expireAfter": "336h",
                "terminationGracePeriod": "1h30m",
            },
        },
        "disruption": {
            "consolidateAfter": "30s",
            "consolidationPolicy": "Balanced",
            "budgets": [
                {"nodes": "10%", "reasons": ["Empty", "Drifted"]},
                {"nodes": "0", "schedule": "0 9 * * 1-5", "duration": "8h"},
            ],
        },
        "limits": {"cpu": "1000", "nvidia.com/gpu": 16, "nodes": 5},
        "weight": 10,
    },
    "NodeClaim": {
        "nodeClassRef": REF,
        "requirements": [
            {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["gpu"]},
            {"key": "karpenter.k8s.aws/ec2nodeclass", "operator": "In", "values": ["gpu"]},
        ],
        "resources": {"requests": {"cpu": "4", "memory": "16Gi"}},
        "taints": [{"key": "a", "effect": "NoSchedule"}],
        "expireAfter": "Never",
    },
    "EC2NodeClass": {
        "amiSelectorTerms": [{"alias": "al2023@latest"}],
        "amiFamily": "AL2023",
        "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": "c"}}, {"id": "subnet-1"}],
        "securityGroupSelectorTerms": [{"name": "nodes"}, {"id": "sg-1"}],
        "capacityReservationSelectorTerms": [{"id": "cr-1"}, {"instanceMatchCriteria": "open"}],
        "placementGroupSelector": {"name": "together"},
        "role": "node",
        "tags": {"team": "ml"},
        "kubelet": {
            "maxPods": 110,
            "podsPerCore": 20,
            "systemReserved": {"cpu": "100m", "memory": 1048576},
            "kubeReserved": {"ephemeral-storage": "1Gi", "pid": "1000"},
            "evictionHard": {"memory.available": "5%", "nodefs.available": "10Gi"},
            "evictionSoft": {"memory.available": "500Mi"},
            "evictionSoftGracePeriod": {"memory.available": "1m"},
            "evictionMaxPodGracePeriod": 60,
            "imageGCHighThresholdPercent": 85,
            "imageGCLowThresholdPercent": 80,
            "cpuCFSQuota": True,
            "clusterDNS": ["10.0.1.100"],
            "registryPullQPS": 20,
        },
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvda",
                "rootVolume": True,
                "ebs": {"volumeSize": "100Gi", "volumeType": "gp3", "iops": 3000},
            },
            {"ebs": {"snapshotID": "snap-1", "volumeInitializationRate": 200}},
        ],
        "instanceStorePolicy": "RAID0",
        "metadataOptions": {"httpTokens": "optional", "httpPutResponseHopLimit": 2},
        "networkInterfaces": [{"networkCardIndex": 1, "interfaceType": "efa-only"}],
        "connectionTracking": {"udpTimeout": 45},
        "cpuOptions": {"nestedVirtualization": "disabled"},
        "detailedMonitoring": True,
        "ipPrefixCount": 1,
    },
    "NodeOverlay": {
        "requirements": [
            {"key": "node.kubernetes.io/instance-type", "operator": "NotIn", "values": ["m5.large"]}
        ],
        "priceAdjustment": "-15%",
        "capacity": {"example.com/dongle": "2"},
        "weight": 10000,
    },
}


def document(kind: str, spec: Any) -> Json:
    """Return a document of *kind* with *spec*."""
    return {"apiVersion": GROUPS[kind], "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def changed(kind: str, path: str, value: Any) -> Json:
    """Return the sample of *kind* with *value* at *path* (`a.b[0].c`)."""
    whole = document(kind, copy.deepcopy(SPECS[kind]))
    *steps, last = path.replace("[", ".[").split(".")
    here: Any = whole["spec"]
    for step in steps:
        here = here[int(step[1:-1])] if step[0] == "[" else here.setdefault(step, {})
    here[int(last[1:-1]) if last[0] == "[" else last] = value
    return whole


REQUIREMENT = "template.spec.requirements[0]"
BAD: tuple[tuple[str, str, Any], ...] = (
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "In"}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "In", "values": []}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "Gt", "values": ["-1"]}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "Lte", "values": ["many"]}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "Gte", "values": ["1", "2"]}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "In", "values": ["x"], "minValues": 2}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "Exists", "minValues": 51}),
    ("NodePool", REQUIREMENT, {"key": "a b", "operator": "Exists"}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "Near"}),
    ("NodePool", REQUIREMENT, {"key": "karpenter.sh/nodepool", "operator": "Exists"}),
    ("NodePool", REQUIREMENT, {"key": "karpenter.sh/x", "operator": "Exists"}),
    ("NodePool", REQUIREMENT, {"key": "a.karpenter.sh/x", "operator": "Exists"}),
    ("NodePool", REQUIREMENT, {"key": "karpenter.k8s.aws/ec2nodeclass", "operator": "Exists"}),
    ("NodePool", REQUIREMENT, {"key": "kubernetes.io/hostname", "operator": "Exists"}),
    ("NodePool", "template.metadata.labels", {"kubernetes.io/hostname": "a"}),
    ("NodePool", "template.metadata.labels", {"karpenter.sh/nodepool": "a"}),
    ("NodePool", "template.metadata.labels", {"team": "not a value"}),
    ("NodePool", "template.metadata.labels", {"team": "x" * 64}),
    ("NodePool", "template.metadata.labels", {f"l{n}": "x" for n in range(101)}),
    ("NodePool", "template.spec.nodeClassRef", {"group": "a", "kind": "b"}),
    ("NodePool", "template.spec.nodeClassRef.name", ""),
    ("NodePool", "template.spec.nodeClassRef.group", "a/v1"),
    ("NodePool", "template.spec.taints[0].effect", "Sometimes"),
    ("NodePool", "template.spec.taints[0].value", "not a value"),
    ("NodePool", "template.spec.taints[0].key", ""),
    ("NodePool", "template.spec.expireAfter", "1d"),
    ("NodePool", "template.spec.terminationGracePeriod", "Never"),
    ("NodePool", "disruption.consolidationPolicy", "WhenUnderutilized"),
    ("NodePool", "disruption.consolidateAfter", "-1s"),
    ("NodePool", "disruption.budgets[0].nodes", "101%"),
    ("NodePool", "disruption.budgets[0].nodes", -1),
    ("NodePool", "disruption.budgets[0].reasons", ["Expired"]),
    ("NodePool", "disruption.budgets[0].reasons", ["Empty", "Empty"]),
    ("NodePool", "disruption.budgets[0].schedule", "@daily"),
    ("NodePool", "disruption.budgets[1].schedule", "@never"),
    ("NodePool", "disruption.budgets[1].duration", "30s"),
    ("NodePool", "disruption.budgets", [{"nodes": "1"}] * 51),
    ("NodePool", "limits.cpu", "-1"),
    ("NodePool", "limits.cpu", -1),
    ("NodePool", "limits.cpu", 1.5),
    ("NodePool", "limits.cpu", "lots"),
    ("NodePool", "weight", 0),
    ("NodePool", "weight", 101),
    ("NodePool", "weight", "5"),
    ("NodePool", "replicas", 1),
    ("NodeClaim", "requirements[0].key", "karpenter.sh/registered"),
    ("NodeClaim", "requirements[0].key", "kubernetes.io/hostname"),
    ("NodeClaim", "resources.requests.cpu", "four"),
    ("NodeClaim", "nodeClassRef", {}),
    ("EC2NodeClass", "amiFamily", "AL2"),
    ("EC2NodeClass", "amiFamily", "Debian"),
    ("EC2NodeClass", "amiSelectorTerms", []),
    ("EC2NodeClass", "amiSelectorTerms[0]", {}),
    ("EC2NodeClass", "amiSelectorTerms[0]", {"owner": "self"}),
    ("EC2NodeClass", "amiSelectorTerms[0]", {"alias": "AL2023@latest"}),
    ("EC2NodeClass", "amiSelectorTerms[0]", {"alias": "al2023"}),
    ("EC2NodeClass", "amiSelectorTerms[0]", {"alias": "windows2022@v1"}),
    ("EC2NodeClass", "amiSelectorTerms[0]", {"alias": "al2023@latest", "name": "x"}),
    ("EC2NodeClass", "amiSelectorTerms[0]", {"id": "ami-1", "owner": "self"}),
    ("EC2NodeClass", "amiSelectorTerms", [{"alias": "al2023@latest"}, {"id": "ami-1"}]),
    ("EC2NodeClass", "subnetSelectorTerms", [{}]),
    ("EC2NodeClass", "subnetSelectorTerms", [{"id": "subnet-1", "tags": {"a": "b"}}]),
    ("EC2NodeClass", "subnetSelectorTerms", [{"tags": {"a": ""}}]),
    ("EC2NodeClass", "subnetSelectorTerms", [{"tags": {}}]),
    ("EC2NodeClass", "subnetSelectorTerms", [{"id": "vpc-1"}]),
    ("EC2NodeClass", "securityGroupSelectorTerms", [{"id": "sg-1", "name": "x"}]),
    ("EC2NodeClass", "securityGroupSelectorTerms", [{"name": "x", "tags": {"a": "b"}}]),
    ("EC2NodeClass", "capacityReservationSelectorTerms", [{"ownerID": "123456789012"}]),
    ("EC2NodeClass", "capacityReservationSelectorTerms", [{"instanceMatchCriteria": "all"}]),
    ("EC2NodeClass", "placementGroupSelector", {"name": "a", "id": "pg-1"}),
    ("EC2NodeClass", "role", ""),
    ("EC2NodeClass", "instanceProfile", "node"),
    ("EC2NodeClass", "tags", {"kubernetes.io/cluster/c": "owned"}),
    ("EC2NodeClass", "tags", {"eks:eks-cluster-name": "c"}),
    ("EC2NodeClass", "tags", {"": "c"}),
    ("EC2NodeClass", "kubelet.maxPods", "many"),
    ("EC2NodeClass", "kubelet.maxPods", "vcpus * 10"),
    ("EC2NodeClass", "kubelet.maxPods", -1),
    ("EC2NodeClass", "kubelet.kubeReserved", {"cpu": "lots"}),
    ("EC2NodeClass", "kubelet.kubeReserved", {"cpu": "-1"}),
    ("EC2NodeClass", "kubelet.systemReserved", {"nvidia.com/gpu": "1"}),
    ("EC2NodeClass", "kubelet.evictionHard", {"memory": "5%"}),
    ("EC2NodeClass", "kubelet.evictionHard", {"memory.available": "101%"}),
    ("EC2NodeClass", "kubelet.evictionSoft", {"pid.available": "5%"}),
    ("EC2NodeClass", "kubelet.evictionSoftGracePeriod", {}),
    ("EC2NodeClass", "kubelet.imageGCHighThresholdPercent", 101),
    ("EC2NodeClass", "kubelet.imageGCHighThresholdPercent", 80),
    ("EC2NodeClass", "blockDeviceMappings[0].ebs", {"iops": 3000}),
    ("EC2NodeClass", "blockDeviceMappings[0].ebs.volumeSize", "65000Gi"),
    ("EC2NodeClass", "blockDeviceMappings[0].ebs.volumeInitializationRate", 200),
    ("EC2NodeClass", "blockDeviceMappings[1].ebs.volumeInitializationRate", 99),
    ("EC2NodeClass", "blockDeviceMappings[1].rootVolume", True),
    ("EC2NodeClass", "metadataOptions.httpPutResponseHopLimit", 65),
    ("EC2NodeClass", "networkInterfaces[0].interfaceType", "efa"),
    ("EC2NodeClass", "connectionTracking.udpTimeout", 61),
    ("EC2NodeClass", "detailedMonitoring", "yes"),
    ("NodeOverlay", "requirements[0].values", []),
    ("NodeOverlay", "requirements[0].key", "kubernetes.io/hostname"),
    ("NodeOverlay", "requirements[0].key", "karpenter.sh/registered"),
    ("NodeOverlay", "price", "1.5"),
    ("NodeOverlay", "priceAdjustment", "15%"),
    ("NodeOverlay", "priceAdjustment", "-101%"),
    ("NodeOverlay", "capacity", {"cpu": "1"}),
    ("NodeOverlay", "weight", 10001),
)
GOOD: tuple[tuple[str, str, Any], ...] = (
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "Exists", "values": ["ignored"]}),
    ("NodePool", REQUIREMENT, {"key": "a", "operator": "NotIn", "values": []}),
    ("NodePool", REQUIREMENT, {"key": "example.kubernetes.io/x", "operator": "Exists"}),
    ("NodePool", REQUIREMENT, {"key": "karpenter.k8s.aws/instance-new", "operator": "Exists"}),
    ("NodePool", REQUIREMENT, {"key": "outrider.dev/gpu-fraction", "operator": "Exists"}),
    ("NodePool", "disruption", {"consolidationPolicy": "WhenEmpty"}),
    ("NodePool", "disruption.budgets[0].nodes", 5),
    ("NodePool", "disruption.budgets[1].schedule", "61 9 * * *"),
    ("NodePool", "limits", {"cpu": "1e3", "memory": "1.5Ti"}),
    ("NodePool", "template.spec", {"nodeClassRef": REF}),
    ("NodePool", "template.metadata.labels", {"karpenter.sh/capacity-type": "spot"}),
    ("EC2NodeClass", "amiSelectorTerms[0]", {"ssmParameter": "/ami", "tags": {"a": "b"}}),
    ("EC2NodeClass", "amiFamily", "Custom"),
    (
        "EC2NodeClass",
        "subnetSelectorTerms",
        [{"id": "subnet-1", "tags": {"a": "b"}}, {"id": "subnet-2"}],
    ),
    ("EC2NodeClass", "kubelet.maxPods", "58"),
    ("EC2NodeClass", "kubelet.unheardOf", {"a": [1, 2]}),
    ("NodeOverlay", "requirements", []),
    ("NodeOverlay", "requirements[0].key", "karpenter.sh/nodepool"),
)
