"""What a node of a type holds, derived from EC2's facts, the node class and the cluster.

Memory is what EC2 states less 7.5 % for the hypervisor (and 64 MiB on arm64), until a node of that
type has shown better; storage is the class's volume, or its local NVMe as RAID0; pods follow the
interfaces and the CNI (`core.catalog.maxpods`); devices follow `core.catalog.gpus`. Karpenter's
numbers (F96 to F106), with prefix delegation and sliced GPUs counted as they are.

kube-reserved memory grows with pods: the AL2023 kubelet reserves for the interfaces' classic
density whatever maxPods says (F98), Bottlerocket for the pods it is told; prefix delegation raises
both.

An explicit capacity in the catalogue wins: it is for catalogues written by hand. How nodes share
their GPUs (`core.catalog.sharing`) multiplies either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from outrider.apis import quantity
from outrider.core.catalog import gpus, maxpods
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.family import (
    DEFAULT_VOLUME_GIB,
    EPHEMERAL_DEVICE,
    Family,
    family_of,
)
from outrider.core.catalog.instancetype import Ec2Facts, InstanceType
from outrider.core.catalog.overhead import GI, MI, overhead
from outrider.core.catalog.sharing import shared
from outrider.core.resources import Resources

if TYPE_CHECKING:
    from outrider.apis.gpu_sharing import GpuSharing
    from outrider.apis.nodeclass import EC2NodeClass

HYPERVISOR_PER_MILLE = 75
ARM_RESERVED_MIB = 64
NVME_GB = 10**9
CLOSE_PERCENT = 80  # an observed memory below this share of the model's is not this type's


@dataclass(frozen=True, slots=True)
class _Class:
    """A node class, as far as capacity depends on it."""

    family: Family
    kubelet: Mapping[str, Any]
    raid0: bool
    volume_bytes: int
    efa_only_on_default_card: int
    efa_interfaces: int | None
    sharing: GpuSharing | None


def derive(
    kind: InstanceType, node_class: EC2NodeClass | None, facts: ClusterFacts
) -> InstanceType:
    """Return *kind* with capacity and overhead as a node of *node_class* has them."""
    if kind.ec2 is None or kind.capacity:
        return _stated(kind, node_class.gpu_sharing if node_class else None)
    return _derived(kind, kind.ec2, _read(node_class), facts)


def derive_all(
    kinds: tuple[InstanceType, ...], node_class: EC2NodeClass | None, facts: ClusterFacts
) -> tuple[InstanceType, ...]:
    """Return *kinds* derived for one node class, which is read only once."""
    settings = _read(node_class)
    return tuple(
        _stated(kind, settings.sharing)
        if kind.ec2 is None or kind.capacity
        else _derived(kind, kind.ec2, settings, facts)
        for kind in kinds
    )


def _stated(kind: InstanceType, sharing: GpuSharing | None) -> InstanceType:
    """Return *kind*, whose capacity the catalogue states, with its GPUs shared."""
    return replace(kind, capacity=_shared(kind, kind.capacity, sharing)) if sharing else kind


def _shared(kind: InstanceType, capacity: Resources, sharing: GpuSharing | None) -> Resources:
    return shared(kind, capacity, sharing) if sharing else capacity


def kubelet_of(node_class: EC2NodeClass | None) -> Mapping[str, Any]:
    """Return the class's KubeletConfiguration as written there."""
    return (node_class.spec.kubelet if node_class else None) or {}


def _derived(
    kind: InstanceType, ec2: Ec2Facts, settings: _Class, facts: ClusterFacts
) -> InstanceType:
    classic = maxpods.eni_limited(ec2)
    pods = _pods(ec2, settings, facts)
    memory = _memory(kind.name, ec2, facts)
    storage = ec2.nvme_gb * NVME_GB if settings.raid0 and ec2.nvme_gb else settings.volume_bytes
    told = settings.family is Family.BOTTLEROCKET
    reserved_for = pods if told or facts.prefix_delegation else classic
    milli_cpu = ec2.vcpu * 1000
    capacity: Resources = {
        "cpu": milli_cpu,
        "memory": memory,
        "ephemeral-storage": storage,
        "pods": pods,
        **gpus.devices(ec2, settings.efa_interfaces),
    }
    return replace(
        kind,
        capacity=_shared(kind, capacity, settings.sharing),
        overhead=overhead(milli_cpu, memory, storage, reserved_for, settings.kubelet),
    )


def _read(node_class: EC2NodeClass | None) -> _Class:
    family = family_of(node_class) or Family.CUSTOM
    interfaces = node_class.spec.network_interfaces if node_class else ()
    efa_only = [entry for entry in interfaces or () if entry.interface_type == "efa-only"]
    return _Class(
        family=family,
        kubelet=kubelet_of(node_class),
        raid0=node_class is not None and node_class.spec.instance_store_policy == "RAID0",
        volume_bytes=_volume(node_class, family),
        efa_only_on_default_card=sum(entry.network_card_index == 0 for entry in efa_only),
        efa_interfaces=len(efa_only) if interfaces else None,
        sharing=node_class.gpu_sharing if node_class else None,
    )


def _pods(ec2: Ec2Facts, settings: _Class, facts: ClusterFacts) -> int:
    stated = settings.kubelet.get("maxPods")
    if stated is not None:
        pods = int(stated)
    elif facts.prefix_delegation:
        pods = maxpods.prefix_limited(ec2, facts.reserved_enis, settings.efa_only_on_default_card)
    else:
        pods = maxpods.eni_limited(ec2, facts.reserved_enis, settings.efa_only_on_default_card)
    per_core = settings.kubelet.get("podsPerCore")
    if per_core and settings.family is not Family.BOTTLEROCKET:
        pods = min(pods, int(per_core) * ec2.vcpu)
    return pods


def _memory(name: str, ec2: Ec2Facts, facts: ClusterFacts) -> int:
    stated = ec2.memory_mib - (ARM_RESERVED_MIB if ec2.arch == "arm64" else 0)
    modelled = (stated - -(-stated * HYPERVISOR_PER_MILLE // 1000)) * MI
    observed = facts.observed_memory.get(name, 0)
    plausible = modelled * CLOSE_PERCENT <= observed * 100 and observed <= ec2.memory_mib * MI
    return observed if plausible else modelled


def _volume(node_class: EC2NodeClass | None, family: Family) -> int:
    mappings = node_class.spec.block_device_mappings if node_class else ()
    device = EPHEMERAL_DEVICE[family]
    chosen = [mapping for mapping in mappings or () if mapping.root_volume] or [
        mapping for mapping in mappings or () if mapping.device_name == device
    ]
    if not chosen and family is Family.CUSTOM and mappings:
        chosen = [mappings[-1]]
    for mapping in chosen:
        if mapping.ebs is not None and mapping.ebs.volume_size is not None:
            return quantity.whole(mapping.ebs.volume_size)
    return DEFAULT_VOLUME_GIB * GI
