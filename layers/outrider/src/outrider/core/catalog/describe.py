"""EC2's own words about an instance type, read once: facts for the model and labels for the
planner.

Input is one record of DescribeInstanceTypes as the API gives it; output `Ec2Facts` and the labels
that Karpenter puts on its nodes (F107), with their spelling: sizes in MiB, Mbps and GB, names in
lower case with dashes. Types that cannot be a node (Mac, 32-bit, paravirtual) are None.

Refuses to know where the record comes from, and prices (`core.catalog.price_book`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from outrider.apis import labels
from outrider.core.catalog import gpus
from outrider.core.catalog.instancetype import Ec2Facts, Gpu, NetworkCard
from outrider.core.requirements import Requirement, Requirements

Json = Mapping[str, Any]

PREFIX = "karpenter.k8s.aws/instance-"
TENANCY = PREFIX + "tenancy"
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}

_NAME = re.compile(r"^([a-z]+)(?:-[0-9]+tb)?([0-9]+).*\.")
_CARDS: dict[tuple[int, bool], NetworkCard] = {}


def facts(record: Json) -> Ec2Facts | None:
    """Return the facts of one DescribeInstanceTypes *record*; None where it cannot be a node."""
    processor = record.get("ProcessorInfo", {})
    arch = next(
        (
            ARCHITECTURES[name]
            for name in processor.get("SupportedArchitectures", ())
            if name in ARCHITECTURES
        ),
        None,
    )
    if arch is None or "hvm" not in record.get("SupportedVirtualizationTypes", ("hvm",)):
        return None
    network = record.get("NetworkInfo", {})
    models = tuple(_gpu(entry) for entry in record.get("GpuInfo", {}).get("Gpus", ()))
    neuron = record.get("NeuronInfo", {}).get("NeuronDevices", ())
    others = record.get("InferenceAcceleratorInfo", {}).get("Accelerators", ())
    ebs = record.get("EbsInfo", {})
    bare_metal = bool(record.get("BareMetal"))
    return Ec2Facts(
        vcpu=int(record["VCpuInfo"]["DefaultVCpus"]),
        memory_mib=int(record["MemoryInfo"]["SizeInMiB"]),
        network_cards=_cards(network),
        ipv4_per_eni=int(network.get("Ipv4AddressesPerInterface", 0)),
        gpus=tuple(gpu for gpu in models if gpu.manufacturer.lower() != "habana"),
        neuron_devices=sum(int(device.get("Count", 0)) for device in neuron),
        neuron_cores=sum(
            int(device.get("Count", 0)) * int(device.get("CoreInfo", {}).get("Count", 0))
            for device in neuron
        ),
        gaudi_devices=sum(
            gpus.advertised(gpu) for gpu in models if gpu.manufacturer.lower() == "habana"
        ),
        nvme_gb=int(record.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)),
        ebs_max_volumes=int(ebs.get("MaximumEbsAttachments", 0)),
        bare_metal=bare_metal,
        arch=arch,
        max_efa=int(network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)),
        accelerator=next((str(device.get("Name", "")) for device in (*neuron, *others)), ""),
        cpu_manufacturer=str(processor.get("Manufacturer", "")).lower(),
        clock_mhz=round(float(processor.get("SustainedClockSpeedInGhz", 0)) * 1000),
        hypervisor="" if bare_metal else str(record.get("Hypervisor", "")),
        network_mbps=_network_mbps(network),
        ebs_mbps=int(ebs.get("EbsOptimizedInfo", {}).get("BaselineBandwidthInMbps", 0)),
        encryption_in_transit=bool(network.get("EncryptionInTransitSupported")),
    )


def type_labels(name: str, ec2: Ec2Facts) -> dict[str, str]:
    """Return the labels of the type *name*: those of every node of it, zone and price aside."""
    family, _, size = name.partition(".")
    parts = _NAME.match(name)
    result = {
        labels.INSTANCE_TYPE: name,
        labels.ARCH: ec2.arch,
        labels.OS: "linux",
        PREFIX + "family": family,
        PREFIX + "size": size,
        PREFIX + "cpu": str(ec2.vcpu),
        PREFIX + "memory": str(ec2.memory_mib),
        PREFIX + "encryption-in-transit-supported": str(ec2.encryption_in_transit).lower(),
        PREFIX + "capability-flex": str("-flex" in family).lower(),
    }
    if parts:
        result[PREFIX + "category"] = parts.group(1)
        result[PREFIX + "generation"] = parts.group(2)
    optional = {
        "cpu-manufacturer": ec2.cpu_manufacturer,
        "cpu-sustained-clock-speed-mhz": ec2.clock_mhz,
        "hypervisor": ec2.hypervisor,
        "local-nvme": ec2.nvme_gb,
        "network-bandwidth": ec2.network_mbps,
        "ebs-bandwidth": ec2.ebs_mbps,
    }
    result.update((PREFIX + key, str(value)) for key, value in optional.items() if value)
    result.update(_accelerator_labels(ec2))
    return result


def type_requirements(name: str, ec2: Ec2Facts) -> Requirements:
    """Return the labels of the type *name* as requirements; equal ones are one object."""
    return Requirements({key: shared(key, value) for key, value in type_labels(name, ec2).items()})


@lru_cache(maxsize=65536)
def shared(key: str, value: str) -> Requirement:
    """Return the one requirement that *key* is *value*: a thousand types share most labels."""
    return Requirement.of(key, "In", (value,))


def zones(offerings: Iterable[Json]) -> dict[str, set[str]]:
    """Return type -> zones of DescribeInstanceTypeOfferings' *offerings*."""
    result: dict[str, set[str]] = {}
    for entry in offerings:
        result.setdefault(str(entry["InstanceType"]), set()).add(str(entry["Location"]))
    return result


