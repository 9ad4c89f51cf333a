"""A drain, driven as its state machine drives it: killed, repeated, upgraded, called off."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import duration, labels, manifest
from outrider.apis.meta import EVERYTHING
from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.apis.policy import PodDisruptionBudget
from outrider.core.records import Reaction
from outrider.errors import Unreachable
from outrider.flows import drain
from tests.support.world import START, FakeWorld, Killed

INSTANCE = "i-0b662ef9931388ba0"


def a_node(name: str = "n1", instance_id: str = INSTANCE) -> Node:
    """Return a node of pool `gpu`."""
    return Node(
        name,
        labels={labels.NODEPOOL: "gpu", labels.INITIALIZED: "true"},
        provider_id=f"aws:///us-east-1a/{instance_id}",
        ready=True,
    )


def a_pod(name: str, **fields: Any) -> Pod:
    """Return a pod that runs on the node."""
    return Pod(
        namespace="default",
        name=name,
        uid=f"uid-{name}",
        node_name="n1",
        phase="Running",
        ready=True,
        **fields,
    )


def a_claim(name: str, *, initialized: bool) -> object:
    """Return a NodeClaim that is up, or is not yet."""
    status = "True" if initialized else "Unknown"
    return manifest.parse(
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodeClaim",
            "metadata": {"name": name, "labels": {labels.NODEPOOL: "gpu"}},
            "spec": {
                "nodeClassRef": {
                    "group": "karpenter.k8s.aws",
                    "kind": "EC2NodeClass",
                    "name": "default",
                }
            },
            "status": {"conditions": [{"type": "Initialized", "status": status}]},
        }
    )


class Machine:
    """The drain state machine in a few lines: keeps the state, waits on the fake clock."""

    def __init__(self, fake: FakeWorld, **given: Any) -> None:
        self.fake = fake
        self.state: dict[str, Any] = {
            "version": 1,
            "cluster": "test",
            "decision": "d1",
            "node": "n1",
            "claim": "c1",
            "instanceId": INSTANCE,
            "reason": "SpotInterruption",
            "deadline": None,
            "replacements": [],
            "round": 0,
            "successor": 0,
            **given,
        }

    def step(self, name: str) -> dict[str, Any]:
        """Run one step as the handler does."""
        self.state = {**self.state, **drain.step({**self.state, "step": name}, self.fake.world)}
        return self.state

    def until(self, name: str, answer: str, most: int = 500) -> int:
        """Repeat a step until its *answer* is true; return after how many calls."""
        for call in range(1, most + 1):
            if self.step(name)[answer]:
                return call
            self.fake.clock.sleep(self.state["wait"])
            self.fake.cluster.pods_leave()
        raise AssertionError(f"{name} never said {answer}")

    def run(self) -> None:
        """Run the whole machine."""
        self.step("cordon")
        self.until("await", "ready")
        self.until("round", "done")
        self.until("terminate", "done")
        self.step("finish")


@pytest.fixture
def fake() -> FakeWorld:
    """A world with one node and two pods on it."""
    world = FakeWorld()
    world.join(a_node(), a_pod("a"), a_pod("b"))
    world.cluster.put(a_claim("c1", initialized=True))
    return world


def test_a_node_leaves_in_order(fake: FakeWorld) -> None:
    """Cordon, evict, terminate, clean up; each told once."""
    Machine(fake).run()
    methods = [name for port, name, _, _ in fake.recorder.calls if port != "ledger"]
    assert methods.index("taint") < methods.index("evict") < methods.index("terminate")
    assert methods.index("terminate") < methods.index("delete_node")
    assert fake.cluster.current.nodes == ()
    assert fake.cluster.current.nodeclaims == ()
    assert fake.cloud.found == {}
    told = [name for name, _ in fake.bus.published]
    assert told == ["PodEvicted", "PodEvicted", "NodeDrained", "NodeTerminated"]


def test_the_ledger_forgets_an_instance_before_it_ends(fake: FakeWorld) -> None:
    """What EC2 says of an instance that we ended ourselves is no news any more."""
    Machine(fake).run()
    order = [name for _, name, _, _ in fake.recorder.calls]
    assert order.index("forget_instance") < order.index("terminate")


def test_nobody_is_evicted_before_the_replacement_is_up(fake: FakeWorld) -> None:
    """The drain waits while the replacement joins, and begins as soon as it is initialised."""
    fake.cluster.put(a_claim("new", initialized=False))
    machine = Machine(fake, replacements=["new"])
    machine.step("cordon")
    for _ in range(5):
        assert not machine.step("await")["ready"]
        fake.clock.sleep(machine.state["wait"])
    assert fake.recorder.of("evict") == []
    fake.cluster.put(a_claim("new", initialized=True))
    assert machine.step("await")["ready"]
    machine.step("round")
    assert len(fake.recorder.of("evict")) == 2


def test_the_deadline_does_not_wait_for_a_replacement(fake: FakeWorld) -> None:
    """Pods are sent off at their last safe start, replacement or not, with all of their grace."""
    fake.cluster.put(a_claim("new", initialized=False))
    deadline = duration.stamp(START + timedelta(seconds=120))
    machine = Machine(fake, replacements=["new"], deadline=deadline)
    machine.run()
    assert fake.recorder.of("evict") == []
    assert {grace for _, grace in fake.recorder.of("delete_pod")} == {30}
    assert fake.telemetry.total("GraceLostSeconds") == 0
    assert fake.clock.now() <= START + timedelta(seconds=130)


def test_a_drain_waits_for_the_planner_a_while(fake: FakeWorld) -> None:
    """While the interrupt function plans, nobody is evicted; if it dies, the drain goes on."""
    fake.ledger.rows[INSTANCE] = Reaction(INSTANCE, "SpotInterruption", "d1", None, at=START)
    machine = Machine(fake)
    calls = machine.until("await", "ready")
    assert calls > 1
    assert fake.clock.now() - START <= timedelta(seconds=40)


def test_a_lost_replacement_calls_a_voluntary_drain_off(fake: FakeWorld) -> None:
    """Without its replacement the node stays: taint off, pods untouched, and it is told."""
    fake.ledger.rows[INSTANCE] = Reaction(
        INSTANCE, "Underutilized", "d1", None, ("new",), planned=True, at=START
    )
    Machine(fake, reason="Underutilized", replacements=["new"]).run()
    node = fake.cluster.current.node("n1")
    assert node is not None
    assert node.taints == ()
    assert labels.EXCLUDE_FROM_LOAD_BALANCERS not in node.labels
    assert fake.recorder.of("evict") == fake.recorder.of("terminate") == []
    assert [name for name, _ in fake.bus.published] == ["DisruptionRolledBack"]
    assert fake.ledger.rows[INSTANCE].ended


def test_a_lost_replacement_does_not_keep_a_doomed_node(fake: FakeWorld) -> None:
    """With a deadline the pods go all the same."""
    deadline = duration.stamp(START + timedelta(seconds=120))
    Machine(fake, replacements=["gone"], deadline=deadline).run()
    assert fake.cluster.current.nodes == ()


def test_a_later_signal_brings_the_deadline_forward(fake: FakeWorld) -> None:
    """A drain behind a budget ends in time when the ledger's row gets a deadline."""
    fake.cluster.put(PodDisruptionBudget("default", "pdb", selector=EVERYTHING))
    fake.ledger.rows[INSTANCE] = Reaction(INSTANCE, "Rebalance", "d1", None, planned=True, at=START)
    machine = Machine(fake, reason="Rebalance")
    machine.step("cordon")
    machine.step("await")
    machine.step("round")
    assert fake.recorder.of("delete_pod") == []
    fake.ledger.rows[INSTANCE] = replace(
        fake.ledger.rows[INSTANCE], deadline=fake.clock.now() + timedelta(seconds=120)
    )
    machine.until("round", "done")
    assert len(fake.recorder.of("delete_pod")) == 2
    assert fake.clock.now() - START < timedelta(seconds=125)


