"""What EC2 sells here: types, zones, prices, and how much of each is left.

Types and where they are offered are moto's; on-demand prices come from the bundled price book, Spot
prices from a fixed share of them for each type and zone with a slow daily swing, so that the same
moment always has the same price. Capacity is unlimited but for what a fault takes away. Answers the
pricing, Spot history, placement score and instance type APIs. Refuses to know who buys.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from outrider.core.catalog.price_book import price as listed_price
from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.region import REGION
from outrider.local.wire import Answer, Call, Refused

# As moto has them, and as an account may: the letters are shuffled against the ids.
ZONES = {"us-east-1a": "use1-az6", "us-east-1b": "use1-az1", "us-east-1c": "use1-az2"}
UNLIMITED = 1_000_000
HISTORY_STEP = timedelta(hours=6)


def facts(instance_type: str) -> Mapping[str, Any] | None:
    """Return what DescribeInstanceTypes says of a type, or None."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    found: Mapping[str, Any] | None = INSTANCE_TYPES.get(instance_type)
    return found


@lru_cache(maxsize=1)
def _offered() -> frozenset[tuple[str, str]]:
    from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS

    rows = INSTANCE_TYPE_OFFERINGS["availability-zone"][REGION]
    return frozenset((row["InstanceType"], row["Location"]) for row in rows)


def offered(instance_type: str, zone: str) -> bool:
    """Return whether a type is offered in a zone."""
    return (instance_type, zone) in _offered()


def price(instance_type: str) -> float | None:
    """Return the on-demand price in USD per hour: the book's, else a rule of thumb from the
    size.
    """
    known = listed_price(instance_type)
    if known is not None:
        return known
    of_type = facts(instance_type)
    if of_type is None:
        return None
    # Where the book is silent: general-purpose cores and memory, and a middling data-centre GPU.
    cores = float(of_type["VCpuInfo"]["DefaultVCpus"])
    memory = float(of_type["MemoryInfo"]["SizeInMiB"]) / 1024
    gpus = sum(float(gpu["Count"]) for gpu in of_type.get("GpuInfo", {}).get("Gpus", []))
    return round(0.035 * cores + 0.004 * memory + 1.5 * gpus, 4)


