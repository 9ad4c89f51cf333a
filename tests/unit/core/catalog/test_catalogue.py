"""The catalogue's shape, the bundled one, and its prices."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outrider.core.catalog import codec, describe, price_book
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.instancetype import Catalog
from outrider.errors import InvalidManifest

PRICES = Path(__file__).parents[5] / "shared" / "data" / "ondemand_prices.json"
ENTRY: dict[str, Any] = {
    "name": "g6.xlarge",
    "capacity": {"cpu": "4", "memory": "15155Mi", "nvidia.com/gpu": "1"},
    "overhead": {"kubeReserved": {"cpu": "80m"}, "evictionThreshold": {"memory": "100Mi"}},
    "offerings": [{"zone": "us-east-1a", "capacityType": "spot", "pricePerHour": 0.32}],
}


def _load(**changes: Any) -> Catalog:
    return codec.load(json.dumps({"instanceTypes": [{**ENTRY, **changes}]}))


def test_the_bundled_catalogue_comes_back() -> None:
    """What is dumped is loaded the same, offerings, facts and labels."""
    catalog = replace(bundled(), as_of=datetime(2026, 3, 2, tzinfo=UTC))
    assert codec.load(codec.dump(catalog)) == catalog
    assert codec.restore(codec.dump(catalog)) == catalog


def test_what_is_implied_is_filled_in() -> None:
    """amd64, linux, the type's own label and 110 pods need not be written."""
    kind = _load().instance_types[0]
    assert kind.requirements.labels() == {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "g6.xlarge",
    }
    assert kind.capacity["pods"] == 110
    assert kind.overhead == {"cpu": 80, "memory": 100 * 1024**2}


def test_ec2_facts_stand_in_for_capacity() -> None:
    """An entry with `ec2` has no capacity of its own, and its arch becomes a label."""
    entry = {key: value for key, value in ENTRY.items() if key not in {"capacity", "overhead"}}
    entry["ec2"] = {"vcpu": 2, "memoryMiB": 8192, "arch": "arm64", "networkCards": [{"enis": 3}]}
    kind = codec.load(json.dumps({"instanceTypes": [entry]})).instance_types[0]
    assert kind.capacity == {}
    assert kind.ec2 is not None
    assert kind.requirements.labels()["kubernetes.io/arch"] == "arm64"


@pytest.mark.parametrize(
    ("offering", "available"),
    [
        ({"capacityType": "spot"}, False),
        ({"capacityType": "spot", "pricePerHour": 0}, False),
        ({"capacityType": "on-demand", "pricePerHour": 1, "available": False}, False),
        ({"capacityType": "reserved", "reservationId": "cr-1"}, True),
        ({"capacityType": "reserved", "reservationId": "cr-1", "reservationCapacity": 0}, False),
    ],
)
def test_what_can_be_bought(offering: dict[str, Any], available: bool) -> None:
    """No price means not for sale, but a reservation is paid for as long as it has room."""
    kind = _load(offerings=[{"zone": "us-east-1a", **offering}]).instance_types[0]
    assert kind.offerings[0].for_sale is available


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": ""}, "instanceTypes[0].name"),
        ({"capacity": {"cpu": "four"}}, "instance type g6.xlarge: capacity.cpu"),
        ({"offerings": None}, "offerings"),
        ({"offerings": [{"capacityType": "spot"}]}, "offerings[0].zone"),
        ({"offerings": [{"zone": "a", "capacityType": "free"}]}, "offerings[0].capacityType"),
        (
            {"offerings": [{"zone": "a", "capacityType": "spot", "pricePerHour": "1"}]},
            "offerings[0].pricePerHour",
        ),
        ({"requirements": [{"operator": "In"}]}, "requirements[0].key"),
        ({"ec2": {"vcpu": 0, "memoryMiB": 1}}, "ec2.vcpu"),
        ({"ec2": {"vcpu": 1, "memoryMiB": 1, "arch": "mips"}}, "ec2.arch"),
    ],
)
def test_bad_entries_are_named(changes: dict[str, Any], where: str) -> None:
    """An entry that is wrong is refused with its name and the field."""
    with pytest.raises(InvalidManifest) as caught:
        _load(**changes)
    assert where in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"instanceTypes": [1]}', "{"])
def test_no_catalogue_at_all_is_refused(content: str) -> None:
    """What is no catalogue is an error with its source, never a traceback."""
    with pytest.raises(InvalidManifest, match=r"^a\.json"):
        codec.load(content, "a.json")


def test_a_type_without_capacity_is_refused() -> None:
    """Neither capacity nor ec2 means that nothing is known of the type."""
    entry = {key: value for key, value in ENTRY.items() if key != "capacity"}
    with pytest.raises(InvalidManifest, match="capacity"):
        codec.load(json.dumps({"instanceTypes": [entry]}))


def test_the_same_type_twice() -> None:
    """Listed twice with equal content counts once; with different content it is refused."""
    assert len(codec.read({"instanceTypes": [ENTRY, ENTRY]}).instance_types) == 1
    with pytest.raises(InvalidManifest, match="twice"):
        codec.read({"instanceTypes": [ENTRY, {**ENTRY, "capacity": {"cpu": "1"}}]})


@pytest.mark.skipif(not PRICES.exists(), reason="the price list is not at hand")
def test_the_book_says_what_the_list_says() -> None:
    """Every price of the list is within 1 % of the book's."""
    listed = json.loads(PRICES.read_text("utf-8"))
    off = {
        name: (price, price_book.price(name))
        for name, price in listed.items()
        if abs((price_book.price(name) or 0.0) - price) > 0.01 * price
    }
    assert off == {}


def test_unknown_types_have_no_price() -> None:
    """The book guesses nothing for a family it does not know, nor for a bare `metal` size."""
    assert price_book.price("zz9.large") is None
    assert price_book.price("m5.metal-plural") is None


def test_labels_are_karpenters() -> None:
    """A type has the labels that Karpenter's users select by (F107)."""
    kind = bundled().get("p4d.24xlarge")
    assert kind is not None
    found = kind.requirements.labels()
    prefix = describe.PREFIX
    expected = {
        "category": "p",
        "family": "p4d",
        "generation": "4",
        "size": "24xlarge",
        "cpu": "96",
        "gpu-name": "a100",
        "gpu-manufacturer": "nvidia",
        "gpu-count": "8",
        "gpu-memory": "40960",
        "hypervisor": "nitro",
        "local-nvme": "8000",
    }
    assert {key: found[prefix + key] for key in expected} == expected


def test_macs_and_i386_are_no_nodes() -> None:
    """Types that no node image boots on are left out."""
    assert describe.facts({"ProcessorInfo": {"SupportedArchitectures": ["x86_64_mac"]}}) is None
    assert bundled().get("mac2.metal") is None


def test_loading_takes_no_time() -> None:
    """The bundled catalogue of 1,300 types is there in well under a tenth of a second."""
    bundled.cache_clear()
    begun = time.process_time()
    assert len(bundled().instance_types) > 1300
    assert time.process_time() - begun < 0.2
