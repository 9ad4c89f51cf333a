"""EC2 instances of ours: read, terminated, tagged, and their health.

DescribeInstances is eventually consistent and refuses a list for one unknown id, so ids are asked
by filter: unknown ones are simply absent. TerminateInstances refuses a whole list for one bad id
too; then each is tried alone. Both are repeatable. Refuses to know which instance deserves what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.apis import labels
from outrider.core.launch import tags
from outrider.core.records import Instance

Json = Mapping[str, Any]
AT_ONCE = 200

LIVE = ("pending", "running", "shutting-down", "stopping", "stopped")
EVENTS = (
    "instance-reboot",
    "system-reboot",
    "system-maintenance",
    "instance-retirement",
    "instance-stop",
)


class Instances:
    """The instances that carry the *owner* tags."""

    def __init__(self, session: Session, owner: Mapping[str, str]) -> None:
        self._session = session
        self._owner = owner

    def find(
        self, ids: Iterable[str] = (), wanted: Mapping[str, str] | None = None
    ) -> tuple[Instance, ...]:
        """Return instances by id, or ours with the *wanted* tags; ended ones are left out."""
        named = sorted(set(ids))
        if named:
            filters: list[list[Json]] = [
                [{"Name": "instance-id", "Values": list(part)}] for part in _parts(named, AT_ONCE)
            ]
        else:
            both = {**self._owner, **(wanted or {})}
            filters = [[_tag(key, value) for key, value in sorted(both.items())]]
        alive = {"Name": "instance-state-name", "Values": list(LIVE)}
        return tuple(
            _instance(entry) for asked in filters for entry in self._describe([*asked, alive])
        )

    def terminate(self, ids: Sequence[str]) -> None:
        """Terminate instances; an unknown id does not keep the others alive."""
        client = self._session.client("ec2")
        for part in _parts(sorted(set(ids)), AT_ONCE):
            try:
                client.terminate_instances(InstanceIds=list(part))
            except ClientError as error:
                if errors.code_of(error) not in errors.NOT_FOUND:
                    raise errors.translated(error, "TerminateInstances") from error
                self._each(part)

    def name(self, instance_id: str, claim: str, cluster: str) -> None:
        """Tag an instance with its NodeClaim, once it is known which one it serves."""
        with errors.speaking("CreateTags"):
            self._session.client("ec2").create_tags(
                Resources=[instance_id],
                Tags=tags.listed(
                    {labels.NODECLAIM_TAG: claim, tags.NAME: claim, tags.EKS_CLUSTER: cluster}
                ),
            )

    def adopt(self, instance_id: str) -> None:
        """Tag an instance of this cluster as this stack's."""
        with errors.speaking("CreateTags"):
            self._session.client("ec2").create_tags(
                Resources=[instance_id],
                Tags=tags.listed({labels.MANAGED_BY: self._owner[labels.MANAGED_BY]}),
            )

    def health(self) -> tuple[Json, ...]:
        """Return impaired statuses and scheduled events of our instances."""
        ids = {instance.id for instance in self.find()}
        if not ids:
            return ()
        result: list[Json] = []
        with errors.speaking("DescribeInstanceStatus"):
            pages = self._session.client("ec2").get_paginator("describe_instance_status")
            for part in _parts(sorted(ids), 100):
                for page in pages.paginate(InstanceIds=list(part)):
                    result += [entry for entry in page["InstanceStatuses"] if _ailing(entry)]
        return tuple(result)

    def _each(self, ids: Iterable[str]) -> None:
        client = self._session.client("ec2")
        for instance_id in ids:
            try:
                client.terminate_instances(InstanceIds=[instance_id])
            except ClientError as error:
                if errors.code_of(error) not in errors.NOT_FOUND:
                    raise errors.translated(error, "TerminateInstances") from error

    def _describe(self, filters: list[Json]) -> Iterator[Json]:
        with errors.speaking("DescribeInstances"):
            pages = self._session.client("ec2").get_paginator("describe_instances")
            for page in pages.paginate(Filters=filters, PaginationConfig={"PageSize": 1000}):
                for reservation in page["Reservations"]:
                    yield from reservation["Instances"]


def _instance(entry: Json) -> Instance:
    reservation = entry.get("CapacityReservationId")
    spot = entry.get("InstanceLifecycle") == "spot"
    bought = labels.SPOT if spot else labels.RESERVED if reservation else labels.ON_DEMAND
    return Instance(
        id=str(entry["InstanceId"]),
        instance_type=str(entry["InstanceType"]),
        zone=str(entry.get("Placement", {}).get("AvailabilityZone", "")),
        capacity_type=bought,
        state=str(entry["State"]["Name"]),
        launched=entry["LaunchTime"].astimezone(UTC),
        private_dns=str(entry.get("PrivateDnsName", "")),
        image_id=str(entry.get("ImageId", "")),
        subnet_id=str(entry.get("SubnetId", "")),
        reservation_id=reservation or None,
        tags=tags.read(entry.get("Tags")),
    )


def _ailing(entry: Json) -> bool:
    checks = (entry.get("InstanceStatus", {}), entry.get("SystemStatus", {}))
    impaired = any(check.get("Status") == "impaired" for check in checks)
    return impaired or any(event.get("Code") in EVENTS for event in entry.get("Events", ()))


def _tag(key: str, value: str) -> Json:
    return {"Name": f"tag:{key}", "Values": [value]}


def _parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
