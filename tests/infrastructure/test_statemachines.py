"""The state machines keep time and lose nothing: limits, retries, catches, no dead ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from statelint.linter import Linter

from outrider import errors
from tests.support.stack import machine, stack, template

NAMES = ("drain", "seed")
STEPS = {
    "drain": {"cordon", "await", "round", "terminate", "finish"},
    "seed": {
        "plan",
        "launch",
        "pulled",
        "stop",
        "verify",
        "snapshot",
        "completed",
        "warm",
        "publish",
        "retire",
        "cleanup",
    },
}
INVOKE = "arn:aws:states:::lambda:invoke"


def scopes(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the machine and every Map's inner machine."""
    yield definition
    for state in definition["States"].values():
        if state["Type"] == "Map":
            yield from scopes(state["ItemProcessor"])


def states(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every state of the machine *name*, those inside a Map included."""
    for scope in scopes(machine(name)):
        yield from scope["States"].items()


def tasks(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the Task states of the machine *name*."""
    return [(label, state) for label, state in states(name) if state["Type"] == "Task"]


def following(state: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the states that may come after *state*."""
    for key in ("Next", "Default"):
        if key in state:
            yield state[key]
    for branch in (*state.get("Choices", ()), *state.get("Catch", ())):
        yield branch["Next"]


@pytest.mark.parametrize("name", NAMES)
def test_the_linter_finds_nothing(name: str) -> None:
    """statelint has no complaint."""
    assert Linter.validate(machine(name)) == []


def _schema() -> dict[str, Any]:
    """Return the schema of the Amazon States Language that cfn-lint carries."""
    room = files("cfnlint.data.schemas.other.step_functions")
    text = (room / "statemachine.json").read_text()
    found: dict[str, Any] = json.loads(text.replace('"#/"', '"#"'))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_definition_is_of_the_language(name: str) -> None:
    """Another judge than statelint: AWS' own schema of the states language."""
    errors_found = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft202012Validator(_schema()).iter_errors(machine(name))
    ]
    assert errors_found == []


@pytest.mark.parametrize("break_it", [{"Type": "Tusk"}, {"Resource": "nobody"}, {"Retry": [{}]}])
def test_the_schema_is_a_judge(break_it: dict[str, Any]) -> None:
    """What is not of the language is seen."""
    broken = json.loads(json.dumps(machine("seed")))
    broken["States"]["Plan"] |= break_it
    assert list(Draft202012Validator(_schema()).iter_errors(broken))


# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html, and services'
AWS_ERRORS = {
    "States.ALL",
    "States.Timeout",
    "States.TaskFailed",
    "States.Permissions",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "StepFunctions.ExecutionAlreadyExistsException",
    "StepFunctions.ExecutionAlreadyExists",
}


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_called_as_they_are(name: str) -> None:
    """Each name that a retrier or catcher waits for is AWS', or a class of ours."""
    for label, task in tasks(name):
        for one in (*task["Retry"], *task["Catch"]):
            for error in one["ErrorEquals"]:
                assert error in AWS_ERRORS or issubclass(
                    getattr(errors, error, int), errors.OutriderError
                ), (label, error)


@pytest.mark.parametrize("name", NAMES)
def test_every_state_can_be_reached_and_every_way_leads_somewhere(name: str) -> None:
    """No state is forgotten, none is dangling."""
    for scope in scopes(machine(name)):
        known, seen, open_ends = scope["States"], set(), [scope["StartAt"]]
        while open_ends:
            label = open_ends.pop()
            if label not in seen:
                seen.add(label)
                open_ends.extend(following(known[label]))
        assert seen == set(known)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_for_ever(name: str) -> None:
    """The execution and each of its tasks have a limit of time."""
    assert machine(name)["TimeoutSeconds"] > 0
    resources = template()["Resources"]
    limit = resources[f"{name.capitalize()}Function"]["Properties"]["Timeout"]
    for label, task in tasks(name):
        assert task["TimeoutSeconds"] > 0, label
        if task["Resource"] == INVOKE:
            assert task["TimeoutSeconds"] > limit, label


@pytest.mark.parametrize("name", NAMES)
def test_every_task_retries_by_class_and_catches_the_rest(name: str) -> None:
    """Lambda's troubles, the world's and unknown ones each have their patience, then a Catch."""
    for label, task in tasks(name):
        assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"], label
        assert task["Catch"][-1]["ResultPath"] == "$.error", label
        assert task["Retry"][-1]["ErrorEquals"] == ["States.ALL"], label
        if task["Resource"] == INVOKE:
            ours, theirs = task["Retry"][1]["ErrorEquals"], task["Retry"][0]["ErrorEquals"]
            assert "Lambda.TooManyRequestsException" in theirs, label
            assert all(issubclass(getattr(errors, e), errors.OutriderError) for e in ours), label


@pytest.mark.parametrize("name", NAMES)
def test_tasks_hand_over_the_whole_state(name: str) -> None:
    """A step is named, gets everything that is known, and gives everything back."""
    steps = set()
    for label, task in tasks(name):
        if task["Resource"] != INVOKE:
            continue
        payload = task["Parameters"]["Payload"]
        assert payload["input.$"] == "$", label
        assert task["OutputPath"] == "$.Payload", label
        steps.add(payload["step"])
    assert steps == STEPS[name]


@pytest.mark.parametrize("name", NAMES)
def test_waits_are_asked_for_by_the_function(name: str) -> None:
    """How long to wait is a decision, so the machine does not make it; but a push may settle."""
    for label, state in states(name):
        if state["Type"] == "Wait" and label != "Let the push settle":
            assert state["SecondsPath"] == "$.wait"


def test_a_drain_cordons_first() -> None:
    """Nothing new is scheduled on a node that leaves, whatever comes after."""
    drain = machine("drain")
    assert drain["StartAt"] == "Cordon"
    assert drain["States"]["Cordon"]["Next"] == "Await replacement"


def test_a_long_drain_hands_over_before_its_history_is_full() -> None:
    """Two thousand rounds of nine events stay below 25,000, with room for the rest."""
    drain = machine("drain")["States"]
    limit = next(
        choice["NumericGreaterThanEquals"]
        for choice in drain["Drained?"]["Choices"]
        if choice["Variable"] == "$.round"
    )
    events_a_round = 5 + 2 + 2  # a task, a choice, a wait
    assert limit * events_a_round < 25_000 * 0.8
    successor = drain["Hand over"]["Parameters"]
    assert successor["StateMachineArn.$"] == "$$.StateMachine.Id"
    assert successor["Input"]["round"] == 0
    carried = {key.removesuffix(".$") for key in successor["Input"]}
    assert carried == {
        "version",
        "cluster",
        "decision",
        "node",
        "claim",
        "instanceId",
        "reason",
        "begun",
        "deadline",
        "replacements",
        "round",
        "successor",
    }


def test_a_build_always_cleans_up() -> None:
    """Whatever fails in a build, its builder is ended; other builds go on."""
    build = machine("seed")["States"]["Build"]["ItemProcessor"]["States"]
    for label, state in build.items():
        if state["Type"] == "Task" and state["Parameters"]["Payload"]["step"] != "cleanup":
            assert [catch["Next"] for catch in state["Catch"]] == ["Clean up after failure"], label
    assert build["Retire"]["Next"] == "Clean up"
    ends = {label for label, state in build.items() if state.get("End")}
    assert ends == {"Done", "Not built"}


def test_a_build_that_cannot_go_on_is_not_asked_again() -> None:
    """Asking a builder that failed once more would only cost its hours."""
    for label, task in tasks("seed"):
        assert {"ErrorEquals": ["BuildFailed"], "MaxAttempts": 0} in task["Retry"], label
    assert issubclass(errors.BuildFailed, errors.CloudError)


def test_a_failed_build_fails_the_execution_in_the_end() -> None:
    """Half a success is not told as a whole one."""
    seed = machine("seed")["States"]
    assert seed["Build"]["ResultPath"] == "$.outcomes"
    assert seed["Count failures"]["Parameters"] == {
        "failed.$": "States.ArrayContains($.outcomes[*].outcome, 'failed')",
        "outcomes.$": "$.outcomes",
    }
    assert seed["All built?"]["Choices"][0]["Next"] == "Some failed"


@pytest.mark.parametrize("name", NAMES)
def test_the_definition_is_small_enough(name: str) -> None:
    """Step Functions takes a megabyte."""
    assert len(json.dumps(machine(name))) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_every_placeholder_is_substituted(name: str) -> None:
    """The template gives a value for each `${...}` in the definition."""
    declared = template()["Resources"][f"{name.capitalize()}StateMachine"]["Properties"]
    assert set(declared["DefinitionSubstitutions"]) == {
        "Partition",
        f"{name.capitalize()}FunctionArn",
    }
    made = stack().of("AWS::StepFunctions::StateMachine")[f"{name.capitalize()}StateMachine"]
    assert made["DefinitionSubstitutions"][f"{name.capitalize()}FunctionArn"].endswith(":live")
