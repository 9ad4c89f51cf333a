"""Which extended resources a type's accelerators become on a node.

EC2 reports `Count` 0 for a type whose GPU is a slice (g6f, gr6f) and once did so for p5.4xlarge;
Karpenter reads that as "no GPU" and never launches them for `nvidia.com/gpu`
(aws/karpenter-provider-aws#8368). `LogicalGpuCount` is what the device plugin will advertise, so it
counts here. A slice is only offered to those who ask for one: the label `outrider.dev/gpu-fraction`
on such types says how much of a GPU it is.

Refuses to know about time-slicing, MPS and MIG (`core.catalog.sharing`).
"""

from __future__ import annotations

from outrider.core.catalog.instancetype import Ec2Facts, Gpu

NVIDIA = "nvidia.com/gpu"
AMD = "amd.com/gpu"
NEURON = "aws.amazon.com/neuron"
NEURON_CORE = "aws.amazon.com/neuroncore"
GAUDI = "habana.ai/gaudi"
EFA = "vpc.amazonaws.com/efa"
POD_ENI = "vpc.amazonaws.com/pod-eni"

_BY_MANUFACTURER = {"nvidia": NVIDIA, "amd": AMD}


def advertised(gpu: Gpu) -> int:
    """Return how many devices of *gpu* a node advertises."""
    return max(gpu.count, gpu.logical_count)


def devices(ec2: Ec2Facts, efa_interfaces: int | None = None) -> dict[str, int]:
    """Return the extended resources of a type; *efa_interfaces* overrides what EC2 allows."""
    amounts: dict[str, int] = {}
    for gpu in ec2.gpus:
        name = _BY_MANUFACTURER.get(gpu.manufacturer.lower())
        if name is not None:
            amounts[name] = amounts.get(name, 0) + advertised(gpu)
    amounts[NEURON] = ec2.neuron_devices
    amounts[NEURON_CORE] = ec2.neuron_cores
    amounts[GAUDI] = ec2.gaudi_devices
    amounts[EFA] = ec2.max_efa if efa_interfaces is None else efa_interfaces
    amounts[POD_ENI] = ec2.pod_eni if ec2.trunking else 0
    return {name: amount for name, amount in amounts.items() if amount > 0}


def fraction(ec2: Ec2Facts) -> float:
    """Return the smallest share of a whole GPU that a device here is; 1 where none is cut."""
    return min((gpu.partition_size for gpu in ec2.gpus if gpu.partition_size > 0), default=1.0)
