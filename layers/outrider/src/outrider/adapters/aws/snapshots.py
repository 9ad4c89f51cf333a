"""Seed builders and their snapshots in EC2: launched, stopped, snapshotted, warmed, deleted.

Each call can be repeated.

CreateSnapshot has no client token, so the seed's tag is one: a snapshot that carries it is looked
for first. RunInstances has a token, and the builder is found by the same tag. Fast Snapshot Restore
is a state of (snapshot, zone) that is asked for and looked at. Refuses to know when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.network import tag_filters
from outrider.adapters.aws.session import Session
from outrider.apis import labels
from outrider.core.launch import tags

Json = Mapping[str, Any]

IN_USE = frozenset({"InvalidSnapshot.InUse", "VolumeInUse"})
GONE = frozenset({"InvalidSnapshot.NotFound", "InvalidVolume.NotFound"})
ALIVE = ["pending", "running", "stopping", "stopped"]
# A console that runs is read as it is now; Nitro has that, and every builder is Nitro.
SPEAKING = "running"
FAST = frozenset({"enabling", "optimizing", "enabled"})


class Seeders:
    """Builders and snapshots that carry the *owner* tags and a seed's."""

    def __init__(self, session: Session, owner: Mapping[str, str]) -> None:
        self._session = session
        self._owner = owner

    def run(self, request: Json) -> str:
        """Launch one builder with the RunInstances parameters in *request*; return its id."""
        with errors.speaking("RunInstances"):
            answer = self._client().run_instances(**request)
        return str(answer["Instances"][0]["InstanceId"])

    def builders(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return builders with the *wanted* tags: id, state, launched, expires, data volume."""
        filters = [
            *tag_filters({**self._owner, **wanted}),
            {"Name": "tag-key", "Values": [labels.SEED]},
            {"Name": "instance-state-name", "Values": ALIVE},
        ]
        with errors.speaking("DescribeInstances"):
            pages = self._client().get_paginator("describe_instances").paginate(Filters=filters)
            found = [
                instance
                for page in pages
                for reservation in page["Reservations"]
                for instance in reservation["Instances"]
            ]
        return tuple(_builder(entry) for entry in found)

    def stop(self, instance_id: str) -> None:
        """Stop a builder; one that is stopped stays so."""
        with errors.speaking("StopInstances"):
            self._client().stop_instances(InstanceIds=[instance_id])

    def console(self, instance_id: str, state: str) -> str:
        """Return what a builder in *state* wrote to its serial console.

        Without `Latest` EC2 answers with what it kept at the last change of state.
        """
        latest = {"Latest": True} if state == SPEAKING else {}
        with errors.speaking("GetConsoleOutput"):
            answer = self._client().get_console_output(InstanceId=instance_id, **latest)
        return str(answer.get("Output", ""))

    def snapshot(self, volume_id: str, description: str, marks: Mapping[str, str]) -> str:
        """Snapshot a volume, once for its seed tag; return the snapshot id."""
        key = marks[labels.SEED]
        for known in self.snapshots({labels.SEED: key}):
            if known["state"] != "error":
                return str(known["id"])
        with errors.speaking("CreateSnapshot"):
            answer = self._client().create_snapshot(
                VolumeId=volume_id,
                Description=description[:255],
                TagSpecifications=tags.specifications(("snapshot",), marks),
            )
        return str(answer["SnapshotId"])

    def snapshots(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return snapshots of ours with the *wanted* tags: id, state, tags, started, size."""
        filters = [
            *tag_filters({**self._owner, **wanted}),
            {"Name": "tag-key", "Values": [labels.SEED]},
        ]
        with errors.speaking("DescribeSnapshots"):
            pages = self._client().get_paginator("describe_snapshots")
            return tuple(
                {
                    "id": entry["SnapshotId"],
                    "state": entry["State"],
                    "progress": entry.get("Progress", ""),
                    "gib": entry.get("VolumeSize", 0),
                    "started": entry["StartTime"].astimezone(UTC),
                    "tags": tags.read(entry.get("Tags")),
                }
                for page in pages.paginate(OwnerIds=["self"], Filters=filters)
                for entry in page["Snapshots"]
            )

    def delete_snapshot(self, snapshot_id: str) -> bool:
        """Delete a snapshot; one that is gone is fine, one in use stays and gives False."""
        try:
            self._client().delete_snapshot(SnapshotId=snapshot_id)
        except ClientError as error:
            code = errors.code_of(error)
            if code in IN_USE:
                return False
            if code not in GONE:
                raise errors.translated(error, "DeleteSnapshot") from error
        return True

    def loose_volumes(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return volumes of ours with the *wanted* tags that no instance holds."""
        filters = [
            *tag_filters({**self._owner, **wanted}),
            {"Name": "tag-key", "Values": [labels.SEED]},
            {"Name": "status", "Values": ["available", "error"]},
        ]
        with errors.speaking("DescribeVolumes"):
            pages = self._client().get_paginator("describe_volumes").paginate(Filters=filters)
            return tuple(
                {
                    "id": entry["VolumeId"],
                    "gib": entry.get("Size", 0),
                    "created": entry["CreateTime"].astimezone(UTC),
                    "tags": tags.read(entry.get("Tags")),
                }
                for page in pages
                for entry in page["Volumes"]
            )

    def delete_volume(self, volume_id: str) -> None:
        """Delete a loose volume; one that is gone is fine, one that is held again stays."""
        try:
            self._client().delete_volume(VolumeId=volume_id)
        except ClientError as error:
            if errors.code_of(error) not in GONE | IN_USE:
                raise errors.translated(error, "DeleteVolume") from error

    # --- fast snapshot restore --------------------------------------------------------------------

    def fast_restore(self, snapshot_id: str, zones: Sequence[str]) -> Mapping[str, str]:
        """Ask for fast restores of a snapshot in *zones*; return zone -> why not, where refused."""
        with errors.speaking("EnableFastSnapshotRestores"):
            answer = self._client().enable_fast_snapshot_restores(
                AvailabilityZones=list(zones), SourceSnapshotIds=[snapshot_id]
            )
        return {
            str(zone.get("AvailabilityZone", "")): str(zone.get("Error", {}).get("Message", ""))
            for failed in answer.get("Unsuccessful", ())
            for zone in failed.get("FastSnapshotRestoreStateErrors", ())
        }

    def fast_restores(self, snapshot_id: str) -> Mapping[str, str]:
        """Return zone -> state of a snapshot's fast restores, those that are off left out."""
        filters = [{"Name": "snapshot-id", "Values": [snapshot_id]}]
        with errors.speaking("DescribeFastSnapshotRestores"):
            pages = self._client().get_paginator("describe_fast_snapshot_restores")
            return {
                str(entry["AvailabilityZone"]): str(entry["State"])
                for page in pages.paginate(Filters=filters)
                for entry in page["FastSnapshotRestores"]
                if entry["State"] in FAST
            }

    def end_fast_restores(self, snapshot_id: str) -> None:
        """Switch a snapshot's fast restores off: they are paid by the hour, used or not."""
        zones = sorted(self.fast_restores(snapshot_id))
        if not zones:
            return
        with errors.speaking("DisableFastSnapshotRestores"):
            self._client().disable_fast_snapshot_restores(
                AvailabilityZones=zones, SourceSnapshotIds=[snapshot_id]
            )

    def _client(self) -> Any:
        return self._session.client("ec2")


def _builder(entry: Json) -> Json:
    found = tags.read(entry.get("Tags"))
    volumes = {
        device["DeviceName"]: device.get("Ebs", {}).get("VolumeId", "")
        for device in entry.get("BlockDeviceMappings", ())
    }
    return {
        "id": entry["InstanceId"],
        "state": entry["State"]["Name"],
        "launched": entry["LaunchTime"].astimezone(UTC),
        "reason": entry.get("StateTransitionReason", ""),
        "tags": found,
        "volumes": volumes,
    }
