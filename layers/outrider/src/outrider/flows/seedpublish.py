"""Making a seed usable: its snapshot is warmed where that is the setting, published, and what it
replaces is retired.

A seed is published only if its tags still mean what was built: one that a push has moved meanwhile
is dropped, and that push's own execution builds the newer one; so the newest digest is published
last, whichever build ends first. Fast Snapshot Restore that is refused, or does not come in time
in every zone, leaves the seed with the initialisation rate instead: a slower seed beats none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from outrider.apis import duration
from outrider.core import seeding
from outrider.core.seeding import Image, Seed, State, estimate
from outrider.core.seeding.estimate import WarmUp
from outrider.errors import CloudError, Denied, NotFound, Throttled
from outrider.flows.decisions import publish
from outrider.flows.ports import World
from outrider.flows.seedplan import retire as retire_seed

WARM_FACTOR = 2
WARM_MARGIN = timedelta(minutes=30)
POLL_SECONDS = 30
ENABLED = "enabled"

Answer = dict[str, Any]
Carried = Mapping[str, Any]


def warm(carried: Carried, world: World) -> Answer:
    """Have the snapshot fast-restored where that is the setting; say whether it is done."""
    setting = world.settings.seed_warm_up
    zones = _zones(carried, world)
    if setting != WarmUp.FAST_RESTORE or not zones:
        kind = WarmUp.RATE if setting == WarmUp.FAST_RESTORE else setting
        return _warmed(kind)
    now = world.clock.now()
    since = str(carried.get("warming") or duration.stamp(now))
    snapshot, limit = str(carried["snapshot"]), _limit(carried)
    try:
        if not carried.get("warming"):
            refused = world.cloud.fast_restore(snapshot, zones)
            if refused:
                zone, why = min(refused.items())
                return _given_up(snapshot, f"{zone}: {why}", world)
        states = world.cloud.fast_restores(snapshot)
    except Throttled:
        raise
    except CloudError as error:
        return _given_up(snapshot, str(error), world)
    if all(states.get(zone) == ENABLED for zone in zones):
        return {**_warmed(WarmUp.FAST_RESTORE), "zones": zones}
    if now - duration.instant(since) > limit:
        return _given_up(snapshot, f"not enabled in every zone within {limit}", world)
    return {"done": False, "wait": POLL_SECONDS, "warming": since}


def _warmed(kind: WarmUp) -> Answer:
    return {"done": True, "wait": 1, "warmUp": kind.value, "zones": []}


def _given_up(snapshot: str, why: str, world: World) -> Answer:
    world.telemetry.log("no fast restore, the initialisation rate instead", problem=why)
    try:
        world.cloud.end_fast_restores(snapshot)
    except CloudError as error:
        world.telemetry.log("fast restores may be left", snapshot=snapshot, problem=str(error))
    return _warmed(WarmUp.RATE)


def _limit(carried: Carried) -> timedelta:
    seconds = estimate.optimising_seconds(int(carried["volumeGiB"]))
    return WARM_FACTOR * timedelta(seconds=round(seconds)) + WARM_MARGIN


def _zones(carried: Carried, world: World) -> list[str]:
    """Return the zones in which nodes of the seed's classes are launched."""
    if world.settings.seed_warm_up != WarmUp.FAST_RESTORE:
        return []
    state = world.cluster.machines()
    classes = [state.nodeclass(name) for name in carried["nodeClasses"]]
    return sorted({subnet.zone for one in classes if one for subnet in one.status.subnets})


def publish_seed(carried: Carried, world: World) -> Answer:
    """Write the seed into the ledger: from here on launches use it, if its tags still stand."""
    images = {image["reference"]: image["digest"] for image in carried["images"]}
    gone = seeding.moved(images, _found(images, world))
    if gone:
        return {"outcome": "moved", "moved": dict(gone)}
    now = world.clock.now()
    seed = Seed(
        key=carried["seed"],
        arch=carried["arch"],
        family=carried["family"],
        images=images,
        image_bytes={image["reference"]: int(image["bytes"]) for image in carried["images"]},
        snapshot_id=carried["snapshot"],
        volume_gib=int(carried["volumeGiB"]),
        state=State.READY.value,
        node_classes=tuple(carried["nodeClasses"]),
        created=now,
        used=now,
        reason=carried["reason"],
        warm_up=str(carried.get("warmUp") or WarmUp.RATE.value),
        rate=world.settings.seed_rate,
        zones=tuple(carried.get("zones") or ()),
    )
    already = any(
        known.key == seed.key and known.state == State.READY for known in world.ledger.seeds()
    )
    world.ledger.put_seed(seed)
    if not already:
        seconds = (now - duration.instant(str(carried["began"]))).total_seconds()
        world.telemetry.count("SeedsPublished")
        world.telemetry.count("SeedBuildSeconds", seconds)
        publish(
            world,
            "SeedPublished",
            carried["decision"],
            seed=seed.key,
            snapshot=seed.snapshot_id,
            images=sorted(seed.images),
            seconds=seconds,
        )
    return {"outcome": "published"}


def _found(names: Mapping[str, str], world: World) -> dict[str, Image]:
    """Return what registries show of *names* now; what they do not show has not moved."""
    found: dict[str, Image] = {}
    for name in sorted(names):
        try:
            found[name] = world.cloud.image(name)
        except (NotFound, Denied):
            continue
    return found


def retire(carried: Carried, world: World) -> Answer:
    """Retire the seeds that the new one replaces; their snapshots go a little later."""
    seeds = world.ledger.seeds()
    newest = next((seed for seed in seeds if seed.key == carried["seed"]), None)
    if newest is None or newest.state != State.READY:
        return {}
    for old in seeding.superseded(seeds, newest):
        retire_seed(old, f"replaced by {newest.key}", str(carried["decision"]), world)
    return {}
