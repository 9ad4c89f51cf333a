"""Seconds and dollars: the published measurements are met, and credits are counted as EBS does."""

from __future__ import annotations

import pytest

from outrider.core.seeding import estimate
from outrider.core.seeding.estimate import GIB, WarmUp

GB = 1000**3
COMPRESSED, ON_DISK = int(9.5 * GB), int(20.4 * GB)


def test_the_published_pull_is_met() -> None:
    """9.5 GB compressed, 20.4 GB on disk: 334 s until the pod started."""
    ways = estimate.ways(COMPRESSED, ON_DISK, ON_DISK)
    assert ways.plain == pytest.approx(334, abs=2)
    assert ways.parallel == pytest.approx(167, abs=1)
    assert ways.parallel < ways.peer < ways.plain
    assert ways.rival == ways.parallel
    assert ways.saved == ways.plain - ways.seeded


def test_the_seed_arrives_while_the_node_boots() -> None:
    """At 300 MiB/s 20.4 GB take 65 s, thirty of them while nobody waits; at 100 MiB/s 195 s."""
    boot = estimate.SPEEDS.boot
    assert estimate.seeded_seconds(ON_DISK) + boot == pytest.approx(65, abs=1)
    assert estimate.seeded_seconds(ON_DISK, WarmUp.RATE, 100) + boot == pytest.approx(195, abs=1)
    assert estimate.seeded_seconds(GIB) == 0


def test_a_cold_volume_is_slower_than_a_pull() -> None:
    """A 15 GB image took over ten minutes from a snapshot that nobody warmed."""
    assert estimate.seeded_seconds(15 * GB, WarmUp.NONE) >= 600
    assert estimate.seeded_seconds(15 * GB, WarmUp.FAST_RESTORE) == 0


@pytest.mark.parametrize(
    ("gib", "an_hour", "bucket", "optimising"),
    [(50, 10.0, 10.0, 176), (200, 5.12, 5.12, 703), (1024, 1.0, 1.0, 3600), (4096, 0.25, 1.0, 0)],
)
def test_credits_go_by_the_snapshot_s_size(
    gib: int, an_hour: float, bucket: float, optimising: float
) -> None:
    """A small snapshot restores ten volumes an hour in a zone, one of a TiB a single one."""
    assert estimate.credits_an_hour(gib) == an_hour
    assert estimate.credit_bucket(gib) == bucket
    if optimising:
        assert estimate.optimising_seconds(gib) == pytest.approx(optimising, abs=1)


def test_the_bucket_is_empty_at_first() -> None:
    """Nothing can be restored at once; after a while as much as the bucket holds, and no more."""
    assert estimate.restores(50, 0) == 0
    assert estimate.restores(50, 0.5) == 5
    assert estimate.restores(50, 100) == 10
    assert estimate.restores(4096, 2) == 0
    assert estimate.restores(4096, 4) == 1


def test_a_build_costs_cents_and_fast_restore_does_not() -> None:
    """A build is cents, its storage a dollar a month, fast restore in three zones 1,642 dollars."""
    plain = estimate.cost(COMPRESSED, ON_DISK, 30)
    assert 0.05 < plain.build < 0.15
    assert plain.storage_month == pytest.approx(0.95, abs=0.01)
    assert plain.month == plain.storage_month
    assert estimate.cost(COMPRESSED, ON_DISK, 30, 3).warm_up_month == 1642.5