def test_a_budget_is_respected_for_a_month(fake: FakeWorld) -> None:
    """Thirty days behind a PodDisruptionBudget cost less than one look a minute, and end well."""
    fake.cluster.put(PodDisruptionBudget("default", "pdb", selector=EVERYTHING))
    machine = Machine(fake, reason="Underutilized")
    machine.step("cordon")
    rounds = 0
    while fake.clock.now() - START < timedelta(days=30):
        assert not machine.step("round")["done"]
        fake.clock.sleep(machine.state["wait"])
        rounds += 1
        if machine.state["round"] >= 2000:  # the successor begins with a history of its own
            machine.state["round"] = 0
    assert rounds < 30 * 24 * 60 * 1.1
    assert fake.recorder.of("delete_pod") == fake.bus.of("PodEvicted") == []
    fake.cluster.put(
        PodDisruptionBudget("default", "pdb", selector=EVERYTHING, disruptions_allowed=1)
    )
    machine.until("round", "done")
    assert len(fake.bus.of("PodEvicted")) == 2


def test_a_row_outlives_a_drain_of_weeks(fake: FakeWorld) -> None:
    """A successor writes the row of a long drain again; a fresh one is left to who began it."""
    row = Reaction(INSTANCE, "Underutilized", "d1", None, node="n1", planned=True, at=START)
    fake.ledger.rows[INSTANCE] = row
    machine = Machine(fake, reason="Underutilized")
    machine.step("cordon")
    assert fake.recorder.of("update_reaction") == []
    fake.clock.sleep(33 * 3600)
    machine.step("cordon")
    assert fake.recorder.of("update_reaction") == [(INSTANCE,)]


