"""Disruption amid faults: what cannot be read, priced or trusted blocks itself and nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels
from outrider.core.catalog.instancetype import Catalog
from outrider.core.disruption import moves
from outrider.core.disruption.budgets import problem
from outrider.core.disruption.decide import confirm, decide
from outrider.core.disruption.outcome import after
from outrider.core.disruption.scene import Policy
from tests.support.estate import DAY, NOW, Estate, catalog, claim, node, pod, pool

ONLY: dict[str, Any] = {
    "requirements": [{"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]}]
}


def unreadable(name: str = "pool") -> Any:
    """Return a NodePool with a schedule that the API server takes and no clock knows."""
    entry = {"nodes": "100%", "schedule": "0 99 * * *", "duration": "1h"}
    return pool(name, disruption={"budgets": [entry]})


def test_a_malformed_schedule_blocks_its_own_pool_and_says_so() -> None:
    """A budget that cannot be read lets nothing of its NodePool go; others go on (F16)."""
    estate = Estate(unreadable(), pool("other"), node("n1"), node("n2", of="other"))
    decision = estate.decide()
    assert [command.nodes for command in decision.commands] == [("n2",)]
    (blocked,) = decision.blocked
    assert (blocked.node, blocked.code) == ("n1", "Budget")
    assert "spec.disruption.budgets[0].schedule" in blocked.message
    assert "budgets[0]" in problem(unreadable())
    assert problem(pool()) == ""


@pytest.mark.parametrize("price", [0.0, -1.0])
def test_prices_that_vanish_block_what_needs_them(price: float) -> None:
    """A node whose price is gone is not consolidated; an empty one goes all the same."""
    prices = catalog(m5_xlarge=price)
    estate = Estate(pool(), node("n1"), node("n2"), pod("a", on="n1"), prices=prices)
    assert estate.code("n1") == "NoPrice"
    assert [command.nodes for command in estate.decide().commands] == [("n2",)]


def test_a_catalogue_without_anything_moves_nobody() -> None:
    """With no type to be had nothing is replaced, and nothing fails."""
    estate = Estate(pool(), node("n1"), node("n2"), *(pod(f"p{n}", on="n1") for n in range(3)))
    estate.catalog = Catalog(())
    decision = estate.decide()
    assert [command.reason.value for command in decision.commands] == ["Empty"]
    assert decision.price_per_hour_before == 0.0


def test_a_type_that_left_the_catalogue_stays_and_takes_pods() -> None:
    """A node of an unknown type has no price; it is no drift, and a place like any other."""
    lost = node("n1", labels={labels.INSTANCE_TYPE: "old.huge"})
    estate = Estate(pool(), lost, claim(lost), node("n2"), pod("a", on="n1"), pod("b", on="n2"))
    (command,) = estate.decide().commands
    assert command.nodes == ("n2",)
    assert [item.node for item in command.placements] == ["n1"]


def test_a_pool_that_is_deleted_between_the_looks_confirms_nothing() -> None:
    """What was decided for a NodePool that is gone is not carried out."""
    estate = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1"))
    first = estate.decide().commands
    assert first
    gone = replace(estate.state, nodepools=(), _index={})
    assert confirm(first, gone, estate.catalog, estate.policy, NOW) == ()
    assert [item.code for item in decide(gone, estate.catalog, estate.policy, NOW).blocked] == [
        "InvalidNodePool"
    ]


def test_a_busy_cluster_is_confirmed_on_its_merits() -> None:
    """A pod that came between the looks does not undo a command that still pays."""
    estate = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1"))
    first = estate.decide().commands
    later = Estate(pool(), node("n1", "m5.4xlarge"), pod("a", on="n1"), pod("b", on="n1"))
    (again,) = confirm(first, later.state, later.catalog, later.policy, NOW)
    assert again.nodes == ("n1",)
    assert sorted(key for launch in again.launches for key in launch.pods) == [
        "default/a",
        "default/b",
    ]


def test_a_clock_ahead_of_ours_holds_nothing_up() -> None:
    """A pod event from the future counts as one of now."""
    one = node("n1", "m5.4xlarge")
    status = {"lastPodEventTime": "2026-03-02T15:00:00Z"}
    estate = Estate(pool(), one, claim(one, status=status), pod("a", on="n1"))
    assert estate.decide().commands
    waits = pool(disruption={"consolidateAfter": "30m"})
    held = Estate(waits, one, claim(one, status=status), pod("a", on="n1"))
    assert held.code("n1") == "ConsolidateAfter"


def test_a_claim_from_the_future_has_not_expired() -> None:
    """Expiry counts from when the NodeClaim says that it was made."""
    one = node("n1")
    estate = Estate(
        pool(disruption={"consolidateAfter": "Never"}),
        one,
        claim(one, age=-DAY, expireAfter="1h"),
        pod("a", on="n1"),
    )
    assert estate.decide().commands == ()


@pytest.mark.parametrize(
    "note", ["", "x", "abc=1", "abc=x@1@2", "abc=9@1@99999999999999", ",,=,", "abc=1@2"]
)
def test_a_note_of_moves_that_nobody_wrote_holds_nothing(note: str) -> None:
    """An annotation that cannot be read is as good as none."""
    one = node("n1", "m5.4xlarge", annotations={labels.MOVED: note})
    estate = Estate(pool(), one, pod("a", on="n1"))
    assert estate.decide().commands


def test_a_pod_that_was_moved_twice_today_rests_for_a_day() -> None:
    """Consolidation leaves its node alone until a day has passed, then takes it again."""
    small, state = Estate(pool(template=ONLY), node("n1"), pod("a", on="n1")), None
    now = NOW
    for _ in range(2):
        state = small.state if state is None else state
        bigger = catalog(m5_large=0.01 if now == NOW else 0.10, m5_xlarge=0.20)
        commands = decide(state, bigger, Policy(), now).commands
        assert commands
        state = after(state, commands, bigger, now)
        (home,) = state.nodes
        labelled = {**home.labels, labels.INSTANCE_TYPE: "m5.4xlarge"}  # and suddenly too dear
        state = replace(state, nodes=(replace(home, labels=labelled),), _index={})
        now += timedelta(minutes=10)
    assert state is not None
    (held,) = decide(state, catalog(), Policy(), now).blocked
    assert (held.code, "moved 2 times" in held.message) == ("Budget", True)
    assert moves.most(state.nodes[0], state.pods, now) == 2
    assert decide(state, catalog(), Policy(), now + DAY).commands


def test_spot_sets_keep_their_flexibility_too() -> None:
    """Several Spot nodes are not merged into Spot that only one type offers."""
    spot = {
        "requirements": [{"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.SPOT]}]
    }
    nodes = [node(f"n{place}", "m5.xlarge", bought=labels.SPOT) for place in range(2)]
    pods = [pod(f"p{place}", on=f"n{place}", cpu="2500m") for place in range(2)]
    estate = Estate(pool(template=spot), *nodes, *pods, prices=catalog(m5_2xlarge=0.21))
    assert estate.decide().commands == ()
    assert {estate.code("n0"), estate.code("n1")} <= {"SpotFlexibility", "NotCheaper"}
