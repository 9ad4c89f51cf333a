"""Which images deserve a seed: from what the pods of each NodePool run, a few sets of digests.

Each NodePool, architecture and AMI family has its own sets, because all that lies on a volume has
to arrive before the last image of it does: an image that a node never runs delays the ones that it
runs. So a set grows, by bytes saved times pods that run them, only while the pods together wait
less; what does not fit begins the pool's second set. Sets with the same digests become one seed,
whichever pools want it. Private images (pulled with a secret) are taken only from classes that say
`private`, and their seeds serve no other class.

Not built, with the reason: what the class does not want, what the registry does not show, what has
no manifest for the nodes, what no volume holds, what saves less than fifteen seconds. An image that
a class lists is built even so.

Refuses to ask anybody (`flows.seedplan`) and to judge what is no longer wanted (`garbage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from outrider.core.catalog.family import Family
from outrider.core.seeding import estimate
from outrider.core.seeding.estimate import Cost, WarmUp, Ways
from outrider.core.seeding.images import Image
from outrider.core.seeding.seed import (
    LARGEST_BYTES,
    LARGEST_VOLUME_GIB,
    SNAPSHOTTER,
    Seed,
    State,
    gib_for,
    seed_key,
)
from outrider.core.seeding.wishes import Mode, touches, unwelcome

WORTHWHILE_SECONDS = 15.0
IMAGES_A_SEED = 16
SEEDS_A_POOL = 2
SEEDS = 24  # of one plan, by what they save


@dataclass(frozen=True, slots=True)
class Use:
    """How an image is used in a NodePool."""

    pods: int = 1
    architectures: tuple[str, ...] = ("amd64",)
    private: bool = False


@dataclass(frozen=True, slots=True)
class PoolDemand:
    """What the pods of one NodePool run, and what its node class asks about seeding."""

    node_pool: str
    node_class: str
    family: Family
    mode: Mode = Mode.AUTO
    listed: tuple[str, ...] = ()
    obstacle: str = ""
    images: Mapping[str, Use] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heat:
    """How seeds are warmed: the setting, the rate in MiB/s, in how many zones."""

    warm_up: WarmUp = WarmUp.RATE
    rate: int = estimate.INITIALIZATION_RATE
    zones: int = 3


@dataclass(frozen=True, slots=True)
class Build:
    """A seed that is wanted, what it would do and cost, and the reason; `ready` when it exists."""

    key: str
    arch: str
    family: str
    images: tuple[Image, ...]
    volume_gib: int
    node_pools: tuple[str, ...]
    node_classes: tuple[str, ...]
    pods: int
    ways: Ways
    cost: Cost
    reason: str
    ready: bool = False


class Refusal(NamedTuple):
    """An image that is not seeded for a node class, with the reason."""

    reference: str
    node_class: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Every seed that is wanted, and every image that is left out."""

    wanted: tuple[Build, ...]
    refused: tuple[Refusal, ...]

    @property
    def builds(self) -> tuple[Build, ...]:
        """Return the seeds that do not exist yet."""
        return tuple(build for build in self.wanted if not build.ready)


@dataclass(slots=True)
class _Digest:
    """One digest as a pool runs it, under all its names."""

    images: list[Image]
    pods: int
    compressed: int
    unpacked: int
    listed: bool
    worth: float


_Group = dict[str, _Digest]


def decide(
    demands: Iterable[PoolDemand],
    images: Mapping[str, Image],
    seeds: Iterable[Seed],
    pushed: frozenset[str] | None = None,
    *,
    absent: Mapping[str, str] | None = None,
    heat: Heat | None = None,
) -> Decision:
    """Return the seeds that *demands* deserve, of the *images* that registries show.

    *absent* says why a registry does not show one; *pushed* narrows the work to seeds that hold one
    of these names.
    """
    warmth = heat or Heat()
    judged = _Judge(images, absent or {}, warmth)
    refused: list[Refusal] = []
    found: dict[str, Build] = {}
    for demand in demands:
        for arch, group in judged.groups(demand, refused):
            for build in _sets(demand, arch, group, warmth, refused):
                known = found.get(build.key)
                found[build.key] = build if known is None else _joined(known, build)
    ready = [seed for seed in seeds if seed.state == State.READY]
    ranked = sorted(found.values(), key=lambda one: (-one.pods * one.ways.saved, one.key))
    for build in ranked[SEEDS:]:
        reason = f"{SEEDS} other seeds save more"
        refused += [Refusal(one.reference, build.node_classes[0], reason) for one in build.images]
    wanted = [
        replace(build, ready=any(_serves(seed, build) for seed in ready))
        for build in ranked[:SEEDS]
        if pushed is None or any(touches(image.reference, pushed) for image in build.images)
    ]
    wanted.sort(key=lambda one: (one.arch, one.family, one.key))
    return Decision(tuple(wanted), tuple(refused))


