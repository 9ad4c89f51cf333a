"""What drivers will publish on a type: by EC2's facts, or as the catalogue states."""

from __future__ import annotations

import orjson
import pytest

from outrider.apis.devices import Version
from outrider.core.catalog import codec
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.devices import NEURON_DRIVER, NVIDIA_DRIVER, published
from outrider.errors import InvalidManifest
from tests.support.builders import Json, catalog, instance_type


def of(name: str) -> tuple[str, int, dict[str, object], dict[str, str], frozenset[str]]:
    """Return what a bundled type publishes, which is one group."""
    kind = bundled().get(name)
    assert kind is not None
    (group,) = published(kind)
    device = group.device
    return (
        group.driver,
        group.count,
        dict(device.attributes),
        dict(device.capacity),
        device.unknown,
    )


@pytest.mark.parametrize(
    ("name", "count", "product", "compute", "memory"),
    [
        ("g4dn.12xlarge", 4, "Tesla T4", "7.5.0", "15Gi"),
        ("g5.48xlarge", 8, "NVIDIA A10G", "8.6.0", "23028Mi"),
        ("g5g.xlarge", 1, "NVIDIA T4G", "7.5.0", "15Gi"),
        ("g5g.metal", 2, "NVIDIA T4G", "7.5.0", "16Gi"),
        ("g6.xlarge", 1, "NVIDIA L4", "8.9.0", "23034Mi"),
        ("g6f.large", 1, "NVIDIA L4-3Q", "8.9.0", "3Gi"),
        ("gr6f.4xlarge", 1, "NVIDIA L4-12Q", "8.9.0", "12Gi"),
        ("g6e.24xlarge", 4, "NVIDIA L40S", "8.9.0", "46068Mi"),
        ("p4d.24xlarge", 8, "NVIDIA A100-SXM4-40GB", "8.0.0", "40320Mi"),
        ("p4de.24xlarge", 8, "NVIDIA A100-SXM4-80GB", "8.0.0", "80Gi"),
        ("p5.4xlarge", 1, "NVIDIA H100 80GB HBM3", "9.0.0", "81152Mi"),
        ("p5en.48xlarge", 8, "NVIDIA H200", "9.0.0", "140Gi"),
        ("p6-b300.48xlarge", 8, "NVIDIA B300 SXM6 AC", "10.3.0", "268Gi"),
    ],
)
def test_nvidia(name: str, count: int, product: str, compute: str, memory: str) -> None:
    """NVIDIA's driver says of a known model what it says on a running instance."""
    driver, number, attributes, capacity, unknown = of(name)
    assert (driver, number) == (NVIDIA_DRIVER, count)
    assert attributes["type"] == "gpu"
    assert attributes["productName"] == product
    assert attributes["cudaComputeCapability"] == Version(compute)
    assert isinstance(attributes["cudaComputeCapability"], Version)
    assert capacity == {"memory": memory}
    assert {"uuid", "driverVersion"} <= unknown


def test_an_unknown_model_is_a_gpu_and_no_more() -> None:
    """A model that is not in the table has attributes, but nobody here knows their values."""
    _, _, attributes, capacity, unknown = of("g7.2xlarge")
    assert attributes == {"type": "gpu"}
    assert capacity == {}
    assert {"productName", "memory", "architecture"} <= unknown


@pytest.mark.parametrize(
    ("name", "memory", "product"),
    [
        ("L4", 24576, "NVIDIA L4"),
        ("L4", 6000, "NVIDIA L4-6Q"),
        ("A100", 40000, "NVIDIA A100-SXM4-40GB"),
        ("h100", 0, "NVIDIA H100 80GB HBM3"),
        ("A100", 0, None),
        ("A100", 60000, None),
    ],
)
def test_a_catalogue_may_round(name: str, memory: int, product: str | None) -> None:
    """A model is known by its name and about its memory; where both leave a choice, it is not."""
    gpu = {"name": name, "manufacturer": "NVIDIA", "count": 1, "memoryMiB": memory}
    entry = {"name": "g", "ec2": {"vcpu": 4, "memoryMiB": 16384, "gpus": [gpu]}, "offerings": []}
    kind = codec.read(catalog(entry)).get("g")
    assert kind is not None
    assert published(kind)[0].device.attributes.get("productName") == product


def test_neuron() -> None:
    """The Neuron driver's devices are counted and carry their type; Inferentia 1 has none."""
    driver, count, attributes, _, _ = of("inf2.48xlarge")
    assert (driver, count, attributes) == (NEURON_DRIVER, 12, {"instanceType": "inf2.48xlarge"})
    old = bundled().get("inf1.xlarge")
    assert old is not None
    assert published(old) == ()


def test_plain_types_publish_nothing() -> None:
    """Neither a type without accelerators nor one that states only capacity has devices."""
    plain = bundled().get("m5.large")
    by_hand = codec.read(catalog(instance_type("g", gpu=4))).get("g")
    assert plain is not None
    assert by_hand is not None
    assert published(plain) == published(by_hand) == ()


STATED: list[Json] = [
    {
        "driver": "gpu.example.com",
        "count": 4,
        "attributes": {
            "model": {"string": "a"},
            "slot": {"int": 2},
            "healthy": {"bool": True},
            "firmware": {"version": "1.2.3"},
        },
        "capacity": {"memory": {"value": "40Gi"}},
        "unknown": ["uuid"],
        "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
    }
]


def test_a_stated_list_wins_and_survives() -> None:
    """What the catalogue states wins over what EC2's facts imply, and is written as it was read."""
    entry = instance_type("g", devices=STATED)
    goods = codec.read(catalog(entry))
    kind = goods.get("g")
    assert kind is not None
    (group,) = published(kind)
    assert group.count == 4
    assert group.device.attributes["firmware"] == Version("1.2.3")
    written = orjson.loads(codec.dump(goods))
    assert written["instanceTypes"][0]["devices"] == STATED
    assert codec.restore(codec.dump(goods)).get("g") == kind


def test_an_empty_list_is_stated_too() -> None:
    """An empty list says that no driver publishes anything on the type."""
    facts = {"vcpu": 4, "memoryMiB": 16384, "gpus": [{"name": "T4", "count": 1}]}
    entry = {"name": "g", "ec2": facts, "offerings": [], "devices": []}
    kind = codec.read(catalog(entry)).get("g")
    assert kind is not None
    assert published(kind) == ()
    assert codec.restore(codec.dump(codec.read(catalog(entry)))).get("g") == kind


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ({"count": 1}, "devices[0].driver"),
        ({"driver": "d", "count": 0}, "devices[0].count"),
        (
            {"driver": "d", "capacity": {"memory": {"value": "lots"}}},
            "devices[0].capacity[memory].value",
        ),
        ({"driver": "d", "attributes": {"a": {"int": "x"}}}, "devices[0].attributes[a].int"),
        ({"driver": "d", "attributes": {"a": 1.5}}, "devices[0].attributes[a]"),
    ],
)
def test_a_wrong_line_is_named(line: Json, path: str) -> None:
    """A wrong field of a stated device is refused with its path."""
    with pytest.raises(InvalidManifest) as caught:
        codec.read(catalog(instance_type("g", devices=[line])))
    assert caught.value.path == path
