"""The sweep: what no event told is found, and what was left undone is taken up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels, manifest
from outrider.apis.duration import stamp
from outrider.core.records import Reaction
from outrider.flows import interrupt, sweep
from tests.support import estate
from tests.support.world import FakeWorld

INSTANCE: str = estate.node("n1").instance_id


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The signals that the sweep made."""
    signals: list[Any] = []

    def handle(found: Any, world: Any) -> tuple[str, ...]:
        signals.extend(found)
        return ()

    monkeypatch.setattr(interrupt, "handle", handle)
    return signals


@pytest.fixture
def fake(handled: list[Any]) -> FakeWorld:
    """A cluster with one node."""
    world = FakeWorld()
    world.clock.at = estate.NOW
    one = estate.node("n1")
    world.cluster.put(estate.pool(), estate.claim(one))
    world.join(one)
    return world


def status(**fields: Any) -> dict[str, Any]:
    """Return what DescribeInstanceStatus says of the node's instance."""
    return {"InstanceId": INSTANCE, **fields}


def impaired(since: timedelta) -> dict[str, Any]:
    """Return a status check that is impaired since a while."""
    detail = {"Status": "failed", "ImpairedSince": estate.NOW - since}
    return status(InstanceStatus={"Status": "impaired", "Details": [detail]})


def test_it_limits_itself(fake: FakeWorld, handled: list[Any]) -> None:
    """However often it is called, it looks once in four minutes."""
    looks = []
    for _ in range(10):
        looks.append(sweep.sweep(fake.world))
        fake.clock.sleep(60)
    assert sum(looks) in {2, 3}


def test_an_impaired_instance_is_forced_out_after_two_minutes(
    fake: FakeWorld, handled: list[Any]
) -> None:
    """A check that failed a moment ago may recover (125)."""
    fake.cloud.statuses = (impaired(timedelta(seconds=60)),)
    sweep.sweep(fake.world)
    assert handled == []
    fake.clock.sleep(300)
    sweep.sweep(fake.world)
    assert handled[0].detail.forced


def test_scheduled_maintenance_is_acted_on_without_its_event(
    fake: FakeWorld, handled: list[Any]
) -> None:
    """What is ahead becomes a signal; what is completed does not (126)."""
    past = {"Code": "system-reboot", "Description": "[Completed] reboot"}
    fake.cloud.statuses = (status(Events=[past]),)
    sweep.sweep(fake.world)
    assert handled == []
    fake.clock.sleep(300)
    ahead = {"Code": "instance-retirement", "NotBefore": estate.NOW + estate.DAY}
    fake.cloud.statuses = (status(Events=[past, ahead]),)
    sweep.sweep(fake.world)
    assert handled[0].detail.not_before == estate.NOW + estate.DAY
    assert not handled[0].detail.forced


def test_what_runs_already_is_left_to_it(fake: FakeWorld, handled: list[Any]) -> None:
    """An instance with a reaction gets no second one."""
    fake.ledger.rows[INSTANCE] = Reaction(
        INSTANCE, "Rebalance", "d", None, planned=True, at=estate.NOW
    )
    fake.cloud.statuses = (impaired(timedelta(hours=1)),)
    sweep.sweep(fake.world)
    assert handled == []


def sick(name: str, since: timedelta) -> Any:
    """Return a node whose kubelet has been silent."""
    document = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {labels.NODEPOOL: "pool", labels.INITIALIZED: "true"},
        },
        "spec": {"providerID": f"aws:///us-east-1a/i-{name:0>17}"},
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "Unknown",
                    "lastTransitionTime": stamp(estate.NOW - since),
                }
            ]
        },
    }
    return manifest.parse(document)


def test_a_sick_node_is_repaired_unless_too_many_are(fake: FakeWorld, handled: list[Any]) -> None:
    """One of six silent for half an hour is replaced; three of six look like an outage."""
    healthy = [estate.node(f"h{place}") for place in range(5)]
    fake.cluster.put(*healthy, sick("5", timedelta(minutes=31)))
    sweep.sweep(fake.world)
    assert [signal.instance_ids for signal in handled] == [("i-" + "5".zfill(17),)]
    handled.clear()
    fake.cluster.put(sick("6", timedelta(hours=1)), sick("7", timedelta(hours=1)))
    fake.clock.sleep(300)
    sweep.sweep(fake.world)
    assert handled == []
    assert fake.telemetry.total("RepairHeldBack") == 1


def test_a_reaction_that_was_never_planned_is_taken_up(fake: FakeWorld, handled: list[Any]) -> None:
    """The function that began it died, and its message did not come again."""
    fake.ledger.rows[INSTANCE] = Reaction(
        INSTANCE, "Rebalance", "d", None, node="n1", at=estate.NOW - timedelta(minutes=2)
    )
    sweep.sweep(fake.world)
    assert [signal.kind for signal in handled] == ["Rebalance"]


@pytest.mark.parametrize(
    ("deadline", "forced"),
    [
        (None, False),
        (estate.NOW - timedelta(minutes=1), True),
        (estate.NOW + timedelta(hours=3), False),
    ],
)
def test_what_is_taken_up_keeps_its_own_deadline(
    fake: FakeWorld, handled: list[Any], deadline: Any, forced: bool
) -> None:
    """A repair or a scheduled change that nobody lived to plan neither blocks its own repetition
    for ever nor turns into a Spot warning.
    """
    fake.ledger.rows[INSTANCE] = Reaction(
        INSTANCE, "ScheduledChange", "d", deadline, node="n1", at=estate.NOW - timedelta(minutes=2)
    )
    sweep.sweep(fake.world)
    (signal,) = handled
    assert (signal.detail.forced, signal.detail.not_before) == (forced, deadline)


