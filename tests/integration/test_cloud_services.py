"""The embedded cloud executes a template: bus, queues, functions, machines, schedules, alarms.

On a DiscreteClock, so that minutes cost milliseconds and every run is the same. The Kubernetes side
is left out here.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from outrider.local.clock import DiscreteClock
from outrider.local.cloud import Cloud

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
TEMPLATE = Path(__file__).parent / "data" / "cloud" / "template.yaml"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Give an embedded cloud without a cluster, on discrete time."""
    with Cloud(template=TEMPLATE, clock=DiscreteClock(START), with_cluster=False) as running:
        yield running


def item(cloud: Cloud, key: str) -> dict[str, Any]:
    """Return what the probe wrote under *key*."""
    assert cloud.stack is not None
    answer = cloud.client("dynamodb").get_item(
        TableName=cloud.stack.outputs["Table"], Key={"pk": {"S": key}}
    )
    return answer.get("Item", {})


def times(cloud: Cloud, key: str) -> int:
    """Return how often the probe was called as *key*."""
    return int(item(cloud, key).get("times", {"N": "0"})["N"])


def output(cloud: Cloud, key: str) -> str:
    """Return an output of the stack."""
    assert cloud.stack is not None
    return cloud.stack.outputs[key]


def order(cloud: Cloud, **detail: Any) -> None:
    """Tell the probe, over its bus, what to do."""
    event = {"source": "probe", "detail-type": "Order", "detail": detail}
    cloud.put_event(event, output(cloud, "Bus"))


def depth(cloud: Cloud, key: str) -> int:
    """Return a queue's visible messages."""
    return cloud.pollers.depth(output(cloud, key).rpartition("/")[2])[0]


def test_a_rule_on_a_bus_of_ones_own_calls_the_function(cloud: Cloud) -> None:
    """An event on a bus reaches the function in its envelope, dated by the clock."""
    order(cloud, name="hello")
    cloud.run(1)
    envelope = json.loads(item(cloud, "hello")["last"]["S"])
    assert envelope["detail-type"] == "Order"
    assert envelope["time"] == "2026-03-02T12:00:00Z"


def test_hints_of_one_second_become_one_message(cloud: Cloud) -> None:
    """A storm of equal hints is one batch after the queue's delay, pods matched inside a list."""
    for _ in range(20):
        detail = {"cluster": "local", "pods": [{"gpu": False}, {"gpu": True}]}
        cloud.put_event({"source": "outrider.hints", "detail-type": "X", "detail": detail})
    cloud.put_event(
        {"source": "outrider.hints", "detail-type": "X", "detail": {"pods": [{"gpu": False}]}}
    )
    cloud.run(0.9)
    assert times(cloud, "batch") == 0
    cloud.run(0.5)
    assert times(cloud, "batch") == 1
    assert json.loads(item(cloud, "batch")["last"]["S"]) == [
        {"version": 1, "cluster": "local", "at": "2026-03-02T12:00:00Z"}
    ]


def test_a_partial_batch_gives_back_only_what_failed(cloud: Cloud) -> None:
    """Failed messages come again after their visibility timeout and end in the dead-letter
    queue.
    """
    sqs = cloud.client("sqs")
    for body in ({"n": 1}, {"n": 2, "bad": True}):
        sqs.send_message(QueueUrl=output(cloud, "Work"), MessageBody=json.dumps(body))
    cloud.run(4)
    assert times(cloud, "batch") == 1, "the window gathers both"
    cloud.run(34)
    assert json.loads(item(cloud, "batch")["last"]["S"]) == [{"n": 2, "bad": True}]
    cloud.run(120)
    assert depth(cloud, "Dead") == 1
    assert times(cloud, "batch") == 3


