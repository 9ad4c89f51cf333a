"""What the cloud tells a kubelet about its instance, and what can be set about time and faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FAULTS = frozenset({"joinDelaySeconds", "neverJoin", "neverInitialize"})


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU in an instance."""

    name: str
    manufacturer: str
    count: int
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One running instance, as EC2 describes it."""

    instance_id: str
    instance_type: str
    zone: str
    zone_id: str
    private_ip: str
    private_dns: str
    arch: str  # amd64 or arm64
    vcpus: int
    memory_mib: int
    user_data: str
    lifecycle: str = "on-demand"
    gpus: tuple[Gpu, ...] = ()
    neuron_devices: int = 0
    neuron_cores: int = 0
    efas: int = 0
    enis: int = 3
    ipv4_per_eni: int = 10
    nvme_gb: int = 0
    data_volume_gib: int = 20
    snapshot_id: str = ""
    account: str = "123456789012"
    region: str = "us-east-1"
    images: frozenset[str] = frozenset()  # already on a seeded volume
    images_at: float | None = 0.0  # when all of their blocks are there; None: as they are read
    ami: str = ""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things take, in seconds of the clock."""

    join: float = 5.0  # from running to the Node's registration
    join_jitter: float = 3.0  # up to so much more, by seeded dice
    ready: float = 3.0  # from registration to Ready
    devices: float = 4.0  # from Ready to the device plugins' registration
    start: float = 0.5  # from images present to Running
    stop: float = 2.0  # a container's own time to exit after SIGTERM
    node_removal: float = (
        60.0  # from an instance's end to the cloud controller's deletion of its Node
    )
    pull_bytes_per_second: float = 200e6  # of an image whose size nobody told
    image_bytes: int = 200_000_000  # and its size


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on purpose."""

    join_delay: float | None = None
    never_join: frozenset[str] = frozenset()
    never_initialize: frozenset[str] = frozenset()

    @classmethod
    def of(cls, wanted: Mapping[str, Any]) -> Faults:
        """Read the faults' contract form; an unknown key or a bad value is a ValueError."""
        unknown = wanted.keys() - _FAULTS
        if unknown:
            raise ValueError(f"unknown fault: {', '.join(sorted(unknown))}")
        delay = wanted.get("joinDelaySeconds")
        if delay is not None and (
            isinstance(delay, bool) or not isinstance(delay, int | float) or delay < 0
        ):
            raise ValueError("joinDelaySeconds must be a number of at least 0")
        lists = {}
        for name in ("neverJoin", "neverInitialize"):
            value = wanted.get(name, [])
            if not isinstance(value, list | tuple) or not all(
                isinstance(one, str) for one in value
            ):
                raise ValueError(f"{name} must be a list of instance types")
            lists[name] = frozenset(value)
        return cls(
            None if delay is None else float(delay), lists["neverJoin"], lists["neverInitialize"]
        )
