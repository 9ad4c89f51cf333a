"""What instances cost: on-demand from the Pricing API or the bundled book, Spot from its history.

The Pricing API lives in few regions and may be out of reach: one call with a 2 s limit, and at the
first failure the price book answers for everything. Spot prices are the last change of each (type,
zone). Refuses to know which price matters.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.core.catalog import price_book

PRODUCT = "Linux/UNIX"
MOST_PAGES = 40

log = logging.getLogger(__name__)


def on_demand(session: Session, types: Collection[str]) -> dict[str, float]:
    """Return type -> USD per hour for *types*: the list of this region, else the price book."""
    listed = _listed(session)
    found: dict[str, float] = {}
    for name in types:
        price = listed.get(name) or price_book.price(name)
        if price:
            found[name] = price
    return found


def spot(session: Session, types: Collection[str], now: datetime) -> dict[tuple[str, str], float]:
    """Return (type, zone) -> the Spot price now, of *types*."""
    latest: dict[tuple[str, str], tuple[datetime, float]] = {}
    wanted = frozenset(types)
    with errors.speaking("DescribeSpotPriceHistory"):
        pages = session.client("ec2").get_paginator("describe_spot_price_history")
        for page in pages.paginate(
            ProductDescriptions=[PRODUCT], StartTime=now, PaginationConfig={"PageSize": 1000}
        ):
            for entry in page["SpotPriceHistory"]:
                name = str(entry["InstanceType"])
                if name not in wanted:
                    continue
                key = (name, str(entry["AvailabilityZone"]))
                seen = (entry["Timestamp"], float(entry["SpotPrice"]))
                latest[key] = max(latest.get(key, seen), seen)
    return {key: price for key, (_, price) in latest.items()}


def _listed(session: Session) -> dict[str, float]:
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in (
            ("regionCode", session.region),
            ("operatingSystem", "Linux"),
            ("tenancy", "Shared"),
            ("preInstalledSw", "NA"),
            ("capacitystatus", "Used"),
            ("licenseModel", "No License required"),
        )
    ]
    found: dict[str, float] = {}
    token = ""
    try:
        client = session.pricing()
        for _ in range(MOST_PAGES):
            more = {"NextToken": token} if token else {}
            page = client.get_products(ServiceCode="AmazonEC2", Filters=filters, **more)
            found.update(filter(None, (_product(text) for text in page["PriceList"])))
            token = str(page.get("NextToken") or "")
            if not token:
                break
    except (BotoCoreError, ClientError) as error:
        log.info("the Pricing API gave %d prices, the price book the rest: %s", len(found), error)
    return found


def _product(text: str | Mapping[str, Any]) -> tuple[str, float] | None:
    product = json.loads(text) if isinstance(text, str) else text
    name = product.get("product", {}).get("attributes", {}).get("instanceType")
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            # One currency a partition, the same for Spot: dollars, or yuan in China.
            amounts = dimension.get("pricePerUnit", {})
            price = float(amounts.get("USD") or amounts.get("CNY") or 0)
            if name and price > 0 and dimension.get("unit", "Hrs") == "Hrs":
                return str(name), price
    return None
