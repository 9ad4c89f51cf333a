"""The catalogue that ships with the package, for planning without an account.

Some 1,300 types of us-east-1 with the facts that EC2 states about them, on-demand prices by the
price book and Spot prices by its rule. The facts lie in compressed columns, made by
tools/bundled_catalog.py from DescribeInstanceTypes as moto carries it; loading takes a few tens of
milliseconds and happens once a process. Labels are computed, not stored (`core.catalog.describe`).

Refuses to know the market: live prices, AMIs and zones come with the catalogue function's
catalogue.
"""

from __future__ import annotations

import zlib
from functools import cache
from importlib import resources
from typing import Any

import orjson

from outrider.apis import labels
from outrider.core.catalog import price_book
from outrider.core.catalog.describe import card, type_requirements
from outrider.core.catalog.instancetype import Catalog, Ec2Facts, Gpu, InstanceType, Offering

FILE = "data/catalog.json.z"
VERSION = "bundled"


@cache
def bundled() -> Catalog:
    """Return the bundled catalogue."""
    packed = resources.files(__package__).joinpath(FILE).read_bytes()
    return unpack(orjson.loads(zlib.decompress(packed)))


def pack(types: dict[str, tuple[Ec2Facts, list[int], bool]], zones: list[list[str]]) -> bytes:
    """Return columns for *types* (facts, indices of *zones*, whether Spot is sold), compressed."""
    rows: list[list[Any]] = []
    for name, (ec2, sold, spot) in sorted(types.items()):
        cards = [[entry.enis, int(entry.efa)] for entry in ec2.network_cards]
        models = [
            [g.name, g.manufacturer, g.count, g.logical_count, g.partition_size, g.memory_mib]
            for g in ec2.gpus
        ]
        row = [name, cards, models, sum(1 << index for index in sold), int(spot)]
        rows.append([*row, *(getattr(ec2, column) for column in _COLUMNS)])
    columns = [list(column) for column in zip(*rows, strict=True)]
    return zlib.compress(orjson.dumps({"zones": zones, "columns": columns}), 9)


def unpack(document: Any) -> Catalog:
    """Return the catalogue of unpacked columns."""
    zones = document["zones"]
    offered: dict[tuple[int, int], tuple[tuple[str, str, str], ...]] = {}
    kinds = []
    for name, cards, models, sold, spot, *values in zip(*document["columns"], strict=True):
        facts = dict(zip(_COLUMNS, values, strict=True))
        ec2 = Ec2Facts(
            network_cards=tuple(card(enis, efa=bool(efa)) for enis, efa in cards),
            gpus=tuple(Gpu(*model) for model in models),
            **facts,
        )
        if (sold, spot) not in offered:
            offered[sold, spot] = tuple(_ways(zones, sold, spot))
        kinds.append(_kind(name, ec2, offered[sold, spot]))
    return Catalog(tuple(kinds), version=VERSION)


_COLUMNS = (
    "vcpu",
    "memory_mib",
    "ipv4_per_eni",
    "neuron_devices",
    "neuron_cores",
    "gaudi_devices",
    "nvme_gb",
    "ebs_max_volumes",
    "bare_metal",
    "arch",
    "max_efa",
    "accelerator",
    "cpu_manufacturer",
    "clock_mhz",
    "hypervisor",
    "network_mbps",
    "ebs_mbps",
    "encryption_in_transit",
)


def _ways(zones: list[list[str]], sold: int, spot: int) -> list[tuple[str, str, str]]:
    kinds = (labels.ON_DEMAND, labels.SPOT) if spot else (labels.ON_DEMAND,)
    return [
        (zone, zone_id, kind)
        for index, (zone, zone_id) in enumerate(zones)
        if sold >> index & 1
        for kind in kinds
    ]


def _kind(name: str, ec2: Ec2Facts, ways: tuple[tuple[str, str, str], ...]) -> InstanceType:
    on_demand = price_book.price(name) or 0.0
    accelerated = bool(ec2.gpus or ec2.neuron_devices or ec2.gaudi_devices)
    prices = {
        labels.ON_DEMAND: on_demand,
        labels.SPOT: price_book.spot_estimate(on_demand, accelerated=accelerated),
    }
    return InstanceType(
        name=name,
        requirements=type_requirements(name, ec2),
        capacity={},
        overhead={},
        offerings=tuple(
            Offering(zone, kind, prices[kind], on_demand > 0, zone_id)
            for zone, zone_id, kind in ways
        ),
        ec2=ec2,
    )
