"""How long a pod waits for its image, by each way that there is, and what a seed costs.

Four ways, for the same bytes: the plain pull (containerd fetches some layers at a time and unpacks
one), a parallel pull (SOCI's parallel mode), a peer that holds the layers already (Spegel and its
kind, no use to the first node), and the seed. Waits count from the moment a node is Ready, since a
pull cannot begin before; the blocks of a seeded volume arrive from the moment it is made, so the
boot is time won.

The speeds are measurements of others, each with its source beside it, and are all in `Speeds`; the
prices are us-east-1's, in `Prices`. Refuses to know what is worth building (`core.seeding.decide`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GIB = 1024**3
MIB = 1024**2
HOURS_A_MONTH = 730
INITIALIZATION_RATE = 300  # MiB/s, the most that EBS takes; 100 is the least

_CREDITS_MOST = 10.0
_CREDIT_GIB = 1024.0
_OPTIMISING_SECONDS_PER_GIB = 3600 / 1024  # an hour a TiB


class WarmUp(StrEnum):
    """How the blocks of a seed come onto a new volume."""

    RATE = "rate"  # VolumeInitializationRate on the volume
    FAST_RESTORE = "fast-restore"  # Fast Snapshot Restore on the snapshot, paid by the hour
    NONE = "none"  # when they are first read


@dataclass(frozen=True, slots=True)
class Speeds:
    """Bytes a second and seconds, as others measured them."""

    # 9.5 GB compressed, 20.4 GB on disk: 334 s to the start of the pod (AWS' EKS blueprint)
    download: float = 80e6
    unpack: float = 95e6
    parallel: float = 2.0  # SOCI's maintainers: 14 to 50 % faster; the best case is taken
    peer: float = 400e6  # a layer from a neighbour in the zone; unpacking stays what it is
    lazy: float = 25e6  # a 15 GB image took over 10 minutes from a cold volume
    boot: float = 30.0  # from the volume's creation to a Ready node


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars, us-east-1, on demand."""

    snapshot_gb_month: float = 0.05
    builder_hour: float = 0.357  # the dearest of the builders, a c7i.2xlarge
    volume_gb_month: float = 0.08
    volume_speed_month: float = 0.04 * (1000 - 125) + 0.005 * (4000 - 3000)
    transition: float = 0.000025
    fast_restore_hour: float = 0.75  # a snapshot and zone


SPEEDS = Speeds()
PRICES = Prices()
TRANSITIONS = 120  # of one build, with its polls


@dataclass(frozen=True, slots=True)
class Ways:
    """Seconds from a Ready node to an image that can be started, by four ways."""

    plain: float
    parallel: float
    peer: float
    seeded: float

    @property
    def saved(self) -> float:
        """Return what the seed saves against the pull that nodes do by themselves."""
        return self.plain - self.seeded

    @property
    def rival(self) -> float:
        """Return the best that is to be had without a seed."""
        return min(self.plain, self.parallel, self.peer)


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars of a seed: once for its build, and every month that it is kept."""

    build: float
    storage_month: float
    warm_up_month: float

    @property
    def month(self) -> float:
        """Return what it costs each month."""
        return self.storage_month + self.warm_up_month


def pull_seconds(compressed: int, unpacked: int, speeds: Speeds = SPEEDS) -> float:
    """Return how long a node pulls an image by itself."""
    return compressed / speeds.download + unpacked / speeds.unpack


def seeded_seconds(
    volume_bytes: int,
    warm_up: WarmUp = WarmUp.RATE,
    rate: int = INITIALIZATION_RATE,
    speeds: Speeds = SPEEDS,
) -> float:
    """Return how long a pod waits for a seeded volume with *volume_bytes* on it, at most.

    Blocks come in no order that helps one image, so it may have to wait for all of them. With fast
    restore there is nothing to wait for, as long as there are credits (`restores`).
    """
    if warm_up is WarmUp.FAST_RESTORE:
        return 0.0
    if warm_up is WarmUp.NONE:
        return volume_bytes / speeds.lazy  # nothing is read before the container starts
    return max(0.0, volume_bytes / (rate * MIB) - speeds.boot)


def ways(
    compressed: int,
    unpacked: int,
    volume_bytes: int,
    warm_up: WarmUp = WarmUp.RATE,
    rate: int = INITIALIZATION_RATE,
    speeds: Speeds = SPEEDS,
) -> Ways:
    """Return the four waits for an image, or a set, on a volume with *volume_bytes*."""
    plain = pull_seconds(compressed, unpacked, speeds)
    return Ways(
        plain=plain,
        parallel=plain / speeds.parallel,
        peer=compressed / speeds.peer + unpacked / speeds.unpack,
        seeded=seeded_seconds(volume_bytes, warm_up, rate, speeds),
    )


def cost(
    compressed: int,
    unpacked: int,
    volume_gib: int,
    zones: int = 0,
    *,
    speeds: Speeds = SPEEDS,
    prices: Prices = PRICES,
) -> Cost:
    """Return what a seed costs, its snapshot fast-restored in so many *zones*."""
    hours = build_seconds(compressed, unpacked, speeds) / 3600
    volume = (volume_gib * prices.volume_gb_month + prices.volume_speed_month) / HOURS_A_MONTH
    return Cost(
        build=hours * (prices.builder_hour + volume) + TRANSITIONS * prices.transition,
        storage_month=unpacked / GIB * prices.snapshot_gb_month,
        warm_up_month=zones * prices.fast_restore_hour * HOURS_A_MONTH,
    )


def build_seconds(compressed: int, unpacked: int, speeds: Speeds = SPEEDS) -> float:
    """Return how long a builder lives: boot, pulls one after another, stop, and the snapshot."""
    return 4 * speeds.boot + pull_seconds(compressed, unpacked, speeds) + unpacked / (100 * MIB)


def credits_an_hour(volume_gib: int) -> float:
    """Return how many volumes an hour Fast Snapshot Restore makes of such a snapshot in a zone."""
    return min(_CREDITS_MOST, _CREDIT_GIB / max(volume_gib, 1))


def credit_bucket(volume_gib: int) -> float:
    """Return how many volumes at once it can make when it has rested."""
    return max(1.0, credits_an_hour(volume_gib))


def restores(volume_gib: int, hours: float) -> int:
    """Return how many volumes can be made at once in a zone, *hours* after it was enabled.

    The bucket is empty at first; the snapshot's size counts, not what is used of it.
    """
    return int(min(credit_bucket(volume_gib), credits_an_hour(volume_gib) * hours))


def optimising_seconds(volume_gib: int) -> float:
    """Return how long a snapshot takes to become fast after it was enabled."""
    return volume_gib * _OPTIMISING_SECONDS_PER_GIB
