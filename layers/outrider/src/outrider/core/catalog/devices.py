"""Which devices a DRA driver will publish on a node of an instance type, before there is one.

A driver publishes its ResourceSlices only once the node runs; a claim must be judged before. For
NVIDIA's driver (`gpu.nvidia.com`) the model that EC2 names settles what the driver will say: type,
product name, brand, architecture, CUDA compute capability and memory, as Karpenter's own tables
have them (which are scraped from running instances). What depends on the machine or its image
(uuid, driver versions, PCI addresses) is *unknown*: the device will have it, nobody can say which
value. A model that is not in the table publishes devices of type `gpu` and no more. For the Neuron
driver (`neuron.aws.com`) the count and the instance type are documented, the rest is unknown.

An explicit `devices` list in the catalogue wins. A type written by hand with `capacity` alone
publishes nothing, and neither does EFA: dra.net's devices are attached by what a pod asks of
`vpc.amazonaws.com/efa`, which a claim does not.

Refuses to know claims and nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from outrider.apis.devices import Attribute, Device, DeviceGroup, Version
from outrider.core.catalog.gpus import advertised
from outrider.core.catalog.instancetype import Ec2Facts, Gpu, InstanceType

NVIDIA_DRIVER = "gpu.nvidia.com"
NEURON_DRIVER = "neuron.aws.com"

_OF_THE_MACHINE = frozenset(
    {
        "addressingMode",
        "cudaDriverVersion",
        "driverVersion",
        "resource.kubernetes.io/numaNode",
        "resource.kubernetes.io/pciBusID",
        "resource.kubernetes.io/pcieRoot",
        "uuid",
    }
)
_OF_THE_MODEL = frozenset(
    {"architecture", "brand", "cudaComputeCapability", "memory", "productName"}
)
_OF_NEURON = frozenset(
    {
        "deviceId",
        "draDriverVersion",
        "neuronDriverVersion",
        "resource.aws.com/devicegroup16_id",
        "resource.aws.com/devicegroup1_id",
        "resource.aws.com/devicegroup4_id",
        "resource.aws.com/devicegroup8_id",
        "resource.kubernetes.io/pcieRoot",
        "resourceType",
    }
)
_ON_NEURON_DRIVER = frozenset({"inferentia2", "trainium", "trainium2", "trainium3"})


@dataclass(frozen=True, slots=True)
class _Model:
    """What NVIDIA's driver says of one model."""

    product: str
    architecture: str
    compute: str
    memory: str
    brand: str = "Nvidia"


_ADA, _HOPPER = ("Ada Lovelace", "8.9.0"), ("Hopper", "9.0.0")

# By EC2's name of the model and the MiB of memory that EC2 states: slices and sizes differ in it.
_MODELS = {
    ("t4", 16384): _Model("Tesla T4", "Turing", "7.5.0", "15Gi"),
    ("t4g", 16384): _Model("NVIDIA T4G", "Turing", "7.5.0", "15Gi"),
    ("a10g", 22888): _Model("NVIDIA A10G", "Ampere", "8.6.0", "23028Mi"),
    ("l4", 22888): _Model("NVIDIA L4", *_ADA, "23034Mi"),
    ("l4", 11444): _Model("NVIDIA L4-12Q", *_ADA, "12Gi", "NvidiaVWS"),
    ("l4", 5722): _Model("NVIDIA L4-6Q", *_ADA, "6Gi", "NvidiaVWS"),
    ("l4", 2861): _Model("NVIDIA L4-3Q", *_ADA, "3Gi", "NvidiaVWS"),
    ("l40s", 45776): _Model("NVIDIA L40S", *_ADA, "46068Mi"),
    ("v100", 32768): _Model("Tesla V100-SXM2-32GB", "Volta", "7.0.0", "32Gi", "Tesla"),
    ("a100", 40960): _Model("NVIDIA A100-SXM4-40GB", "Ampere", "8.0.0", "40320Mi"),
    ("a100", 81920): _Model("NVIDIA A100-SXM4-80GB", "Ampere", "8.0.0", "80Gi"),
    ("h100", 81920): _Model("NVIDIA H100 80GB HBM3", *_HOPPER, "81152Mi"),
    ("h200", 144384): _Model("NVIDIA H200", *_HOPPER, "140Gi"),
    ("b200", 183359): _Model("NVIDIA B200", "Blackwell", "10.0.0", "182784Mi"),
    ("b300", 275040): _Model("NVIDIA B300 SXM6 AC", "Blackwell", "10.3.0", "268Gi"),
}
_MEMORY_OF = {"g5g.metal": "16Gi"}  # a guest of the same GPU sees less


def published(kind: InstanceType) -> tuple[DeviceGroup, ...]:
    """Return the devices that drivers will publish on a node of *kind*, equal ones together."""
    if kind.devices is not None:
        return kind.devices
    if kind.ec2 is None or kind.capacity:
        return ()
    return (*_gpus(kind.name, kind.ec2), *_neurons(kind.name, kind.ec2))


def _gpus(name: str, ec2: Ec2Facts) -> tuple[DeviceGroup, ...]:
    return tuple(
        DeviceGroup(NVIDIA_DRIVER, _gpu(gpu, _MEMORY_OF.get(name, "")), advertised(gpu))
        for gpu in ec2.gpus
        if gpu.manufacturer.lower() == "nvidia" and advertised(gpu)
    )


@lru_cache(maxsize=1024)
def _gpu(gpu: Gpu, memory: str) -> Device:
    model = _model(gpu)
    attributes: dict[str, Attribute] = {"type": "gpu"}
    if model is None:
        return Device(attributes=attributes, unknown=_OF_THE_MACHINE | _OF_THE_MODEL)
    attributes |= {
        "architecture": model.architecture,
        "brand": model.brand,
        "cudaComputeCapability": Version(model.compute),
        "productName": model.product,
    }
    return Device(
        attributes=attributes,
        capacity={"memory": memory or model.memory},
        unknown=_OF_THE_MACHINE,
    )


def _model(gpu: Gpu) -> _Model | None:
    """Return what is known of *gpu*: the model of its name whose memory is closest, within a tenth.

    A catalogue may round (an L4 as 24 GiB); where it states no memory the name must be enough.
    """
    sizes = [size for name, size in _MODELS if name == gpu.name.lower()]
    if not gpu.memory_mib:
        return _MODELS[gpu.name.lower(), sizes[0]] if len(sizes) == 1 else None
    near = [size for size in sizes if abs(size - gpu.memory_mib) * 10 <= size]
    closest = min(near, key=lambda size: abs(size - gpu.memory_mib), default=None)
    return None if closest is None else _MODELS[gpu.name.lower(), closest]


def _neurons(name: str, ec2: Ec2Facts) -> tuple[DeviceGroup, ...]:
    if not ec2.neuron_devices or ec2.accelerator.lower() not in _ON_NEURON_DRIVER:
        return ()
    device = Device(attributes={"instanceType": name}, unknown=_OF_NEURON)
    return (DeviceGroup(NEURON_DRIVER, device, ec2.neuron_devices),)
