"""Voluntary disruption's flow: two looks, replacements first, and back where that fails."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import labels
from outrider.flows import disrupt, launch
from outrider.flows.launch import Launched
from tests.support import estate
from tests.support.world import FakeWorld, Killed

TICK: dict[str, Any] = {}


class Launcher:
    """Stands in for `flows.launch`, with a switch for failure."""

    def __init__(self) -> None:
        self.fails = False
        self.calls = 0

    def __call__(self, world: Any, made: Any, *_: Any, **__: Any) -> Launched:
        """Return a claim for each launch, or none."""
        self.calls += 1
        if self.fails:
            return Launched(unserved=("c",))
        return Launched({f"new-{place}": one.pods for place, one in enumerate(made.launches)})


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """The launcher of this test."""
    found = Launcher()
    monkeypatch.setattr(launch, "launch", found)
    return found


@pytest.fixture
def fake(launcher: Launcher) -> FakeWorld:
    """A cluster whose only node is far too large."""
    world = FakeWorld()
    world.clock.at = estate.NOW
    world.ledger.stored = estate.catalog()
    one = estate.node("n1", "m5.4xlarge")
    world.cluster.put(estate.pool(), estate.claim(one))
    world.join(one, estate.pod("a", on="n1"))
    return world


def tainted(fake: FakeWorld) -> bool:
    """Return whether the node carries the taint."""
    node = fake.cluster.current.node("n1")
    assert node is not None
    return any(taint.key == labels.DISRUPTED_TAINT for taint in node.taints)


def test_a_command_is_carried_out_replacements_first(fake: FakeWorld, launcher: Launcher) -> None:
    """Taint, launch, then a drain that knows whom to wait for."""
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 1}
    (payload,) = fake.workflows.started.values()
    assert (payload["node"], payload["reason"]) == ("n1", "Underutilized")
    assert (payload["replacements"], payload["deadline"]) == (["new-0"], None)
    assert tainted(fake)
    assert fake.bus.of("DisruptionDecided")[0]["nodes"] == ["n1"]
    assert fake.telemetry.total("SavingsPerHour") > 0


def test_a_second_look_has_to_agree(fake: FakeWorld, launcher: Launcher) -> None:
    """What changed within fifteen seconds is not acted on."""
    sleep = fake.clock.sleep

    def busy(seconds: float) -> None:
        sleep(seconds)
        fake.cluster.put(*(estate.pod(f"p{place}", on="n1", cpu="3") for place in range(5)))

    fake.clock.sleep = busy  # type: ignore[method-assign]
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 0}
    assert fake.workflows.started == {}
    assert not tainted(fake)


def test_what_cannot_be_launched_is_rolled_back(fake: FakeWorld, launcher: Launcher) -> None:
    """Without its replacement the node gets its pods back, and it is told."""
    launcher.fails = True
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 0}
    assert fake.workflows.started == {}
    assert not tainted(fake)
    assert len(fake.bus.of("DisruptionRolledBack")) == 1


@pytest.mark.parametrize("mode", ["observe", "provision"])
def test_other_modes_only_look(fake: FakeWorld, launcher: Launcher, mode: str) -> None:
    """Voluntary disruption is mode full's alone."""
    fake.mode = mode
    fake.cluster.put(estate.pool(disruption={"consolidateAfter": "1s"}))
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 0}
    assert launcher.calls == 0
    assert not tainted(fake)
    assert fake.recorder.of("patch_nodeclaim") == []


def test_an_interruption_has_precedence(fake: FakeWorld, launcher: Launcher) -> None:
    """While one waits nothing is decided."""
    fake.ledger.flag("interruption-waiting", estate.NOW + estate.DAY)
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 0}
    assert fake.recorder.of("state") == []


def test_nobody_holds_the_lease_between_the_looks(fake: FakeWorld, launcher: Launcher) -> None:
    """The fifteen seconds belong to everybody else."""
    held: list[bool] = []
    sleep = fake.clock.sleep

    def watched(seconds: float) -> None:
        held.append(fake.ledger.holder is not None)
        sleep(seconds)

    fake.clock.sleep = watched  # type: ignore[method-assign]
    disrupt.disrupt(TICK, fake.world)
    assert held == [False]


def test_blocked_nodes_are_counted_and_told_now_and_then(
    fake: FakeWorld, launcher: Launcher
) -> None:
    """Each reason is a metric; the node's Event is not repeated at every tick."""
    fake.cluster.put(estate.pool(disruption={"consolidateAfter": "Never"}))
    for _ in range(3):
        disrupt.disrupt(TICK, fake.world)
    assert fake.telemetry.total("DisruptionBlocked", Code="ConsolidateAfter") == 3
    assert [reason for _, reason, _ in fake.cluster.events] == ["DisruptionBlocked"]


@pytest.mark.parametrize("call", range(1, 40))
def test_a_pass_that_dies_and_is_repeated_disrupts_once(
    fake: FakeWorld, launcher: Launcher, call: int
) -> None:
    """Wherever it dies: at most one drain a node, whatever the next pass does."""
    fake.recorder.kill_at(call)
    try:
        disrupt.disrupt(TICK, fake.world)
    except Killed:
        fake.recorder.revive()
        fake.clock.sleep(120)
        disrupt.disrupt(TICK, fake.world)
    assert len({item["node"] for item in fake.workflows.started.values()}) <= 1
    assert len(fake.workflows.started) <= 1


def test_a_node_that_takes_pods_remembers_them(fake: FakeWorld, launcher: Launcher) -> None:
    """The node that pods are moved to is told so: nobody shall be moved all day."""
    roomy = estate.node("n2")
    fake.cluster.put(estate.claim(roomy))
    fake.join(roomy, *(estate.pod(f"b{place}", on="n2") for place in range(5)))
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 1}
    assert launcher.calls == 0
    ((name, patch),) = fake.recorder.of("patch_node")
    assert name == "n2"
    assert labels.MOVED in patch["metadata"]["annotations"]
