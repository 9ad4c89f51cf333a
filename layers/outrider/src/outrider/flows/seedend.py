"""The end of seeding: a build cleans up behind itself, a sweep behind one that could not, and
garbage is collected.

A sweep first says that the execution has ended, then looks for what it made: whatever a late step
makes after that, the step undoes itself (`seedbuild.ended`), so nothing falls between the two.
Nothing is deleted by name alone: everything is found by our tags, and a snapshot that the ledger
has as ready is never touched but by way of its row.

Refuses to judge what is garbage: `core.seeding.garbage` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from outrider.apis import labels
from outrider.core.seeding import State
from outrider.core.seeding.estimate import WarmUp
from outrider.core.seeding.garbage import Inventory, Kind, Litter, litter
from outrider.flows import seedbuild
from outrider.flows.decisions import decision_id, publish
from outrider.flows.ports import World

ENDED = timedelta(days=1)

Answer = dict[str, Any]
Carried = Mapping[str, Any]


def cleanup(carried: Carried, world: World) -> Answer:
    """Leave nothing behind: builder, volumes, half a snapshot, the lock."""
    key, decision = str(carried["seed"]), str(carried["decision"])
    _clear(world, key, decision)
    reason = _failure(carried)
    stands = any(seed.key == key and seed.state == State.READY for seed in world.ledger.seeds())
    if reason and stands:
        world.telemetry.log("the seed stands, what follows it failed", seed=key, problem=reason)
    elif reason:
        world.telemetry.count("SeedsFailed")
        publish(world, "SeedFailed", decision, seed=key, reason=reason)
    return {}


def _failure(carried: Carried) -> str:
    """Return why the build gave no seed, with the image's name; "" where it gave one."""
    error, gone = carried.get("error"), carried.get("moved")
    if error:
        return str(error.get("Cause", error))[:500] if isinstance(error, Mapping) else str(error)
    if gone:
        name, digest = min(gone.items())
        return f"{name} was moved to {digest} during the build; its push builds that"
    return ""


def sweep(carried: Carried, world: World) -> Answer:
    """Clean up behind an execution that ended without its own cleanup."""
    decision = decision_id(world.settings.cluster, "seed", carried.get("execution", ""))
    world.ledger.flag(seedbuild.flag_of(decision), world.clock.now() + ENDED)
    tagged = {labels.DECISION: decision}
    left = {
        str(one["tags"].get(labels.SEED, ""))
        for one in (
            *world.cloud.builders(tagged),
            *world.cloud.snapshots(tagged),
            *world.cloud.seed_volumes(tagged),
        )
    } - {""}
    left |= {key for key, owner in world.ledger.seed_locks().items() if owner == decision}
    published = {seed.key for seed in world.ledger.seeds() if seed.state == State.READY}
    for key in sorted(left):
        _clear(world, key, decision)
    lost = sorted(left - published)
    if carried.get("status") in {"TIMED_OUT", "ABORTED"}:
        for key in lost:
            world.telemetry.count("SeedsFailed")
            publish(world, "SeedFailed", decision, seed=key, reason=str(carried["status"]))
    return {"swept": sorted(left), "collected": [one.name for one in collect(world)]}


def _clear(world: World, key: str, decision: str) -> None:
    """End all that one build made, except what it published."""
    made = seedbuild.mine({"seed": key, "decision": decision})
    world.cloud.terminate([one["id"] for one in world.cloud.builders(made)])
    for one in world.cloud.seed_volumes(made):
        world.cloud.delete_seed_volume(one["id"])
    published = {seed.snapshot_id for seed in world.ledger.seeds() if seed.state == State.READY}
    for one in world.cloud.snapshots(made):
        if one["id"] not in published:
            _delete(one["id"], world)
    world.ledger.unlock_seed(key, decision)


def collect(world: World, *, dry_run: bool = False) -> tuple[Litter, ...]:
    """Remove what of seeding nobody wants any more; return it, each with its reason."""
    found = Inventory(
        seeds=world.ledger.seeds(),
        locks=world.ledger.seed_locks(),
        snapshots=world.cloud.snapshots({}),
        builders=world.cloud.builders({}),
        volumes=world.cloud.seed_volumes({}),
    )
    retention = timedelta(days=world.settings.seed_retention_days)
    unwanted = litter(found, world.clock.now(), retention)
    if not dry_run:
        for one in unwanted:
            _remove(one, world)
    return unwanted


def _remove(unwanted: Litter, world: World) -> None:
    if unwanted.kind is Kind.BUILDER:
        world.cloud.terminate([unwanted.name])
    elif unwanted.kind is Kind.VOLUME:
        world.cloud.delete_seed_volume(unwanted.name)
    elif unwanted.kind is Kind.SNAPSHOT:
        if _delete(unwanted.name, world):
            _forget(unwanted.name, world)
    else:
        _retire(unwanted, world)
    world.telemetry.log("seeding: removed", kind=unwanted.kind, name=unwanted.name)


def _delete(snapshot_id: str, world: World) -> bool:
    if world.settings.seed_warm_up == WarmUp.FAST_RESTORE:
        world.cloud.end_fast_restores(snapshot_id)
    return world.cloud.delete_snapshot(snapshot_id)


def _forget(snapshot_id: str, world: World) -> None:
    for seed in world.ledger.seeds():
        if seed.snapshot_id == snapshot_id:
            world.ledger.put_seed(replace(seed, snapshot_id=""))


def _retire(unwanted: Litter, world: World) -> None:
    """Let no launch use a seed from now on; its snapshot goes at a later collection."""
    is_gone = unwanted.kind is Kind.ROW
    for seed in world.ledger.seeds():
        if seed.key != unwanted.seed or seed.state != State.READY:
            continue
        if seed.zones and not is_gone:
            world.cloud.end_fast_restores(seed.snapshot_id)
        changed = replace(
            seed,
            state=(State.FAILED if is_gone else State.RETIRED).value,
            retired=world.clock.now(),
            reason=unwanted.reason,
            snapshot_id="" if is_gone else seed.snapshot_id,
            zones=(),
        )
        if not world.ledger.update_seed(changed):
            continue
        decision = decision_id(world.settings.cluster, "seed", seed.key, unwanted.reason)
        publish(
            world,
            "SeedRetired",
            decision,
            seed=seed.key,
            snapshot=seed.snapshot_id,
            reason=unwanted.reason,
        )