def _serves(seed: Seed, build: Build) -> bool:
    """Return whether *seed* is what *build* would give, or holds all of it and more.

    More is what a push has added that no pod runs yet: it shall not be built away again.
    """
    return seed.key == build.key or (
        (seed.arch, seed.family, seed.snapshotter) == (build.arch, build.family, SNAPSHOTTER)
        and set(seed.node_classes) >= set(build.node_classes)
        and set(seed.images.values()) >= {image.digest for image in build.images}
    )


class _Judge:
    """Judges images, each once for each way in which it is asked for."""

    def __init__(self, images: Mapping[str, Image], absent: Mapping[str, str], heat: Heat) -> None:
        self._images = images
        self._absent = absent
        self._heat = heat
        self._unfit: dict[tuple[str, bool], str | None] = {}
        self._measures: dict[str, tuple[int, float]] = {}

    def groups(self, demand: PoolDemand, refused: list[Refusal]) -> Iterable[tuple[str, _Group]]:
        """Return the digests to seed for *demand* by architecture; tell *refused* of the rest."""
        groups: dict[str, _Group] = {}
        listed = demand.mode is Mode.LISTED
        for reference, use in demand.images.items():
            reason = self._refusal(demand, reference, use)
            if reason is not None:
                refused.append(Refusal(reference, demand.node_class, reason))
                continue
            image = self._images[reference]
            fitting = [arch for arch in use.architectures if arch in image.architectures]
            if not fitting:
                reason = "no manifest for its nodes' architecture"
                refused.append(Refusal(reference, demand.node_class, reason))
            for arch in fitting:
                self._add(groups.setdefault(arch, {}), image, use, listed=listed)
        return sorted(groups.items())

    def _refusal(self, demand: PoolDemand, reference: str, use: Use) -> str | None:
        if demand.mode is Mode.OFF:
            return unwelcome(reference, demand.mode, (), private=use.private)
        return (
            demand.obstacle
            or unwelcome(reference, demand.mode, demand.listed, private=use.private)
            or self.unfit(reference, listed=demand.mode is Mode.LISTED)
        )

    def _add(self, group: _Group, image: Image, use: Use, *, listed: bool) -> None:
        known = group.get(image.digest)
        if known is None:
            on_disk, worth = self._measured(image)
            group[image.digest] = _Digest(
                [image], use.pods, image.compressed_bytes, on_disk, listed, worth
            )
            return
        known.images.append(image)
        known.pods += use.pods

    def _measured(self, image: Image) -> tuple[int, float]:
        """Return what an image takes on disk, and how long its pull takes, computed once."""
        found = self._measures.get(image.digest)
        if found is None:
            on_disk = image.unpacked_bytes
            found = on_disk, estimate.pull_seconds(image.compressed_bytes, on_disk)
            self._measures[image.digest] = found
        return found

    def unfit(self, reference: str, *, listed: bool) -> str | None:
        """Return why an image is not worth a seed, or cannot have one."""
        key = (reference, listed)
        if key not in self._unfit:
            self._unfit[key] = self._judged(reference, listed=listed)
        return self._unfit[key]

    def _judged(self, reference: str, *, listed: bool) -> str | None:
        image = self._images.get(reference)
        if image is None:
            why = self._absent.get(reference)
            return why or "the registry does not have it, or does not let us look"
        on_disk = image.unpacked_bytes
        if on_disk > LARGEST_BYTES:
            return f"it does not fit a volume of {LARGEST_VOLUME_GIB} GiB"
        if listed:
            return None
        heat = self._heat
        ways = estimate.ways(image.compressed_bytes, on_disk, on_disk, heat.warm_up, heat.rate)
        if ways.saved < WORTHWHILE_SECONDS:
            return (
                f"{image.compressed_bytes // 10**6} MB are pulled in {ways.plain:.0f} s,"
                f" a seed takes {ways.seeded:.0f} s"
            )
        return None


