"""The Node object of an instance: labels, taints, capacity and allocatable.

Matches what a real EKS node reports: about 4 % of an instance's memory is the kernel's and the
hypervisor's, reservations default to nodeadm's formulas, extended resources are zero until a device
plugin registers them. Refuses to know time.
"""

from __future__ import annotations

from outrider.local.kube.kubelets.facts import InstanceFacts
from outrider.local.kube.kubelets.userdata import NodeSettings
from outrider.local.kube.objects import Obj
from outrider.local.kube.quantities import amount, amounts, text_of

_KERNEL_SHARE = 0.04
_MIB = 2**20
_VERSION = "v1.36.3-eks-outrider"
_VENDORS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "habana": "habana.ai/gaudi"}
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def node_object(facts: InstanceFacts, settings: NodeSettings, now: str) -> Obj:
    """Return the Node as the kubelet registers it, not Ready yet."""
    capacity, allocatable = resources(facts, settings)
    labels = {
        "kubernetes.io/hostname": facts.private_dns,
        "kubernetes.io/arch": facts.arch,
        "kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": facts.arch,
        "beta.kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": facts.instance_type,
        "beta.kubernetes.io/instance-type": facts.instance_type,
        "topology.kubernetes.io/region": facts.region,
        "topology.kubernetes.io/zone": facts.zone,
        "topology.k8s.aws/zone-id": facts.zone_id,
        **settings.labels,
    }
    taints = [dict(one) for one in settings.taints] + [dict(NOT_READY)]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": facts.private_dns, "labels": labels},
        "spec": {"providerID": f"aws:///{facts.zone}/{facts.instance_id}", "taints": taints},
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [
                {"type": "InternalIP", "address": facts.private_ip},
                {"type": "InternalDNS", "address": facts.private_dns},
                {"type": "Hostname", "address": facts.private_dns},
            ],
            "conditions": [
                ready_condition(
                    "False", "KubeletNotReady", "container runtime network not ready", now
                )
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": [{"names": [name], "sizeBytes": 0} for name in sorted(facts.images)],
            "nodeInfo": _node_info(facts, settings),
        },
    }


def ready_condition(status: str, reason: str, message: str, now: str) -> Obj:
    """Return a node's Ready condition."""
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _node_info(facts: InstanceFacts, settings: NodeSettings) -> Obj:
    image = "Amazon Linux 2023" if settings.dialect == "AL2023" else "Bottlerocket OS (aws-k8s)"
    return {
        "machineID": facts.instance_id.removeprefix("i-"),
        "systemUUID": facts.instance_id,
        "bootID": facts.instance_id,
        "kernelVersion": "6.12.0",
        "osImage": image,
        "containerRuntimeVersion": "containerd://2.1.0",
        "kubeletVersion": _VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": facts.arch,
    }


def max_pods(facts: InstanceFacts, settings: NodeSettings) -> int:
    """Return how many pods the kubelet takes: what it was told, else what the interfaces hold."""
    if settings.max_pods is not None:
        return settings.max_pods
    return facts.enis * (facts.ipv4_per_eni - 1) + 2


def resources(facts: InstanceFacts, settings: NodeSettings) -> tuple[Obj, Obj]:
    """Return capacity and allocatable before any device plugin has registered."""
    pods = max_pods(facts, settings)
    memory = int(facts.memory_mib * (1 - _KERNEL_SHARE)) * _MIB
    disk = facts.data_volume_gib * 2**30
    if settings.instance_store and facts.nvme_gb:
        disk = facts.nvme_gb * 10**9
    whole = {"cpu": facts.vcpus * 1000, "memory": memory, "ephemeral-storage": disk, "pods": pods}
    kube = {
        "cpu": _reserved_cpu(facts.vcpus),
        "memory": (11 * pods + 255) * _MIB,
        "ephemeral-storage": 2**30,
        **amounts(settings.kube_reserved),
    }
    system = amounts(settings.system_reserved)
    keep = {
        "memory": _threshold(settings.eviction_hard.get("memory.available", "100Mi"), memory),
        "ephemeral-storage": _threshold(
            settings.eviction_hard.get("nodefs.available", "10%"), disk
        ),
    }
    left = {
        name: max(value - kube.get(name, 0) - system.get(name, 0) - keep.get(name, 0), 0)
        for name, value in whole.items()
    }
    capacity = {name: text_of(name, value) for name, value in whole.items()}
    allocatable = {name: text_of(name, value) for name, value in left.items()}
    for name in devices(facts, settings):
        capacity[name] = allocatable[name] = "0"
    return capacity, allocatable


def devices(facts: InstanceFacts, settings: NodeSettings) -> dict[str, str]:
    """Return the extended resources that the device plugins will register."""
    found: dict[str, int] = {}
    for gpu in facts.gpus:
        name = _VENDORS.get(gpu.manufacturer.lower())
        if name is None:
            continue
        count = gpu.count
        if name == "nvidia.com/gpu":
            count *= settings.gpu_replicas
            if settings.gpu_renamed and settings.gpu_replicas > 1:
                name = "nvidia.com/gpu.shared"
        found[name] = found.get(name, 0) + count
    if facts.neuron_devices:
        found["aws.amazon.com/neuron"] = facts.neuron_devices
        found["aws.amazon.com/neuroncore"] = facts.neuron_cores or 2 * facts.neuron_devices
    if facts.efas:
        found["vpc.amazonaws.com/efa"] = facts.efas
    return {name: str(count) for name, count in found.items()}


def _reserved_cpu(vcpus: int) -> int:
    """Return nodeadm's reservation in thousandths: 6 % of one core, 1 %, 0.5 % of two, 0.25 % of
    the rest.
    """
    shares = [60.0, 10.0, 5.0, 5.0]
    return int(sum(shares[:vcpus]) + 2.5 * max(vcpus - 4, 0))


def _threshold(text: str, whole: int) -> int:
    if text.endswith("%"):
        return int(whole * float(text[:-1]) / 100)
    return amount("memory", text)
