"""An interruption: whose it is, what runs already, replacement and drain, under every mishap."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels
from outrider.apis.duration import stamp
from outrider.core.records import Reaction
from outrider.core.scheduling.result import Plan
from outrider.errors import Throttled
from outrider.flows import drain, interrupt, launch
from outrider.flows.launch import Launched
from tests.support import estate
from tests.support.world import FakeWorld, Killed

OTHERS = "i-00000000000000bad"


class Launcher:
    """Stands in for `flows.launch`: gives every launch of a plan a NodeClaim."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.yields = 0

    def __call__(
        self, world: Any, made: Plan, state: Any, held: Any, decision: str, **_: Any
    ) -> Any:
        """Return a claim for each launch."""
        self.plans.append(made)
        if self.yields:
            self.yields -= 1
            return Launched(yielded=True)
        return Launched({f"new-{place}": one.pods for place, one in enumerate(made.launches)})


STATE = "EC2 Instance State-change Notification"


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """The launcher of this test."""
    found = Launcher()
    monkeypatch.setattr(launch, "launch", found)
    return found


@pytest.fixture
def fake(launcher: Launcher) -> FakeWorld:
    """A cluster of two full Spot nodes, with a budget of one."""
    world = FakeWorld()
    world.clock.at = estate.NOW
    world.ledger.stored = estate.catalog()
    world.cluster.put(estate.pool(disruption={"budgets": [{"nodes": "1"}]}))
    for name in ("n1", "n2"):
        one = estate.node(name, bought=labels.SPOT)
        world.join(one, estate.pod(f"{name}-pod", on=name, cpu="3500m"))
        world.cluster.put(estate.claim(one))
    return world


def instance(name: str) -> str:
    """Return the instance id of a node."""
    found: str = estate.node(name).instance_id
    return found


def warning(
    name: str = "n1",
    *,
    kind: str = "EC2 Spot Instance Interruption Warning",
    age: timedelta = timedelta(0),
    **detail: Any,
) -> dict[str, Any]:
    """Return an event about a node's instance."""
    given = {"instance-id": instance(name), "instance-action": "terminate", **detail}
    return {
        "version": "0",
        "id": f"id-{name}-{kind}",
        "source": "aws.ec2",
        "detail-type": kind,
        "account": "123456789012",
        "region": "us-east-1",
        "time": stamp(estate.NOW - age),
        "resources": [],
        "detail": given,
    }


def rebalance(name: str = "n1") -> dict[str, Any]:
    """Return a rebalance recommendation."""
    return warning(name, kind="EC2 Instance Rebalance Recommendation")


def rebalance_of(age: timedelta) -> dict[str, Any]:
    """Return a rebalance recommendation of another day."""
    return warning(kind="EC2 Instance Rebalance Recommendation", age=age)


def change(**detail: Any) -> dict[str, Any]:
    """Return an AWS Health event about the first node."""
    given = {
        "service": "EC2",
        "eventTypeCategory": "scheduledChange",
        "statusCode": "upcoming",
        "startTime": "Mon, 16 Mar 2026 15:00:00 GMT",
        "affectedEntities": [{"entityValue": instance("n1")}],
        **detail,
    }
    return {**warning(), "source": "aws.health", "detail-type": "AWS Health Event", "detail": given}


def batch(*events: Any) -> dict[str, Any]:
    """Return the SQS batch that carries *events*."""
    return {
        "Records": [
            {"messageId": f"m{place}", "body": one if isinstance(one, str) else json.dumps(one)}
            for place, one in enumerate(events)
        ]
    }


def failures(answer: Mapping[str, Any]) -> list[str]:
    """Return the messages that must come again."""
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