def test_a_warning_that_is_taken_up_ends_when_it_said(fake: FakeWorld, handled: list[Any]) -> None:
    """The deadline is the row's, not two minutes from whenever."""
    deadline = estate.NOW + timedelta(seconds=40)
    fake.ledger.rows[INSTANCE] = Reaction(
        INSTANCE, "SpotInterruption", "d", deadline, node="n1", at=estate.NOW - timedelta(minutes=1)
    )
    sweep.sweep(fake.world)
    assert [signal.deadline for signal in handled] == [deadline]


def test_a_recommendation_that_waited_gets_its_turn(fake: FakeWorld, handled: list[Any]) -> None:
    """The oldest first, each sweep anew, for as long as the instance lives and nothing else
    happens to it.
    """
    other = estate.node("n2")
    fake.join(other)
    fake.ledger.waiting = {
        INSTANCE: estate.NOW - timedelta(minutes=4),
        other.instance_id: estate.NOW - timedelta(minutes=8),
        "i-00000000000000bad": estate.NOW - timedelta(minutes=8),
    }
    sweep.sweep(fake.world)
    assert [signal.instance_ids for signal in handled] == [(other.instance_id,), (INSTANCE,)]
    assert set(fake.ledger.waiting) == {INSTANCE, other.instance_id}
    handled.clear()
    fake.clock.sleep(300)
    fake.ledger.rows[other.instance_id] = Reaction(
        other.instance_id, "Rebalance", "d", None, planned=True, execution="e", node="n2"
    )
    sweep.sweep(fake.world)
    assert [signal.instance_ids for signal in handled] == [(INSTANCE,)]
    assert set(fake.ledger.waiting) == {INSTANCE}


def test_a_pool_that_now_ignores_recommendations_forgets_them(
    fake: FakeWorld, handled: list[Any]
) -> None:
    """The annotation counts on the day on which something would be done."""
    fake.cluster.put(estate.pool(annotations={labels.REBALANCE: "ignore"}))
    fake.ledger.waiting = {INSTANCE: estate.NOW}
    sweep.sweep(fake.world)
    assert (handled, fake.ledger.waiting) == ([], {})


def test_every_node_s_instance_is_known_to_the_ledger(fake: FakeWorld, handled: list[Any]) -> None:
    """A row that was never written, or whose month is over, is written again; else the next Spot
    warning would count as another cluster's.
    """
    fake.ledger.known.clear()
    sweep.sweep(fake.world)
    assert fake.ledger.ours([INSTANCE])[INSTANCE]["claim"]
    fake.recorder.calls.clear()
    fake.clock.sleep(300)
    sweep.sweep(fake.world)
    assert fake.recorder.of("record_instance") == []
    soon = fake.clock.now() + timedelta(days=20)
    fake.ledger.known[INSTANCE] = {"claim": "c", "expires": int(soon.timestamp())}
    fake.clock.sleep(300)
    sweep.sweep(fake.world)
    assert len(fake.recorder.of("record_instance")) == 1


def test_a_drain_that_never_started_or_failed_for_good_is_started(
    fake: FakeWorld, handled: list[Any]
) -> None:
    """A planned row without an execution is nobody's; the new one knows what the row knows."""
    fake.ledger.rows[INSTANCE] = Reaction(
        INSTANCE,
        "Underutilized",
        "d",
        None,
        replacements=("c2",),
        node="n1",
        planned=True,
        at=estate.NOW - timedelta(minutes=2),
    )
    sweep.sweep(fake.world)
    ((name, given),) = fake.workflows.started.items()
    assert name.startswith(f"d-{INSTANCE}-sweep-")
    assert (given["node"], given["replacements"], given["reason"]) == (
        "n1",
        ["c2"],
        "Underutilized",
    )
    assert fake.ledger.rows[INSTANCE].execution
    fake.clock.sleep(300)
    sweep.sweep(fake.world)
    assert len(fake.workflows.started) == 1


def test_a_taint_without_a_drain_is_taken_off_at_the_second_look(
    fake: FakeWorld, handled: list[Any]
) -> None:
    """Whoever put it on may be about to record why; after one more sweep nobody is."""
    fake.cluster.taint("n1", labels.DISRUPTED_TAINT, "NoSchedule", present=True)
    sweep.sweep(fake.world)
    assert fake.cluster.current.nodes[0].taints
    fake.clock.sleep(300)
    sweep.sweep(fake.world)
    assert fake.cluster.current.nodes[0].taints == ()


def test_rows_of_instances_that_are_gone_end(fake: FakeWorld, handled: list[Any]) -> None:
    """A drain that could not say that it was through holds no budget for ever."""
    fake.ledger.rows["i-gone"] = Reaction(
        "i-gone", "Rebalance", "d", None, planned=True, at=estate.NOW - timedelta(hours=1)
    )
    sweep.sweep(fake.world)
    assert fake.ledger.rows["i-gone"].ended


def test_observe_sweeps_nothing(fake: FakeWorld, handled: list[Any]) -> None:
    """In mode observe nothing is done about anything."""
    fake.mode = "observe"
    fake.cloud.statuses = (impaired(timedelta(hours=1)),)
    assert not sweep.sweep(fake.world)
    assert handled == []
