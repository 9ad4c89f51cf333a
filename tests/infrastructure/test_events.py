"""Every payload under events/ finds its way: through a rule, to the one place that answers it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.apis import signals
from outrider.local.patterns import matches
from tests.support.stack import CLUSTER, EVENTS, stack

PAYLOADS = sorted(EVENTS.glob("*.json"))
INTERRUPTION, SIGNAL = "InterruptionQueue", "SignalQueue"
GOES_TO = {
    "pod-unschedulable": "HintQueue.fifo",
    "spot-interruption": INTERRUPTION,
    "capacity-reservation-interruption": INTERRUPTION,
    "capacity-reservation-interruption-interruptible": INTERRUPTION,
    "rebalance-recommendation": SIGNAL,
    "scheduled-change": SIGNAL,
    "scheduled-change-many": SIGNAL,
    "scheduled-change-closed": SIGNAL,
    "capacity-block-expiration": SIGNAL,
    "capacity-block-expiration-reservation": SIGNAL,
    "capacity-block-delivered": SIGNAL,
    "capacity-reservation-expired": SIGNAL,
    "capacity-reservation-reclaimed": SIGNAL,
    "instance-state-change": SIGNAL,
    "instance-running": "LifecycleFunction:live",
    "execution-timed-out": "LifecycleFunction:live",
    "ecr-image-push": "SeedStateMachine",
    "tick-provision": "ProvisionFunction:live",
    "tick-disrupt": "DisruptFunction:live",
    "tick-lifecycle": "LifecycleFunction:live",
    "tick-catalog": "CatalogFunction:live",
}
# Messages that are no signals: they start something without being read.
SWEPT = signals.InstanceImpaired  # made by the sweep, sent by nobody
UNREAD = {"tick-provision", "tick-disrupt", "tick-lifecycle", "tick-catalog"}


def payload(name: str) -> dict[str, Any]:
    """Return one payload, its cluster and its state machine those of the test's stack."""
    text = (EVENTS / f"{name}.json").read_text()
    text = text.replace("outrider-local", "outrider-test").replace('"local"', f'"{CLUSTER}"')
    event: dict[str, Any] = json.loads(text)
    return event


def targets(event: dict[str, Any]) -> list[str]:
    """Return the ARNs that the template's rules send *event* to."""
    return [
        target["Arn"]
        for rule in stack().of("AWS::Events::Rule").values()
        if "EventPattern" in rule and matches(rule["EventPattern"], event)
        for target in rule["Targets"]
    ]


def test_every_payload_is_expected_somewhere() -> None:
    """No payload lies in events/ without a line here, and none is expected that is not there."""
    assert {path.stem for path in PAYLOADS} == set(GOES_TO)


@pytest.mark.parametrize("name", sorted(GOES_TO))
def test_a_payload_has_one_destination(name: str) -> None:
    """A signal reaches exactly one queue, function or state machine."""
    (target,) = targets(payload(name))
    assert target.endswith(GOES_TO[name])


@pytest.mark.parametrize("name", sorted(set(GOES_TO) - UNREAD))
def test_a_payload_is_a_signal_that_is_understood(name: str) -> None:
    """The one door of apis.signals knows every payload that we say AWS sends."""
    assert signals.parse(payload(name)).kind != "Unknown"


def test_every_spelling_of_a_signal_is_routed() -> None:
    """AWS's documents spell some detail-types in two ways: both have a rule, or neither is read."""
    kinds = [kind for kind in signals.Message.__subclasses__() if kind is not SWEPT]
    for source, detail_type in (spelling for kind in kinds for spelling in kind.spellings):
        event = {
            "source": source,
            "detail-type": detail_type,
            "detail": {
                "cluster": CLUSTER,
                "state": "stopping",
                "service": "EC2",
                "eventTypeCategory": "scheduledChange",
                "action-type": "PUSH",
                "result": "SUCCESS",
                "status": "FAILED",
                "stateMachineArn": stack().outputs["DrainStateMachine"],
            },
        }
        assert targets(event), detail_type


@pytest.mark.parametrize("state", ["running", "stopping", "stopped", "shutting-down"])
def test_every_instance_state_that_is_news_has_a_destination(state: str) -> None:
    """A machine that runs goes to lifecycle, ends go to interrupt; pending is a launch of ours."""
    event = payload("instance-state-change")
    event["detail"]["state"] = state
    (target,) = targets(event)
    assert target.endswith("LifecycleFunction:live" if state == "running" else SIGNAL)
    event["detail"]["state"] = "pending"
    assert targets(event) == []


def test_another_clusters_hint_is_not_ours() -> None:
    """Two stacks in one account do not wake each other."""
    event = payload("pod-unschedulable")
    event["detail"]["cluster"] = "another"
    assert targets(event) == []


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_an_execution_that_ended_badly_is_swept_up(status: str) -> None:
    """TIMED_OUT and ABORTED run no Catch: the rules bring them to whoever cleans up."""
    event = payload("execution-timed-out")
    event["detail"]["status"] = status
    assert [t.rpartition("test-")[2] for t in targets(event)] == ["LifecycleFunction:live"]
    event["detail"]["stateMachineArn"] = stack().outputs["SeedStateMachine"]
    assert [t.rpartition("test-")[2] for t in targets(event)] == ["SeedFunction:live"]
    event["detail"]["stateMachineArn"] += "-of-somebody-else"
    assert targets(event) == []


def test_a_successful_push_alone_starts_seeding() -> None:
    """Deletions and failed pushes build nothing."""
    for key, value in (("action-type", "DELETE"), ("result", "FAILURE")):
        event = payload("ecr-image-push")
        event["detail"][key] = value
        assert targets(event) == []


def test_the_schedules_send_the_payloads_of_events() -> None:
    """A tick on schedule and a tick on demand look the same to the function."""
    for name, rule in stack().of("AWS::Events::Rule").items():
        if "ScheduleExpression" in rule:
            sent = json.loads(rule["Targets"][0]["Input"])
            flow = name.removesuffix("FunctionTick").lower()
            example = payload(f"tick-{flow}")
            assert sent == {key: example[key] for key in ("source", "detail-type", "detail")}


def test_envelopes_are_those_of_eventbridge() -> None:
    """Each payload has the envelope's fields, and an id of its own."""
    ids = set()
    for path in PAYLOADS:
        event = json.loads(path.read_text())
        assert set(event) == {
            "version",
            "id",
            "detail-type",
            "source",
            "account",
            "time",
            "region",
            "resources",
            "detail",
        }
        assert event["version"] == "0"
        ids.add(event["id"])
    assert len(ids) == len(PAYLOADS)


def test_the_readme_names_every_payload() -> None:
    """events/README.md has a line for each."""
    text = (EVENTS / "README.md").read_text()
    for path in PAYLOADS:
        suffix = path.stem.removeprefix("capacity-reservation-interruption")
        suffix = suffix.removeprefix("scheduled-change").removeprefix("capacity-block-expiration")
        assert f"`{path.name}`" in text or f"`{suffix}.json`" in text