def _sets(
    demand: PoolDemand, arch: str, group: _Group, heat: Heat, refused: list[Refusal]
) -> Iterable[Build]:
    """Return the seeds of one pool and architecture."""
    left = sorted(group.items(), key=lambda item: (-item[1].pods * item[1].worth, item[0]))
    for _ in range(SEEDS_A_POOL):
        if not left:
            return
        taken, left = _fill(left, heat)
        yield _build(demand, arch, [digest for _, digest in taken], heat)
    for _, digest in left:
        reason = "the images of its seeds save more, and another would delay them"
        refused += [Refusal(one.reference, demand.node_class, reason) for one in digest.images]


_Ranked = list[tuple[str, _Digest]]


def _fill(ranked: _Ranked, heat: Heat) -> tuple[_Ranked, _Ranked]:
    """Return the images of the next seed, the most saving first, and those that are left."""
    taken: _Ranked = []
    left: _Ranked = []
    pods = total = 0
    pulls = gain = 0.0
    for place, item in enumerate(ranked):
        digest = item[1]
        if len(taken) == IMAGES_A_SEED:
            left.extend(ranked[place:])
            break
        on_disk = total + digest.unpacked
        wait = estimate.seeded_seconds(on_disk, heat.warm_up, heat.rate)
        after = pulls + digest.pods * digest.worth - (pods + digest.pods) * wait
        fits = on_disk <= LARGEST_BYTES
        if fits and (after > gain or digest.listed or not taken):
            taken.append(item)
            pods, total, gain = pods + digest.pods, on_disk, after
            pulls += digest.pods * digest.worth
        else:
            left.append(item)
    return taken, left


def _build(demand: PoolDemand, arch: str, digests: list[_Digest], heat: Heat) -> Build:
    family = demand.family.value
    compressed = sum(digest.compressed for digest in digests)
    on_disk = sum(digest.unpacked for digest in digests)
    size = gib_for(on_disk)
    images = sorted(
        (image for digest in digests for image in digest.images), key=lambda one: one.reference
    )
    zones = heat.zones if heat.warm_up is WarmUp.FAST_RESTORE else 0
    found = Build(
        key=seed_key((image.digest for image in images), arch, family, size),
        arch=arch,
        family=family,
        images=tuple(images),
        volume_gib=size,
        node_pools=(demand.node_pool,),
        node_classes=(demand.node_class,),
        pods=sum(digest.pods for digest in digests),
        ways=_average(digests, on_disk, heat),
        cost=estimate.cost(compressed, on_disk, size, zones),
        reason="",
    )
    return replace(found, reason=_reason(found, compressed))


def _average(digests: list[_Digest], on_disk: int, heat: Heat) -> Ways:
    """Return what a pod of the set waits by each way, weighed by the pods of each image."""
    pods = sum(digest.pods for digest in digests)
    each = [
        (
            digest.pods / pods,
            estimate.ways(digest.compressed, digest.unpacked, on_disk, heat.warm_up, heat.rate),
        )
        for digest in digests
    ]
    return Ways(
        plain=sum(share * one.plain for share, one in each),
        parallel=sum(share * one.parallel for share, one in each),
        peer=sum(share * one.peer for share, one in each),
        seeded=sum(share * one.seeded for share, one in each),
    )


def _joined(known: Build, other: Build) -> Build:
    """Return two pools' seeds with the same digests as one."""
    pods = known.pods + other.pods
    images = {image.reference: image for image in (*known.images, *other.images)}
    joined = replace(
        known,
        images=tuple(images[name] for name in sorted(images)),
        node_pools=tuple(sorted({*known.node_pools, *other.node_pools})),
        node_classes=tuple(sorted({*known.node_classes, *other.node_classes})),
        pods=pods,
    )
    distinct = {image.digest: image.compressed_bytes for image in joined.images}
    return replace(joined, reason=_reason(joined, sum(distinct.values())))


def _reason(build: Build, compressed: int) -> str:
    count = len({image.digest for image in build.images})
    return (
        f"{count} image{'s'[: count != 1]}, {compressed / 1000**3:.1f} GB to pull on each new "
        f"{build.arch} {build.family} node of {', '.join(build.node_pools[:3])}"
        f"{f' and {len(build.node_pools) - 3} more' if len(build.node_pools) > 3 else ''}: "
        f"{build.ways.plain:.0f} s by a plain pull, {build.ways.seeded:.0f} s seeded"
    )