def test_an_asynchronous_failure_is_retried_and_then_delivered(cloud: Cloud) -> None:
    """Lambda tries three times, after one and two minutes, then tells the destination."""
    order(cloud, name="sad", fail="no")
    cloud.run(30)
    assert times(cloud, "sad") == 1
    cloud.run(60)
    assert times(cloud, "sad") == 2
    cloud.run(130)
    assert times(cloud, "sad") == 3
    message = cloud.client("sqs").receive_message(QueueUrl=output(cloud, "Dead"))["Messages"][0]
    record = json.loads(message["Body"])
    assert record["responsePayload"]["errorType"] == "ValueError"
    assert record["requestContext"]["approximateInvokeCount"] == 3


def test_a_function_has_its_own_environment_and_identity(cloud: Cloud) -> None:
    """A function sees its own variables and signs as its role; the caller's stay as they were."""
    payload = json.dumps({"name": "direct", "n": 4})
    answer = cloud.client("lambda").invoke(FunctionName=output(cloud, "Probe"), Payload=payload)
    result = json.loads(answer["Payload"].read())
    assert result["n"] == 5
    assert ":assumed-role/outrider-local-ProbeRole" in result["who"]
    assert result["left"] == 30_000
    assert cloud.client("sts").get_caller_identity()["Arn"].endswith("user/administrator")


def test_a_function_error_is_the_invokers(cloud: Cloud) -> None:
    """A synchronous invocation returns the error as the runtime describes it."""
    payload = json.dumps({"name": "x", "fail": "because"})
    answer = cloud.client("lambda").invoke(FunctionName=output(cloud, "Probe"), Payload=payload)
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorMessage"] == "because"


def test_schedules_fire_on_the_clock(cloud: Cloud) -> None:
    """A rule's rate fires after each period; the scheduler's also at once."""
    cloud.run(1)
    assert (times(cloud, "tick"), times(cloud, "soon")) == (0, 1)
    cloud.run(120)
    assert times(cloud, "tick") == 2


def test_a_state_machine_runs_in_motos_interpreter(cloud: Cloud) -> None:
    """Waits, choices, SDK calls and maps take their time on the clock and end in an event."""
    states = cloud.client("stepfunctions")
    arn = output(cloud, "Machine")
    started = states.start_execution(
        stateMachineArn=arn, name="one", input=json.dumps({"n": 0, "items": [1, 2, 3]})
    )
    cloud.run(100)
    assert states.describe_execution(executionArn=started["executionArn"])["status"] == "RUNNING"
    cloud.run(60)
    ended = states.describe_execution(executionArn=started["executionArn"])
    assert ended["status"] == "FAILED", "items were dropped by OutputPath"
    assert times(cloud, "machine") == 3
    kinds = [entry for entry in cloud.timeline.entries() if entry["kind"] == "execution"]
    assert [entry["status"] for entry in kinds] == ["RUNNING", "FAILED"]


def test_starting_an_execution_twice_is_starting_it_once(cloud: Cloud) -> None:
    """The same name and input answer with the same execution; another input is refused."""
    states, arn = cloud.client("stepfunctions"), output(cloud, "Machine")
    first = states.start_execution(stateMachineArn=arn, name="same", input='{"n": 0}')
    second = states.start_execution(stateMachineArn=arn, name="same", input='{"n": 0}')
    assert first["executionArn"] == second["executionArn"]
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        states.start_execution(stateMachineArn=arn, name="same", input='{"n": 1}')


