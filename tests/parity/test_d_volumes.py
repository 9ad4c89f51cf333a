"""Parity D: volumes, minValues and reserved capacity (karpenter-semantics.md, section 3 D)."""

from __future__ import annotations

from typing import Any

from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    INSTANCE_TYPE,
    ZONE,
    ZONES,
    catalog,
    claim,
    csi_node,
    expression,
    instance_type,
    node,
    nodepool,
    offering,
    pod,
    storage_class,
    volume,
)
from tests.support.expect import planned


def test_bound_volume_fixes_the_zone() -> None:
    """76: a pod whose volume is in a zone gets a node there."""
    answer = planned(
        pod(claims=["c"]), claim("c", volume="v"), volume("v", [expression(ZONE, "In", ZONES[1])])
    )
    assert answer.zones("pod") == {ZONES[1]}


def test_csi_topology_key() -> None:
    """76: the driver's own name for the zone means the zone."""
    line = expression("topology.ebs.csi.aws.com/zone", "In", ZONES[1])
    answer = planned(pod(claims=["c"]), claim("c", volume="v"), volume("v", [line]))
    assert answer.zones("pod") == {ZONES[1]}


def test_allowed_topologies() -> None:
    """77: an unbound claim leaves the zones of its class."""
    answer = planned(pod(claims=["c"]), claim("c"), storage_class(zones=[ZONES[0], ZONES[2]]))
    assert answer.zones("pod") == {ZONES[0], ZONES[2]}


def test_volume_zone_is_never_relaxed() -> None:
    """78: a selector that disagrees with the volume leaves the pod out."""
    answer = planned(
        pod(claims=["c"], selector={ZONE: ZONES[0]}),
        claim("c", volume="v"),
        volume("v", [expression(ZONE, "In", ZONES[1])]),
    )
    assert answer.rejected() == {"pod": {"VolumeZone"}}


def test_missing_claim_leaves_the_others() -> None:
    """79: a pod without its claim is reported, the others are placed."""
    answer = planned(pod("a", claims=["ghost"]), pod("b"))
    assert answer.rejected() == {"a": {"InvalidVolume"}}
    assert answer.placed_on("b")


def test_local_volume() -> None:
    """80: the hostname of a local volume does not bind new nodes."""
    lines = [expression(HOSTNAME, "In", "gone"), expression(ZONE, "In", ZONES[2])]
    answer = planned(pod(claims=["c"]), claim("c", volume="v"), volume("v", lines, local=True))
    assert answer.zones("pod") == {ZONES[2]}


def test_immediate_binding() -> None:
    """81: an unbound claim that binds immediately gives its pod no node."""
    answer = planned(pod(claims=["c"]), claim("c"), storage_class(mode="Immediate"))
    assert answer.rejected() == {"pod": {"InvalidVolume"}}


def test_attach_limit_of_an_existing_node() -> None:
    """82: a node at its limit of volumes takes no pod with another."""
    answer = planned(
        pod("new", claims=["b"]),
        pod("old", node="n", claims=["a"]),
        claim("a", volume="va"),
        claim("b"),
        volume("va"),
        storage_class(),
        node("n"),
        csi_node("n", 1),
    )
    assert answer.launched() == ["default"]


def test_attachment_that_is_left() -> None:
    """82: better than Karpenter, a volume that is attached still counts, though its pod is gone; a
    pod that claims it needs no second attachment."""
    left = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": "left"},
        "spec": {
            "attacher": "ebs.csi.aws.com",
            "nodeName": "n",
            "source": {"persistentVolumeName": "va"},
        },
    }
    there = [claim("a", volume="va"), volume("va"), storage_class(), node("n"), csi_node("n", 1)]
    answer = planned(pod("new", claims=["b"]), claim("b"), left, *there)
    assert answer.launched() == ["default"]
    assert planned(pod("back", claims=["a"]), left, *there).placed_on("back") == "n"


