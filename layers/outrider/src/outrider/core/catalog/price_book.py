"""On-demand list prices as facts: a rate per family, exceptions, accelerated types one by one.

Within a family EC2 prices are nearly linear in size, so a book of some 180 rates and 150 exceptions
says what the price list says within 1 % (a test holds it to that where the list is at hand). It is
the answer of last resort: the Pricing API lives in few regions, may be out of reach from a VPC, and
a plan made offline needs prices too. Prices are USD per hour, Linux, shared tenancy, us-east-1; the
order of prices, which is all that a choice needs, hardly differs elsewhere.

The book is made by tools/price_book.py. Refuses to know Spot prices (`spot_estimate` states a
rule).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_WORDS = {"nano": 0.25, "micro": 0.5, "small": 1.0, "medium": 2.0, "large": 4.0, "xlarge": 8.0}
_MULTIPLE = re.compile(r"^(?:metal-)?(\d+)xl(?:arge)?$")

SPOT_SHARE = 0.35
SPOT_SHARE_ACCELERATED = 0.45


@cache
def book() -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return the rates by family (USD per hour and size unit) and the exceptions by type."""
    text = resources.files(__package__).joinpath("data/price_book.json").read_text("utf-8")
    data = json.loads(text)
    return data["families"], data["exceptions"]


def size_units(size: str) -> float | None:
    """Return how many units a *size* counts (large is 4, 2xlarge 16); None for a bare `metal`."""
    if size in _WORDS:
        return _WORDS[size]
    multiple = _MULTIPLE.match(size)
    return 8.0 * int(multiple.group(1)) if multiple else None


def price(instance_type: str) -> float | None:
    """Return the on-demand list price of *instance_type*; None where the book has none."""
    rates, exceptions = book()
    known = exceptions.get(instance_type)
    if known is not None:
        return known
    family, _, size = instance_type.partition(".")
    rate, units = rates.get(family), size_units(size)
    return None if rate is None or units is None else round(rate * units, 5)


def spot_estimate(on_demand: float, *, accelerated: bool) -> float:
    """Return a Spot price for planning offline, where no market can be asked.

    The rule: 35 % of the on-demand price, 45 % for accelerated types, the same in every zone; about
    the middle of what the market has asked over the last years. Live catalogues carry the market's.
    """
    return round(on_demand * (SPOT_SHARE_ACCELERATED if accelerated else SPOT_SHARE), 5)
