"""Brakes on the embedded cloud: each holds, says so three times, and is released as it says.

An alarm (through its metric), a Kubernetes Event on the NodePool and a LaunchFailed decision.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outrider.apis import labels
from tests.support.stage import Stage, pod, pool, staged

pytestmark = pytest.mark.e2e

TYPES = ("g5.xlarge", "g6.xlarge", "g6.2xlarge")
POOLS = "nodepools.karpenter.sh"


@pytest.fixture(scope="module")
def theatre() -> Iterator[Stage]:
    """Give the cloud that the stories share."""
    with staged() as stage:
        yield stage


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """Give the shared cloud for one story."""
    theatre.begin()
    yield theatre
    theatre.clear()
    assert theatre.errors() == []


def held(stage: Stage, name: str) -> str:
    """Wait until a brake holds; return what it says, after seeing that all three say so."""
    stage.expect("a brake holds", 900, lambda: stage.told("LaunchesHeldBack", name))
    message = str(stage.told("LaunchesHeldBack", name)[0]["message"])
    assert "To release: " in message
    stage.expect("the alarm", 180, lambda: stage.alarm("HeldBackAlarm") == "ALARM")
    return message


def annotated(stage: Stage, name: str, **annotations: str | None) -> None:
    """Set or remove annotations of a NodePool."""
    named = {f"outrider.dev/{key.replace('_', '-')}": one for key, one in annotations.items()}
    stage.patch(POOLS, name, {"metadata": {"annotations": named}})


def test_a_pool_s_dollars(stage: Stage) -> None:
    """A NodePool may cost so much an hour; raised, the pod runs."""
    stage.apply(pool("cheap", annotations={labels.MAX_DOLLARS: "0.01"}), pod("a", "cheap"))
    assert labels.MAX_DOLLARS in held(stage, "cheap")
    assert not stage.machines()
    assert "0.01" in stage.decided("LaunchFailed")[0]["reason"]
    annotated(stage, "cheap", max_dollars_per_hour="5")
    stage.expect_running("a")


def test_launches_a_minute_let_a_crowd_in_little_by_little(stage: Stage) -> None:
    """Five nodes at two a minute: never more than two in any minute, and all in the end."""
    pods = [f"p{number}" for number in range(5)]
    crowd = pool("crowd", types=("g6.xlarge",), annotations={labels.MAX_LAUNCHES: "2"})
    stage.apply(crowd, *(pod(name, "crowd") for name in pods))
    assert labels.MAX_LAUNCHES in held(stage, "crowd")
    stage.expect_running(*pods, seconds=600)
    launched = sorted(one["at"] for one in stage.entries("createFleet") for _ in one["launched"])
    assert len(launched) == 5
    assert all(later - first >= 59 for first, later in zip(launched, launched[2:], strict=False))


def test_a_pause(stage: Stage) -> None:
    """A paused NodePool launches nothing, says how to go on, and goes on."""
    stage.apply(pool("idle", annotations={labels.PAUSED: "true"}), pod("a", "idle"))
    message = held(stage, "idle")
    assert "kubectl annotate nodepool idle outrider.dev/paused-" in message
    assert not stage.machines()
    annotated(stage, "idle", paused=None)
    stage.expect_running("a")


def test_nodes_that_do_not_register(stage: Stage) -> None:
    """Three late nodes and no more are launched; mended, one is tried, and then the rest."""
    stage.cloud.faults.set({"neverJoin": list(TYPES)})
    types = ("g6.xlarge",)
    for number in range(3):
        stage.apply(pool("deaf", types=types), pod(f"p{number}", "deaf"))
    stage.expect("three nodes", 60, lambda: len(stage.machines()) == 3)
    stage.cloud.run(310)
    stage.apply(*(pod(f"q{number}", "deaf") for number in range(2)))
    assert "do not register" in held(stage, "deaf")
    assert len(stage.machines()) == 3
    stage.cloud.faults.set({})
    pods = [f"p{number}" for number in range(3)] + [f"q{number}" for number in range(2)]
    stage.expect_running(*pods, seconds=3600)
