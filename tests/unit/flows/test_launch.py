"""Launching: exactly once whatever dies, and on to the next pool where the market is empty."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from outrider.apis import labels
from outrider.core.catalog.bundled import bundled
from outrider.core.clusterstate import ClusterState
from outrider.core.promises import planned_pods
from outrider.core.records import Lease
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.result import Plan
from outrider.core.seeding import Seed, State
from outrider.errors import (
    CloudError,
    ClusterError,
    Conflict,
    Gone,
    NotFound,
    NotHolder,
    Throttled,
    Unreachable,
)
from outrider.flows import errands, launch
from outrider.flows.planning import catalog_now, policy_of
from tests.support.launches import ZONES, nodeclass
from tests.support.market import MarketWorld, pool, some_types, waiting
from tests.support.world import Killed

BOTH = [{"key": labels.CAPACITY_TYPE, "operator": "In", "values": ["spot", "on-demand"]}]
CATALOG = some_types(bundled(), "g6.xlarge", "g5.xlarge", "g6.12xlarge")


def _world(*pods: Any, requirements: Any = BOTH) -> MarketWorld:
    made = MarketWorld()
    made.furnish(CATALOG, nodeclass(), pool(requirements=requirements), *pods)
    return made


def _gpus(count: int) -> list[Any]:
    return [waiting(f"p{place}", **{"nvidia.com/gpu": "1"}) for place in range(count)]


def _plan(made: MarketWorld) -> Plan:
    now = made.clock.now()
    state = made.state
    return plan(
        state, pending(state, now), catalog_now(made.world, now), policy_of(made.world), now
    )


def _launch(made: MarketWorld, decision: str = "d1") -> launch.Launched:
    """Do what provision does under the lease."""
    world = made.world
    held = world.ledger.acquire("test", 45)
    assert held is not None
    return launch.launch(world, _plan(made), made.state, held, decision)


def _consistent(made: MarketWorld) -> None:
    """One instance a NodeClaim, one NodeClaim an instance, nothing left over."""
    claims = made.claims()
    assert len(made.state.nodeclaims) == len(claims)
    assert sorted(claims.values()) == sorted(made.cloud.found)
    assert set(made.ledger.known) == set(made.cloud.found)
    assert {intent.state for intent in made.ledger.written.values()} <= {"launched", "failed"}


def test_a_pod_gets_its_node() -> None:
    """A NodeClaim, an intent, a fleet, an instance: each knows the other."""
    made = _world(*_gpus(1))
    launched = _launch(made)
    assert list(launched.claims.values()) == [("default/p0",)]
    assert not launched.unserved
    _consistent(made)
    claim = made.state.nodeclaims[0]
    assert claim.status.is_true("Launched")
    assert claim.metadata.labels[labels.CAPACITY_TYPE] == "spot"
    assert claim.status.capacity["nvidia.com/gpu"] == 1
    assert planned_pods(claim.metadata.annotations) == ("default/p0",)
    assert made.workflows.recorder.of("watch_join") == [((claim.name,),)]
    assert [one["nodeClaim"] for one in made.bus.of("LaunchStarted")] == [claim.name]
    assert ("p0", "Nominated") in [(name, reason) for name, reason, _ in made.cluster.events]


def test_an_empty_pool_is_left_for_the_next() -> None:
    """Spot here, Spot there, then on-demand: marked and planned again in the same invocation."""
    made = _world(*_gpus(1))
    for name in ("g6.xlarge", "g5.xlarge", "g6.12xlarge"):
        for zone in ZONES:
            made.cloud.stock[name, zone, "spot"] = 0
    launched = _launch(made)
    assert len(launched.claims) == 1
    _consistent(made)
    instance = next(iter(made.cloud.found.values()))
    assert instance.capacity_type == "on-demand"
    assert instance.instance_type == "g6.xlarge"
    assert {pool_[2] for pool_ in made.ledger.marks} == {"spot"}
    assert made.bus.of("LaunchFailed")


def test_partial_stock_is_used_up() -> None:
    """What there is is taken, the rest comes from elsewhere, and nothing is launched twice."""
    made = _world(*_gpus(5), requirements=[BOTH[0], _only("g6.xlarge", "g5.xlarge")])
    for zone in ZONES:
        made.cloud.stock["g6.xlarge", zone, "spot"] = 1
        made.cloud.stock["g5.xlarge", zone, "spot"] = 0
    launched = _launch(made)
    assert sum(map(len, launched.claims.values())) == 5
    _consistent(made)
    bought = [one.capacity_type for one in made.cloud.found.values()]
    assert sorted(bought) == ["on-demand"] * 2 + ["spot"] * 3


def test_nothing_anywhere_ends() -> None:
    """With every pool empty the pods stay pending, the claims go, and the loop ends."""
    made = _world(*_gpus(2))
    for kind in CATALOG.instance_types:
        for zone in ZONES:
            for capacity_type in ("spot", "on-demand"):
                made.cloud.stock[kind.name, zone, capacity_type] = 0
    launched = _launch(made)
    assert launched.claims == {}
    assert made.state.nodeclaims == ()
    _consistent(made)


def test_an_interruption_is_let_in() -> None:
    """Between two fleet calls a waiting interruption gets its turn; the rest comes again."""
    made = _world(*_gpus(1))
    made.world.ledger.flag("interruption-waiting", made.clock.now().replace(year=2027))
    launched = _launch(made)
    assert launched.yielded
    assert made.cloud.found == {}
    assert made.state.nodeclaims == ()


def test_a_brake_holds() -> None:
    """A brake launches nothing and says so; the minute tick tries again."""
    made = _world(*_gpus(1))
    made.ledger.held_back = True
    launched = _launch(made)
    assert launched.claims == {}
    assert made.telemetry.total("LaunchesHeldBack") == 1
    reason = made.bus.of("LaunchFailed")[0]["reason"]
    assert "MaxLaunchesPerMinute" in reason
    assert "To release: " in reason
    assert made.ledger.written == {}


def test_without_the_lease_nothing_is_launched() -> None:
    """Whoever lost the lease cannot write its intent, and so never reaches EC2."""
    made = _world(*_gpus(1))
    world = made.world
    late = world.ledger.acquire("late", 1)
    assert late is not None
    made.pass_time(2)
    assert world.ledger.acquire("other", 45) is not None
    with pytest.raises(NotHolder):
        launch.launch(world, _plan(made), made.state, late, "d1")
    assert made.cloud.found == {}


def test_a_deleted_template_is_made_again() -> None:
    """A template that somebody deleted is made again and the same call repeated."""
    made = _world(*_gpus(1))
    made.recorder.fail(
        "create_fleet", NotFound("gone", "InvalidLaunchTemplateName.NotFoundException")
    )
    assert len(_launch(made).claims) == 1
    _consistent(made)
    tokens = [args[0]["ClientToken"] for args in made.recorder.of("create_fleet")]
    assert len(tokens) == 2
    assert len(set(tokens)) == 1


def test_a_refusal_fails_with_its_reason() -> None:
    """What AWS refuses outright is reported, and its NodeClaims go."""
    made = _world(*_gpus(1))
    made.recorder.fail("create_fleet", CloudError("no", "InvalidParameterValue"))
    assert _launch(made).claims == {}
    assert made.state.nodeclaims == ()
    assert made.bus.of("LaunchFailed")[0]["reason"] == "InvalidParameterValue"


def test_throttling_leaves_the_intent() -> None:
    """A throttled call is asked again with the same token by whoever comes next."""
    made = _world(*_gpus(1))
    made.recorder.fail("create_fleet", Throttled("slow", "RequestLimitExceeded"))
    with pytest.raises(Throttled):
        _launch(made)
    assert {intent.state for intent in made.ledger.written.values()} == {"intended"}
    _launch(made, "d2")
    _consistent(made)
    assert len(made.cloud.found) == 1


def test_a_lost_snapshot_is_forgotten() -> None:
    """A seed whose snapshot is gone is not used again."""
    made = _world(*_gpus(1))
    image = "reg.example.com/ml/trainer:1"
    made.ledger.kept["k"] = Seed(
        "k",
        "amd64",
        "AL2023",
        {image: "sha256:1"},
        {image: 10**10},
        snapshot_id="snap-1",
        state=State.READY.value,
    )
    made.recorder.fail("create_fleet", NotFound("gone", "InvalidSnapshot.NotFound"))
    _launch(made)
    assert made.ledger.kept["k"].state == State.FAILED
    _consistent(made)
    assert len(made.cloud.found) == 1


def test_a_gang_is_whole_or_not_there() -> None:
    """A gang of which a part cannot be had is taken back whole."""
    made = _world(*_gpus(1))
    world = made.world
    held = world.ledger.acquire("test", 45)
    assert held is not None
    one = _plan(made).launches[0]
    spot = tuple(choice for choice in one.choices if choice.capacity_type == "spot")
    mine = tuple(choice for choice in spot if choice.instance_type == "g6.xlarge")
    other = tuple(choice for choice in spot if choice.instance_type == "g5.xlarge")
    gang = (
        replace(one, name="a", gang="train", pods=("default/a",), choices=mine),
        replace(one, name="b", gang="train", pods=("default/b",), choices=other),
    )
    for zone in ZONES:
        made.cloud.stock["g5.xlarge", zone, "spot"] = 0
    launched = launch.launch(
        world, Plan((), gang, (), "cost", "x"), made.state, held, "d1", attempts=1
    )
    assert launched.claims == {}
    assert made.cloud.found == {}
    assert made.state.nodeclaims == ()


def test_an_empty_pool_is_asked_once() -> None:
    """What one request of a plan has found empty, the next one does not ask for again."""
    made = _world(*_gpus(1))
    world = made.world
    held = world.ledger.acquire("test", 45)
    assert held is not None
    one = _plan(made).launches[0]
    spot = tuple(choice for choice in one.choices if choice.capacity_type == "spot")
    for choice in spot:
        made.cloud.stock[choice.instance_type, choice.zone, "spot"] = 0
    two = (
        replace(one, name="a", pods=("default/a",), choices=spot, labels={"team": "a"}),
        replace(one, name="b", pods=("default/b",), choices=spot, labels={"team": "b"}),
    )
    launched = launch.launch(
        world, Plan((), two, (), "cost", "x"), made.state, held, "d1", attempts=1
    )
    assert launched.claims == {}
    assert len(made.recorder.of("create_fleet")) == 1


def _only(*names: str) -> dict[str, Any]:
    return {"key": labels.INSTANCE_TYPE, "operator": "In", "values": list(names)}


def _cascade() -> MarketWorld:
    """Three pods, of which two find Spot and one on-demand: two rounds, several errands."""
    made = _world(*_gpus(3), requirements=[BOTH[0], _only("g6.xlarge", "g5.xlarge")])
    for zone in ZONES:
        made.cloud.stock["g6.xlarge", zone, "spot"] = 0
        made.cloud.stock["g5.xlarge", zone, "spot"] = 0
    made.cloud.stock["g6.xlarge", ZONES[0], "spot"] = 2
    return made


KILL_POINTS = 41


def test_the_kill_matrix_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A launch has as many calls as the matrices below have rows."""
    made = _cascade()
    _launch(made)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(made.recorder.calls)} kill points ")
    assert len(made.recorder.calls) == KILL_POINTS