def test_the_replacement_is_planned_as_if_the_node_were_gone(
    fake: FakeWorld, launcher: Launcher
) -> None:
    """Its pods are launched for elsewhere, its pool is shut, the drain is told who comes."""
    assert failures(interrupt.interrupt(batch(warning()), fake.world)) == []
    (plan,) = launcher.plans
    (wanted,) = plan.launches
    assert wanted.pods == ("default/n1-pod",)
    assert ("m5.xlarge", estate.ZONES[0], labels.SPOT) in fake.ledger.marks
    assert all(
        (one.instance_type, one.zone, one.capacity_type) not in fake.ledger.marks
        for one in wanted.choices
    )
    row = fake.ledger.rows[instance("n1")]
    assert (row.planned, row.replacements) == (True, ("new-0",))
    (payload,) = fake.workflows.started.values()
    assert payload["deadline"] == stamp(estate.NOW + timedelta(seconds=120))
    assert [name for name, _ in fake.bus.published] == ["NodeInterrupted", "ReplacementLaunched"]


def test_the_drain_starts_before_the_plan(fake: FakeWorld, launcher: Launcher) -> None:
    """The deadline does not wait for a planner: the execution runs while the plan is made."""
    started: list[int] = []
    original = launcher.__class__.__call__

    def watched(self: Launcher, *args: Any, **kwargs: Any) -> Any:
        started.append(len(fake.workflows.started))
        return original(self, *args, **kwargs)

    launcher.__class__.__call__ = watched  # type: ignore[method-assign]
    try:
        interrupt.interrupt(batch(warning()), fake.world)
    finally:
        launcher.__class__.__call__ = original  # type: ignore[method-assign]
    assert started == [1]


@pytest.mark.parametrize("times", [2, 3])
def test_duplicates_do_nothing(fake: FakeWorld, launcher: Launcher, times: int) -> None:
    """However often a warning comes, one drain runs and one replacement is launched."""
    for _ in range(times):
        interrupt.interrupt(batch(warning(), warning()), fake.world)
    assert len(fake.workflows.started) == len(launcher.plans) == 1
    assert len(fake.bus.of("NodeInterrupted")) == len(fake.bus.of("ReplacementLaunched")) == 1


def test_others_instances_cost_one_look_in_the_ledger(fake: FakeWorld) -> None:
    """What is not ours is acknowledged without a read of the cluster."""
    foreign = warning()
    foreign["detail"]["instance-id"] = OTHERS
    answer = interrupt.interrupt(batch(*[foreign] * 10), fake.world)
    assert failures(answer) == []
    assert fake.recorder.of("ours") == [((OTHERS,) * 10,)]
    assert fake.recorder.of("state") == []
    assert fake.telemetry.total("SignalsIgnored", Reason="Foreign") == 10


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "NotJson"),
        ("{}", "UnknownKind"),
        ("x" * 1_000_000, "TooLarge"),
        ({**warning(), "detail": {"filler": "x" * 1_000_000}}, "TooLarge"),
        ({**warning(), "detail-type": "EC2 Instance Is Unhappy"}, "UnknownKind"),
        ({**warning(), "detail": {}}, "BadFields"),
        ({**warning(), "detail": {"instance-action": "terminate"}}, "BadFields"),
        ({**warning(), "detail": None}, "BadFields"),
        ({**warning(), "time": "soon"}, "BadFields"),
        ({**warning(), "time": "Mon, 31 Feb 2026 25:61:00 GMT"}, "BadFields"),
        ({**warning(), "region": "eu-central-1"}, "OtherRegion"),
        ({**warning(), "account": "999999999999"}, "OtherAccount"),
        (warning(kind=STATE, state=""), "BadFields"),
        (warning(kind=STATE, state="stop"), "BadFields"),
        (warning(kind=STATE, state="stopped", age=timedelta(days=1)), "Stale"),
        (warning(kind=STATE, state="stopped", age=-timedelta(days=1)), "FromTheFuture"),
        (rebalance_of(timedelta(days=1)), "Stale"),
        (change(startTime="the day before"), "BadFields"),
        (change(startTime="Sat, 31 Jan 2026 25:00:00 GMT"), "BadFields"),
        (change(eventRegion="eu-central-1"), "OtherRegion"),
        (change(eventTypeCategory="issue"), "NotInstances"),
        (change(endTime="Sun, 1 Mar 2026 14:00:00 GMT"), "Over"),
        (change(affectedEntities=[]), "NoInstance"),
        (change(affectedEntities=[{"entityValue": "vol-1"}]), "NoInstance"),
        (warning(**{"instance-id": "i-x"}), "BadFields"),
        (warning(age=timedelta(minutes=6)), "Stale"),
        (warning(age=-timedelta(minutes=6)), "FromTheFuture"),
        (warning(age=timedelta(days=1)), "Stale"),
        (warning(age=-timedelta(days=1)), "FromTheFuture"),
        (warning(kind=STATE, state="running"), "NotGoing"),
    ],
)
def test_bad_messages_are_counted_and_acknowledged(
    fake: FakeWorld, launcher: Launcher, message: Any, reason: str
) -> None:
    """Nothing is done and nothing comes again; the others of the batch are served."""
    answer = interrupt.interrupt(batch(message, warning("n2")), fake.world)
    assert failures(answer) == []
    assert fake.telemetry.total("SignalsIgnored", Reason=reason) == 1
    assert set(fake.ledger.rows) == {instance("n2")}


