"""Make core/catalog/data/catalog.json.z: EC2's facts about the types of us-east-1.

The facts are those of DescribeInstanceTypes and DescribeInstanceTypeOfferings as moto carries them;
a type enters when it can be a node, is sold in the region and has a price in the price book.

    python tools/bundled_catalog.py
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import moto.ec2

from outrider.core.catalog import bundled, describe, price_book

REGION = "us-east-1"
SOURCE = Path(moto.ec2.__file__).parent / "resources"
TARGET = Path(bundled.__file__).parent / bundled.FILE
# Zone names map to zone ids account by account; this is the map of moto's account.
ZONES = [
    ["us-east-1a", "use1-az6"],
    ["us-east-1b", "use1-az1"],
    ["us-east-1c", "use1-az2"],
    ["us-east-1d", "use1-az4"],
    ["us-east-1e", "use1-az3"],
    ["us-east-1f", "use1-az5"],
]


def _read(name: str) -> Any:
    with gzip.open(SOURCE / name, "rt", encoding="utf-8") as file:
        return json.load(file)


def main() -> None:
    """Write the columns."""
    records = _read("instance_types.json.gz")
    sold = describe.zones(_read(f"instance_type_offerings/availability-zone/{REGION}.json.gz"))
    index = {zone: place for place, (zone, _) in enumerate(ZONES)}
    types = {}
    for name, record in records.items():
        facts = describe.facts(record)
        if facts is None or name not in sold or not price_book.price(name):
            continue
        places = sorted(index[zone] for zone in sold[name])
        types[name] = (facts, places, "spot" in record["SupportedUsageClasses"])
    TARGET.write_bytes(bundled.pack(types, ZONES))


if __name__ == "__main__":
    main()
