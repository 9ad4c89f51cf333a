"""Provisioning: a cheap look, one plan under the lease, and every pod told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels
from outrider.apis.placement import Taint
from outrider.core.scheduling.result import Plan
from outrider.errors import InvalidManifest, Unreachable
from outrider.flows import launch, provision
from outrider.flows.launch import Launched
from tests.support import estate
from tests.support.world import FakeWorld

TICK: dict[str, Any] = {"source": "outrider.ticks", "detail-type": "Tick"}
HINT: dict[str, Any] = {"Records": [{"messageId": "m1", "body": "{}"}]}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that were launched."""
    made: list[Plan] = []

    def launched(world: Any, plan: Plan, *_: Any, **__: Any) -> Launched:
        made.append(plan)
        return Launched({one.name: one.pods for one in plan.launches}, yielded=len(made) > 5)

    monkeypatch.setattr(launch, "launch", launched)
    return made


@pytest.fixture
def fake(plans: list[Plan]) -> FakeWorld:
    """A cluster with a NodePool and no nodes."""
    world = FakeWorld()
    world.clock.at = estate.NOW
    world.ledger.stored = estate.catalog()
    world.cluster.put(estate.pool())
    return world


def test_nothing_waits_nothing_is_read(fake: FakeWorld, plans: list[Plan]) -> None:
    """Without a pod that waits the cluster is not read and the lease not taken."""
    assert provision.provision(TICK, fake.world) == {}
    assert [name for _, name, _, _ in fake.recorder.calls] == ["pending"]
    assert fake.telemetry.total("ReconcileHeartbeat") == 1
    assert fake.telemetry.counts[-1][:2] == ("OldestPendingPodSeconds", 0)


@pytest.mark.parametrize("event", [TICK, HINT])
def test_a_hint_and_a_tick_are_the_same(
    fake: FakeWorld, plans: list[Plan], event: dict[str, Any]
) -> None:
    """Whatever the event said, what waits is planned once, told and launched."""
    fake.cluster.put(estate.pod("a"), estate.pod("b", cpu="1500m"))
    assert provision.provision(event, fake.world) == {}
    assert sum(len(one.pods) for one in plans[0].launches) == 2
    (told,) = fake.bus.of("PlanMade")
    assert (told["pods"], told["placed"], told["acting"]) == (2, 2, True)
    assert told["decision"]
    assert fake.ledger.holder is None
    assert fake.telemetry.total("OldestPendingPodSeconds") == estate.DAY.total_seconds()


@pytest.mark.parametrize(("event", "hints"), [(HINT, 1), (TICK, 0)])
def test_a_taken_lease_loses_no_hint(
    fake: FakeWorld, plans: list[Plan], event: dict[str, Any], hints: int
) -> None:
    """While somebody else plans for long, a hint is told again; a tick has its successor."""
    fake.cluster.put(estate.pod("a"))
    fake.ledger.acquire("somebody", 3600)
    assert provision.provision(event, fake.world) == {}
    assert plans == []
    assert len(fake.recorder.of("hint")) == hints


@pytest.mark.parametrize(("failures", "seconds"), [("1", 5), ("3", 15), ("40", 60)])
def test_a_hint_whose_pass_failed_blocks_the_next_for_seconds_only(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch, failures: str, seconds: int
) -> None:
    """Hints wait behind one another: it comes again soon, later each time; the failure is told."""

    def unreachable() -> None:
        raise Unreachable("no API server")

    monkeypatch.setattr(fake.cluster, "pending", unreachable)
    attributes = {"ApproximateReceiveCount": failures}
    record = {**HINT["Records"][0], "receiptHandle": "r1", "attributes": attributes}
    with pytest.raises(Unreachable):
        provision.provision({"Records": [record]}, fake.world)
    assert fake.recorder.of("show_again") == [(("r1",), seconds)]
    with pytest.raises(Unreachable):
        provision.provision(TICK, fake.world)
    assert len(fake.recorder.of("show_again")) == 1


def test_observe_plans_and_tells(fake: FakeWorld, plans: list[Plan]) -> None:
    """In mode observe the plan is published and nothing launched."""
    fake.mode = "observe"
    fake.cluster.put(estate.pod("a"))
    provision.provision(TICK, fake.world)
    assert plans == []
    assert fake.bus.of("PlanMade")[0]["acting"] is False


