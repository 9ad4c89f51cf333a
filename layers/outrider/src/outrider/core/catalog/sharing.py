"""What a node advertises of its NVIDIA GPUs once they are shared: time-slicing, MPS and MIG.

The node class says how (`apis.gpu_sharing`), the type says which GPUs it has: EC2's facts, or in a
catalogue written by hand the labels instance-gpu-name and instance-gpu-memory. Counts are those of
NVIDIA's device plugin: replicas of every device, the profile's instances of every GPU. A GPU that
cannot be split as the class says counts as nothing: its node would not come up as planned.

Refuses to know prices and pods; memory of a slice is the workload's own business.
"""

from __future__ import annotations

from collections.abc import Mapping

from outrider.apis.gpu_sharing import GpuSharing, Splits, splits_of
from outrider.core.catalog.gpus import NVIDIA, advertised
from outrider.core.catalog.instancetype import InstanceType
from outrider.core.resources import Resources

SHARED = f"{NVIDIA}.shared"
MIG = "nvidia.com/mig-"
_NAME = "karpenter.k8s.aws/instance-gpu-name"
_MEMORY = "karpenter.k8s.aws/instance-gpu-memory"


def shared(kind: InstanceType, capacity: Resources, sharing: GpuSharing) -> Resources:
    """Return the *capacity* of *kind* with its NVIDIA GPUs as *sharing* makes them."""
    if not capacity.get(NVIDIA):
        return capacity
    devices: Mapping[str, int] = {NVIDIA: capacity[NVIDIA]}
    if sharing.splits:
        devices = _split(_gpus(kind, capacity[NVIDIA]), sharing)
    if sharing.replicas > 1:
        name = SHARED if sharing.renamed else NVIDIA
        devices = {name: devices.get(NVIDIA, 0) * sharing.replicas}
    others = {name: amount for name, amount in capacity.items() if name != NVIDIA}
    return {**others, **{name: amount for name, amount in devices.items() if amount}}


def _split(gpus: tuple[tuple[Splits | None, int], ...], sharing: GpuSharing) -> dict[str, int]:
    devices: dict[str, int] = {}
    for splits, count in gpus:
        if splits is None:
            continue
        profile = splits.profiles.get(sharing.single)
        if profile is not None:
            devices[NVIDIA] = devices.get(NVIDIA, 0) + profile.instances * count
        elif sharing.mixed and splits.holds(sharing.mixed):
            for name, instances in sharing.mixed:
                devices[MIG + name] = devices.get(MIG + name, 0) + instances * count
    return devices


def _gpus(kind: InstanceType, count: int) -> tuple[tuple[Splits | None, int], ...]:
    """Return how each model of *kind* can be split, and how many GPUs of it there are."""
    if kind.ec2 is not None and kind.ec2.gpus:
        return tuple(
            (
                splits_of(_spelled(gpu.name), gpu.memory_mib) if gpu.partition_size >= 1 else None,
                advertised(gpu),
            )
            for gpu in kind.ec2.gpus
            if gpu.manufacturer.lower() == "nvidia"
        )
    name, memory = _label(kind, _NAME), _label(kind, _MEMORY)
    return ((splits_of(name, int(memory)) if memory.isdigit() else None, count),)


def _spelled(name: str) -> str:
    return name.lower().replace(" ", "-")


def _label(kind: InstanceType, key: str) -> str:
    requirement = kind.requirements.get(key)
    values = sorted(requirement.values) if requirement is not None else []
    return values[0] if len(values) == 1 else ""
