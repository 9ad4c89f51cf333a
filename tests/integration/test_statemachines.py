"""Both state machines in moto's interpreter, on discrete time, their functions' flows scripted.

What is run is template.yaml with the definitions and handlers that are deployed; only what a step
decides is said by the test. No cluster, and no ticks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outrider.errors import Throttled
from outrider.flows import drain, seed
from outrider.local.clock import DiscreteClock
from outrider.local.cloud import Cloud

pytestmark = pytest.mark.integration

TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
NODE = {
    "version": 1,
    "cluster": "local",
    "decision": "d1",
    "node": "ip-10-0-1-2.ec2.internal",
    "claim": "gpu-x7k2p",
    "instanceId": "i-0b662ef9931388ba0",
    "reason": "Underutilized",
    "deadline": None,
    "replacements": ["gpu-9c4zd"],
    "round": 0,
    "successor": 0,
}

NUMBERS = itertools.count()

Answers = dict[str, list[Any]]


class Script:
    """Answers steps in turn, the last answer for ever, and remembers what it was asked."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    def __call__(self, event: Mapping[str, Any], _world: object) -> dict[str, Any]:
        """Stand in for a flow's `step`."""
        self.asked.append(dict(event))
        lines = self.answers.get(event["step"], [{}])
        answer = lines.pop(0) if len(lines) > 1 else lines[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    @property
    def steps(self) -> list[str]:
        """Return the steps in the order in which they were asked."""
        return [event["step"] for event in self.asked]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """Give an embedded cloud with the application in it, its schedules and rules asleep."""
    with Cloud(template=TEMPLATE, clock=DiscreteClock(START), with_cluster=False) as running:
        events = running.client("events")
        for rule in events.list_rules()["Rules"]:
            events.disable_rule(Name=rule["Name"])
        yield running


def run(cloud: Cloud, machine: str, given: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run an execution to its end and return its description and how long it took."""
    assert cloud.stack is not None
    states = cloud.client("stepfunctions")
    arn = states.start_execution(
        stateMachineArn=cloud.stack.outputs[f"{machine}StateMachine"],
        name=f"test-{next(NUMBERS)}",
        input=json.dumps(given),
    )["executionArn"]

    def ended() -> bool:
        return bool(states.describe_execution(executionArn=arn)["status"] != "RUNNING")

    cloud.run(seconds, until=ended)
    told: dict[str, Any] = states.describe_execution(executionArn=arn)
    took = (told["stopDate"] - told["startDate"]).total_seconds() if "stopDate" in told else -1
    return {**told, "took": took}


def test_a_drain_goes_from_cordon_to_finish(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are as long as the function asked, and what a step learns the next one knows."""
    script = Script(
        {
            "cordon": [{"begun": "2026-03-02T12:00:00Z"}],
            "await": [{"ready": False, "wait": 20}, {"ready": True, "wait": 0}],
            "round": [
                {"done": False, "wait": 7, "round": 1},
                {"done": False, "wait": 7, "round": 2},
                {"done": True, "wait": 0, "round": 3},
            ],
            "terminate": [{"done": False, "wait": 5}, {"done": True, "wait": 0}],
        }
    )
    monkeypatch.setattr(drain, "step", script)
    ended = run(cloud, "Drain", NODE, 600)
    assert ended["status"] == "SUCCEEDED"
    assert script.steps == [
        "cordon",
        *["await"] * 2,
        *["round"] * 3,
        *["terminate"] * 2,
        "finish",
    ]
    assert 20 + 7 + 7 + 5 <= ended["took"] < 20 + 7 + 7 + 5 + 10
    last = script.asked[-1]
    assert {key: last[key] for key in NODE if key != "round"} == {
        key: NODE[key] for key in NODE if key != "round"
    }
    assert last["round"] == 3
    assert last["begun"] == "2026-03-02T12:00:00Z"


def test_a_step_that_fails_is_tried_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttled call costs a drain some seconds, not its life."""
    script = Script(
        {
            "cordon": [Throttled("slow down"), Throttled("slow down"), {"begun": "x"}],
            "await": [{"ready": True, "wait": 0}],
            "round": [{"done": True, "wait": 0, "round": 1}],
            "terminate": [{"done": True, "wait": 0}],
        }
    )
    monkeypatch.setattr(drain, "step", script)
    assert run(cloud, "Drain", NODE, 600)["status"] == "SUCCEEDED"
    assert script.steps.count("cordon") == 3


def test_a_drain_that_cannot_go_on_fails_aloud(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all its patience the execution fails under its own name, for the sweep to find."""
    monkeypatch.setattr(drain, "step", Script({"cordon": [ValueError("broken")]}))
    ended = run(cloud, "Drain", NODE, 3600)
    assert ended["status"] == "FAILED"
    assert ended["error"] == "DrainFailed"


def test_a_very_long_drain_is_handed_over(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """At two thousand rounds a successor takes over, knowing all that was known."""
    script = Script(
        {
            "cordon": [{"begun": "2026-03-02T12:00:00Z"}],
            "await": [{"ready": True, "wait": 0}],
            "round": [
                {"done": False, "wait": 1, "round": 2000},
                {"done": True, "wait": 0, "round": 1},
            ],
            "terminate": [{"done": True, "wait": 0}],
        }
    )
    monkeypatch.setattr(drain, "step", script)
    assert run(cloud, "Drain", NODE, 600)["status"] == "SUCCEEDED"
    cloud.run(60, until=lambda: "finish" in script.steps)
    last = script.asked[-1]
    assert last["step"] == "finish"
    assert last["successor"] == 1
    assert last["begun"] == "2026-03-02T12:00:00Z"
    assert last["replacements"] == NODE["replacements"]


DONE = {"done": True, "wait": 0}
BUILD = {"key": "k1", "seed": "k1", "reason": "r", "estimate": {}, "cost": {"buildDollars": 0.07}}
BUILD_STEPS: Answers = {
    "launch": [
        {"joined": False, "done": False, "wait": 60},
        {"joined": False, "done": True, "wait": 10},
    ],
    "pulled": [{"done": False, "wait": 30}, DONE],
    "stop": [{"done": False, "wait": 5}, DONE],
    "verify": [{"done": False, "wait": 15}, DONE],
    "snapshot": [{"wait": 15}],
    "completed": [{"done": False, "wait": 15}, DONE],
    "warm": [{"done": False, "wait": 30}, DONE],
    "publish": [{"outcome": "published"}],
}
WHOLE = [
    *["launch"] * 2,
    *["pulled"] * 2,
    *["stop"] * 2,
    *["verify"] * 2,
    "snapshot",
    *["completed"] * 2,
    *["warm"] * 2,
    "publish",
    "retire",
]


def test_a_seed_is_built_published_and_cleaned_up_after(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One build walks through every step, its builder's traces removed at the end."""
    script = Script({"plan": [{"builds": [BUILD]}], **{k: [*v] for k, v in BUILD_STEPS.items()}})
    monkeypatch.setattr(seed, "step", script)
    ended = run(cloud, "Seed", {"images": ["a"], "reason": "asked"}, 3600)
    assert ended["status"] == "SUCCEEDED"
    assert script.steps == ["plan", *WHOLE, "cleanup"]
    (told,) = json.loads(ended["output"])["outcomes"]
    assert (told["outcome"], told["cost"]) == ("published", {"buildDollars": 0.07})
    assert all(event["key"] == "k1" for event in script.asked[1:])


def test_a_push_of_nobody_s_image_builds_nothing(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push settles for some seconds, is looked at, and that is all."""
    script = Script({"plan": [{"builds": []}]})
    monkeypatch.setattr(seed, "step", script)
    push = json.loads((TEMPLATE.parent / "events" / "ecr-image-push.json").read_text())
    ended = run(cloud, "Seed", push, 600)
    assert ended["status"] == "SUCCEEDED"
    assert script.steps == ["plan"]
    assert ended["took"] >= 20
    assert script.asked[0]["detail"]["repository-name"] == "ml/trainer"


def test_a_seed_that_another_builds_is_left_to_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the lock taken makes nothing, cleans nothing up, and ends well."""
    joined = {"joined": True, "outcome": "joined", **DONE}
    script = Script({"plan": [{"builds": [BUILD]}], "launch": [joined]})
    monkeypatch.setattr(seed, "step", script)
    ended = run(cloud, "Seed", {"images": ["a"], "reason": "asked"}, 600)
    assert ended["status"] == "SUCCEEDED"
    assert script.steps == ["plan", "launch"]


@pytest.mark.parametrize(
    "broken",
    ["launch", "pulled", "stop", "verify", "snapshot", "completed", "warm", "publish", "retire"],
)
def test_a_build_that_fails_cleans_up_and_is_told(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Whatever step breaks, cleanup runs once, knows the cause, and the execution fails."""
    answers: Answers = {k: [*v] for k, v in BUILD_STEPS.items()}
    script = Script({**answers, "plan": [{"builds": [BUILD]}], broken: [ValueError("no luck")]})
    monkeypatch.setattr(seed, "step", script)
    ended = run(cloud, "Seed", {"images": ["a"], "reason": "asked"}, 7200)
    assert ended["status"] == "FAILED"
    assert ended["error"] == "SeedFailed"
    assert script.steps.count("cleanup") == 1
    assert "no luck" in script.asked[-1]["error"]["Cause"]


def test_a_failed_build_does_not_stop_the_others(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three seeds are published, and the execution says that one is missing."""
    published = []

    def step(event: Mapping[str, Any], _world: object) -> dict[str, Any]:
        if event["step"] == "plan":
            return {"builds": [{**BUILD, "key": key} for key in ("a", "b", "c")]}
        if (event["step"], event["key"]) == ("launch", "b"):
            raise ValueError("no capacity")
        if event["step"] == "publish":
            published.append(event["key"])
        return {"done": True, "joined": False, "outcome": "published", "wait": 1}

    monkeypatch.setattr(seed, "step", step)
    ended = run(cloud, "Seed", {"images": ["a"], "reason": "asked"}, 7200)
    assert ended["status"] == "FAILED"
    assert sorted(published) == ["a", "c"]