def test_a_pod_without_a_place_learns_why(fake: FakeWorld, plans: list[Plan]) -> None:
    """Its Event names every NodePool and the reason."""
    fake.cluster.put(estate.pod("huge", cpu="500"))
    provision.provision(TICK, fake.world)
    (name, reason, message) = fake.cluster.events[0]
    assert (name, reason) == ("huge", "FailedScheduling")
    assert "NodePool pool" in message
    assert fake.telemetry.total("UnschedulablePods") == 1


def test_a_poison_object_stops_nothing(fake: FakeWorld, plans: list[Plan]) -> None:
    """It is counted, named in the log and in an Event of its own; the rest is planned."""
    about = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "name": "bad"}
    bad = InvalidManifest("is wrong", path="spec.weight", thing="NodePool bad", about=about)
    fake.cluster.put(estate.pod("a"))
    fake.cluster.current = replace(fake.cluster.current, invalid=(bad,), _index={})
    provision.provision(TICK, fake.world)
    assert plans[0].launches
    assert fake.telemetry.total("InvalidObjects") == 1
    assert ("bad", "Malformed", "Left out of planning: spec.weight is wrong") in fake.cluster.events


def test_a_nomination_to_a_node_that_is_gone_is_cleared(fake: FakeWorld, plans: list[Plan]) -> None:
    """Nobody else would, and the pod would wait for ever."""
    fake.cluster.put(replace(estate.pod("a"), nominated_node_name="gone"))
    provision.provision(TICK, fake.world)
    assert fake.recorder.of("nominate") == [("default/a", None)]
    assert plans[0].launches


def test_room_is_held_where_nobody_else_holds_it(fake: FakeWorld, plans: list[Plan]) -> None:
    """On a node that is open and fills; a closed one keeps the places that its NodeClaim names."""
    node = estate.node("n1", initialized=False)
    closed = replace(node, taints=(Taint(labels.UNREGISTERED_TAINT, effect="NoExecute"),))
    claim = estate.claim(node, annotations={labels.PODS: "default/planned"})
    fake.cluster.put(claim, closed, estate.pod("planned"), estate.pod("later"))
    provision.provision(TICK, fake.world)
    assert fake.recorder.of("nominate") == [("default/later", "n1")]
    fake.cluster.put(node)
    provision.provision(TICK, fake.world)
    assert fake.recorder.of("nominate")[1:] == [("default/planned", "n1")]


def test_a_closed_node_s_pod_does_not_keep_another_promise(
    fake: FakeWorld, plans: list[Plan]
) -> None:
    """It would keep it when the node opens, and its room there would lie open."""
    node = estate.node("n1", initialized=False)
    closed = replace(node, taints=(Taint(labels.UNREGISTERED_TAINT, effect="NoExecute"),))
    claim = estate.claim(node, annotations={labels.PODS: "default/planned"})
    ours = {labels.DECISION: "d1"}
    unfit = replace(estate.node("unfit", initialized=False, annotations=ours), unschedulable=True)
    pod = replace(estate.pod("planned"), nominated_node_name="unfit")
    fake.cluster.put(claim, closed, unfit, pod)
    provision.provision(TICK, fake.world)
    assert fake.recorder.of("nominate") == [("default/planned", "n1")]


def test_giving_way_leaves_a_hint(fake: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """When an interruption takes the lease, the rest of the plan is not forgotten."""
    monkeypatch.setattr(launch, "launch", lambda *_, **__: Launched(yielded=True))
    fake.cluster.put(estate.pod("a"))
    provision.provision(TICK, fake.world)
    assert fake.bus.hints == 1


def test_leaving_nodes_are_planned_for(fake: FakeWorld, plans: list[Plan]) -> None:
    """Nothing waits yet, but a node is on its way out: its pods get their places now."""
    one = estate.node("n1")
    fake.cluster.put(one, estate.pod("a", on="n1"))
    fake.cluster.taint("n1", "karpenter.sh/disrupted", "NoSchedule", present=True)
    fake.ledger.flag("nodes-leaving", fake.clock.now() + timedelta(minutes=1))
    provision.provision(TICK, fake.world)
    assert [one.pods for one in plans[0].launches] == [("default/a",)]
