"""The seed machine's plan: what pods run, what registries say of it, which seeds are missing.

`look` only reads, and `outrider seed plan` shows what it finds; `plan` is the machine's step. A
look also keeps the ledger true: a seed whose tag has come to mean another image serves nobody from
that moment, since a pod would silently start the old one; a seed with the wanted digests under
another name learns the name; one that pods still run is marked as used.

Refuses to choose images: `core.seeding.decide` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core import seeding
from outrider.core.catalog.family import Family, family_of
from outrider.core.clusterstate import ClusterState
from outrider.core.seeding import Image, Seed, State, wishes
from outrider.core.seeding.decide import Build, Decision, Heat, PoolDemand, Use, decide
from outrider.core.seeding.wishes import Mode
from outrider.core.stateversion import VERSION
from outrider.errors import Denied, NotFound
from outrider.flows import seedend
from outrider.flows.decisions import LISTED, decision_id, publish
from outrider.flows.ports import World

USED_AGE = timedelta(hours=1)  # a row is not written for less

Carried = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found: the demands, the images behind them, and what is decided of them."""

    demands: tuple[PoolDemand, ...]
    images: Mapping[str, Image]
    seeds: tuple[Seed, ...]
    decision: Decision


def plan(carried: Carried, world: World) -> dict[str, Any]:
    """Return the seeds to build for the images that pods run; none is a good answer."""
    execution = str(carried.get("execution") or duration.stamp(world.clock.now()))
    decision = decision_id(world.settings.cluster, "seed", execution)
    found = look(carried, world)
    acting = world.settings.mode != "observe"
    if acting:
        _keep_true(found, decision, world)
        seedend.collect(world)
    refused = [
        {"image": one.reference, "nodeClass": one.node_class, "reason": one.reason}
        for one in found.decision.refused[:LISTED]
    ]
    world.telemetry.log(
        "seeds planned",
        builds=[build.reason for build in found.decision.builds],
        refused=[f"{one['image']}: {one['reason']}" for one in refused],
    )
    builds = found.decision.builds if acting else ()
    return {"builds": [_carry(build, decision) for build in builds], "refused": refused}


def look(carried: Carried, world: World) -> Look:
    """Return what the cluster runs, what registries say of it, and which seeds that deserves."""
    state = world.cluster.state()
    pushed = _pushed(carried, world)
    named = frozenset(pushed) or frozenset(carried.get("images") or ())
    demands = tuple(_demands(state, pushed))
    images, absent = _resolved(demands, world)
    seeds = world.ledger.seeds()
    decision = decide(
        demands, images, seeds, named or None, absent=absent, heat=_heat(state, world)
    )
    return Look(demands, images, seeds, decision)


def _heat(state: ClusterState, world: World) -> Heat:
    zones = {subnet.zone for one in state.nodeclasses for subnet in one.status.subnets}
    settings = world.settings
    return Heat(settings.seed_warm_up, settings.seed_rate, len(zones) or 1)


def _pushed(carried: Carried, world: World) -> dict[str, str]:
    """Return repository -> pushed reference, for an ECR push; nothing for other triggers.

    The manifests of an index are pushed without a tag: they name their repository, no reference.
    """
    detail = carried.get("detail")
    if carried.get("source") != "aws.ecr" or not isinstance(detail, Mapping):
        return {}
    if detail.get("action-type") != "PUSH" or detail.get("result") != "SUCCESS":
        return {}
    account = str(carried.get("account", ""))
    suffix = "amazonaws.com.cn" if world.settings.partition == "aws-cn" else "amazonaws.com"
    host = f"{account}.dkr.ecr.{world.settings.region}.{suffix}"
    name = f"{host}/{detail.get('repository-name', '')}"
    tag = detail.get("image-tag")
    return {name: f"{name}:{tag}" if tag else ""}


def _demands(state: ClusterState, pushed: Mapping[str, str]) -> Iterable[PoolDemand]:
    """Return what the pods of each NodePool run, with what its node class asks."""
    counted: dict[str, dict[str, Use]] = {}
    classes: dict[str, EC2NodeClass] = {}
    for pod in state.pods:
        node = state.node(pod.node_name) if pod.node_name else None
        pool = state.nodepool(node.node_pool) if node and node.node_pool else None
        if node is None or pool is None or pod.finished:
            continue
        node_class = state.nodeclass(pool.spec.template.spec.node_class_ref.name)
        if node_class is None:
            continue
        classes[pool.name] = node_class
        arch = node.labels.get(labels.ARCH, "amd64")
        of_pool = counted.setdefault(pool.name, {})
        for reference in pod.images:
            newer = pushed.get(seeding.repository(reference))
            for name in {reference, newer or reference}:
                of_pool[name] = _used(of_pool.get(name), arch, private=bool(pod.pull_secrets))
    for name, images in sorted(counted.items()):
        yield _demand(name, classes[name], images)


