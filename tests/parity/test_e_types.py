"""Parity E: which types and offerings are on the list (karpenter-semantics.md, section 3 E)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.builders import (
    CAPACITY_TYPE,
    GPU,
    INSTANCE_TYPE,
    ZONES,
    catalog,
    daemonset,
    expression,
    instance_type,
    nodeclass,
    nodepool,
    offering,
    pod,
)
from tests.support.expect import planned


def test_cheapest_first() -> None:
    """89: types and offerings are listed cheapest first."""
    answer = planned(pod())
    launch = answer.launch_of("pod")
    assert launch is not None
    prices = [choice.price_per_hour for choice in launch.choices]
    assert prices == sorted(prices)
    assert launch.instance_types[0] == "c.small"


def test_metal_is_left_off() -> None:
    """90: bare metal is dropped unless nothing else fits."""
    goods = catalog(instance_type("m.large"), instance_type("m.metal", cpu="96", price=5))
    assert planned(pod(), catalog=goods).types("pod") == {"m.large"}
    assert planned(pod(cpu="64"), catalog=goods).types("pod") == {"m.metal"}


def test_accelerators_are_left_off() -> None:
    """91: a pod that asks for no GPU gets none, unless nothing else fits."""
    assert not any(name.startswith(("g.", "p.")) for name in planned(pod()).types("pod"))
    assert planned(pod(cpu="64")).types("pod") == {"p.eight"}


DEAR_SPOT = catalog(
    instance_type("a", price=1.0, spot=0.5), instance_type("b", price=3.0, spot=0.5)
)


def test_dear_spot_is_left_off() -> None:
    """92: Spot dearer than the cheapest on-demand one is dropped."""
    launch = planned(pod(), catalog=DEAR_SPOT).launch_of("pod")
    assert launch is not None
    spot = {choice.instance_type for choice in launch.choices if choice.capacity_type == "spot"}
    assert spot == {"a"}


def test_min_values_drop_nothing() -> None:
    """93: with minValues nothing is dropped."""
    line = {**expression(INSTANCE_TYPE, "Exists"), "minValues": 1}
    pool = nodepool(requirements=[line, expression(CAPACITY_TYPE, "In", "spot", "on-demand")])
    launch = planned(pod(), pool, catalog=DEAR_SPOT).launch_of("pod")
    assert launch is not None
    spot = {choice.instance_type for choice in launch.choices if choice.capacity_type == "spot"}
    assert spot == {"a", "b"}


def test_spot_is_chosen() -> None:
    """94: where both are allowed, Spot comes first."""
    launch = planned(pod()).launch_of("pod")
    assert launch is not None
    assert launch.choices[0].capacity_type == "spot"


def test_on_demand_is_on_the_same_list() -> None:
    """94: better than Karpenter, on-demand is on the same list, so that without Spot capacity the
    same invocation launches on demand."""
    launch = planned(pod()).launch_of("pod")
    assert launch is not None
    assert {choice.capacity_type for choice in launch.choices} == {"spot", "on-demand"}


def test_on_demand_by_default() -> None:
    """95: a pool that says nothing of capacity types launches on demand."""
    assert planned(pod(), nodepool()).capacity_types("pod") == {"on-demand"}


def test_unavailable_offering_is_absent() -> None:
    """96, 97: an offering marked unavailable is not on the list; once it is back, it is."""

    def goods(*, available: bool) -> dict[str, Any]:
        return catalog(
            instance_type(
                "t",
                offerings=[
                    offering(ZONES[0], price=1, available=available),
                    offering(ZONES[1], price=2),
                ],
            )
        )

    assert planned(pod(), catalog=goods(available=False)).zones("pod") == {ZONES[1]}
    assert planned(pod(), catalog=goods(available=True)).zones("pod") == set(ZONES[:2])


@pytest.mark.parametrize(("gpus", "types"), [(1, {"g.one", "g.four", "p.eight"}), (5, {"p.eight"})])
def test_gpu_request(gpus: int, types: set[str]) -> None:
    """98: a GPU request leaves the types with that many."""
    assert planned(pod(gpu=gpus)).types("pod") == types


def derived(**facts: Any) -> dict[str, Any]:
    """Return a catalogue of one type that is described by EC2's facts."""
    body: dict[str, Any] = {
        "vcpu": 4,
        "memoryMiB": 16384,
        "networkCards": [{"enis": 3}],
        "ipv4PerEni": 10,
        "arch": "amd64",
        **facts,
    }
    return {
        "instanceTypes": [
            {"name": "m5.xlarge", "ec2": body, "offerings": [offering(ZONES[0], price=1.0)]}
        ]
    }


