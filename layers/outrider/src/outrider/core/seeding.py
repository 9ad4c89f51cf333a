"""Which images deserve a seed, and which seed serves a launch best.

A seed is an EBS snapshot that holds unpacked images for one architecture, AMI family and
snapshotter: a store that overlayfs wrote is invisible to another snapshotter, so all three are part
of its key. Only images that pods of a NodePool run, that are large enough for a pull to hurt, and
that the node class allows are seeded; private images (pulled with a secret) only where the class
says `private`, because any pod on a seeded node can read them.

Refuses to know how a seed is built (`flows.seed`) and how it becomes a volume
(`core.launch.blockdevices`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from outrider.apis import labels
from outrider.core.catalog.family import Family

GIB = 1024**3
SNAPSHOTTER = "overlayfs"
SEEDABLE = frozenset({Family.AL2023, Family.BOTTLEROCKET})

ECR = ".dkr.ecr."  # by itself only the registry that our role reads is looked at

WORTHWHILE_BYTES = 500 * 1000**2  # below this a pull takes a few seconds, as long as a cold volume
UNPACKED_FACTOR = 2.2  # 9.5 GB compressed were 20.4 GB on disk (events-fleet-seeding 3.3)
HEADROOM = 1.3
MINIMUM_VOLUME_GIB = 20
LARGEST_VOLUME_GIB = 1000
IMAGES_A_SEED = 16


class Mode(StrEnum):
    """What a node class's `outrider.dev/seed` says."""

    AUTO = "auto"
    OFF = "off"
    PRIVATE = "private"
    LISTED = "listed"


class State(StrEnum):
    """Where a seed is in its life."""

    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"
    RETIRED = "RETIRED"