def _used(known: Use | None, arch: str, *, private: bool) -> Use:
    if known is None:
        return Use(1, (arch,), private)
    arches = known.architectures
    if arch not in arches:
        arches = tuple(sorted((*arches, arch)))
    return Use(known.pods + 1, arches, known.private or private)


def _demand(pool: str, node_class: EC2NodeClass, images: Mapping[str, Use]) -> PoolDemand:
    family = family_of(node_class) or Family.CUSTOM
    asked, listed = wishes.asked_by(node_class)
    return PoolDemand(
        node_pool=pool,
        node_class=node_class.name,
        family=family,
        mode=asked,
        listed=listed,
        obstacle=wishes.obstacle(node_class, family),
        images=dict(sorted(images.items())),
    )


def _resolved(
    demands: Iterable[PoolDemand], world: World
) -> tuple[dict[str, Image], dict[str, str]]:
    """Return the images that may be seeded, as registries show them, and why others are not."""
    names = {
        reference
        for demand in demands
        if demand.mode is not Mode.OFF and not demand.obstacle
        for reference, use in demand.images.items()
        if wishes.unwelcome(reference, demand.mode, demand.listed, private=use.private) is None
    }
    images: dict[str, Image] = {}
    absent: dict[str, str] = {}
    for name in sorted(names):
        try:
            images[name] = world.cloud.image(name)
        except (NotFound, Denied) as error:
            absent[name] = str(error)
    return images, absent


def _keep_true(found: Look, decision: str, world: World) -> None:
    """Write what the look says of seeds that exist: moved tags, new names, that they are used."""
    now = world.clock.now()
    wanted = {build.key: build for build in found.decision.wanted}
    running = {name for demand in found.demands for name in demand.images}
    for seed in found.seeds:
        if seed.state != State.READY:
            continue
        gone = seeding.moved(seed.images, found.images)
        if gone:
            name, digest = next(iter(gone.items()))
            retire(seed, f"{name} means {digest} now", decision, world)
            continue
        current = seed
        build = wanted.get(seed.key)
        if build is not None:
            current = _renamed(current, build)
        if any(seed.holds(name) for name in running) and (
            seed.used is None or now - seed.used > USED_AGE
        ):
            current = replace(current, used=now)
        if current != seed:
            world.ledger.update_seed(current)


def _renamed(seed: Seed, build: Build) -> Seed:
    """Return *seed* with the names and node classes that its digests are wanted under now."""
    images = {image.reference: image.digest for image in build.images}
    sizes = {image.reference: image.compressed_bytes for image in build.images}
    return replace(
        seed,
        images={**seed.images, **images},
        image_bytes={**seed.image_bytes, **sizes},
        node_classes=tuple(sorted({*seed.node_classes, *build.node_classes})),
    )


def retire(seed: Seed, reason: str, decision: str, world: World) -> None:
    """Let no launch use *seed* from now on; its snapshot goes a little later."""
    now = world.clock.now()
    if seed.zones:
        world.cloud.end_fast_restores(seed.snapshot_id)
    retired = replace(seed, state=State.RETIRED.value, retired=now, reason=reason, zones=())
    if not world.ledger.update_seed(retired):
        return  # somebody else did, and said so
    publish(world, "SeedRetired", decision, seed=seed.key, snapshot=seed.snapshot_id, reason=reason)


def _carry(build: Build, decision: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "decision": decision,
        "seed": build.key,
        "arch": build.arch,
        "family": build.family,
        "volumeGiB": build.volume_gib,
        "nodePools": list(build.node_pools),
        "nodeClasses": list(build.node_classes),
        "reason": build.reason,
        "images": [
            {"reference": image.reference, "digest": image.digest, "bytes": image.compressed_bytes}
            for image in build.images
        ],
        "estimate": {
            "plainPullSeconds": round(build.ways.plain, 1),
            "parallelPullSeconds": round(build.ways.parallel, 1),
            "peerPullSeconds": round(build.ways.peer, 1),
            "seededSeconds": round(build.ways.seeded, 1),
        },
        "cost": {
            "buildDollars": round(build.cost.build, 4),
            "storageDollarsAMonth": round(build.cost.storage_month, 4),
            "warmUpDollarsAMonth": round(build.cost.warm_up_month, 2),
        },
    }
