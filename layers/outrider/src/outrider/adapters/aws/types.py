"""Instance types and where they are sold, as EC2 lists them, and reservations that a class selects.

DescribeInstanceTypeOfferings says what is sold where; `core.catalog` says what EC2's records mean.
Refuses to know prices (`adapters.aws.prices`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.apis import labels
from outrider.core.catalog import describe
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.instancetype import Ec2Facts, Offering

Json = Mapping[str, Any]
AT_ONCE = 100


def facts(session: Session, names: Iterable[str]) -> dict[str, Ec2Facts]:
    """Return the facts of the types called *names*, those left out that cannot be a node.

    What EC2 states of a type does not change, so the bundled facts answer for the types that they
    know, and only newer ones are asked for.
    """
    known = {kind.name: kind.ec2 for kind in bundled().instance_types if kind.ec2 is not None}
    found = {name: known[name] for name in names if name in known}
    unknown = sorted(set(names) - set(known))
    client = session.client("ec2")
    for start in range(0, len(unknown), AT_ONCE):
        with errors.speaking("DescribeInstanceTypes"):
            page = client.describe_instance_types(InstanceTypes=unknown[start : start + AT_ONCE])
        for record in page["InstanceTypes"]:
            read = describe.facts(record)
            if read is not None:
                found[str(record["InstanceType"])] = read
    return found


def sold_in(session: Session, zones: Collection[str]) -> dict[str, set[str]]:
    """Return type -> the *zones* that sell it; no zones named are all of the region."""
    filters = [{"Name": "location", "Values": sorted(zones)}] if zones else []
    with errors.speaking("DescribeInstanceTypeOfferings"):
        pages = session.client("ec2").get_paginator("describe_instance_type_offerings")
        return describe.zones(
            entry
            for page in pages.paginate(LocationType="availability-zone", Filters=filters)
            for entry in page["InstanceTypeOfferings"]
        )


def zone_ids(session: Session) -> dict[str, str]:
    """Return zone name -> zone id in this account."""
    with errors.speaking("DescribeAvailabilityZones"):
        answer = session.client("ec2").describe_availability_zones()
    return {entry["ZoneName"]: entry["ZoneId"] for entry in answer["AvailabilityZones"]}


def reservations(session: Session, filters: Iterable[list[Json]]) -> tuple[Json, ...]:
    """Return active capacity reservations that match any of *filters*."""
    found: dict[str, Json] = {}
    for asked in filters:
        active = {"Name": "state", "Values": ["active"]}
        with errors.speaking("DescribeCapacityReservations"):
            pages = session.client("ec2").get_paginator("describe_capacity_reservations")
            for page in pages.paginate(Filters=[*asked, active]):
                for entry in page["CapacityReservations"]:
                    found[str(entry["CapacityReservationId"])] = entry
    return tuple(found[key] for key in sorted(found))


def reserved_offering(entry: Json, zone_ids_by_name: Mapping[str, str]) -> Offering:
    """Return the offering that a capacity reservation is."""
    zone = str(entry.get("AvailabilityZone", ""))
    free = int(entry.get("AvailableInstanceCount", 0))
    ends = entry.get("EndDate")
    return Offering(
        zone=zone,
        capacity_type=labels.RESERVED,
        price_per_hour=0.0,
        available=free > 0,
        zone_id=zone_ids_by_name.get(zone, ""),
        reservation_id=str(entry["CapacityReservationId"]),
        reservation_capacity=free,
        reservation_ends=ends.astimezone(UTC) if isinstance(ends, datetime) else None,
    )