@dataclass(frozen=True, slots=True)
class Image:
    """One image as a registry describes it: its digest, its size, who can run it."""

    reference: str
    digest: str
    compressed_bytes: int
    architectures: tuple[str, ...]

    @property
    def unpacked_bytes(self) -> int:
        """Return an estimate of what the image takes on disk."""
        return int(self.compressed_bytes * UNPACKED_FACTOR)


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
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """An image that a pod of a NodePool runs: where, how often, and whether it needs a secret."""

    reference: str
    node_class: str
    family: Family
    architectures: tuple[str, ...]
    pods: int = 1
    private: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """A seed to build, with the reason."""

    key: str
    arch: str
    family: str
    images: tuple[Image, ...]
    volume_gib: int
    node_classes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An image that is not seeded, with the reason."""

    reference: str
    node_class: str
    reason: str


def mode(annotation: str | None) -> tuple[Mode, tuple[str, ...]]:
    """Return what the *annotation* `outrider.dev/seed` asks, and the images it lists."""
    text = (annotation or Mode.AUTO).strip()
    if text in {Mode.AUTO, Mode.OFF, Mode.PRIVATE}:
        return Mode(text), ()
    return Mode.LISTED, tuple(filter(None, (part.strip() for part in text.split(","))))


def allowed(usage: Usage, asked: Mode, listed: Sequence[str]) -> str | None:
    """Return why a class that asks *asked* does not seed an image; None where it does."""
    if asked is Mode.OFF:
        return "the node class has outrider.dev/seed: off"
    if usage.family not in SEEDABLE:
        return f"a node of AMI family {usage.family} cannot be seeded"
    if asked is Mode.AUTO and ECR not in usage.reference:
        return "it is not in ECR; list it in outrider.dev/seed to have it seeded"
    if asked is Mode.LISTED and not any(same_image(usage.reference, name) for name in listed):
        return "the node class lists other images"
    if usage.private and asked is not Mode.PRIVATE:
        return "the image is private and the node class does not say outrider.dev/seed: private"
    return None


def decide(
    usages: Iterable[tuple[Usage, Mode, tuple[str, ...]]],
    images: Mapping[str, Image],
    seeds: Iterable[Seed],
    pushed: frozenset[str] | None = None,
) -> tuple[tuple[Build, ...], tuple[Refusal, ...]]:
    """Return the seeds to build and the images left out.

    *usages* are the images in use with what their node class asks; *images* what registries say of
    them; *pushed* narrows the work to sets that hold one of these repositories.
    """
    refusals: list[Refusal] = []
    sets: dict[tuple[str, str], dict[str, tuple[Image, Usage]]] = {}
    for usage, asked, listed in usages:
        reason = allowed(usage, asked, listed) or _unfit(images.get(usage.reference), asked)
        if reason is not None:
            refusals.append(Refusal(usage.reference, usage.node_class, reason))
            continue
        image = images[usage.reference]
        fitting = [arch for arch in usage.architectures if arch in image.architectures]
        if not fitting:
            refusals.append(
                Refusal(
                    usage.reference, usage.node_class, "no manifest for its nodes' architecture"
                )
            )
        for arch in fitting:
            group = sets.setdefault((arch, usage.family.value), {})
            group[f"{usage.node_class}\n{usage.reference}"] = (image, usage)
    ready = {seed.key for seed in seeds if seed.state == State.READY}
    builds = (_build(arch, family, group) for (arch, family), group in sorted(sets.items()))
    wanted = [build for build in builds if build.key not in ready and _touched(build, pushed)]
    return tuple(wanted), tuple(refusals)


def best_seed(
    images: Iterable[str], arch: str, family: str, seeds: Iterable[Seed], node_class: str = ""
) -> Seed | None:
    """Return the ready seed that holds most bytes of *images* for such a node, if any does."""
    wanted = frozenset(images)
    best: tuple[int, float, str] | None = None
    chosen: Seed | None = None
    for seed in seeds:
        fits = (
            seed.state == State.READY
            and bool(seed.snapshot_id)
            and seed.arch == arch
            and seed.family == family
            and seed.snapshotter == SNAPSHOTTER
            and (not node_class or not seed.node_classes or node_class in seed.node_classes)
        )
        held = sum(seed.image_bytes.get(name, 1) for name in wanted if name in seed.images)
        if not fits or not held:
            continue
        rank = (held, seed.created.timestamp() if seed.created else 0.0, seed.key)
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
        and repositories >= {repository(name) for name in seed.images}
    )


def seed_key(digests: Iterable[str], arch: str, family: str, volume_gib: int) -> str:
    """Return the identity of a seed: its digests and all that makes its bytes readable."""
    parts = (*sorted(set(digests)), arch, family, SNAPSHOTTER, str(volume_gib))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def volume_gib(images: Iterable[Image]) -> int:
    """Return the volume to unpack *images* on, with room so that the kubelet collects nothing."""
    unique = {image.digest: image.unpacked_bytes for image in images}
    needed = -(-int(sum(unique.values()) * HEADROOM) // GIB)
    return max(MINIMUM_VOLUME_GIB, -(-needed // 10) * 10)


_REFERENCE = re.compile(
    r"^(?P<repository>[^@]+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]+))?$"
)


def repository(reference: str) -> str:
    """Return an image reference without its tag and digest."""
    match = _REFERENCE.match(reference)
    return match["repository"] if match else reference


def same_image(reference: str, named: str) -> bool:
    """Return whether *reference* is the image *named* `repository[:tag|@digest]`."""
    own, other = repository(reference), repository(named)
    if own != other and not own.endswith("/" + other):
        return False
    rest = named[len(other) :]
    return not rest or reference[len(own) :] == rest or reference.endswith(rest)


def _unfit(image: Image | None, asked: Mode) -> str | None:
    if image is None:
        return "the registry does not have it, or does not let us look"
    if asked is not Mode.LISTED and image.compressed_bytes < WORTHWHILE_BYTES:
        return f"{image.compressed_bytes // 10**6} MB are pulled sooner than a volume warms"
    if image.unpacked_bytes * HEADROOM > LARGEST_VOLUME_GIB * GIB:
        return f"it does not fit a volume of {LARGEST_VOLUME_GIB} GiB"
    return None


def _build(arch: str, family: str, group: Mapping[str, tuple[Image, Usage]]) -> Build:
    saved: dict[str, int] = {}
    images: dict[str, Image] = {}
    for image, usage in group.values():
        images[image.reference] = image
        saved[image.reference] = saved.get(image.reference, 0) + image.compressed_bytes * usage.pods
    ranked = sorted(images, key=lambda name: (-saved[name], name))[:IMAGES_A_SEED]
    chosen: list[Image] = []
    for name in ranked:
        if volume_gib((*chosen, images[name])) <= LARGEST_VOLUME_GIB:
            chosen.append(images[name])
    size = volume_gib(chosen)
    names = {image.reference for image in chosen}
    classes = sorted({u.node_class for _, u in group.values() if u.reference in names})
    gigabytes = sum(image.compressed_bytes for image in chosen) / 1000**3
    return Build(
        key=seed_key((image.digest for image in chosen), arch, family, size),
        arch=arch,
        family=family,
        images=tuple(chosen),
        volume_gib=size,
        node_classes=tuple(classes),
        reason=f"{len(chosen)} images, {gigabytes:.1f} GB to pull on each new {arch} {family} node",
    )


def _touched(build: Build, pushed: frozenset[str] | None) -> bool:
    if pushed is None:
        return True
    return any(
        same_image(image.reference, name) or repository(image.reference) == name
        for image in build.images
        for name in pushed
    )


def class_mode(annotations: Mapping[str, str]) -> tuple[Mode, tuple[str, ...]]:
    """Return what a node class with *annotations* asks about seeding."""
    return mode(annotations.get(labels.SEED))