@pytest.mark.parametrize("call", range(1, KILL_POINTS + 1))
def test_a_kill_at_any_call_is_made_good(call: int) -> None:
    """Killed before any of its calls and run again: no lost pod, no double launch, no orphan."""
    made = _cascade()
    made.recorder.kill_at(call)
    with pytest.raises(Killed):
        _launch(made)
    made.recorder.revive()
    for attempt in range(4):  # the message comes again; each look is a new decision
        made.pass_time(50)
        _launch(made, f"d{attempt + 2}")
    _consistent(made)
    planned = [
        pod for claim in made.state.nodeclaims for pod in planned_pods(claim.metadata.annotations)
    ]
    assert sorted(set(planned)) == ["default/p0", "default/p1", "default/p2"]
    assert len(made.cloud.found) == 3


def _until_done(made: MarketWorld, decision: str) -> None:
    """Plan and launch as often as somebody asks to be called again."""
    for attempt in range(4):
        if not _launch(made, f"{decision}-{attempt}").yielded:
            return
    raise AssertionError("never done")


def _one_node_a_pod(made: MarketWorld) -> None:
    _consistent(made)
    planned = [
        pod for claim in made.state.nodeclaims for pod in planned_pods(claim.metadata.annotations)
    ]
    assert sorted(planned) == ["default/p0", "default/p1", "default/p2"]
    assert len(made.cloud.found) == 3