def _share(*words: str) -> float:
    """Return a number in [0, 1) that is always the same for the same words."""
    digest = hashlib.sha256("/".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def spot_price(instance_type: str, zone: str, moment: datetime) -> float | None:
    """Return the Spot price at a moment: 30 to 45 % of on-demand, swinging by a tenth over
    a day.
    """
    base = price(instance_type)
    if base is None:
        return None
    level = 0.30 + 0.15 * _share(instance_type, zone)
    steps = moment.timestamp() // HISTORY_STEP.total_seconds()
    swing = math.sin(2 * math.pi * (steps / 4 + _share(zone, instance_type)))
    return round(base * level * (1 + 0.1 * swing), 4)


@dataclass(slots=True)
class Market:
    """Prices and capacity at this moment."""

    endpoint: Endpoint
    clock: Clock
    scarce: list[Mapping[str, Any]] = field(default_factory=list)
    _left: dict[int, int] = field(default_factory=dict)
    _described: dict[tuple[str, bytes], Answer] = field(default_factory=dict)

    def install(self) -> None:
        """Answer the APIs about prices and types."""
        self.endpoint.serve("pricing:GetProducts", self._products)
        self.endpoint.serve("ec2:DescribeSpotPriceHistory", self._history)
        self.endpoint.serve("ec2:GetSpotPlacementScores", self._scores)
        # moto takes seconds for all types; they never change while the cloud runs.
        self.endpoint.remember("ec2:DescribeInstanceTypes")
        self.endpoint.remember("ec2:DescribeInstanceTypeOfferings")

    def set_faults(self, faults: Mapping[str, Any]) -> None:
        """Take the capacity that the faults take."""
        self.scarce = list(faults.get("insufficientCapacity", []))
        self._left = {
            index: int(rule.get("available", 0)) for index, rule in enumerate(self.scarce)
        }

    def _rules(self, instance_type: str, zone: str, capacity_type: str) -> Iterator[int]:
        wanted = {"instanceType": instance_type, "zone": zone, "capacityType": capacity_type}
        for index, rule in enumerate(self.scarce):
            if all(rule.get(key, "*") in ("*", value) for key, value in wanted.items()):
                yield index

    def left(self, instance_type: str, zone: str, capacity_type: str) -> int:
        """Return how many instances a pool still has."""
        rules = self._rules(instance_type, zone, capacity_type)
        return min((self._left[index] for index in rules), default=UNLIMITED)

    def take(self, instance_type: str, zone: str, capacity_type: str, count: int) -> None:
        """Take capacity from a pool."""
        for index in self._rules(instance_type, zone, capacity_type):
            self._left[index] -= count

    def _products(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        from moto.ec2.models.instance_types import INSTANCE_TYPES

        chosen = {one["Field"]: one["Value"] for one in wanted.get("Filters", [])}
        names = [chosen["instanceType"]] if "instanceType" in chosen else sorted(INSTANCE_TYPES)
        if chosen.get("regionCode", REGION) != REGION:
            names = []
        start = int(wanted.get("NextToken") or 0)
        size = int(wanted.get("MaxResults") or 100)
        page = names[start : start + size]
        answer: dict[str, Any] = {
            "FormatVersion": "aws_v1",
            "PriceList": [product for name in page if (product := _product(name))],
        }
        if start + size < len(names):
            answer["NextToken"] = str(start + size)
        return answer

    def _history(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        from moto.ec2.models.instance_types import INSTANCE_TYPES

        now = self.clock.now()
        start = min(_aware(wanted.get("StartTime"), now), now)
        end = min(_aware(wanted.get("EndTime"), now), now)
        filters = {one["Name"]: one["Values"] for one in wanted.get("Filters", [])}
        types = wanted.get("InstanceTypes") or filters.get("instance-type") or INSTANCE_TYPES
        zone = wanted.get("AvailabilityZone")
        zones = [zone] if zone else filters.get("availability-zone", list(ZONES))
        products = wanted.get("ProductDescriptions") or filters.get(
            "product-description", ["Linux/UNIX"]
        )
        rows = [
            {
                "InstanceType": name,
                "AvailabilityZone": place,
                "AvailabilityZoneId": ZONES.get(place),
                "ProductDescription": product,
                "SpotPrice": f"{spot_price(name, place, moment):.6f}",
                "Timestamp": moment,
            }
            for name in types
            for place in zones
            if offered(name, place)
            for product in products
            if product.startswith("Linux")
            for moment in _changes(start, end)
        ]
        first = int(wanted.get("NextToken") or 0)
        size = int(wanted.get("MaxResults") or 1000)
        following = str(first + size) if first + size < len(rows) else ""
        return {"SpotPriceHistory": rows[first : first + size], "NextToken": following}

    def _scores(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        types = wanted.get("InstanceTypes") or []
        by_zone: dict[str, int] = {}
        for zone, zone_id in ZONES.items():
            available = [name for name in types if self.left(name, zone, "spot") > 0]
            # With fewer than three types EC2 always answers low.
            by_zone[zone_id] = max(1, min(9, 3 * len(available)))
        scores: list[dict[str, Any]] = [{"Region": REGION, "Score": max(by_zone.values())}]
        if wanted.get("SingleAvailabilityZone"):
            scores = [
                {"Region": REGION, "AvailabilityZoneId": zone_id, "Score": score}
                for zone_id, score in by_zone.items()
            ]
        if not types and not wanted.get("InstanceRequirementsWithMetadata"):
            raise Refused("MissingParameter", "InstanceTypes or InstanceRequirements is needed")
        return {"SpotPlacementScores": scores}


def _aware(moment: Any, otherwise: datetime) -> datetime:
    if not isinstance(moment, datetime):
        return otherwise
    return moment if moment.tzinfo else moment.replace(tzinfo=otherwise.tzinfo)


def _changes(start: datetime, end: datetime) -> list[datetime]:
    """Return the moments of price changes in a span, with the last one before it, newest first."""
    step = HISTORY_STEP.total_seconds()
    moment = datetime.fromtimestamp(end.timestamp() // step * step, tz=end.tzinfo)
    moments = [moment]
    while moment > start and len(moments) < 400:
        moment -= HISTORY_STEP
        moments.append(moment)
    return moments


def _product(instance_type: str) -> str | None:
    """Return a product of the Price List API, as text, the way GetProducts gives it."""
    hourly, of_type = price(instance_type), facts(instance_type)
    if hourly is None or of_type is None:
        return None
    sku = hashlib.sha256(instance_type.encode()).hexdigest()[:16].upper()
    term = f"{sku}.JRTCKXETXF"
    rate = f"{term}.6YS6EN2CT7"
    return json.dumps(
        {
            "product": {
                "productFamily": "Compute Instance",
                "sku": sku,
                "attributes": {
                    "instanceType": instance_type,
                    "regionCode": REGION,
                    "location": "US East (N. Virginia)",
                    "operatingSystem": "Linux",
                    "tenancy": "Shared",
                    "preInstalledSw": "NA",
                    "capacitystatus": "Used",
                    "marketoption": "OnDemand",
                    "operation": "RunInstances",
                    "servicecode": "AmazonEC2",
                    "vcpu": str(of_type["VCpuInfo"]["DefaultVCpus"]),
                    "memory": f"{of_type['MemoryInfo']['SizeInMiB'] / 1024:g} GiB",
                },
            },
            "serviceCode": "AmazonEC2",
            "terms": {
                "OnDemand": {
                    term: {
                        "sku": sku,
                        "priceDimensions": {
                            rate: {
                                "unit": "Hrs",
                                "rateCode": rate,
                                "pricePerUnit": {"USD": f"{hourly:.10f}"},
                            }
                        },
                        "termAttributes": {},
                    }
                }
            },
        }
    )
