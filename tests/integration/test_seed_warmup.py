"""How a seeded volume gets its blocks in the embedded cloud: rates, fast restores, credits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from outrider.core.seeding import estimate
from outrider.local.clock import DiscreteClock
from outrider.local.cloud import Cloud
from tests.support.stack import TEMPLATE

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
ZONE = "us-east-1a"
LAYERS = (3_000_000_000, 2_000_000_000)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """Give an embedded cloud without a cluster, its schedules asleep."""
    with Cloud(template=TEMPLATE, clock=DiscreteClock(START), with_cluster=False) as running:
        events = running.client("events")
        for rule in events.list_rules()["Rules"]:
            events.disable_rule(Name=rule["Name"])
        yield running


def _snapshot(cloud: Cloud, gib: int) -> str:
    ec2 = cloud.client("ec2")
    volume = ec2.create_volume(AvailabilityZone=ZONE, Size=gib)["VolumeId"]
    name = str(ec2.create_snapshot(VolumeId=volume)["SnapshotId"])
    cloud.run(gib)
    return name


def _states(cloud: Cloud, snapshot: str) -> dict[str, str]:
    found = cloud.client("ec2").describe_fast_snapshot_restores(
        Filters=[{"Name": "snapshot-id", "Values": [snapshot]}]
    )
    return {one["AvailabilityZone"]: one["State"] for one in found["FastSnapshotRestores"]}


class Volume:
    """What a launch knows of a volume that it has just made."""

    def __init__(self, snapshot: str, gigabytes: float, rate: int | None = None) -> None:
        self.snapshot_id = snapshot
        self.outrider_bytes = gigabytes * 1e9
        self.outrider_rate = rate


def test_a_snapshot_is_optimised_and_gathers_credits(cloud: Cloud) -> None:
    """Enabling, optimizing for an hour a TiB, enabled with no credit; then some volumes an hour."""
    ec2 = cloud.client("ec2")
    snapshot = _snapshot(cloud, 256)
    ec2.enable_fast_snapshot_restores(AvailabilityZones=[ZONE], SourceSnapshotIds=[snapshot])
    assert _states(cloud, snapshot) == {ZONE: "enabling"}
    cloud.run(60)
    assert _states(cloud, snapshot) == {ZONE: "optimizing"}
    cloud.run(15 * 60)
    assert _states(cloud, snapshot) == {ZONE: "enabled"}
    blocks = cloud.restores.blocks
    assert blocks(Volume(snapshot, 50), ZONE) is None
    cloud.run(3600)
    made = [blocks(Volume(snapshot, 50), ZONE) for _ in range(5)]
    assert made == [0.0, 0.0, 0.0, 0.0, None]
    assert estimate.restores(256, 1.05) == 4
    assert blocks(Volume(snapshot, 50), "us-east-1b") is None
    ec2.delete_snapshot(SnapshotId=snapshot)
    assert _states(cloud, snapshot) == {}


def test_a_rate_wins_over_fast_restore(cloud: Cloud) -> None:
    """Both on one volume: EBS takes the rate, so a fast-restored seed is launched without one."""
    volume = Volume("snap-any", 31.457280, rate=300)
    assert cloud.restores.blocks(volume, ZONE) == pytest.approx(100)


def test_a_region_has_a_quota(cloud: Cloud) -> None:
    """The sixth snapshot is refused for itself, in the shape of EC2's answer."""
    ec2 = cloud.client("ec2")
    names = [_snapshot(cloud, 1) for _ in range(6)]
    for name in names[:5]:
        ec2.enable_fast_snapshot_restores(AvailabilityZones=[ZONE], SourceSnapshotIds=[name])
    answer = ec2.enable_fast_snapshot_restores(
        AvailabilityZones=[ZONE], SourceSnapshotIds=names[5:]
    )
    assert answer["Successful"] == []
    (refused,) = answer["Unsuccessful"]
    assert "limit" in refused["FastSnapshotRestoreStateErrors"][0]["Error"]["Message"]
    for name in names[:5]:
        ec2.disable_fast_snapshot_restores(AvailabilityZones=[ZONE], SourceSnapshotIds=[name])
        assert _states(cloud, name) == {}
