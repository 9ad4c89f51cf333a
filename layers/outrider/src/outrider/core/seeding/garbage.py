"""What of seeding is no longer wanted, each thing with the reason.

A retired or failed seed's snapshot goes when no launch can be using it any more; a ready one that
no pod has run an image of for the retention time is retired first. What carries our tags and
belongs to nobody (a builder without its build's lock, a loose volume, a snapshot that was never
published) goes once it is old enough that no step can still be about to use it. A row whose
snapshot has gone is told so. Locks of builds that ended end with them.

Refuses to delete anything (`flows.seedend`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from outrider.apis import duration, labels
from outrider.core.seeding.seed import Seed, State

STILL_LAUNCHING = timedelta(minutes=15)  # an errand may yet launch with a seed that was retired
STILL_BUILDING = timedelta(minutes=15)  # a step may yet be about to use what it made
RETENTION = timedelta(days=30)

Found = Mapping[str, Any]  # id, tags, state, and when it was made


class Kind(StrEnum):
    """What a piece of litter is, which says how it goes."""

    SEED = "seed"  # retired now, its snapshot later
    ROW = "row"  # a seed whose snapshot is gone
    SNAPSHOT = "snapshot"
    BUILDER = "builder"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that there is of seeding: rows, locks (seed key to owner), and what EC2 shows."""

    seeds: Sequence[Seed]
    locks: Mapping[str, str]
    snapshots: Sequence[Found]
    builders: Sequence[Found]
    volumes: Sequence[Found]


@dataclass(frozen=True, slots=True)
class Litter:
    """One thing that goes, and why."""

    kind: Kind
    name: str
    reason: str
    seed: str = ""
    gib: int = 0


def litter(found: Inventory, now: datetime, retention: timedelta = RETENTION) -> tuple[Litter, ...]:
    """Return what goes, in the order in which it has to."""
    return (
        *(one for item in found.builders if (one := _builder(item, found.locks, now))),
        *(one for item in found.volumes if (one := _volume(item, found.locks, now))),
        *(one for seed in found.seeds if (one := _seed(seed, found, now, retention))),
        *(one for item in found.snapshots if (one := _snapshot(item, found, now))),
    )


def _builder(item: Found, locks: Mapping[str, str], now: datetime) -> Litter | None:
    key = str(item["tags"].get(labels.SEED, ""))
    expires = str(item["tags"].get(labels.EXPIRES, ""))
    if expires and duration.instant(expires) <= now:
        return Litter(Kind.BUILDER, item["id"], f"its time was up at {expires}", key)
    if not _is_locked(item, locks) and now - item["launched"] > STILL_BUILDING:
        return Litter(Kind.BUILDER, item["id"], "no build holds its seed's lock", key)
    return None


def _volume(item: Found, locks: Mapping[str, str], now: datetime) -> Litter | None:
    if _is_locked(item, locks) or now - item["created"] <= STILL_BUILDING:
        return None
    key = str(item["tags"].get(labels.SEED, ""))
    return Litter(Kind.VOLUME, item["id"], "its builder is gone", key, int(item["gib"]))


def _seed(seed: Seed, found: Inventory, now: datetime, retention: timedelta) -> Litter | None:
    if seed.state != State.READY:
        return None
    if seed.snapshot_id not in {item["id"] for item in found.snapshots}:
        return Litter(Kind.ROW, seed.snapshot_id, "its snapshot is gone", seed.key)
    last = seed.used or seed.created
    if last is not None and now - last > retention:
        days = (now - last).days
        reason = f"no pod has run an image of it for {days} days"
        return Litter(Kind.SEED, seed.snapshot_id, reason, seed.key, seed.volume_gib)
    return None


def _snapshot(item: Found, found: Inventory, now: datetime) -> Litter | None:
    key, name, gib = str(item["tags"].get(labels.SEED, "")), str(item["id"]), int(item["gib"])
    row = next((seed for seed in found.seeds if seed.snapshot_id == name), None)
    if row is not None and row.state == State.READY:
        return None
    if row is not None:
        if row.retired is not None and now - row.retired < STILL_LAUNCHING:
            return None
        reason = row.reason or f"its seed is {row.state.lower()}"
        return Litter(Kind.SNAPSHOT, name, reason, key, gib)
    if _is_locked(item, found.locks) or now - item["started"] <= STILL_BUILDING:
        return None
    return Litter(Kind.SNAPSHOT, name, "it was never published", key, gib)


def _is_locked(item: Found, locks: Mapping[str, str]) -> bool:
    """Return whether the build that made *item* still holds its seed's lock."""
    tags = item["tags"]
    return bool(tags.get(labels.DECISION)) and (
        locks.get(str(tags.get(labels.SEED, ""))) == tags[labels.DECISION]
    )