def _gpu(entry: Json) -> Gpu:
    return Gpu(
        name=str(entry.get("Name", "")),
        manufacturer=str(entry.get("Manufacturer", "")),
        count=int(entry.get("Count", 0)),
        logical_count=int(entry.get("LogicalGpuCount", 0)),
        partition_size=float(entry.get("GpuPartitionSize", 1.0)),
        memory_mib=int(entry.get("MemoryInfo", {}).get("SizeInMiB", 0)),
    )


def card(enis: int, *, efa: bool) -> NetworkCard:
    """Return the one value for a card of *enis* interfaces: thousands of types share a dozen."""
    return _CARDS.setdefault((enis, efa), NetworkCard(enis, efa))


def _cards(network: Json) -> tuple[NetworkCard, ...]:
    entries = sorted(network.get("NetworkCards", ()), key=lambda entry: entry["NetworkCardIndex"])
    if not entries:
        enis = int(network.get("MaximumNetworkInterfaces", 0))
        return (card(enis, efa=False),) if enis else ()
    supported = bool(network.get("EfaSupported"))
    return tuple(
        card(
            int(entry["MaximumNetworkInterfaces"]),
            efa=supported
            and bool({"efa", "efa-only"} & set(entry.get("InterfaceTypes", ("efa",)))),
        )
        for entry in entries
    )


def _network_mbps(network: Json) -> int:
    return round(
        sum(
            float(entry.get("BaselineBandwidthInGbps", 0))
            for entry in network.get("NetworkCards", ())
        )
        * 1000
    )


def _accelerator_labels(ec2: Ec2Facts) -> dict[str, str]:
    result: dict[str, str] = {}
    if len(ec2.gpus) == 1:
        gpu = ec2.gpus[0]
        result[PREFIX + "gpu-name"] = _spell(gpu.name)
        result[PREFIX + "gpu-manufacturer"] = _spell(gpu.manufacturer)
        result[PREFIX + "gpu-count"] = str(gpus.advertised(gpu))
        result[PREFIX + "gpu-memory"] = str(gpu.memory_mib)
    share = gpus.fraction(ec2)
    if share < 1:
        result[labels.GPU_FRACTION] = f"{share:g}"
    if ec2.neuron_devices:
        result[PREFIX + "accelerator-name"] = _spell(ec2.accelerator)
        result[PREFIX + "accelerator-manufacturer"] = "aws"
        result[PREFIX + "accelerator-count"] = str(ec2.neuron_devices)
    elif ec2.gaudi_devices:
        result[PREFIX + "accelerator-name"] = "gaudi"
        result[PREFIX + "accelerator-manufacturer"] = "habana"
        result[PREFIX + "accelerator-count"] = str(ec2.gaudi_devices)
    return result


def _spell(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
