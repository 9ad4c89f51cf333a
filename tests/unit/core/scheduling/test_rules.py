"""The rules of cli.md that settle doubts, each by the smallest case that shows it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.builders import (
    CAPACITY_TYPE,
    GPU,
    HOSTNAME,
    NODEPOOL,
    ZONE,
    ZONES,
    catalog,
    daemonset,
    expression,
    instance_type,
    node,
    nodeclaim,
    nodeclass,
    nodepool,
    offering,
    pod,
    spread,
    taint,
    term,
    tolerates,
)
from tests.support.expect import planned

APP = {"app": "a"}
GONE = {"deletionTimestamp": "2026-11-23T11:00:00Z"}
OWNED = ("ReplicaSet", "r")


# 1: leaving pods


@pytest.mark.parametrize(
    ("about", "counted"),
    [
        ({}, 1),
        ({"owner": ("DaemonSet", "d")}, 0),
        ({"owner": ("Node", "old")}, 0),
        ({"annotations": {"karpenter.sh/do-not-disrupt": "true"}}, 0),
        ({"status": {"phase": "Succeeded"}}, 0),
        ({"metadata": GONE}, 0),
    ],
)
def test_who_leaves_with_a_node(about: dict[str, Any], counted: int) -> None:
    """1: pods of a node that goes are planned, unless they end, belong to it, or must stay."""
    answer = planned(pod(node="old", **{"owner": OWNED, **about}), node("old", metadata=GONE))
    assert answer.pods == counted


def test_disrupted_taint_means_leaving() -> None:
    """1: the disrupted taint marks a node that goes; it is no place either."""
    old = node("old", taints=[taint("karpenter.sh/disrupted")])
    answer = planned(pod(node="old", owner=OWNED, tolerations=[tolerates("")]), old)
    assert answer.launched() == ["default"]


def test_claim_that_is_deleted_means_leaving() -> None:
    """1: a node whose NodeClaim is being deleted goes."""
    claim = nodeclaim("c", node_name="old", metadata=GONE)
    old = node("old", spec={"providerID": "aws:///test-zone-1/i-c"})
    assert planned(pod(node="old", owner=OWNED), old, claim).pods == 1


# 2: weight


def test_a_full_heavy_pool_gives_way() -> None:
    """2: a pool whose limits are used up cannot serve; the lighter one does."""
    answer = planned(
        pod("a", cpu="1500m"),
        pod("b", cpu="1500m"),
        nodepool("heavy", weight=9, limits={"nodes": 1}),
        nodepool("light"),
        catalog=catalog(instance_type("only", cpu="2")),
    )
    assert sorted(answer.launched()) == ["heavy", "light"]


def test_a_light_pools_node_may_be_joined() -> None:
    """2: a pod may join a node that is planned for a lighter pool anyway."""
    answer = planned(
        pod("big", cpu="2", selector={NODEPOOL: "light"}),
        pod("small", cpu="100m"),
        nodepool("heavy", weight=9),
        nodepool("light"),
        catalog=catalog(instance_type("only", cpu="4")),
    )
    assert answer.launched() == ["light"]


def test_price_decides_among_equals() -> None:
    """2: within one weight the cheaper pool wins."""
    answer = planned(
        pod(),
        nodepool("a", requirements=[expression(CAPACITY_TYPE, "In", "on-demand")]),
        nodepool("b", requirements=[expression(CAPACITY_TYPE, "In", "spot")]),
    )
    assert answer.launched() == ["b"]


# 3: alternatives


def test_one_pods_spread_leaves_every_zone_open() -> None:
    """3: a constraint that no alternative breaks leaves all of them on the list."""
    lone = pod(labels=APP, spread=[spread(ZONE, APP)], apart=[term(ZONE, APP)])
    assert planned(lone).zones("pod") == set(ZONES)


def test_zones_that_would_break_a_spread_are_left_off() -> None:
    """3: with a pod in zone 1 the second goes to the others, either of them."""
    answer = planned(
        pod("new", labels=APP, spread=[spread(ZONE, APP)]),
        node("n", zone=ZONES[0], cpu="1"),
        pod("old", labels=APP, node="n", cpu="1"),
    )
    assert answer.zones("new") == {ZONES[1], ZONES[2]}


def test_limit_trims_the_list() -> None:
    """3, 8: types larger than what a limit leaves are off the list, the pod stays."""
    answer = planned(pod(), nodepool(limits={"cpu": 8}))
    assert answer.types("pod") == {"c.small", "c.large", "arm.large"}


def test_lists_together_stay_within_the_limit() -> None:
    """8: the largest types of all lists together stay within the limit."""
    answer = planned(
        pod("a", cpu="1500m", host_port=80),
        pod("b", cpu="1500m", host_port=80),
        nodepool(limits={"cpu": 10}),
    )
    cpus = {"c.small": 2, "c.large": 8, "arm.large": 8, "c.huge": 32}
    largest = [max(cpus[kind] for kind in item.instance_types) for item in answer.plan.launches]
    assert len(largest) == 2
    assert sum(largest) <= 10


# 4: spread


def test_hostname_minimum_without_pools() -> None:
    """4: where no pool could make a node, the least loaded node is the minimum."""
    pods = [pod(f"p{index}", labels=APP, spread=[spread(HOSTNAME, APP)]) for index in range(4)]
    answer = planned(*pods, node("a"), node("b"), nodepool(ready=False))
    assert sorted(answer.placed_on(f"p{index}") or "" for index in range(4)) == ["a", "a", "b", "b"]


def test_zone_without_available_offerings_is_no_domain() -> None:
    """4: a zone in which nothing is for sale does not hold the minimum down."""
    goods = catalog(
        instance_type(
            "t",
            offerings=[
                offering(ZONES[0]),
                offering(ZONES[1]),
                offering(ZONES[2], available=False),
            ],
        )
    )
    pods = [pod(f"p{index}", labels=APP, spread=[spread(ZONE, APP)]) for index in range(4)]
    assert planned(*pods, nodepool(), catalog=goods).skew() == [2, 2]


# 5: preferences


@pytest.mark.parametrize("strategy", ["first-fit", "cost"])
def test_preference_binds_though_dearer(strategy: str) -> None:
    """5: a preference that can be had is had, at any price."""
    wish = {
        "weight": 1,
        "preference": {"matchExpressions": [expression(CAPACITY_TYPE, "In", "on-demand")]},
    }
    answer = planned(pod(preferred=[wish]), strategy=strategy)
    assert answer.capacity_types("pod") == {"on-demand"}
    ignored = planned(pod(preferred=[wish]), strategy=strategy, preference_policy="Ignore")
    assert "spot" in ignored.capacity_types("pod")


def test_affinity_wish_for_a_pod_of_the_same_batch() -> None:
    """5: a wish for a neighbour that is planned later in the same batch is kept."""
    answer = planned(
        pod("first", cpu="3", near_preferred=[{"weight": 5, "podAffinityTerm": term(ZONE, APP)}]),
        pod("late", cpu="1", labels=APP, selector={ZONE: ZONES[2]}),
    )
    assert answer.zones("first") == {ZONES[2]}


# 6: labels that a type lacks


def test_missing_well_known_label_is_absent() -> None:
    """6: a type without a label that others carry has it as DoesNotExist."""
    goods = catalog(
        instance_type("with", labels={"example.com/nvme": "1"}), instance_type("without")
    )
    has = pod(required=[expression("example.com/nvme", "Exists")])
    lacks = pod(required=[expression("example.com/nvme", "DoesNotExist")])
    assert planned(has, catalog=goods).types("pod") == {"with"}
    assert planned(lacks, catalog=goods).types("pod") == {"without"}


# 7: reasons


def test_reasons_of_every_pool_by_name() -> None:
    """7: one reason for each pool of ours, sorted by name, the unusable ones too."""
    other = nodepool("auto")
    other["spec"]["template"]["spec"]["nodeClassRef"]["group"] = "eks.amazonaws.com"
    paused = nodepool("paused", annotations={"outrider.dev/paused": "true"})
    answer = planned(
        pod(gpu=16),
        nodepool("z"),
        nodepool("static", replicas=1),
        nodepool("off", ready=False),
        paused,
        other,
    )
    (left,) = answer.plan.rejections
    assert [(item.node_pool, str(item.code)) for item in left.reasons] == [
        ("off", "NodePoolNotReady"),
        ("paused", "NodePoolNotReady"),
        ("static", "StaticPool"),
        ("z", "InsufficientResources"),
    ]


def test_unready_class_is_an_unready_pool() -> None:
    """7: a pool whose EC2NodeClass is not ready is not ready, and says why."""
    broken = nodeclass()
    broken["status"] = {
        "conditions": [{"type": "Ready", "status": "False", "message": "no subnets"}]
    }
    answer = planned(pod(), nodepool(), broken)
    assert answer.rejected() == {"pod": {"NodePoolNotReady"}}
    assert "no subnets" in answer.reason("pod")


def test_no_offering_now() -> None:
    """7: where all that fits is unavailable, that is the reason."""
    goods = catalog(instance_type("t", offerings=[offering(available=False)]))
    assert planned(pod(), catalog=goods).rejected() == {"pod": {"NoOffering"}}


# 8: limits


def test_a_machine_counts_once() -> None:
    """8: a Node and its NodeClaim are one machine, being deleted or not."""
    claim = nodeclaim("c", node_name="n", provider_id="aws:///test-zone-1/i-n", metadata=GONE)
    busy = node("n", cpu="4")
    room_for_one = nodepool(limits={"cpu": 6})
    assert planned(pod(), room_for_one, busy, claim).launched() == ["default"]
    assert planned(pod(), nodepool(limits={"cpu": 5}), busy, claim).rejected()


# 10: in flight


def test_in_flight_claim_is_named_by_its_node() -> None:
    """10: a claim in flight is a place, under its Node's name once it knows that."""
    assert planned(pod(), nodeclaim("c")).placed_on("pod") == "c"
    assert planned(pod(), nodeclaim("c", node_name="ip-1")).placed_on("pod") == "ip-1"