def most_pods(goods: dict[str, Any], **spec: Any) -> int:
    """Return how many pods the only type of *goods* takes under a class with *spec*."""
    launch = planned(pod(), nodepool(), nodeclass(**spec), catalog=goods).launch_of("pod")
    assert launch is not None
    return launch.max_pods["m5.xlarge"]


def test_pods_by_interfaces() -> None:
    """99: interfaces x (addresses - 1) + 2."""
    assert most_pods(derived()) == 3 * 9 + 2


def test_reserved_interfaces() -> None:
    """100: better than Karpenter, the interface that custom networking takes is seen in the CNI's
    DaemonSet instead of being told by a flag; never below the two pods of the host's network."""
    assert with_cni(derived(), "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG") == 2 * 9 + 2
    single = derived(networkCards=[{"enis": 1}])
    assert with_cni(single, "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG") == 2


def test_prefix_delegation() -> None:
    """99: better than Karpenter, prefix delegation is seen in the CNI's DaemonSet, and nodes take
    the 110 pods that EKS then recommends."""
    assert with_cni(derived(), "ENABLE_PREFIX_DELEGATION") == 110


def with_cni(goods: dict[str, Any], setting: str) -> int:
    """Return how many pods the only type of *goods* takes where the CNI has *setting*."""
    environment = [{"name": setting, "value": "true"}]
    container = {"name": "aws-node", "image": "cni", "env": environment}
    cni = daemonset("aws-node", namespace="kube-system", containers=[container])
    launch = planned(pod(), nodepool(), nodeclass(), cni, catalog=goods).launch_of("pod")
    assert launch is not None
    return launch.max_pods["m5.xlarge"]


def test_price_of_what_ec2_does_not_price() -> None:
    """89: F27, a type without a price is for sale once an overlay that names it alone has one."""
    goods = catalog(instance_type("odd", price=0.0))
    overlay = {
        "apiVersion": "karpenter.sh/v1alpha1",
        "kind": "NodeOverlay",
        "metadata": {"name": "odd"},
        "spec": {"requirements": [expression(INSTANCE_TYPE, "In", "odd")], "price": "0.5"},
    }
    assert planned(pod(), catalog=goods).rejected() == {"pod": {"NoOffering"}}
    assert planned(pod(), overlay, catalog=goods).types("pod") == {"odd"}


def test_pods_per_core() -> None:
    """101: podsPerCore and maxPods, the smaller."""
    kubelet = {"podsPerCore": 4, "maxPods": 20}
    assert most_pods(derived(), kubelet=kubelet) == 16


def test_eviction_threshold_by_share() -> None:
    """102: a percentage of memory is kept back for eviction."""
    small = pod(memory="12Gi")
    assert planned(small, nodepool(), nodeclass(), catalog=derived()).launched()
    tight = nodeclass(kubelet={"evictionHard": {"memory.available": "25%"}})
    assert planned(small, nodepool(), tight, catalog=derived()).rejected()


def test_raid0() -> None:
    """103: with RAID0 the local disks are the ephemeral storage."""
    large = pod(requests={"ephemeral-storage": "100Gi"})
    goods = derived(nvmeGB=600)
    assert planned(large, nodepool(), nodeclass(), catalog=goods).rejected()
    raid = nodeclass(instanceStorePolicy="RAID0")
    assert planned(large, nodepool(), raid, catalog=goods).launched()


def test_slivers_are_for_those_who_ask() -> None:
    """98: a share of a GPU serves a GPU pod only where a requirement names it."""
    goods = derived(
        gpus=[
            {
                "name": "L4",
                "manufacturer": "NVIDIA",
                "count": 0,
                "logicalCount": 1,
                "partitionSize": 0.125,
                "memoryMiB": 3072,
            }
        ]
    )
    wants = pod(gpu=1)
    assert planned(wants, nodepool(), catalog=goods).rejected() == {
        "pod": {"InsufficientResources"}
    }
    named = pod(gpu=1, required=[expression("outrider.dev/gpu-fraction", "Exists")])
    assert planned(named, nodepool(), catalog=goods).launched() == ["default"]


def test_logical_gpus_count() -> None:
    """98: better than Karpenter, a type whose Count is 0 is seen by its LogicalGpuCount."""
    goods = derived(
        gpus=[
            {
                "name": "H100",
                "manufacturer": "NVIDIA",
                "count": 0,
                "logicalCount": 1,
                "memoryMiB": 81920,
            }
        ]
    )
    launch = planned(pod(gpu=1), nodepool(), catalog=goods).launch_of("pod")
    assert launch is not None
    assert launch.requests[GPU] == 1
