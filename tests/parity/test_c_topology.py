"""Parity C: preferences, spread and affinity (karpenter-semantics.md, section 3 C)."""

from __future__ import annotations

from typing import Any

from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    ZONE,
    ZONES,
    catalog,
    expression,
    instance_type,
    node,
    nodepool,
    pod,
    preference,
    spread,
    taint,
    term,
    wish,
)
from tests.support.expect import planned

APP = {"app": "a"}
TWO_ZONES = nodepool(requirements=[expression(ZONE, "In", *ZONES[:2])])


def zone(*names: str) -> dict[str, Any]:
    """Return an expression for *names* of zones."""
    return expression(ZONE, "In", *names)


def spreading(count: int, *constraints: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Return *count* pods of one app with *constraints*."""
    return [pod(f"p{index}", labels=APP, spread=constraints, **more) for index in range(count)]


def test_second_required_term() -> None:
    """50: an impossible first term leaves the second; the last one is never dropped."""
    assert planned(pod(required=[zone("nowhere"), zone(ZONES[1])])).zones("pod") == {ZONES[1]}
    answer = planned(pod(required=[zone("nowhere"), zone("neither")]))
    assert answer.rejected() == {"pod": {"IncompatibleRequirements"}}


def test_preferences_relax_one_by_one() -> None:
    """51: the heaviest preference gives way to a lighter one."""
    answer = planned(
        pod(
            preferred=[
                preference(9, zone("nowhere")),
                preference(5, zone(ZONES[2])),
                preference(1, zone(ZONES[0])),
            ]
        )
    )
    assert answer.zones("pod") == {ZONES[2]}


def test_all_preferences_impossible() -> None:
    """52: a pod whose preferences are all impossible is placed anyway."""
    answer = planned(pod(preferred=[preference(9, zone("x")), preference(5, zone("y"))]))
    assert answer.zones("pod") == set(ZONES)


def test_affinity_gives_way_before_a_soft_taint() -> None:
    """53: preferred affinity is relaxed before PreferNoSchedule is tolerated."""
    answer = planned(
        pod(preferred=[preference(1, expression("karpenter.sh/nodepool", "In", "soft"))]),
        nodepool("soft", weight=9, taints=[taint("x", "PreferNoSchedule")]),
        nodepool("plain"),
    )
    assert answer.launched() == ["plain"]


def test_preferences_ignored() -> None:
    """54: with Ignore a ScheduleAnyway spread asks for nothing."""
    answer = planned(*spreading(3, spread(HOSTNAME, APP, soft=True)), preference_policy="Ignore")
    assert len(answer.launched()) == 1


def test_zonal_spread() -> None:
    """55: four pods over three zones are 2, 1, 1."""
    assert planned(*spreading(4, spread(ZONE, APP))).skew() == [2, 1, 1]


def test_spread_over_the_pools_zones() -> None:
    """56: a pool limited to two zones spreads over those two."""
    assert planned(*spreading(4, spread(ZONE, APP)), TWO_ZONES).skew() == [2, 2]


def test_existing_pod_in_a_third_zone_is_the_minimum() -> None:
    """57: a zone with one matching pod, outside the pool, still counts as the minimum."""
    answer = planned(
        *spreading(6, spread(ZONE, APP), cpu="3"),
        TWO_ZONES,
        node("far", zone=ZONES[2], cpu="1"),
        pod("old", labels=APP, node="far"),
    )
    assert answer.skew() == [2, 2]
    assert sorted(map(tuple, answer.rejected().values())) == [("TopologySpread",)] * 2


def test_min_domains() -> None:
    """58: fewer zones than minDomains hold the minimum at zero."""
    answer = planned(*spreading(3, spread(ZONE, APP, minDomains=3)), TWO_ZONES)
    assert answer.skew() == [1, 1]
    assert list(answer.rejected().values()) == [{"TopologySpread"}]


def test_hostname_spread() -> None:
    """59: maxSkew 1 by hostname is one pod a node."""
    assert planned(*spreading(4, spread(HOSTNAME, APP))).skew(HOSTNAME) == [1, 1, 1, 1]


def test_hostname_spread_of_four() -> None:
    """60: maxSkew 4 by hostname lets four share a node."""
    assert planned(*spreading(4, spread(HOSTNAME, APP, skew=4))).skew(HOSTNAME) == [4]


def test_capacity_type_spread() -> None:
    """61: a spread over capacity types alternates."""
    assert planned(*spreading(4, spread(CAPACITY_TYPE, APP))).skew(CAPACITY_TYPE) == [2, 2]


def test_soft_spread_that_cannot_hold() -> None:
    """62: ScheduleAnyway gives way."""
    pool = nodepool(requirements=[expression(ZONE, "In", ZONES[0])])
    answer = planned(
        *spreading(3, spread(ZONE, APP, soft=True), cpu="2"),
        pool,
        node("far", zone=ZONES[1], spec={"unschedulable": True}),
    )
    assert answer.skew() == [3]


def test_selector_that_does_not_match_itself() -> None:
    """63: a spread over others does not grow with the pod."""
    answer = planned(*spreading(3, spread(HOSTNAME, {"app": "other"})))
    assert len(answer.launched()) == 1


def test_spread_without_selector() -> None:
    """64: no selector, no spreading."""
    assert len(planned(*spreading(3, spread(HOSTNAME, None))).launched()) == 1


def test_older_names_of_a_topology() -> None:
    """55: a spread over the beta name of the zone is one over zones (F10)."""
    old = "failure-domain.beta.kubernetes.io/zone"
    pods = [pod(f"p{index}", labels=APP, spread=[spread(old, APP)]) for index in range(3)]
    assert planned(*pods).skew(ZONE) == [1, 1, 1]


def test_unknown_topology_key() -> None:
    """65: a key that nothing defines leaves the pod out."""
    answer = planned(*spreading(1, spread("example.com/rack", APP)))
    assert answer.rejected() == {"p0": {"TopologySpread"}}


def test_match_label_keys() -> None:
    """66: each revision spreads on its own."""
    constraint = spread(ZONE, APP, matchLabelKeys=["pod-template-hash"])
    pods = [
        pod(
            f"{revision}{index}", labels={**APP, "pod-template-hash": revision}, spread=[constraint]
        )
        for revision in "xy"
        for index in range(3)
    ]
    assert planned(*pods).skew() == [2, 2, 2]


def test_taints_policy() -> None:
    """67: with nodeTaintsPolicy Honor the domains of tainted pools do not count."""
    pools = [
        nodepool("open", requirements=[expression(ZONE, "In", *ZONES[:2])]),
        nodepool("tainted", taints=[taint("x")], requirements=[expression(ZONE, "In", ZONES[2])]),
    ]
    answer = planned(*spreading(4, spread(ZONE, APP, nodeTaintsPolicy="Honor")), *pools)
    assert answer.skew() == [2, 2]


def test_affinity_policy() -> None:
    """68: with nodeAffinityPolicy Ignore, zones that the pod may not use stay at zero."""
    pods = spreading(5, spread(ZONE, APP, nodeAffinityPolicy="Ignore"), selector={ZONE: ZONES[0]})
    answer = planned(*pods)
    assert answer.skew() == [1]
    assert len(answer.rejected()) == 4


def test_affinity_to_a_pod_in_the_batch() -> None:
    """69: required affinity by hostname puts pods on one node."""
    answer = planned(
        pod("leader", labels=APP, cpu="1"), pod("follower", cpu="2", near=[term(HOSTNAME, APP)])
    )
    assert answer.placed_on("leader") == answer.placed_on("follower")


def test_self_affinity_fills_one_node() -> None:
    """70: self-affine pods stay on one node; those beyond it wait."""
    goods = catalog(instance_type("five", pods="5"))
    pods = [pod(f"p{i}", labels=APP, cpu="1m", near=[term(HOSTNAME, APP)]) for i in range(10)]
    answer = planned(*pods, catalog=goods)
    assert answer.skew(HOSTNAME) == [5]
    assert set(map(tuple, answer.rejected().values())) == {("PodAffinity",)}


def test_anti_affinity_is_settled_in_one_pass() -> None:
    """71: better than Karpenter, a repelled pod is placed in the same pass, in another zone,
    instead of waiting for the next."""
    answer = planned(
        pod("a", labels=APP, apart=[term(ZONE, {"app": "b"})]), pod("b", labels={"app": "b"})
    )
    assert not answer.rejected()
    assert answer.zones("a").isdisjoint(answer.zones("b"))


def test_existing_anti_affinity_repels() -> None:
    """72: newcomers avoid the zones of pods that do not want them."""
    answer = planned(
        pod("new", labels=APP),
        node("n", zone=ZONES[0]),
        pod("old", node="n", apart=[term(ZONE, APP)]),
    )
    assert answer.zones("new") == set(ZONES[1:])


def test_existing_preferred_anti_affinity_does_not() -> None:
    """73: what existing pods only prefer keeps nobody away."""
    answer = planned(
        pod("new", labels=APP),
        node("n", zone=ZONES[0]),
        pod("old", node="n", apart_preferred=[wish(9, term(ZONE, APP))]),
    )
    assert answer.placed_on("new") == "n"


def test_affinity_to_nobody() -> None:
    """74: affinity to a pod that does not exist leaves the pod out."""
    answer = planned(pod(near=[term(ZONE, {"app": "ghost"})]))
    assert answer.rejected() == {"pod": {"PodAffinity"}}


def test_empty_namespace_selector() -> None:
    """75: an empty namespaceSelector looks into every namespace."""
    answer = planned(
        pod("new", near=[term(ZONE, APP, namespaceSelector={})]),
        node("n", zone=ZONES[1], cpu="1"),
        pod("old", namespace="far", node="n", labels=APP, cpu="1"),
    )
    assert answer.zones("new") == {ZONES[1]}
