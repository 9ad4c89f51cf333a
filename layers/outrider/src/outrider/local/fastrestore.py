"""How a volume that is made of a snapshot gets its blocks: fast restores, rates, or when read.

Fast Snapshot Restore is a state of (snapshot, zone): enabling, optimizing for an hour a TiB, then
enabled, with an event at each change. From then on credits gather, and a volume made while there is
one has all of its blocks at once. A VolumeInitializationRate on the volume wins over that, as in
EBS; without either a block comes when it is first read. moto has none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from outrider.core.seeding import estimate
from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Call, Refused

ENABLING_SECONDS = 5.0
SNAPSHOTS = 5  # the default quota of a region

Key = tuple[str, str]


@dataclass(slots=True)
class _Restore:
    """Fast restores of one snapshot in one zone."""

    gib: int
    state: str = "enabling"
    since: dict[str, datetime] = field(default_factory=dict)
    counted: float = 0.0  # when the credits were last counted, on the clock
    credits: float = 0.0


@dataclass(slots=True)
class FastRestores:
    """Every fast restore of the account."""

    endpoint: Endpoint
    clock: Clock
    snapshots: Callable[[], Any]
    publish: Callable[[str, str, dict[str, Any], list[str]], None]
    _all: dict[Key, _Restore] = field(default_factory=dict)

    def install(self) -> None:
        """Answer the operations about fast restores; a deleted snapshot has none any more."""
        serve = self.endpoint.serve
        serve("ec2:EnableFastSnapshotRestores", self._enable)
        serve("ec2:DisableFastSnapshotRestores", self._disable)
        serve("ec2:DescribeFastSnapshotRestores", self._describe)
        self.endpoint.after("ec2:DeleteSnapshot", self._deleted)

    def blocks(self, volume: Any, zone: str) -> float | None:
        """Return how long the blocks of *volume*, just made in *zone*, take to arrive.

        None: they come when they are first read. A credit is used up where one is.
        """
        rate = getattr(volume, "outrider_rate", None)
        on_it = float(getattr(volume, "outrider_bytes", 0.0))
        if rate:
            return on_it / (float(rate) * estimate.MIB)
        restore = self._all.get((str(volume.snapshot_id), zone))
        if restore is None or restore.state != "enabled":
            return None
        self._count(restore)
        if restore.credits < 1.0:
            return None
        restore.credits -= 1.0
        return 0.0

    def _enable(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        done, refused = [], []
        for snapshot_id in wanted.get("SourceSnapshotIds") or ():
            snapshot = self.snapshots().get(snapshot_id)
            if snapshot is None:
                raise Refused(
                    "InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist."
                )
            for zone in wanted.get("AvailabilityZones") or ():
                error = self._begin(snapshot_id, zone, int(snapshot.volume.size))
                if error:
                    refused.append((snapshot_id, zone, error))
                else:
                    done.append(self._row(snapshot_id, zone))
        return {
            "Successful": done,
            "Unsuccessful": [
                {
                    "SnapshotId": snapshot_id,
                    "FastSnapshotRestoreStateErrors": [
                        {
                            "AvailabilityZone": zone,
                            "Error": {
                                "Code": "FastSnapshotRestoreSnapshotLimitExceeded",
                                "Message": error,
                            },
                        }
                    ],
                }
                for snapshot_id, zone, error in refused
            ],
        }

    def _begin(self, snapshot_id: str, zone: str, gib: int) -> str:
        known = {key[0] for key in self._all}
        if snapshot_id not in known and len(known) >= SNAPSHOTS:
            return "The limit on snapshots enabled for fast restore is reached"
        if (snapshot_id, zone) in self._all:
            return ""
        restore = self._all[snapshot_id, zone] = _Restore(gib)
        self._turn(snapshot_id, zone, restore, "enabling")
        optimised = ENABLING_SECONDS + estimate.optimising_seconds(gib)
        for seconds, state in ((ENABLING_SECONDS, "optimizing"), (optimised, "enabled")):
            self.clock.call_later(seconds, partial(self._turn, snapshot_id, zone, restore, state))
        return ""

    def _turn(self, snapshot_id: str, zone: str, restore: _Restore, state: str) -> None:
        if self._all.get((snapshot_id, zone)) is not restore:
            return
        restore.state, restore.since[state] = state, self.clock.now()
        restore.counted = self.clock.at()
        self.publish(
            "aws.ec2",
            "EBS Fast Snapshot Restore State-change Notification",
            {
                "snapshot-id": snapshot_id,
                "state": state,
                "zone": zone,
                "message": "Client.UserInitiated - Lifecycle state transition",
            },
            [f"arn:aws:ec2:{REGION}::snapshot/{snapshot_id}"],
        )

    def _count(self, restore: _Restore) -> None:
        now = self.clock.at()
        gathered = (now - restore.counted) / 3600 * estimate.credits_an_hour(restore.gib)
        restore.credits = min(estimate.credit_bucket(restore.gib), restore.credits + gathered)
        restore.counted = now

    def _disable(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        ended = [
            {"SnapshotId": snapshot_id, "AvailabilityZone": zone, "State": "disabling"}
            for snapshot_id in wanted.get("SourceSnapshotIds") or ()
            for zone in wanted.get("AvailabilityZones") or ()
            if self._all.pop((snapshot_id, zone), None) is not None
        ]
        return {"Successful": ended, "Unsuccessful": []}

    def _describe(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        filters = {one["Name"]: set(one["Values"]) for one in wanted.get("Filters") or ()}
        rows = [self._row(*key) for key in sorted(self._all)]
        named = {
            "snapshot-id": "SnapshotId",
            "availability-zone": "AvailabilityZone",
            "state": "State",
        }
        return {
            "FastSnapshotRestores": [
                row
                for row in rows
                if all(row[named[name]] in values for name, values in filters.items())
            ]
        }

    def _row(self, snapshot_id: str, zone: str) -> dict[str, Any]:
        restore = self._all[snapshot_id, zone]
        return {
            "SnapshotId": snapshot_id,
            "AvailabilityZone": zone,
            "State": restore.state,
            "StateTransitionReason": "Client.UserInitiated - Lifecycle state transition",
            "OwnerId": ACCOUNT,
            **{f"{state.capitalize()}Time": at for state, at in restore.since.items()},
        }

    def _deleted(self, _call: Call) -> None:
        there = self.snapshots()
        for key in [key for key in self._all if key[0] not in there]:
            del self._all[key]
