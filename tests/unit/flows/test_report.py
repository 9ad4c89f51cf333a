"""The daily report: once a day, only while outrider watches, and never in anybody's way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outrider.errors import ClusterError
from outrider.flows import disrupt
from tests.support import estate
from tests.support.world import FakeWorld

TICK: dict[str, Any] = {}


@pytest.fixture
def fake() -> FakeWorld:
    """A cluster in mode observe whose only node is far too large."""
    world = FakeWorld()
    world.mode = "observe"
    world.clock.at = estate.NOW
    world.ledger.stored = estate.catalog()
    one = estate.node("n1", "m5.4xlarge")
    world.cluster.put(estate.pool(), estate.claim(one))
    world.join(one, estate.pod("a", on="n1"))
    return world


def test_a_day_has_one_report(fake: FakeWorld) -> None:
    """The first tick of a day tells; those that follow are silent until tomorrow."""
    for _ in range(3):
        disrupt.disrupt(TICK, fake.world)
    (told,) = fake.bus.of("ReportMade")
    assert told["pricePerHour"] == pytest.approx(0.8)
    assert told["plannedPricePerHour"] < told["pricePerHour"]
    assert told["nodes"] == ["n1"]
    assert [one["instanceType"] for one in told["instead"]] == ["m5.large"]
    assert told["watching"] == "the mode is observe"
    assert fake.telemetry.total("ShadowPricePerHour") == pytest.approx(0.8)
    planned = fake.telemetry.total("ShadowPlannedPricePerHour")
    assert planned == pytest.approx(told["plannedPricePerHour"])
    fake.clock.at += timedelta(days=1)
    disrupt.disrupt(TICK, fake.world)
    assert len(fake.bus.of("ReportMade")) == 2


def test_beside_a_live_karpenter_there_is_one(fake: FakeWorld) -> None:
    """Whatever the mode: that week is what the report is for."""
    fake.mode = "full"
    fake.cluster.karpenter = True
    disrupt.disrupt(TICK, fake.world)
    (told,) = fake.bus.of("ReportMade")
    assert told["watching"] == "a Karpenter is live"


def test_who_acts_makes_no_report(fake: FakeWorld) -> None:
    """In mode full the commands themselves tell what differs."""
    fake.mode = "full"
    disrupt.disrupt(TICK, fake.world)
    assert fake.bus.of("ReportMade") == []


def test_a_report_writes_nothing(fake: FakeWorld) -> None:
    """Nothing in the cluster or in EC2 is changed for it."""
    disrupt.disrupt(TICK, fake.world)
    writing = ("patch", "taint", "delete", "create", "launch", "evict")
    assert not [call for call in fake.recorder.calls if call[1].startswith(writing)]


def test_a_report_that_fails_stops_nothing(fake: FakeWorld) -> None:
    """The pass goes on as if nobody had asked for one."""
    fake.recorder.fail("state", ClusterError("the API server is away"))
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 0}
    assert fake.bus.of("ReportMade") == []
    assert fake.telemetry.total("PricePerHour") > 0
