"""What a node of a type holds: Karpenter's figures, and where we count better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from outrider.apis import quantity
from outrider.core.catalog import maxpods
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.capacity import derive
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.instancetype import Ec2Facts, InstanceType
from tests.support.launches import nodeclass

MI = 1024**2
PLAIN = ClusterFacts()
PREFIXES = ClusterFacts(prefix_delegation=True)


def _kind(name: str) -> InstanceType:
    kind = bundled().get(name)
    assert kind is not None
    return kind


def _ec2(name: str) -> Ec2Facts:
    ec2 = _kind(name).ec2
    assert ec2 is not None
    return ec2


def _derived(name: str, facts: ClusterFacts = PLAIN, **spec: Any) -> InstanceType:
    return derive(_kind(name), nodeclass(**spec), facts)


@pytest.mark.parametrize(
    ("name", "memory"),
    [("g6.xlarge", "15155Mi"), ("m6g.large", "7518Mi"), ("p4d.24xlarge", "1091174Mi")],
)
def test_memory_is_less_than_ec2_says(name: str, memory: str) -> None:
    """The hypervisor takes 7.5 %, rounded up to a MiB, and 64 MiB more on arm64 (F96)."""
    assert _derived(name).capacity["memory"] == quantity.whole(memory)


@pytest.mark.parametrize(
    ("name", "classic", "prefixes"),
    [
        ("c5.large", 29, 110),
        ("g5.xlarge", 58, 110),
        ("p4d.24xlarge", 737, 250),
        ("p5.48xlarge", 100, 250),
        ("g5.8xlarge", 234, 250),
    ],
)
def test_pods_follow_the_interfaces(name: str, classic: int, prefixes: int) -> None:
    """ENIs x (addresses - 1) + 2, and with prefixes sixteen times that under 110 or 250."""
    assert _derived(name).capacity["pods"] == classic
    assert _derived(name, PREFIXES).capacity["pods"] == prefixes


def test_reserved_interfaces_take_pods() -> None:
    """Custom networking keeps the first interface, and an efa-only one has no addresses."""
    ec2 = _ec2("g5.xlarge")
    assert maxpods.eni_limited(ec2, reserved_enis=1) == 44
    assert maxpods.eni_limited(ec2, reserved_enis=9) == 2
    assert maxpods.eni_limited(_ec2("p5.48xlarge"), efa_only_on_default_card=1) == 51
    assert _derived("g5.xlarge", ClusterFacts(reserved_enis=1)).capacity["pods"] == 44


def test_kubelet_settings_win() -> None:
    """maxPods replaces the density, podsPerCore lowers it (statement 101)."""
    assert _derived("g6.xlarge", kubelet={"maxPods": 20, "podsPerCore": 4}).capacity["pods"] == 16
    assert _derived("g6.xlarge", kubelet={"maxPods": 12}).capacity["pods"] == 12
    bottlerocket = _derived("g6.xlarge", kubelet={"podsPerCore": 4}, alias="bottlerocket@latest")
    assert bottlerocket.capacity["pods"] == 58


def test_kube_reserved_grows_with_pods() -> None:
    """AL2023 reserves for the classic density, Bottlerocket for what it is told (F98)."""
    classic = (11 * 58 + 255) * MI
    assert _derived("g6.xlarge", kubelet={"maxPods": 8}).overhead["memory"] == classic + 100 * MI
    told = _derived("g6.xlarge", kubelet={"maxPods": 8}, alias="bottlerocket@latest")
    assert told.overhead["memory"] == (11 * 8 + 255 + 100) * MI
    assert _derived("g6.xlarge", PREFIXES).overhead["memory"] == (11 * 110 + 255 + 100) * MI
    assert _derived("g6.xlarge").overhead["cpu"] == 80


def test_overheads_can_be_stated() -> None:
    """Reserves and hard thresholds of the node class replace ours; soft ones never count (F99)."""
    kubelet = {
        "kubeReserved": {"cpu": "200m", "memory": "1Gi"},
        "systemReserved": {"memory": "100Mi"},
        "evictionHard": {"memory.available": "10%", "nodefs.available": "100%"},
        "evictionSoft": {"memory.available": "50%"},
        "evictionSoftGracePeriod": {"memory.available": "1m"},
    }
    derived = _derived("g6.xlarge", kubelet=kubelet)
    tenth = -(-derived.capacity["memory"] // 10)
    assert derived.overhead["memory"] == 1024 * MI + 100 * MI + tenth
    assert derived.overhead["cpu"] == 200
    assert derived.overhead["ephemeral-storage"] == 1024 * MI


def test_storage_is_the_volume_or_the_nvme() -> None:
    """The class's volume, 20 GiB by default; with RAID0 all local NVMe (statement 103)."""
    gib = 1024 * MI
    assert _derived("g6.xlarge").capacity["ephemeral-storage"] == 20 * gib
    mapping = [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": "200Gi"}}]
    sized = _derived("g6.xlarge", blockDeviceMappings=mapping)
    assert sized.capacity["ephemeral-storage"] == 200 * gib
    raid = _derived("g6.xlarge", instanceStorePolicy="RAID0")
    assert raid.capacity["ephemeral-storage"] == 250 * 10**9


def test_sliced_gpus_count() -> None:
    """A type whose GPU is a slice has its device, and says how much of one it is (C1)."""
    sliced = _derived("g6f.large")
    assert sliced.capacity["nvidia.com/gpu"] == 1
    assert sliced.requirements.labels()["outrider.dev/gpu-fraction"] == "0.125"
    assert "outrider.dev/gpu-fraction" not in _kind("g6.xlarge").requirements


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("g6.12xlarge", {"nvidia.com/gpu": 4, "vpc.amazonaws.com/efa": 1}),
        ("p5.48xlarge", {"nvidia.com/gpu": 8, "vpc.amazonaws.com/efa": 32}),
        (
            "trn1.32xlarge",
            {
                "aws.amazon.com/neuron": 16,
                "aws.amazon.com/neuroncore": 32,
                "vpc.amazonaws.com/efa": 8,
            },
        ),
    ],
)
def test_devices_are_advertised(name: str, devices: dict[str, int]) -> None:
    """GPUs, Neuron devices and cores, and EFA interfaces become extended resources."""
    capacity = _derived(name).capacity
    assert {key: value for key, value in capacity.items() if "/" in key} == devices


def test_observed_memory_corrects_the_model() -> None:
    """A node of the type has shown its memory; what cannot be that type's is not believed."""
    seen = ClusterFacts(observed_memory={"g6.xlarge": 15200 * MI, "g5.xlarge": 1})
    assert _derived("g6.xlarge", seen).capacity["memory"] == 15200 * MI
    assert _derived("g5.xlarge", seen) == _derived("g5.xlarge")


def test_an_explicit_capacity_wins() -> None:
    """A hand-written capacity is not derived again."""
    by_hand = replace(_kind("g6.xlarge"), capacity={"cpu": 1})
    assert derive(by_hand, nodeclass(), PLAIN) is by_hand
