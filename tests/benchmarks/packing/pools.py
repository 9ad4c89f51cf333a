"""What EC2 sells, as the arrays of the packing kernel: moto's descriptions and a list of prices.

The pools are those that the published figures were measured on: on-demand, current generation,
x86_64, no bare metal; families c, m, r, g, p above generation 2 (`cmrgp`), or g and p only (`gpu`).
Allocatable is the capacity less 7.5 % of VM overhead, kube-reserved and the eviction threshold.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outrider.core.catalog.price_book import price

FAMILY = re.compile(r"^([a-z]+)(\d+)")
CATEGORIES = {"cmrgp": "cmrgp", "gpu": "gp"}


@dataclass(frozen=True, slots=True)
class Pool:
    """Types of one pool: names, what a node of each holds (milli-CPU, MiB, pods, GPUs), prices."""

    names: tuple[str, ...]
    allocatable: NDArray[np.float64]
    price: NDArray[np.float64]


def load(prices: Path | None, pool: str = "cmrgp") -> Pool:
    """Return the *pool* priced by the JSON file *prices* or by our price book, sorted by name."""
    packed = files("moto").joinpath("ec2/resources/instance_types.json.gz").read_bytes()
    described: dict[str, Any] = json.loads(gzip.decompress(packed))
    if prices is None:
        booked = {name: price(name) for name in described}
        price_of = {name: value for name, value in booked.items() if value is not None}
    else:
        price_of = json.loads(prices.read_text())
    kept = sorted(
        name
        for name, facts in described.items()
        if name in price_of and _belongs(name, facts, CATEGORIES[pool])
    )
    return Pool(
        names=tuple(kept),
        allocatable=np.array([_allocatable(described[name]) for name in kept]),
        price=np.array([price_of[name] for name in kept]),
    )


def _belongs(name: str, facts: dict[str, Any], categories: str) -> bool:
    """Return whether *name* is one of the types that the published figures were measured on."""
    family = FAMILY.match(name)
    return (
        family is not None
        and family[1][0] in categories
        and int(family[2]) > 2
        and family[1] not in {"g6f", "gr6f", "mac"}
        and not name.startswith(("g6f.", "gr6f."))
        and facts["CurrentGeneration"]
        and not facts["BareMetal"]
        and "x86_64" in facts["ProcessorInfo"]["SupportedArchitectures"]
    )


def _allocatable(facts: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return milli-CPU, MiB, pods and GPUs that a node leaves for pods."""
    vcpu = facts["VCpuInfo"]["DefaultVCpus"]
    network = facts["NetworkInfo"]
    card = network["NetworkCards"][network.get("DefaultNetworkCardIndex", 0)]
    pods = card["MaximumNetworkInterfaces"] * (network["Ipv4AddressesPerInterface"] - 1) + 2
    reserved = sum(
        band * max(0, min(vcpu, high) - low)
        for low, high, band in ((0, 1, 60), (1, 2, 10), (2, 4, 5), (4, 10**6, 2.5))
    )
    memory = facts["MemoryInfo"]["SizeInMiB"]
    room = memory - np.ceil(memory * 0.075) - (11 * pods + 255) - 100
    gpus = sum(gpu["Count"] for gpu in facts.get("GpuInfo", {}).get("Gpus", ()))
    return float(np.floor(vcpu * 1000 - reserved)), float(np.floor(room)), float(pods), float(gpus)