@pytest.mark.parametrize("call", range(1, 40))
def test_a_drain_survives_being_killed_at_any_call(fake: FakeWorld, call: int) -> None:
    """Whatever call the sandbox dies at, the step is repeated, the drain ends as it should, and
    whoever listens hears of every eviction: two messages with one id are one.
    """
    machine = Machine(fake)
    fake.recorder.kill_at(call)
    pending = ["cordon", "await", "round", "terminate", "finish"]
    answers = {"await": "ready", "round": "done", "terminate": "done"}
    while pending:
        try:
            if pending[0] in answers:
                machine.until(pending[0], answers[pending[0]])
            else:
                machine.step(pending[0])
        except Killed:
            fake.recorder.revive()
            fake.bus.forget()
            continue
        pending.pop(0)
    assert fake.cluster.current.nodes == ()
    assert fake.cloud.found == {}
    told = {detail["id"]: detail["pod"] for detail in fake.bus.of("PodEvicted")}
    assert sorted(told.values()) == ["default/a", "default/b"]
    for kind in ("NodeDrained", "NodeTerminated"):
        assert len({detail["id"] for detail in fake.bus.of(kind)}) == 1
    assert fake.ledger.debts == {}


def test_an_event_that_cannot_be_written_stops_nothing(fake: FakeWorld) -> None:
    """Kubernetes Events are a courtesy."""
    fake.recorder.fail("event", *(Unreachable("no", 500) for _ in range(10)))
    Machine(fake).run()
    assert fake.cluster.current.nodes == ()


def test_a_machine_that_never_joined_is_cleaned_up(fake: FakeWorld) -> None:
    """A drain without a Node terminates the instance and releases the NodeClaim."""
    Machine(fake, node="", deadline=duration.stamp(START)).run()
    assert fake.cloud.found == {}
    assert fake.cluster.current.nodeclaims == ()


def test_a_node_that_joins_during_its_drain_is_drained(fake: FakeWorld) -> None:
    """An instance that was warned of while it booted: its pods get their SIGTERM all the same."""
    deadline = START + timedelta(seconds=120)
    machine = Machine(fake, node="", deadline=duration.stamp(deadline))
    claim = fake.cluster.current.nodeclaims[0]
    unborn = claim.status.model_copy(update={"node_name": ""})
    fake.cluster.put(replace(claim, status=unborn))
    machine.step("cordon")
    machine.step("round")
    assert fake.recorder.of("evict") == []
    fake.cluster.put(replace(claim, status=claim.status.model_copy(update={"node_name": "n1"})))
    machine.until("round", "done")
    assert machine.state["node"] == "n1"
    assert [args[:3] for args in fake.recorder.of("taint")] == [
        ("n1", labels.DISRUPTED_TAINT, True)
    ]
    assert len(fake.bus.of("PodEvicted")) == 2


def test_two_drains_of_one_node_do_no_harm(fake: FakeWorld) -> None:
    """An upgraded reaction runs beside the first one; everything is told once."""
    fake.ledger.rows[INSTANCE] = Reaction(INSTANCE, "Rebalance", "d1", None, planned=True, at=START)
    first, second = Machine(fake), Machine(fake)
    for name in ("cordon", "await", "round"):
        first.step(name)
        second.step(name)
    first.until("round", "done")
    second.until("round", "done")
    first.until("terminate", "done")
    first.step("finish")
    second.until("terminate", "done")
    second.step("finish")
    told = [name for name, _ in fake.bus.published]
    assert sorted(told) == ["NodeDrained", "NodeTerminated", "PodEvicted", "PodEvicted"]