@pytest.mark.parametrize("call", range(1, KILL_POINTS + 1))
def test_a_lease_lost_at_any_call_launches_nothing_twice(call: int) -> None:
    """Frozen before any of its calls until another has planned and launched, then awake again."""
    made = _cascade()

    def another() -> None:
        made.pass_time(46)
        _until_done(made, "other")

    made.recorder.meanwhile(call, another)
    with suppress(NotHolder):
        _launch(made)
    made.pass_time(46)
    _until_done(made, "later")
    _one_node_a_pod(made)


@pytest.mark.parametrize("call", range(2, KILL_POINTS + 1))
def test_a_plan_outpaced_at_any_call_is_made_again(call: int) -> None:
    """Another has planned on what it read while we were frozen; we finish; then it would launch."""
    made = _cascade()
    world = made.world
    stale: list[tuple[Plan, ClusterState, Lease]] = []

    def another_plans() -> None:
        made.pass_time(46)
        held = world.ledger.acquire("another", 45)
        assert held is not None
        made.pass_time(1)
        stale.append((_plan(made), made.state, held))

    made.recorder.meanwhile(call, another_plans)
    with suppress(NotHolder):
        _launch(made)
    ((wanted, state, held),) = stale
    launch.launch(world, wanted, state, held, "another")
    assert len(made.cloud.found) <= 3
    made.pass_time(46)
    _until_done(made, "again")  # the minute tick
    _one_node_a_pod(made)


