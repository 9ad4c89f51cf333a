"""Capacity reservations and capacity blocks: moto has none.

A reservation is a number of instances of one type in one zone; instances that target it use it up,
and give it back when they end. A block has an end: EC2 warns 40 minutes before it and takes the
instances 30 minutes before (`Reclaim` does that on the clock). Offerings of blocks are always
there, at the on-demand price, starting at the next hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.market import ZONES, facts, price
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Call, Refused

_ARN = f"arn:aws:ec2:{REGION}:{ACCOUNT}:capacity-reservation"


@dataclass(slots=True)
class _Reservation:
    id: str
    kind: str
    instance_type: str
    zone: str
    count: int
    created: datetime
    start: datetime
    end: datetime | None
    match: str
    tags: dict[str, str]
    state: str = "active"
    users: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Reservations:
    """Every capacity reservation of the account."""

    endpoint: Endpoint
    clock: Clock
    publish: Callable[[str, str, dict[str, Any], list[str]], None]
    on_block_end: list[Callable[[str, list[str]], None]] = field(default_factory=list)
    _all: dict[str, _Reservation] = field(default_factory=dict)

    def install(self) -> None:
        """Answer the operations about reservations and blocks."""
        serve = self.endpoint.serve
        serve("ec2:CreateCapacityReservation", self._create)
        serve("ec2:DescribeCapacityReservations", self._describe)
        serve("ec2:ModifyCapacityReservation", self._modify)
        serve("ec2:CancelCapacityReservation", self._cancel)
        serve("ec2:DescribeCapacityBlockOfferings", self._offerings)
        serve("ec2:PurchaseCapacityBlock", self._purchase)

    def room(
        self, identity: str, instance_type: str, zone: str
    ) -> tuple[int, tuple[str, str] | None]:
        """Return what a reservation still holds for a type in a zone, and what is wrong with it."""
        reservation = self._all.get(identity)
        if reservation is None or reservation.state != "active":
            return 0, (
                "InvalidCapacityReservationId.NotFound",
                f"The capacity reservation '{identity}' does not exist",
            )
        if (reservation.instance_type, reservation.zone) != (instance_type, zone):
            return 0, (
                "InvalidParameterValue",
                f"The capacity reservation {identity} is not for {instance_type} in {zone}",
            )
        left = reservation.count - len(reservation.users)
        if left <= 0:
            return 0, (
                "ReservationCapacityExceeded",
                "The requested reservation does not have sufficient available capacity",
            )
        return left, None

    def use(self, identity: str, instance_id: str) -> None:
        """Count an instance against its reservation."""
        self._all[identity].users.add(instance_id)

    def release(self, instance: Any, state: str) -> None:
        """Give an ended instance's place back."""
        if state == "terminated":
            for reservation in self._all.values():
                reservation.users.discard(instance.id)

    def _add(self, reservation: _Reservation) -> dict[str, Any]:
        self._all[reservation.id] = reservation
        return self._shown(reservation)

    def _new_id(self) -> str:
        seed = f"{self.clock.now().isoformat()}/{len(self._all)}"
        return f"cr-{hashlib.sha256(seed.encode()).hexdigest()[:17]}"

    def _create(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        zone = wanted.get("AvailabilityZone") or _zone_of(wanted.get("AvailabilityZoneId"))
        if facts(wanted["InstanceType"]) is None:
            raise Refused("InvalidInstanceType", f"{wanted['InstanceType']} does not exist")
        if zone not in ZONES:
            raise Refused("InvalidParameterValue", f"{zone} is no Availability Zone here")
        end = wanted.get("EndDate")
        now = self.clock.now()
        return {
            "CapacityReservation": self._add(
                _Reservation(
                    id=self._new_id(),
                    kind="default",
                    instance_type=wanted["InstanceType"],
                    zone=zone,
                    count=int(wanted["InstanceCount"]),
                    created=now,
                    start=now,
                    end=end if isinstance(end, datetime) else None,
                    match=wanted.get("InstanceMatchCriteria") or "open",
                    tags=_tags(wanted),
                )
            )
        }

    def _describe(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        ids = wanted.get("CapacityReservationIds") or list(self._all)
        for identity in ids:
            if identity not in self._all:
                raise Refused(
                    "InvalidCapacityReservationId.NotFound",
                    f"The capacity reservation '{identity}' does not exist",
                )
        filters = {one["Name"]: set(one["Values"]) for one in wanted.get("Filters", [])}
        chosen = [self._all[identity] for identity in ids if _passes(self._all[identity], filters)]
        return {"CapacityReservations": [self._shown(one) for one in chosen]}

    def _named(self, wanted: dict[str, Any]) -> _Reservation:
        found = self._all.get(wanted["CapacityReservationId"])
        if found is None:
            raise Refused("InvalidCapacityReservationId.NotFound", "no such capacity reservation")
        return found

    def _modify(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        reservation = self._named(wanted)
        if wanted.get("InstanceCount") is not None:
            reservation.count = int(wanted["InstanceCount"])
        if isinstance(wanted.get("EndDate"), datetime):
            reservation.end = wanted["EndDate"]
        return {"Return": True}

    def _cancel(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        self._named(wanted).state = "cancelled"
        return {"Return": True}

    def _offerings(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        name, count = wanted.get("InstanceType"), int(wanted.get("InstanceCount") or 1)
        hours = int(wanted.get("CapacityDurationHours") or 24)
        hourly = price(str(name)) if name else None
        if hourly is None:
            return {"CapacityBlockOfferings": []}
        start = (self.clock.now() + timedelta(hours=1)).replace(minute=30, second=0, microsecond=0)
        return {
            "CapacityBlockOfferings": [
                {
                    "CapacityBlockOfferingId": f"cbo-{name}-{zone}-{count}-{hours}",
                    "InstanceType": name,
                    "AvailabilityZone": zone,
                    "InstanceCount": count,
                    "StartDate": start,
                    "EndDate": start + timedelta(hours=hours),
                    "CapacityBlockDurationHours": hours,
                    "UpfrontFee": f"{hourly * count * hours:.2f}",
                    "CurrencyCode": "USD",
                    "Tenancy": "default",
                }
                for zone in ZONES
            ]
        }

    def _purchase(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        parts = str(wanted["CapacityBlockOfferingId"]).removeprefix("cbo-").rsplit("-", 5)
        if len(parts) != 6:
            raise Refused("InvalidParameterValue", "no such capacity block offering")
        name, zone = parts[0], "-".join(parts[1:4])
        count, hours = int(parts[4]), int(parts[5])
        now = self.clock.now()
        reservation = _Reservation(
            id=self._new_id(),
            kind="capacity-block",
            instance_type=name,
            zone=zone,
            count=count,
            created=now,
            start=now,
            end=now + timedelta(hours=hours),
            match="targeted",
            tags=_tags(wanted),
        )
        shown = self._add(reservation)
        self.clock.call_later(hours * 3600 - 40 * 60, lambda: self._block_ends(reservation))
        return {"CapacityReservation": shown}

    def _block_ends(self, reservation: _Reservation) -> None:
        """Warn of a block's end, and take its instances ten minutes later."""
        end = reservation.end or self.clock.now()
        self.publish(
            "aws.ec2",
            "Capacity Block Expiration Warning",
            {
                "capacity-reservation-id": reservation.id,
                "end-date": end.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            },
            [f"{_ARN}/{reservation.id}"],
        )

        def take() -> None:
            reservation.state = "expired"
            for tell in self.on_block_end:
                tell(reservation.id, sorted(reservation.users))

        self.clock.call_later(600.0, take)

    def _shown(self, one: _Reservation) -> dict[str, Any]:
        return {
            "CapacityReservationId": one.id,
            "OwnerId": ACCOUNT,
            "CapacityReservationArn": f"{_ARN}/{one.id}",
            "AvailabilityZone": one.zone,
            "AvailabilityZoneId": ZONES.get(one.zone, ""),
            "InstanceType": one.instance_type,
            "InstancePlatform": "Linux/UNIX",
            "Tenancy": "default",
            "TotalInstanceCount": one.count,
            "AvailableInstanceCount": max(one.count - len(one.users), 0),
            "EbsOptimized": True,
            "EphemeralStorage": False,
            "State": one.state,
            "StartDate": one.start,
            "EndDate": one.end,
            "EndDateType": "limited" if one.end else "unlimited",
            "InstanceMatchCriteria": one.match,
            "CreateDate": one.created,
            "ReservationType": one.kind,
            "Tags": [{"Key": key, "Value": value} for key, value in one.tags.items()],
        }


def _zone_of(zone_id: Any) -> str:
    return next((zone for zone, identity in ZONES.items() if identity == zone_id), "")


def _tags(wanted: dict[str, Any]) -> dict[str, str]:
    return {
        tag["Key"]: tag.get("Value", "")
        for one in wanted.get("TagSpecifications") or []
        for tag in one.get("Tags", [])
    }


def _passes(reservation: _Reservation, filters: dict[str, set[str]]) -> bool:
    values = {
        "instance-type": reservation.instance_type,
        "availability-zone": reservation.zone,
        "state": reservation.state,
        "owner-id": ACCOUNT,
        "instance-match-criteria": reservation.match,
        "reservation-type": reservation.kind,
    }
    for name, accepted in filters.items():
        if name.startswith("tag:"):
            value = reservation.tags.get(name.removeprefix("tag:"))
        elif name == "tag-key":
            value = next((key for key in reservation.tags if key in accepted), None)
        else:
            value = values.get(name)
        if value not in accepted and "*" not in accepted:
            return False
    return True