def test_a_failure_comes_again_alone(fake: FakeWorld, launcher: Launcher) -> None:
    """A drain that cannot be started fails its own message; the repeat carries it through."""
    fake.recorder.fail("start", Throttled("slow", "ThrottlingException"))
    events = batch(warning("n1"), warning("n2"))
    answer = interrupt.interrupt(events, fake.world)
    assert len(failures(answer)) == 1
    place = int(failures(answer)[0][1:])
    again = batch(*[warning(("n1", "n2")[place])])
    assert failures(interrupt.interrupt(again, fake.world)) == []
    assert len(fake.workflows.started) == 2
    assert all(row.planned for row in fake.ledger.rows.values())


@pytest.mark.parametrize("call", range(1, 30))
def test_a_kill_at_any_call_is_made_good(fake: FakeWorld, launcher: Launcher, call: int) -> None:
    """Wherever the function dies, the message's return finishes the work, only once, and what it
    did not live to tell is told by the drain.
    """
    fake.recorder.kill_at(call)
    try:
        interrupt.interrupt(batch(warning()), fake.world)
    except Killed:
        fake.recorder.revive()
        fake.bus.forget()
        fake.clock.sleep(60)
        interrupt.interrupt(batch(warning()), fake.world)
    fake.recorder.revive()
    assert fake.ledger.rows[instance("n1")].planned
    ((_, started),) = fake.workflows.started.items()
    drain.step({**started, "step": "round"}, fake.world)
    for kind in ("NodeInterrupted", "ReplacementLaunched"):
        assert len({detail["id"] for detail in fake.bus.of(kind)}) == 1


def test_a_warning_upgrades_a_rebalance(fake: FakeWorld, launcher: Launcher) -> None:
    """The running reaction gets the deadline, keeps its replacement and launches no second one."""
    interrupt.interrupt(rebalance(), fake.world)
    assert fake.ledger.rows[instance("n1")].deadline is None
    interrupt.interrupt(warning(), fake.world)
    row = fake.ledger.rows[instance("n1")]
    assert row.deadline == estate.NOW + timedelta(seconds=120)
    assert row.replacements == ("new-0",)
    assert len(launcher.plans) == 1
    assert {item["decision"] for item in fake.workflows.started.values()} == {row.decision}
    assert len(fake.workflows.started) == 2