def test_the_http_api_calls_the_function_and_throttles(cloud: Cloud) -> None:
    """Routes carry path parameters, an unknown path is 404, the burst ends in 429."""

    def post(path: str, body: bytes) -> tuple[int, str]:
        request = urllib.request.Request(output(cloud, "Hook") + path, body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    status, text = post("/s3cret", b"hi")
    assert status == 201
    assert json.loads(text) == {"path": {"secret": "s3cret"}, "body": "hi"}
    assert post("", b"")[0] == 404
    assert post("/x", b"crash")[0] == 500
    assert [post("/x", b"")[0] for _ in range(4)] == [201, 201, 429, 429]


def test_alarms_are_evaluated_on_the_clock(cloud: Cloud) -> None:
    """An alarm fires on a service's metric and on metric math, and goes back to OK."""
    sqs = cloud.client("sqs")
    cloud.run(130)
    assert set(cloud.alarms.states().values()) == {"OK"}
    sqs.send_message(QueueUrl=output(cloud, "Dead"), MessageBody="{}")
    order(cloud, name="m", metric=5)
    assert cloud.run(180, lambda: set(cloud.alarms.states().values()) == {"ALARM"})
    shown = cloud.client("cloudwatch").describe_alarms(StateValue="ALARM")["MetricAlarms"]
    assert len(shown) == 2
    assert cloud.run(180, lambda: sorted(cloud.alarms.states().values()) == ["ALARM", "OK"])


def test_duplicated_and_reordered_events_are_delivered_as_asked(cloud: Cloud) -> None:
    """Each event comes as often as the fault says, with one id."""
    cloud.faults.set({"duplicateEvents": 3, "reorderEvents": True})
    order(cloud, name="thrice")
    cloud.run(6)
    assert times(cloud, "thrice") == 3


def test_a_kill_ends_an_invocation_before_its_call(cloud: Cloud) -> None:
    """The sandbox dies before the named call and the invoker's retry starts a new one."""
    cloud.run(1)
    cloud.faults.set({"killAtCall": {"function": "probe", "call": 3}})
    order(cloud, name="victim", calls=4)
    cloud.run(5)
    assert item(cloud, "call-victim-0"), "the first two calls were made"
    assert not item(cloud, "call-victim-1")
    cloud.run(60)
    assert item(cloud, "call-victim-3"), "the retry does it all"


def test_throttles_and_failures_are_counted_down(cloud: Cloud) -> None:
    """A throttled call meets RequestLimitExceeded so many times, a failed one its own code."""
    ec2 = cloud.client("ec2")
    cloud.faults.set(
        {"throttle": {"ec2:DescribeVpcs": 2}, "fail": {"ec2:DescribeSubnets": {"code": "Nope"}}}
    )
    for _ in range(2):
        with pytest.raises(ClientError, match="RequestLimitExceeded"):
            ec2.describe_vpcs()
    assert ec2.describe_vpcs()["Vpcs"]
    with pytest.raises(ClientError, match="Nope"):
        ec2.describe_subnets()
    assert ec2.describe_subnets()["Subnets"]


def test_a_clients_own_rules_and_queues_count(cloud: Cloud) -> None:
    """A rule that a client adds delivers, a disabled one does not."""
    sqs, events = cloud.client("sqs"), cloud.client("events")
    url = sqs.create_queue(QueueName="mine")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    events.put_rule(Name="mine", EventPattern='{"source": ["aws.ec2"]}')
    events.put_targets(Rule="mine", Targets=[{"Id": "q", "Arn": arn["QueueArn"]}])
    event = {"source": "aws.ec2", "detail-type": "X", "detail": {}}
    cloud.put_event(event)
    cloud.run(1)
    events.disable_rule(Name="mine")
    cloud.put_event(event)
    cloud.run(1)
    assert len(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 1


def test_control_answers_over_http(cloud: Cloud) -> None:
    """Clock, timeline and faults are served beside AWS; a bad fault is 400 with the reason."""
    with urllib.request.urlopen(f"{cloud.url}/_outrider/clock", timeout=5) as answer:
        assert json.load(answer)["at"] == 0
    bad = urllib.request.Request(f"{cloud.url}/_outrider/faults", b'{"nonsense": 1}', method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(bad, timeout=5)
    with refused.value as error:
        assert error.code == 400
        assert "nonsense" in error.read().decode()


def test_an_unknown_resource_type_is_an_error(tmp_path: Path) -> None:
    """Nothing of a template is skipped: what cannot be made is named."""
    path = tmp_path / "template.yaml"
    path.write_text("Resources: {Thing: {Type: 'AWS::Neptune::DBCluster'}}")
    with (
        pytest.raises(Exception, match="Thing: the embedded cloud cannot make AWS::Neptune"),
        Cloud(template=path, clock=DiscreteClock(START), with_cluster=False),
    ):
        pass