def test_shared_claim_counts_once() -> None:
    """83: pods that share a claim need one attachment."""
    answer = planned(
        pod("new", claims=["a"]),
        pod("old", node="n", claims=["a"]),
        claim("a", volume="va"),
        volume("va"),
        node("n"),
        csi_node("n", 1),
    )
    assert answer.placed_on("new") == "n"


def test_attach_limit_of_a_new_node() -> None:
    """82: better than Karpenter, new nodes have their type's limit as well."""
    goods = catalog(instance_type("few", resources={"attachable-volumes-aws-ebs": "2"}))
    pods = [pod(f"p{index}", claims=[f"c{index}"]) for index in range(4)]
    claims = [claim(f"c{index}") for index in range(4)]
    answer = planned(*pods, *claims, storage_class(), catalog=goods)
    assert [len(item.pods) for item in answer.plan.launches] == [2, 2]


def variety(least: int) -> dict[str, Any]:
    """Return a pool that wants *least* instance types."""
    line = {**expression(INSTANCE_TYPE, "Exists"), "minValues": least}
    return nodepool(requirements=[line, expression(CAPACITY_TYPE, "In", "spot", "on-demand")])


TWO = catalog(instance_type("a", price=1.0), instance_type("b", price=2.0, spot=0.9))


def test_min_values_strict() -> None:
    """84: too few types leave the pod out."""
    answer = planned(pod(), variety(3), catalog=TWO)
    assert answer.rejected() == {"pod": {"MinValues"}}


def test_min_values_best_effort() -> None:
    """85: BestEffort makes do with fewer."""
    answer = planned(pod(), variety(3), catalog=TWO, min_values_policy="BestEffort")
    assert answer.types("pod") == {"a", "b"}


RESERVED = catalog(
    instance_type(
        "r",
        offerings=[
            offering(ZONES[0], "on-demand", 2.0),
            offering(ZONES[0], "spot", 1.0),
            offering(ZONES[0], "reserved", 0.0, reservation="cr-1", count=1),
        ],
    )
)
ANY = [expression(CAPACITY_TYPE, "In", "spot", "on-demand", "reserved")]


def test_reservation_is_used() -> None:
    """86: a node that can use a reservation is pinned to it, at no price."""
    answer = planned(pod(), nodepool(requirements=ANY), catalog=RESERVED)
    assert answer.capacity_types("pod") == {"reserved"}
    assert answer.cost() == 0
    launch = answer.launch_of("pod")
    assert launch is not None
    assert launch.choices[0].reservation_id == "cr-1"


def test_used_up_reservation_defers_nobody() -> None:
    """87: better than Karpenter, the next pod gets the next cheapest offering in the same pass."""
    answer = planned(
        pod("a", cpu="3"), pod("b", cpu="3"), nodepool(requirements=ANY), catalog=RESERVED
    )
    assert sorted(len(answer.capacity_types(name)) for name in "ab") == [1, 2]
    assert answer.cost() == 1.0


def test_reservation_lasts_then_the_next_cheapest() -> None:
    """86: better than Karpenter, pods beyond the reservation are launched in the same pass, on the
    next cheapest offering."""
    pods = [pod(f"p{index}", cpu="3") for index in range(3)]
    answer = planned(*pods, nodepool(requirements=ANY), catalog=RESERVED, strategy="cost")
    assert not answer.rejected()
    assert sum(bool(item.choices[0].reservation_id) for item in answer.plan.launches) == 1


def test_shared_reservation() -> None:
    """88: two pools that share one instance plan one node on it."""
    pools = [nodepool(name, requirements=ANY, labels={"p": name}) for name in ("x", "y")]
    answer = planned(
        pod("a", selector={"p": "x"}), pod("b", selector={"p": "y"}), *pools, catalog=RESERVED
    )
    held = [item for item in answer.plan.launches if item.choices[0].reservation_id]
    assert len(held) == 1