def test_rebalances_come_one_at_a_time(fake: FakeWorld, launcher: Launcher) -> None:
    """A wave of recommendations moves no more nodes than the pool's budget, but one at least."""
    interrupt.interrupt(batch(rebalance("n1"), rebalance("n2")), fake.world)
    assert set(fake.ledger.rows) == {instance("n1")}
    assert fake.telemetry.total("SignalsIgnored", Reason="Budget") == 1
    assert fake.ledger.marks == {}
    assert set(fake.ledger.deferred()) == {instance("n2")}


def test_a_move_that_was_called_off_is_not_tried_again_at_once(
    fake: FakeWorld, launcher: Launcher
) -> None:
    """For ten minutes a node that could not be moved is left alone; its recommendation waits."""
    interrupt.interrupt(batch(rebalance()), fake.world)
    row = fake.ledger.rows[instance("n1")]
    fake.ledger.update_reaction(replace(row, cancelled=True, ended=True))
    fake.clock.sleep(240)
    interrupt.interrupt(batch(rebalance()), fake.world)
    assert len(launcher.plans) == 1
    assert fake.telemetry.total("SignalsIgnored", Reason="Cooldown") == 1
    assert set(fake.ledger.deferred()) == {instance("n1")}
    fake.clock.sleep(420)
    again = {**rebalance(), "time": stamp(fake.clock.now())}
    interrupt.interrupt(batch(again), fake.world)
    assert len(launcher.plans) == 2


@pytest.mark.parametrize(
    ("wish", "rows", "cordoned"), [("ignore", 0, 0), ("cordon", 0, 1), ("replace-then-drain", 1, 0)]
)
def test_a_pool_chooses_its_answer_to_recommendations(
    fake: FakeWorld, launcher: Launcher, wish: str, rows: int, cordoned: int
) -> None:
    """The annotation outrider.dev/rebalance decides."""
    fake.cluster.put(estate.pool(annotations={labels.REBALANCE: wish}))
    interrupt.interrupt(batch(rebalance()), fake.world)
    assert len(fake.ledger.rows) == rows
    assert len(fake.recorder.of("patch_node")) == cordoned


def health(status: str, starts: timedelta = timedelta(hours=2)) -> dict[str, Any]:
    """Return an AWS Health event about both nodes."""
    event = warning(kind="AWS Health Event")
    event["source"] = "aws.health"
    event["detail"] = {
        "service": "EC2",
        "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        "eventTypeCategory": "scheduledChange",
        "statusCode": status,
        "startTime": (estate.NOW + starts).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "affectedEntities": [{"entityValue": instance(name)} for name in ("n1", "n2")],
    }
    return event


def test_every_entity_of_a_scheduled_change_is_drained(fake: FakeWorld, launcher: Launcher) -> None:
    """Both nodes go before the change begins, and a closed one calls both drains off."""
    interrupt.interrupt(batch(health("upcoming")), fake.world)
    assert {row.deadline for row in fake.ledger.rows.values()} == {estate.NOW + timedelta(hours=2)}
    assert len(fake.workflows.started) == 2
    interrupt.interrupt(batch(health("closed")), fake.world)
    assert all(row.cancelled for row in fake.ledger.rows.values())


def test_an_instance_that_ends_leaves_no_time(fake: FakeWorld, launcher: Launcher) -> None:
    """shutting-down replaces the pods and drains with the deadline that is now."""
    event = warning(kind="EC2 Instance State-change Notification", state="shutting-down")
    interrupt.interrupt(batch(event), fake.world)
    assert fake.ledger.rows[instance("n1")].deadline == estate.NOW
    assert launcher.plans[0].launches


def test_a_capacity_block_is_found_by_its_reservation(fake: FakeWorld, launcher: Launcher) -> None:
    """The event names no instance: the nodes that run in the reservation are drained in time."""
    reservation = "cr-56fac701cc1951b03"
    marked = {"labels": {labels.CAPACITY_RESERVATION_ID: reservation}}
    fake.join(estate.node("n3", "g6.xlarge", bought=labels.RESERVED, **marked))
    event = warning(kind="Capacity Block Expiration Warning")
    event["detail"] = {
        "capacity-reservation-id": reservation,
        "end-date": stamp(estate.NOW + timedelta(minutes=40)),
    }
    interrupt.interrupt(batch(event), fake.world)
    (row,) = fake.ledger.rows.values()
    assert (row.node, row.deadline) == ("n3", estate.NOW + timedelta(minutes=10))


