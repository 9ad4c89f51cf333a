"""What EC2 sells: instance types and their offerings, as the planner sees them.

An `InstanceType` is one line of the catalogue; an `Offering` is one way to buy it: a zone, a
capacity type, a price. Amounts are `Resources`: cpu in milli-CPU, everything else in whole units
(bytes, GPUs, pods), rounded as kube-scheduler rounds them. Prices are USD per hour. Refuses to know
where the figures come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from outrider.apis.devices import DeviceGroup
from outrider.apis.labels import RESERVED
from outrider.core.requirements import Requirements
from outrider.core.resources import Resources


@dataclass(frozen=True, slots=True)
class Offering:
    """One way to buy an instance type. `price_per_hour` is 0 for paid-for reservations.

    `available` is what the catalogue says of stock; `stated` says that a NodeOverlay gave the
    price: EC2 knows another.
    """

    zone: str
    capacity_type: str
    price_per_hour: float
    available: bool = True
    zone_id: str = ""
    reservation_id: str | None = None
    reservation_capacity: int | None = None
    reservation_ends: datetime | None = None
    stated: bool = False

    @property
    def for_sale(self) -> bool:
        """Return whether it can be had: in stock, and with a price or room in its reservation."""
        if self.capacity_type == RESERVED:
            return self.available and self.reservation_capacity != 0
        return self.available and self.price_per_hour > 0

    @property
    def pool(self) -> tuple[str, str]:
        """Return the zone and the capacity type: with the type, the EC2 capacity pool."""
        return self.zone, self.capacity_type


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU model of a type, as EC2 reports it; `partition_size` is below 1 for a slice."""

    name: str
    manufacturer: str
    count: int
    logical_count: int = 0
    partition_size: float = 1.0
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """One network card: how many interfaces it takes, and whether it does EFA."""

    enis: int
    efa: bool = False


@dataclass(frozen=True, slots=True)
class Ec2Facts:
    """What DescribeInstanceTypes says; capacity and overhead are derived from it per class."""

    vcpu: int
    memory_mib: int
    network_cards: tuple[NetworkCard, ...] = ()
    ipv4_per_eni: int = 0
    gpus: tuple[Gpu, ...] = ()
    neuron_devices: int = 0
    neuron_cores: int = 0
    gaudi_devices: int = 0
    nvme_gb: int = 0
    ebs_max_volumes: int = 0
    bare_metal: bool = False
    arch: str = "amd64"
    max_efa: int = 0
    pod_eni: int = 0
    trunking: bool = False
    accelerator: str = ""  # model of a Neuron device or another maker's, as EC2 names it
    cpu_manufacturer: str = ""
    clock_mhz: int = 0
    hypervisor: str = ""
    network_mbps: int = 0
    ebs_mbps: int = 0
    encryption_in_transit: bool = False


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One instance type: its labels as requirements, what a node of it holds, how it can be bought.

    `capacity` and `overhead` are what the catalogue states outright; where it gives `ec2` instead,
    `core.catalog.capacity.derive` fills them per EC2NodeClass. `devices` is what the catalogue
    states of DRA devices, None where `core.catalog.devices` is to say.
    """

    name: str
    requirements: Requirements
    capacity: Resources
    overhead: Resources
    offerings: tuple[Offering, ...]
    ec2: Ec2Facts | None = None
    devices: tuple[DeviceGroup, ...] | None = None

    @property
    def accelerated(self) -> bool:
        """Return whether the type has an accelerator of any maker, whole or sliced."""
        return any(
            amount for name, amount in self.capacity.items() if name in ACCELERATORS
        ) or bool(
            self.devices
            or (self.ec2 and (self.ec2.gpus or self.ec2.neuron_devices or self.ec2.gaudi_devices))
        )


ACCELERATORS = frozenset(
    {
        "nvidia.com/gpu",
        "amd.com/gpu",
        "aws.amazon.com/neuron",
        "aws.amazon.com/neuroncore",
        "aws.amazon.com/neurondevice",
        "habana.ai/gaudi",
    }
)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every type that may be bought, at one moment."""

    instance_types: tuple[InstanceType, ...]
    version: str = ""
    as_of: datetime | None = None

    def without(self, unavailable: Mapping[tuple[str, str, str], datetime]) -> Catalog:
        """Return the catalogue in which the *unavailable* (type, zone, capacity type) pools are
        shut.

        A part may be "*": a whole zone, capacity type or instance type.
        """
        if not unavailable:
            return self

        def shut(name: str, offering: Offering) -> bool:
            return any(
                (kind, zone, capacity_type) in unavailable
                for kind in (name, "*")
                for zone in (offering.zone, "*")
                for capacity_type in (offering.capacity_type, "*")
            )

        return replace(
            self,
            instance_types=tuple(
                replace(
                    kind,
                    offerings=tuple(
                        replace(offering, available=False)
                        if shut(kind.name, offering)
                        else offering
                        for offering in kind.offerings
                    ),
                )
                for kind in self.instance_types
            ),
        )

    def get(self, name: str) -> InstanceType | None:
        """Return the type called *name*."""
        return next((kind for kind in self.instance_types if kind.name == name), None)
