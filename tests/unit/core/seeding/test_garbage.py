"""What of seeding goes, and why; what somebody may still need stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.apis import duration, labels
from outrider.core.seeding import Seed, State
from outrider.core.seeding.garbage import Inventory, Kind, Litter, litter

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _seed(key: str = "k", **changes: Any) -> Seed:
    given: dict[str, Any] = {
        "snapshot_id": f"snap-{key}",
        "state": State.READY.value,
        "created": NOW - 40 * 24 * HOUR,
        "used": NOW - HOUR,
        **changes,
    }
    return Seed(key, "amd64", "AL2023", {"a:1": "sha256:1"}, **given)


def _thing(name: str, age: timedelta = HOUR, **changes: Any) -> dict[str, Any]:
    tags = {labels.SEED: "k", labels.DECISION: "d"}
    times = dict.fromkeys(("launched", "created", "started"), NOW - age)
    return {"id": name, "tags": tags, "gib": 30, **times, **changes}


def _litter(**found: Any) -> tuple[Litter, ...]:
    nothing: dict[str, Any] = {
        "seeds": (),
        "locks": {},
        "snapshots": (),
        "builders": (),
        "volumes": (),
    }
    return litter(Inventory(**{**nothing, **found}), NOW)


def test_what_is_in_use_stays() -> None:
    """A ready seed that pods run, and all that a build under its lock has made."""
    assert _litter(seeds=(_seed(),), snapshots=(_thing("snap-k"),)) == ()
    made = {"snapshots": (_thing("s"),), "builders": (_thing("i"),), "volumes": (_thing("v"),)}
    assert _litter(locks={"k": "d"}, **made) == ()


def test_what_belongs_to_nobody_goes() -> None:
    """Without its build's lock a builder, a loose volume and an unpublished snapshot go."""
    made = {"snapshots": (_thing("s"),), "builders": (_thing("i"),), "volumes": (_thing("v"),)}
    found = _litter(locks={"k": "another"}, **made)
    assert [(one.kind, one.name) for one in found] == [
        (Kind.BUILDER, "i"),
        (Kind.VOLUME, "v"),
        (Kind.SNAPSHOT, "s"),
    ]
    assert found[2].reason == "it was never published"


def test_what_is_fresh_has_time() -> None:
    """A step may be about to write the lock, or to use what it made."""
    young = timedelta(minutes=5)
    assert _litter(builders=(_thing("i", young),), volumes=(_thing("v", young),)) == ()
    assert _litter(snapshots=(_thing("s", young),)) == ()


def test_a_builder_s_time_is_up() -> None:
    """Whoever holds the lock: past its expiry a builder ends."""
    tags = {**_thing("i")["tags"], labels.EXPIRES: duration.stamp(NOW - HOUR)}
    (found,) = _litter(locks={"k": "d"}, builders=(_thing("i", tags=tags),))
    assert "its time was up" in found.reason


def test_a_retired_snapshot_waits_for_launches() -> None:
    """An errand may yet launch with it for a quarter of an hour."""
    retired = _seed(state=State.RETIRED.value, retired=NOW - HOUR / 6, reason="replaced by n")
    assert _litter(seeds=(retired,), snapshots=(_thing("snap-k"),)) == ()
    older = _seed(state=State.RETIRED.value, retired=NOW - HOUR, reason="replaced by n")
    (found,) = _litter(seeds=(older,), snapshots=(_thing("snap-k"),))
    assert (found.kind, found.reason) == (Kind.SNAPSHOT, "replaced by n")


def test_an_unused_seed_is_retired_first() -> None:
    """After the retention time it serves no launch any more; its snapshot goes later."""
    idle = _seed(used=NOW - 31 * 24 * HOUR)
    (found,) = _litter(seeds=(idle,), snapshots=(_thing("snap-k"),))
    assert (found.kind, found.seed) == (Kind.SEED, "k")
    assert "31 days" in found.reason


def test_a_row_without_a_snapshot_is_told() -> None:
    """Somebody deleted the snapshot: no launch shall ask for it."""
    (found,) = _litter(seeds=(_seed(),))
    assert (found.kind, found.reason) == (Kind.ROW, "its snapshot is gone")
