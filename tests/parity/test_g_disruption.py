"""Parity G: voluntary disruption (karpenter-semantics.md, section 3 F)."""

from __future__ import annotations

from typing import Any

from outrider.apis import labels
from tests.support.estate import (
    DAY,
    NOW,
    Estate,
    budget,
    catalog,
    claim,
    node,
    pod,
    pool,
)

ON_DEMAND: dict[str, Any] = {
    "requirements": [{"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}]
}
SPOT: dict[str, Any] = {
    "requirements": [{"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.SPOT]}]
}
OLD = {labels.NODEPOOL_HASH: "1", labels.NODEPOOL_HASH_VERSION: "v3"}
NEW = {labels.NODEPOOL_HASH: "2", labels.NODEPOOL_HASH_VERSION: "v3"}


def commands(*objects: Any, **more: Any) -> list[tuple[str, tuple[str, ...], int]]:
    """Return reason, nodes and number of launches of every command of a pass."""
    found = Estate(*objects, **more).decide().commands
    return [(item.reason.value, item.nodes, len(item.launches)) for item in found]


def protected(text: str) -> dict[str, Any]:
    """Return the part of a pod that protects it."""
    return {"metadata": {"annotations": {labels.DO_NOT_DISRUPT: text}}}


def test_empty_nodes_go_together() -> None:
    """104: two empty nodes go in one command, without a replacement."""
    assert commands(pool(), node("n1"), node("n2")) == [("Empty", ("n1", "n2"), 0)]


def test_a_budget_of_three() -> None:
    """105: of ten empty nodes a budget of three lets exactly three go."""
    few = pool(disruption={"budgets": [{"nodes": "3"}]})
    ((_, nodes, _),) = commands(few, *(node(f"n{place}") for place in range(10)))
    assert len(nodes) == 3


def test_daemons_do_not_count() -> None:
    """106: a node with DaemonSet pods only is empty."""
    found = commands(pool(), node("n1"), pod("d", on="n1", owner="DaemonSet"))
    assert found == [("Empty", ("n1",), 0)]


def test_pods_that_fit_elsewhere() -> None:
    """107: an underused node whose pods fit on others goes, each pod with its place."""
    busy = [pod(f"b{place}", on="n2") for place in range(4)]
    estate = Estate(pool(), node("n1"), node("n2"), pod("a", on="n1"), *busy)
    command = estate.command()
    assert (command.nodes, command.launches) == (("n1",), ())
    assert [(item.pod, item.node) for item in command.placements] == [("default/a", "n2")]


def test_a_cheaper_type() -> None:
    """108: a replacement's list holds only what is cheaper, its dearest choice included."""
    command = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1")).command()
    assert all(choice.price_per_hour < 0.8 for choice in command.launches[0].choices)


def test_nothing_cheaper() -> None:
    """109: without a cheaper replacement there is no command, and the node says so."""
    estate = Estate(pool(template=ON_DEMAND), node("n1", "m5.large"), pod("a", on="n1"))
    assert (estate.decide().commands, estate.code("n1")) == ((), "NotCheaper")


def test_spot_keeps_flexibility() -> None:
    """110, 111: better than Karpenter, Spot to Spot asks for five cheaper types, of sets of nodes
    too, and for no feature gate; Karpenter asks for fifteen, of single nodes.
    """
    estate = Estate(
        pool(template=SPOT), node("n1", "m5.xlarge", bought=labels.SPOT), pod("a", on="n1")
    )
    assert estate.code("n1") == "SpotFlexibility"


def test_three_become_one() -> None:
    """112: better than Karpenter, any number of nodes becomes any number of cheaper ones; Karpenter
    launches one at most.
    """
    three = [node(f"n{place}") for place in range(3)]
    pods = [pod(f"p{place}", on=f"n{place}", cpu="2200m") for place in range(3)]
    cheap = catalog(m5_2xlarge=0.3)
    ((_, nodes, launches),) = commands(pool(template=ON_DEMAND), *three, *pods, prices=cheap)
    assert (len(nodes), launches) == (3, 1)
    split = catalog(m5_2xlarge=2.0, m5_4xlarge=2.0)
    large = [pod("a", on="n1", cpu="3"), pod("b", on="n1", cpu="3")]
    found = commands(pool(template=ON_DEMAND), node("n1", "m5.4xlarge"), *large, prices=split)
    assert found == [("Underutilized", ("n1",), 2)]


def test_no_merge_at_the_same_price() -> None:
    """113: two nodes that only merge into one of their joint price stay."""
    pair = [node(name, "m5.large") for name in ("n1", "n2")]
    pods = [pod(f"p-{name}", on=name, cpu="1500m") for name in ("n1", "n2")]
    assert commands(pool(template=ON_DEMAND), *pair, *pods) == []


def test_do_not_disrupt() -> None:
    """114: a protected pod keeps its node; a duration that is over frees it."""
    held = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1", **protected("true")))
    assert held.code("n1") == "DoNotDisrupt"
    timed = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1", **protected("1h")))
    assert timed.code("n1", NOW - DAY) == "DoNotDisrupt"
    assert timed.decide().commands


def test_a_pod_disruption_budget_of_none() -> None:
    """115: a PodDisruptionBudget that allows none keeps the node."""
    mine: dict[str, Any] = {"metadata": {"labels": {"app": "x"}}}
    estate = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1", **mine), budget("b", 0))
    assert estate.code("n1") == "PodDisruptionBudget"


def test_a_node_that_is_not_up() -> None:
    """116: no command relies on a node that is not initialised."""
    coming = node("n2", "m5.4xlarge", initialized=False)
    limited = pool(limits={"nodes": "2"})
    lone = pod("a", on="n1", cpu="1800m")
    assert commands(limited, node("n1", "m5.large"), coming, lone) == []


def test_a_restless_destination() -> None:
    """117: a node inside its consolidateAfter takes no moved pods."""
    fresh: dict[str, Any] = {"status": {"startTime": "2026-03-02T13:59:00Z"}}
    restless = pool("r", disruption={"consolidateAfter": "10m"}, limits={"nodes": "1"})
    objects = (node("n1", "m5.large", bought=labels.SPOT), node("n2", "m5.4xlarge", of="r"))
    pods = (pod("a", on="n1", cpu="1800m"), pod("b", on="n2", **fresh))
    assert commands(pool(), restless, *objects, *pods) == []


def test_balanced() -> None:
    """118: under policy Balanced a small saving for many pods is refused."""
    crowd = [pod(f"p{place}", on="n1", cpu="50m") for place in range(30)]
    estate = Estate(
        pool(disruption={"consolidationPolicy": "Balanced"}, template=ON_DEMAND),
        node("n1"),
        node("n2", "m5.4xlarge"),
        *crowd,
        pod("big", on="n2", cpu="15"),
        prices=catalog(m5_large=0.18),
    )
    assert estate.code("n1") == "BelowThreshold"


def test_the_oldest_drift_first() -> None:
    """119: of drifted nodes with pods the oldest drift goes, one at a time, replacement first."""
    one, two = node("n1"), node("n2")
    found = commands(
        pool(annotations=NEW, disruption={"consolidateAfter": "Never"}),
        one,
        two,
        claim(one, annotations=OLD, age=DAY),
        claim(two, annotations=OLD, age=2 * DAY),
        pod("a", on="n1", cpu="3"),
        pod("b", on="n2", cpu="3"),
    )
    assert found == [("Drifted", ("n2",), 1)]


def test_drift_through_protection() -> None:
    """120: with terminationGracePeriod a protected drifted node goes, consolidation never does."""
    one = node("n1")
    objects = (pool(annotations=NEW), one, pod("a", on="n1", **protected("true")))
    assert commands(*objects, claim(one, annotations=OLD)) == []
    bounded = claim(one, annotations=OLD, terminationGracePeriod="1h")
    assert [item[0] for item in commands(*objects, bounded)] == ["Drifted"]


def test_expiry_replaces_first() -> None:
    """135: better than Karpenter, an expired node goes once its replacement is up, within budgets;
    do-not-disrupt and PodDisruptionBudgets hold it until terminationGracePeriod is over too.
    """
    one = node("n1")
    held = pool(disruption={"budgets": [{"nodes": "0"}]})
    assert commands(held, one, claim(one, expireAfter="1h"), pod("a", on="n1")) == []
    ((reason, _, launches),) = commands(
        pool(template=ON_DEMAND), one, claim(one, expireAfter="1h"), pod("a", on="n1")
    )
    assert (reason, launches) == ("Expired", 1)
