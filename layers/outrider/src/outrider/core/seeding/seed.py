"""A seed: what it is, what it is known by, which one serves a launch best, what a new one replaces.

A seed is an EBS snapshot that holds unpacked images for one architecture, AMI family and
snapshotter: a store that overlayfs wrote is invisible to another snapshotter, so all three are part
of its key. It serves only the node classes that it was built for: whoever runs a pod on a node can
read every image that the node's volume holds.

Refuses to know how it is built (`flows.seed`) and how it becomes a volume
(`core.launch.blockdevices`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from outrider.core.seeding.estimate import INITIALIZATION_RATE, WarmUp
from outrider.core.seeding.images import Image, digest_in, repository

GIB = 1024**3
SNAPSHOTTER = "overlayfs"
HEADROOM = 1.3  # the kubelet collects images from 85 % on
MINIMUM_VOLUME_GIB = 20
# What is larger takes hours to build, and longer to warm than to pull.
LARGEST_VOLUME_GIB = 500
LARGEST_BYTES = int(LARGEST_VOLUME_GIB * GIB / HEADROOM)


class State(StrEnum):
    """Where a seed is in its life."""

    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"
    RETIRED = "RETIRED"


@dataclass(frozen=True, slots=True)
class Seed:
    """One snapshot with images on it; `images` maps references, as pods name them, to digests."""

    key: str
    arch: str
    family: str
    images: Mapping[str, str]
    image_bytes: Mapping[str, int] = field(default_factory=dict)
    snapshotter: str = SNAPSHOTTER
    snapshot_id: str = ""
    volume_gib: int = MINIMUM_VOLUME_GIB
    state: str = State.BUILDING.value
    node_classes: tuple[str, ...] = ()
    created: datetime | None = None
    retired: datetime | None = None
    used: datetime | None = None  # when a look last found a pod that runs one of its images
    reason: str = ""
    warm_up: str = WarmUp.RATE.value
    rate: int = INITIALIZATION_RATE
    zones: tuple[str, ...] = ()  # where the snapshot is fast-restored

    def holds(self, reference: str) -> str:
        """Return the name under which the seed holds *reference*; "" where it does not."""
        if reference in self.images:
            return reference
        digest = digest_in(reference)
        if not digest:
            return ""
        return next((name for name, known in self.images.items() if known == digest), "")


def best_seed(
    images: Iterable[str],
    arch: str,
    family: str,
    seeds: Iterable[Seed],
    node_class: str = "",
    snapshotter: str = SNAPSHOTTER,
) -> Seed | None:
    """Return the ready seed that holds most bytes of *images* for such a node, if any does.

    Of two that hold as much the one with less on it is warm sooner, then the newer one.
    """
    wanted = frozenset(images)
    best: tuple[int, int, float, str] | None = None
    chosen: Seed | None = None
    for seed in seeds:
        fits = (
            seed.state == State.READY
            and bool(seed.snapshot_id)
            and seed.arch == arch
            and seed.family == family
            and seed.snapshotter == snapshotter
            and (not node_class or not seed.node_classes or node_class in seed.node_classes)
        )
        if not fits:
            continue
        found = {name for one in wanted if (name := seed.holds(one))}
        held = sum(seed.image_bytes.get(name, 1) for name in found)
        if not held:
            continue
        made = seed.created.timestamp() if seed.created else 0.0
        rank = (held, -sum(seed.image_bytes.values()), made, seed.key)
        if best is None or rank > best:
            best, chosen = rank, seed
    return chosen


def superseded(seeds: Iterable[Seed], newest: Seed) -> tuple[Seed, ...]:
    """Return the ready seeds that *newest* replaces: same nodes, no repository of their own."""
    repositories = {repository(name) for name in newest.images}
    return tuple(
        seed
        for seed in seeds
        if seed.key != newest.key
        and seed.state == State.READY
        and (seed.arch, seed.family) == (newest.arch, newest.family)
        and set(newest.node_classes) >= set(seed.node_classes)
        and repositories >= {repository(name) for name in seed.images}
    )


def moved(images: Mapping[str, str], found: Mapping[str, Image]) -> Mapping[str, str]:
    """Return which references of *images* are *found* to mean another digest now."""
    return {
        name: found[name].digest
        for name, digest in sorted(images.items())
        if name in found and found[name].digest != digest
    }


def seed_key(digests: Iterable[str], arch: str, family: str, volume_gib: int) -> str:
    """Return the identity of a seed: its digests and all that makes its bytes readable."""
    parts = (*sorted(set(digests)), arch, family, SNAPSHOTTER, str(volume_gib))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def volume_gib(images: Iterable[Image]) -> int:
    """Return the volume to unpack *images* on, with room so that the kubelet collects nothing."""
    unique = {image.digest: image.unpacked_bytes for image in images}
    return gib_for(sum(unique.values()))


def gib_for(unpacked_bytes: int) -> int:
    """Return the volume for so many bytes on disk, in tens of GiB."""
    needed = -(-int(unpacked_bytes * HEADROOM) // GIB)
    return max(MINIMUM_VOLUME_GIB, -(-needed // 10) * 10)
