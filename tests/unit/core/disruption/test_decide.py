"""What voluntary disruption does and what it leaves alone; numbers are karpenter-semantics'."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels
from outrider.core.disruption.outcome import after
from outrider.core.disruption.result import Reason
from outrider.core.taints import Taint
from tests.support.estate import (
    DAY,
    NOW,
    ZONES,
    Estate,
    budget,
    catalog,
    claim,
    node,
    pod,
    pool,
)

DO_NOT: dict[str, Any] = {"metadata": {"annotations": {labels.DO_NOT_DISRUPT: "true"}}}
UNDER_X: dict[str, Any] = {"metadata": {"labels": {"app": "x"}}}


def nodes_of(estate: Estate) -> list[tuple[str, tuple[str, ...]]]:
    """Return reason and nodes of every command."""
    return [(command.reason.value, command.nodes) for command in estate.decide().commands]


def test_empty_nodes_go_together() -> None:
    """Both empty nodes are deleted without a replacement (104)."""
    command = Estate(pool(), node("n1"), node("n2")).command()
    assert (command.reason, command.nodes) == (Reason.EMPTY, ("n1", "n2"))
    assert command.launches == ()
    assert command.savings_per_hour == pytest.approx(0.4)


def test_a_budget_holds_empty_nodes() -> None:
    """Of ten empty nodes exactly three go under a budget of three (105)."""
    estate = Estate(
        pool(disruption={"budgets": [{"nodes": "3"}]}), *(node(f"n{place}") for place in range(10))
    )
    assert len(estate.command().nodes) == 3
    assert estate.code("n9") == "Budget"


def test_daemons_do_not_count() -> None:
    """A node with DaemonSet pods only is empty (106)."""
    estate = Estate(pool(), node("n1"), pod("d", on="n1", owner="DaemonSet"))
    assert estate.command().reason is Reason.EMPTY


def test_an_underused_node_is_emptied_onto_others() -> None:
    """Its pods fit elsewhere, and are mapped there (107)."""
    estate = Estate(
        pool(),
        node("n1"),
        node("n2"),
        pod("a", on="n1"),
        *(pod(f"b{i}", on="n2") for i in range(4)),
    )
    command = estate.command()
    assert (command.reason, command.nodes) == (Reason.UNDERUTILIZED, ("n1",))
    assert [(item.pod, item.node) for item in command.placements] == [("default/a", "n2")]
    assert command.launches == ()


def test_a_cheaper_type_replaces() -> None:
    """One replacement, and every alternative on its list is cheaper than the node (108)."""
    estate = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1"))
    command = estate.command()
    (launch,) = command.launches
    assert launch.instance_types[0] == "m5.large"
    assert all(choice.price_per_hour < 0.8 * 0.95 for choice in launch.choices)
    assert command.savings_per_hour == pytest.approx(0.8 - launch.price_per_hour)


def test_nothing_cheaper_nothing_done() -> None:
    """A node that is the cheapest already stays (109)."""
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}
        ]
    }
    estate = Estate(pool(template=only), node("n1", "m5.large"), pod("a", on="n1"))
    assert nodes_of(estate) == []
    assert estate.code("n1") == "NotCheaper"


def test_a_small_saving_is_not_worth_it() -> None:
    """Five per cent of the price is the least that a replacement must save."""
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}
        ]
    }
    prices = catalog(m5_large=0.196, m5_xlarge=0.2)
    estate = Estate(pool(template=only), node("n1"), pod("a", on="n1"), prices=prices)
    assert estate.code("n1") == "BelowThreshold"


def test_spot_keeps_its_flexibility() -> None:
    """A Spot node is replaced by Spot only if enough cheaper types would do (110, 111)."""
    spot = {
        "requirements": [{"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.SPOT]}]
    }
    estate = Estate(
        pool(template=spot), node("n1", "m5.xlarge", bought=labels.SPOT), pod("a", on="n1")
    )
    assert estate.code("n1") == "SpotFlexibility"
    roomy = Estate(
        pool(template=spot), node("n1", "m5.4xlarge", bought=labels.SPOT), pod("a", on="n1")
    )
    types = roomy.command().launches[0].instance_types
    assert len(types) >= 3


def test_three_become_one() -> None:
    """Three nodes whose pods fit on one cheaper node are replaced by it (112)."""
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}
        ]
    }
    estate = Estate(
        pool(template=only),
        *(node(f"n{place}", "m5.xlarge") for place in range(3)),
        *(pod(f"p{place}", on=f"n{place}", cpu="2200m") for place in range(3)),
        prices=catalog(m5_2xlarge=0.3),
    )
    command = estate.command()
    assert len(command.nodes) == 3
    assert [launch.instance_types[0] for launch in command.launches] == ["m5.2xlarge"]


def test_no_merge_without_a_saving() -> None:
    """Two nodes that merge only into one of their joint price stay (113)."""
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]},
        ]
    }
    estate = Estate(
        pool(template=only),
        node("n1", "m5.large"),
        node("n2", "m5.large"),
        pod("a", on="n1", cpu="1500m"),
        pod("b", on="n2", cpu="1500m"),
    )
    assert nodes_of(estate) == []


def test_an_oversized_node_splits() -> None:
    """One node becomes two cheaper ones where nothing single is cheap enough (1 -> m)."""
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}
        ]
    }
    prices = catalog(m5_2xlarge=2.0, m5_4xlarge=2.0)
    estate = Estate(
        pool(template=only),
        node("n1", "m5.4xlarge"),
        pod("a", on="n1", cpu="3"),
        pod("b", on="n1", cpu="3"),
        prices=prices,
    )
    command = estate.command()
    assert command.nodes == ("n1",)
    assert [launch.instance_types[0] for launch in command.launches] == ["m5.xlarge"] * 2


def test_do_not_disrupt_on_a_pod_holds_its_node() -> None:
    """A protected pod keeps its node (114); an expired duration does not."""
    held = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1", **DO_NOT))
    assert held.code("n1") == "DoNotDisrupt"
    annotations = {"metadata": {"annotations": {labels.DO_NOT_DISRUPT: "1h"}}}
    free = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1", **annotations))
    assert nodes_of(free)
    assert free.code("n1", NOW - DAY) == "DoNotDisrupt"


def test_do_not_disrupt_on_a_node_holds_it() -> None:
    """The annotation on the node itself keeps even an empty one."""
    estate = Estate(pool(), node("n1", annotations={labels.DO_NOT_DISRUPT: "true"}))
    assert estate.code("n1") == "DoNotDisrupt"


@pytest.mark.parametrize(("allowed", "goes"), [(0, False), (1, True)])
def test_a_pod_budget_holds(allowed: int, goes: bool) -> None:
    """A PodDisruptionBudget that allows none keeps the node (115)."""
    estate = Estate(
        pool(),
        node("n1", "m5.4xlarge"),
        pod("a", on="n1", **UNDER_X),
        budget("pdb", allowed),
    )
    assert bool(nodes_of(estate)) is goes
    if not goes:
        assert estate.code("n1") == "PodDisruptionBudget"


def test_a_node_that_is_not_up_receives_nothing() -> None:
    """A move onto an uninitialised node is no command (116)."""
    estate = Estate(
        pool(limits={"nodes": "2"}),
        node("n1", "m5.large"),
        node("n2", "m5.4xlarge", initialized=False),
        pod("a", on="n1", cpu="1800m"),
    )
    assert nodes_of(estate) == []
    assert estate.code("n2") == "NotInitialized"


def test_a_restless_node_receives_nothing() -> None:
    """A destination inside its consolidateAfter takes no moved pods (117)."""
    fresh = {"metadata": {"creationTimestamp": "2026-03-02T13:59:00Z"}}
    started = {"status": {"startTime": "2026-03-02T13:59:00Z"}}
    calm = pool("calm")
    restless = pool("restless", disruption={"consolidateAfter": "10m"}, limits={"nodes": "1"})
    objects = (
        calm,
        restless,
        node("n1", "m5.large", of="calm", bought=labels.SPOT),
        node("n2", "m5.4xlarge", of="restless"),
        pod("a", on="n1", cpu="1800m"),
        pod("b", on="n2", **fresh, **started),
    )
    estate = Estate(*objects)
    assert not any("n1" in nodes for _, nodes in nodes_of(estate))
    assert estate.code("n2") == "ConsolidateAfter"
    later = Estate(*objects).decide(NOW + timedelta(hours=1))
    assert any("n1" in command.nodes for command in later.commands)


def test_balanced_weighs_the_disruption() -> None:
    """Under Balanced a saving that is small beside the pods moved is refused (118)."""
    wish = {"consolidationPolicy": "Balanced"}
    crowd = [pod(f"p{place}", on="n1", cpu="50m") for place in range(30)]
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}
        ]
    }
    estate = Estate(
        pool(disruption=wish, template=only),
        node("n1", "m5.xlarge"),
        node("n2", "m5.4xlarge"),
        *crowd,
        pod("big", on="n2", cpu="15"),
        prices=catalog(m5_large=0.18),
    )
    assert estate.code("n1") == "BelowThreshold"


def test_policy_when_empty_leaves_used_nodes() -> None:
    """WhenEmpty consolidates empty nodes only."""
    estate = Estate(
        pool(disruption={"consolidationPolicy": "WhenEmpty"}),
        node("n1", "m5.4xlarge"),
        node("n2"),
        pod("a", on="n1"),
    )
    assert nodes_of(estate) == [("Empty", ("n2",))]
    assert estate.code("n1") == "PolicyForbids"


def test_consolidate_after_never() -> None:
    """Never means never, also for empty nodes."""
    estate = Estate(pool(disruption={"consolidateAfter": "Never"}), node("n1"))
    assert estate.code("n1") == "ConsolidateAfter"


def test_a_node_without_a_price_is_left() -> None:
    """What nobody can price cannot be proven to be cheaper."""
    bought = {"labels": {labels.INSTANCE_TYPE: "x9.huge"}}
    estate = Estate(pool(), node("n1", **bought), pod("a", on="n1"))
    assert estate.code("n1") == "NoPrice"


@pytest.mark.parametrize(
    ("objects", "code"),
    [
        ((node("n1"),), "InvalidNodePool"),
        ((pool(annotations={labels.PAUSED: "true"}), node("n1")), "Paused"),
        ((pool(replicas=2), node("n1")), "StaticPool"),
        ((pool(), node("n1", deletionTimestamp="2026-03-02T14:00:00Z")), "Deleting"),
    ],
)
def test_some_nodes_are_nobodys_to_take(objects: tuple[object, ...], code: str) -> None:
    """Nodes of missing, paused or static pools and deleted nodes stay, and say why."""
    assert Estate(*objects).code("n1") == code


def test_a_nominated_node_stays() -> None:
    """A pod is on its way to it."""
    waiting = replace(pod("a"), nominated_node_name="n1")
    assert Estate(pool(), node("n1"), waiting).code("n1") == "Nominated"


def test_an_empty_replacement_is_not_an_empty_node() -> None:
    """A node that was launched for pods which have not moved yet is awaited, not empty."""
    leaving, fresh = node("n1"), node("n2")
    going = replace(leaving, taints=(Taint(labels.DISRUPTED_TAINT, "", "NoSchedule"),))
    planned = {"annotations": {labels.PODS: "default/a"}}
    objects = (pool(), going, fresh, claim(fresh, **planned))
    assert Estate(*objects, pod("a", on="n1")).code("n2") == "Nominated"
    assert Estate(*objects).command().nodes == ("n2",)


def hashed(version: str = "v3", value: str = "1") -> dict[str, str]:
    """Return the annotations by which NodePool drift is seen."""
    return {labels.NODEPOOL_HASH: value, labels.NODEPOOL_HASH_VERSION: version}


def test_drift_goes_oldest_first_one_at_a_time() -> None:
    """Of two drifted nodes with pods the older one goes, its replacement first (119)."""
    one, two = node("n1"), node("n2")
    estate = Estate(
        pool(annotations=hashed(value="2"), disruption={"consolidateAfter": "Never"}),
        one,
        two,
        claim(one, annotations=hashed(), age=DAY),
        claim(two, annotations=hashed(), age=2 * DAY),
        pod("a", on="n1", cpu="3"),
        pod("b", on="n2", cpu="3"),
    )
    assert nodes_of(estate) == [("Drifted", ("n2",))]
    assert len(estate.command().launches) == 1


@pytest.mark.parametrize(
    "annotations", [{}, hashed(version="v2"), hashed(value="2")], ids=["none", "version", "same"]
)
def test_what_is_no_drift(annotations: dict[str, str]) -> None:
    """A missing hash, one of another version and an equal one are no drift."""
    one = node("n1")
    estate = Estate(
        pool(annotations=hashed(value="2"), disruption={"consolidateAfter": "Never"}),
        one,
        claim(one, annotations=annotations),
        pod("a", on="n1", cpu="3"),
    )
    assert nodes_of(estate) == []


def test_our_own_claims_drift_without_anybody_annotating_the_pool() -> None:
    """A NodeClaim that outrider made is compared with what its NodePool says now, also where
    Karpenter's annotations of old are still on the pool.
    """
    one = node("n1")
    made_for = pool()
    mine = {
        labels.NODEPOOL_HASH: made_for.hash,
        labels.NODEPOOL_HASH_VERSION: made_for.hash_version,
    }
    objects = (one, claim(one, annotations=mine), pod("a", on="n1", cpu="3"))
    quiet = {"consolidateAfter": "Never"}
    for left_behind in ({}, hashed()):
        same = pool(disruption=quiet, annotations=left_behind)
        assert nodes_of(Estate(same, *objects)) == []
        changed = pool(
            disruption=quiet,
            annotations=left_behind,
            template={"taints": [{"key": "new", "effect": "PreferNoSchedule"}]},
        )
        assert nodes_of(Estate(changed, *objects)) == [("Drifted", ("n1",))]


def test_requirements_drift_and_say_so() -> None:
    """A node that its NodePool would not make any more has drifted."""
    one = node("n1", zone=ZONES[0])
    narrow = {"requirements": [{"key": labels.ZONE, "operator": "In", "values": [ZONES[1]]}]}
    estate = Estate(pool(template=narrow), one, claim(one), pod("a", on="n1"))
    assert "RequirementsDrifted" in estate.command().why


def test_drift_goes_through_protection_with_a_grace_period() -> None:
    """terminationGracePeriod makes a protected drifted node eligible, with a deadline (120)."""
    one = node("n1")
    objects = (
        pool(annotations=hashed(value="2")),
        one,
        pod("a", on="n1", **DO_NOT),
    )
    held = Estate(*objects, claim(one, annotations=hashed()))
    assert held.code("n1") == "DoNotDisrupt"
    eventual = Estate(
        *objects, claim(one, annotations=hashed(), terminationGracePeriod="1h")
    ).command()
    assert eventual.deadline == NOW + timedelta(hours=1)


def test_expiry_replaces_first() -> None:
    """An expired node goes after its replacement is planned, whatever it costs."""
    one = node("n1", "m5.large")
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}
        ]
    }
    estate = Estate(
        pool(template=only), one, claim(one, expireAfter="12h"), pod("a", on="n1", cpu="1500m")
    )
    command = estate.command()
    assert (command.reason, len(command.launches)) == (Reason.EXPIRED, 1)


def test_expiry_honours_protection_until_the_grace_period_is_over() -> None:
    """do-not-disrupt holds an expired node until terminationGracePeriod is over as well."""
    one = node("n1")
    objects = (pool(), one, pod("a", on="n1", **DO_NOT))
    estate = Estate(*objects, claim(one, expireAfter="12h"))
    assert estate.code("n1") == "DoNotDisrupt"
    bounded = Estate(*objects, claim(one, expireAfter="12h", terminationGracePeriod="13h"))
    assert bounded.code("n1") == "DoNotDisrupt"
    command = bounded.command(NOW + timedelta(hours=2))
    assert command.reason is Reason.EXPIRED
    assert command.deadline is not None


def test_expiry_counts_against_budgets_without_reasons() -> None:
    """A budget that names reasons says nothing about expiry; one that names none holds it."""
    one = node("n1")
    entries = [{"nodes": "0", "reasons": ["Empty", "Underutilized", "Drifted"]}]
    free = Estate(
        pool(disruption={"budgets": entries}), one, claim(one, expireAfter="1h"), pod("a", on="n1")
    )
    assert free.command().reason is Reason.EXPIRED
    held = Estate(
        pool(disruption={"budgets": [{"nodes": "0"}]}),
        one,
        claim(one, expireAfter="1h"),
        pod("a", on="n1"),
    )
    assert held.code("n1") == "Budget"


def test_a_schedule_opens_and_closes_a_budget() -> None:
    """A budget of 0 from nine to five holds at two in the afternoon, and not at eight at night."""
    entry = {"nodes": "0", "schedule": "0 9 * * *", "duration": "8h"}
    estate = Estate(pool(disruption={"budgets": [entry]}), node("n1"))
    assert estate.code("n1") == "Budget"
    assert estate.command(NOW + timedelta(hours=6)).reason is Reason.EMPTY


def test_a_pass_settles() -> None:
    """After the commands are carried out the next pass finds nothing more to do."""
    estate = Estate(
        pool(),
        *(node(f"n{place}", "m5.2xlarge") for place in range(6)),
        *(pod(f"p{place}", on=f"n{place % 6}", cpu="700m") for place in range(12)),
    )
    passes = 0
    while commands := estate.decide().commands:
        estate.state = after(estate.state, commands, estate.catalog, NOW)
        passes += 1
        assert passes < 10
    assert passes > 0


def test_prices_add_up() -> None:
    """Before less what the commands save is after."""
    estate = Estate(pool(), node("n1", "m5.4xlarge"), node("n2"), pod("a", on="n1"))
    decision = estate.decide()
    saved = sum(command.savings_per_hour for command in decision.commands)
    assert decision.price_per_hour_before == pytest.approx(1.0)
    assert decision.price_per_hour_after == pytest.approx(1.0 - saved)


def test_the_dearest_alternatives_together_stay_below() -> None:
    """Whatever EC2 picks from the lists, the command saves money."""
    estate = Estate(
        pool(),
        *(node(f"n{place}", "m5.4xlarge") for place in range(4)),
        *(pod(f"p{place}", on=f"n{place}", cpu="5") for place in range(4)),
    )
    decision = estate.decide()
    assert decision.commands
    for command in decision.commands:
        if command.launches:
            dearest = sum(
                max(choice.price_per_hour for choice in launch.choices)
                for launch in command.launches
            )
            assert dearest < 0.8 * len(command.nodes)