@pytest.mark.parametrize(
    "error",
    [
        Conflict("somebody else wrote", 409),
        Gone("the place has expired", 410),
        ClusterError("too many requests", 429),
        ClusterError("internal error", 500),
        Unreachable("no answer"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    "method",
    [
        "create_nodeclaim",
        "patch_nodeclaim",
        "patch_nodeclaim_status",
        "delete_nodeclaim",
        "release_nodeclaim",
        "event",
    ],
)
def test_a_sick_api_server_loses_and_doubles_nothing(method: str, error: ClusterError) -> None:
    """Whatever it answers to whichever write, the next invocations finish what was begun."""
    made = _cascade()
    made.recorder.fail(method, error)
    with suppress(ClusterError):
        _launch(made)
    made.pass_time(46)
    _until_done(made, "again")
    _one_node_a_pod(made)


def test_an_old_errand_is_given_up() -> None:
    """An intent of long ago is not bought any more: its claims go, its pods are planned anew."""
    made = _world(*_gpus(1))
    made.recorder.fail("create_fleet", Throttled("slow", "RequestLimitExceeded"))
    with pytest.raises(Throttled):
        _launch(made)
    made.pass_time(601)
    errands.recover(made.world, made.state, CATALOG)
    assert made.state.nodeclaims == ()
    assert {intent.state for intent in made.ledger.written.values()} == {"failed"}
