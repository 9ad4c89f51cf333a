"""Upgrade and rollback under work: a drain and a seed that run do not notice, whoever's code it is.

The next release is simulated where its difference shows: its functions are loaded from another
folder, leave fields in the state machines' state that this release does not know, and write rows of
the next version with attributes of their own. A deploy moves every alias to it in the middle of the
work, a rollback moves them back. Not simulated: that Lambda ends invocations on the old version.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.adapters.aws import table
from outrider.core.stateversion import VERSION
from outrider.local.demo.push import announce, put_image, reference
from tests.support.stage import FOUR_GPUS, Stage, deployment, pod, pool, staged

pytestmark = pytest.mark.e2e

NEXT = '''
"""The next release: what this one does, and more in everything that it leaves behind."""

import importlib.util

spec = importlib.util.spec_from_file_location("this_release_{name}", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


def lambda_handler(event, context):
    answer = module.lambda_handler(event, context)
    if isinstance(answer, dict) and "step" in answer:
        return {{**answer, "version": {version}, "fromTheFuture": {{"nested": ["values"]}}}}
    return answer
'''


@pytest.fixture(scope="module")
def theatre() -> Iterator[Stage]:
    """Give the cloud that the stories share."""
    with staged() as stage:
        yield stage


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """Give the shared cloud for one story; afterwards nothing is left, nothing failed."""
    theatre.begin()
    yield theatre
    theatre.clear()
    assert theatre.errors() == []
    assert theatre.dead_letters() == {}


@contextmanager
def next_release(stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Move every alias to the next release for a while."""
    functions = stage.cloud.functions
    before = {name: one.code for name, one in functions.functions.items()}
    for name, one in functions.functions.items():
        code = folder / one.logical_id
        code.mkdir(exist_ok=True)
        text = NEXT.format(name=name, path=str(one.code / "app.py"), version=VERSION + 1)
        (code / "app.py").write_text(text)
        one.code = code
    functions.forget()
    stored = table.stored

    def newer(row: dict[str, Any]) -> Any:
        item = dict(stored(row))
        return {**item, **table.marshal({"v": VERSION + 1, "fromTheFuture": {"a": [1]}})}

    try:
        with monkeypatch.context() as patched:
            patched.setattr(table, "stored", newer)
            yield
    finally:
        for name, one in functions.functions.items():
            one.code = before[name]
        functions.forget()


def left_behind(stage: Stage) -> set[str]:
    """Return the kinds of rows that the next release wrote and this one still has."""
    ledger = stage.cloud.stack.outputs["LedgerTable"] if stage.cloud.stack else ""
    items = stage.cloud.client("dynamodb").scan(TableName=ledger)["Items"]
    return {item["pk"]["S"].partition("#")[0] for item in items if "fromTheFuture" in item}


def ran(stage: Stage, name: str) -> int:
    """Return how often a function ended in this story."""
    return sum(one == name for one, _ in stage.outcomes)


def killed(stage: Stage) -> int:
    """Return how many invocations of this story were killed."""
    return sum(
        outcome.error is not None and outcome.error["errorType"] == "Runtime.ExitError"
        for _, outcome in stage.outcomes
    )


def ends(stage: Stage, machine: str) -> list[str]:
    """Return how the executions of a machine of this story ended."""
    return [
        entry["status"]
        for entry in stage.entries("execution")
        if machine in entry["machine"] and entry["status"] != "RUNNING"
    ]


def test_a_drain_survives_a_deploy_and_a_rollback(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun by this release, gone on with by the next, ended by this one again: each pod is evicted
    once, each step ran in time, and the replacement is one.
    """
    stage.apply(
        pool("up", types=FOUR_GPUS, capacity=("spot",)),
        deployment("calm", "up", 3, terminationGracePeriodSeconds=40),
    )
    stage.expect("three pods run", 300, lambda: stage.running() == 3)
    (machine,) = stage.machines()
    stage.begin()
    stage.cloud.put_event(
        {
            "source": "aws.ec2",
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "detail": {"instance-id": machine["InstanceId"], "instance-action": "terminate"},
        }
    )
    stage.expect("a drain", 20, lambda: ran(stage, "drain") >= 1)
    with next_release(stage, tmp_path, monkeypatch):
        steps = ran(stage, "drain")
        stage.expect("evictions", 100, lambda: stage.decided("PodEvicted"))
        assert ran(stage, "drain") >= steps + 3
    assert "debt" in left_behind(stage)
    assert not stage.decided("NodeTerminated")
    stage.expect("the node is gone", 200, lambda: stage.decided("NodeTerminated"))
    stage.expect("three pods run", 200, lambda: stage.running() == 3)
    evicted = [one["podUid"] for one in stage.decided("PodEvicted")]
    assert len(evicted) == len(set(evicted)) == 3
    assert len(stage.decided("ReplacementLaunched")) == 1
    assert len(stage.decided("NodeTerminated")) == 1
    stage.expect("its execution ends", 60, lambda: ends(stage, "Drain"))
    assert ends(stage, "Drain") == ["SUCCEEDED"]


def test_a_seed_survives_a_deploy_and_a_rollback(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that the next release goes on with in the middle ends as one published seed, which
    this release's launches use.
    """
    put_image(stage.cloud, "ml/up", "v1", (2_000_000_000,))
    stage.apply(pool("seed"), pod("a", "seed", image=reference("ml/up", "v1")))
    stage.expect_running("a")
    digest = put_image(stage.cloud, "ml/up", "v2", (2_000_000_000,))
    announce(stage.cloud, "ml/up", "v2", digest)
    stage.expect("a builder", 300, lambda: stage.decided("SeedStarted"))
    with next_release(stage, tmp_path, monkeypatch):
        stage.expect("a snapshot begun", 1800, lambda: stage.entries("snapshot"))
    assert left_behind(stage)
    assert not stage.decided("SeedPublished")
    stage.expect("a seed", 1800, lambda: stage.decided("SeedPublished"))
    stage.expect("its execution ends", 60, lambda: ends(stage, "Seed"))
    assert ends(stage, "Seed") == ["SUCCEEDED"]
    assert len(stage.decided("SeedStarted")) == len(stage.decided("SeedPublished")) == 1
    assert stage.decided("SeedFailed") == []


def test_a_launch_begun_by_the_next_release_is_finished_by_this_one(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next release dies after CreateFleet; rolled back, its intent still ends as one node."""
    with next_release(stage, tmp_path, monkeypatch):
        stage.cloud.faults.set({"killAtCall": {"function": "provision", "call": 40}})
        stage.apply(pool("half"), pod("a", "half"))
        stage.expect("a kill", 30, lambda: killed(stage))
    stage.cloud.faults.set({})
    stage.expect_running("a")
    assert len(stage.machines()) == 1
