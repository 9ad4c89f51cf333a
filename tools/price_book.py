"""Make core/catalog/data/price_book.json from a price list: `{instance type: USD per hour}`.

A family gets the rate that most of its sizes share; whoever is more than half a per cent off it,
and every type of an accelerated family, is an exception. Facts only: no list is kept in this
repository.

    python tools/price_book.py LIST.json
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from outrider.core.catalog.price_book import size_units

TOLERANCE = 0.005
ACCELERATED = re.compile(r"(dl|f|g|gr|inf|p|trn|vt)\d")
TARGET = (
    Path(__file__).parents[1] / "layers/outrider/src/outrider/core/catalog/data/price_book.json"
)


def book(prices: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return the rates and exceptions that say *prices*."""
    families: dict[str, dict[str, float]] = defaultdict(dict)
    for name, price in prices.items():
        family, _, size = name.partition(".")
        families[family][size] = price
    rates: dict[str, float] = {}
    exceptions: dict[str, float] = {}
    for family, sizes in sorted(families.items()):
        rate = None if _accelerated(family) else _rate(sizes)
        kept = 0
        for size, price in sizes.items():
            units = size_units(size)
            if rate is None or units is None or abs(rate * units - price) > TOLERANCE * price:
                exceptions[f"{family}.{size}"] = price
            else:
                kept += 1
        if rate is not None and kept:
            rates[family] = rate
    return {"families": rates, "exceptions": dict(sorted(exceptions.items()))}


def _accelerated(family: str) -> bool:
    return ACCELERATED.match(family) is not None


def _rate(sizes: dict[str, float]) -> float | None:
    rates = [price / units for size, price in sizes.items() if (units := size_units(size))]
    if not rates:
        return None
    best = max(rates, key=lambda rate: sum(abs(other / rate - 1) < TOLERANCE for other in rates))
    return float(f"{best:.6g}")


def main() -> None:
    """Write the book."""
    prices = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(book(prices), indent=0, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