def test_observe_only_tells(fake: FakeWorld, launcher: Launcher) -> None:
    """In mode observe nothing is tainted, launched or drained."""
    fake.mode = "observe"
    interrupt.interrupt(batch(warning()), fake.world)
    assert fake.ledger.rows == fake.workflows.started == {}
    assert launcher.plans == []


def test_beside_a_karpenter_nothing_is_done(fake: FakeWorld, launcher: Launcher) -> None:
    """A live Karpenter makes every mode observe, with an Event and a metric."""
    fake.cluster.karpenter = True
    interrupt.interrupt(batch(warning()), fake.world)
    assert fake.workflows.started == {}
    assert fake.telemetry.total("BesideKarpenter") == 1
    assert fake.cluster.events[0][1] == "BesideKarpenter"


def test_a_taken_lease_does_not_hold_the_drain_up(fake: FakeWorld, launcher: Launcher) -> None:
    """Who plans and does not let go costs the replacement's head start, not the drain."""
    fake.ledger.acquire("somebody", 3600)
    interrupt.interrupt(batch(warning()), fake.world)
    assert len(fake.workflows.started) == 1
    assert launcher.plans == []
    assert fake.bus.hints == 1
    assert fake.ledger.flagged("nodes-leaving", fake.clock.now())


def test_a_wave_is_planned_for_at_once(fake: FakeWorld, launcher: Launcher) -> None:
    """Who comes while another plans records its node and waits; the next plan is for all of them,
    and whoever then finds its node planned is content.
    """
    busy = fake.ledger.acquire("somebody", 5)
    assert busy is not None
    started: list[int] = []
    sleep = fake.clock.sleep

    def waits(seconds: float) -> None:
        if not started:
            started.append(len(fake.workflows.started))
            interrupt.interrupt(batch(warning("n2")), fake.world)
        sleep(seconds)

    fake.clock.sleep = waits  # type: ignore[method-assign]
    interrupt.interrupt(batch(warning("n1")), fake.world)
    assert started == [1], "the drain begins before the lease is free"
    assert all(row.planned for row in fake.ledger.rows.values())
    assert len(fake.workflows.started) == 2
    assert len(launcher.plans) == 1
    assert len(fake.bus.of("ReplacementLaunched")) == 2


def test_what_was_left_undone_is_planned_around(fake: FakeWorld, launcher: Launcher) -> None:
    """A launcher that had to finish an earlier one's work is asked again on a fresh look."""
    launcher.yields = 1
    interrupt.interrupt(batch(warning()), fake.world)
    assert len(launcher.plans) == 2
    assert fake.ledger.rows[instance("n1")].replacements == ("new-0",)


def test_a_cancelled_row_stands_in_nobodys_way(fake: FakeWorld, launcher: Launcher) -> None:
    """After a drain was called off the next warning starts another."""
    fake.ledger.rows[instance("n1")] = Reaction(
        instance("n1"), "ScheduledChange", "d0", None, planned=True, cancelled=True
    )
    interrupt.interrupt(batch(warning()), fake.world)
    assert fake.ledger.rows[instance("n1")].planned
    assert len(launcher.plans) == 1


def test_throughput_is_not_the_planners(fake: FakeWorld, launcher: Launcher) -> None:
    """A hundred warnings of others beside one of ours cost one read of the cluster."""
    foreign = warning()
    foreign["detail"]["instance-id"] = OTHERS
    interrupt.interrupt(batch(*[foreign] * 100, warning()), fake.world)
    assert len(fake.recorder.of("state")) == 1