# 11: requests


def test_requests_hold_the_least_overhead() -> None:
    """11: a launch asks for its pods and for the least that daemons take on any listed type."""
    everywhere = daemonset("d", cpu="100m")
    only_arm = daemonset("e", cpu="300m", nodeSelector={"kubernetes.io/arch": "arm64"})
    launch = planned(pod(cpu="1"), everywhere, only_arm).launch_of("pod")
    assert launch is not None
    assert dict(launch.requests) == {"cpu": 1100, "pods": 2}


def test_room_is_kept_for_daemons_to_come() -> None:
    """11: on an existing node there is no room that a waiting DaemonSet pod needs."""
    answer = planned(pod(cpu="3500m"), node("n", cpu="4"), daemonset(cpu="1"))
    assert answer.placed_on("pod") != "n"


# 13: overlays


def overlay(name: str, weight: int | None = None, **spec: Any) -> dict[str, Any]:
    """Return a NodeOverlay."""
    if weight is not None:
        spec["weight"] = weight
    return {
        "apiVersion": "karpenter.sh/v1alpha1",
        "kind": "NodeOverlay",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_overlay_price() -> None:
    """13: the heaviest overlay's price is the price."""
    small = [expression("node.kubernetes.io/instance-type", "In", "c.small")]
    answer = planned(
        pod(),
        nodepool(),
        overlay("light", requirements=small, priceAdjustment="+900%"),
        overlay("heavy", 5, requirements=small, price="0.05"),
    )
    assert answer.cost() == 0.05


def test_overlay_adjustment() -> None:
    """13: an adjustment changes the order of the types."""
    small = [expression("node.kubernetes.io/instance-type", "In", "c.small")]
    answer = planned(pod(), nodepool(), overlay("o", requirements=small, priceAdjustment="+900%"))
    launch = answer.launch_of("pod")
    assert launch is not None
    assert launch.instance_types[0] == "arm.large"


def test_overlay_capacity() -> None:
    """13: an overlay gives types a device that the catalogue does not know."""
    gives = overlay(
        "o",
        requirements=[expression("node.kubernetes.io/instance-type", "In", "c.large")],
        capacity={"example.com/fpga": "2"},
    )
    answer = planned(pod(requests={"example.com/fpga": "1"}), gives)
    assert answer.types("pod") == {"c.large"}


# 14: labels of the place


def test_zone_id_and_region() -> None:
    """14: zone id and region are labels of every offering."""
    goods = catalog(
        instance_type(
            "t",
            offerings=[offering("us-east-1a"), {**offering("us-west-2b"), "zoneId": "usw2-az2"}],
        )
    )
    west = planned(pod(selector={"topology.kubernetes.io/region": "us-west-2"}), catalog=goods)
    assert west.zones("pod") == {"us-west-2b"}
    by_id = planned(pod(selector={"topology.k8s.aws/zone-id": "usw2-az2"}), catalog=goods)
    assert by_id.zones("pod") == {"us-west-2b"}


# Priority, nominations, custom keys


def test_priority_is_served_first() -> None:
    """Where a limit leaves one node, the more important pod has it, whatever its size."""
    goods = catalog(instance_type("only", cpu="4"))
    answer = planned(
        pod("large", cpu="3500m"),
        pod("urgent", cpu="2", priority=1000),
        nodepool(limits={"nodes": 1}),
        catalog=goods,
    )
    assert answer.placed_on("urgent")
    assert list(answer.rejected()) == ["large"]


def test_our_nomination_is_kept() -> None:
    """A pod that we nominated goes to that node again; another's nomination is none of ours."""
    ours = node("b", metadata={"annotations": {"outrider.dev/decision": "d-1"}})
    waiting = pod(status={"nominatedNodeName": "b"})
    assert planned(waiting, node("a"), ours).placed_on("pod") == "b"
    assert planned(waiting, node("a"), node("b")).pods == 0


def test_pool_with_several_values_of_a_label() -> None:
    """A claim settles a label that its pool leaves open, by what its pods ask."""
    pool = nodepool(requirements=[expression("team", "In", "red", "blue")])
    answer = planned(pod("a", selector={"team": "red"}), pod("b", selector={"team": "blue"}), pool)
    assert [dict(item.labels) for item in answer.plan.launches] in (
        [{"team": "red"}, {"team": "blue"}],
        [{"team": "blue"}, {"team": "red"}],
    )


def test_terms_are_alternatives() -> None:
    """Required terms are alternatives: an offering that meets any of them is on the list."""
    answer = planned(
        pod(required=[expression(ZONE, "In", ZONES[0]), expression(ZONE, "In", ZONES[2])])
    )
    assert answer.zones("pod") == {ZONES[0], ZONES[2]}


def test_gpu_pods_join_before_cpu_pods_do() -> None:
    """A CPU pod uses what a GPU node has left rather than a node of its own."""
    answer = planned(pod("g", gpu=1, cpu="2"), pod("c", cpu="1"), strategy="cost")
    assert answer.placed_on("g") == answer.placed_on("c")
    launch = answer.launch_of("g")
    assert launch is not None
    assert launch.requests[GPU] == 1
