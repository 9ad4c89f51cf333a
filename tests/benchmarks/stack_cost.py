"""What the stack itself costs a month, from calls counted on the embedded cloud and a price table.

    python -m tests.benchmarks.stack_cost [--markdown] [--minutes 60] [--launches 12]

Three runs are counted: an idle cluster (a NodePool and a node that is in use; the schedules tick),
a stretch of launches one by one, each node emptied and removed again, and Spot interruptions, each
with its replacement. What the last two cost beyond idling is divided by their number, so that any
day can be put together: the table has 1,000 launches and 100 interruptions.

Counted: invocations, items and bytes that DynamoDB reads and writes, messages, custom events,
transitions, bytes of logs, metrics that exist, and from template.yaml alarms, secrets and pollers.
Estimated: how long an invocation is billed. It is the time that it slept, the processor time that
it took here (the embedded AWS's included) and 10 ms for each call: more than it is on AWS. Free
tiers are left out. Prices are those of us-east-1. The exit status is 1 where idling costs more than
15 $.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import botocore.client
from boto3.dynamodb.types import Binary
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from outrider.local import sandbox
from outrider.local.functions import Function, Outcome, Registry
from tests.support.stack import template
from tests.support.stage import Stage, deployment, pod, pool, staged

MONTH_DAYS, HOURS = 365 / 12, 8760 / 12
LIMIT = 15.0
LAUNCHES_A_DAY, INTERRUPTIONS_A_DAY = 1000, 100
CALL_SECONDS = 0.01
POLLERS, POLL_SECONDS = 5, 20  # Lambda's least: five at a time, each a long poll
WIDE = 120
LINE_OVERHEAD = 26  # bytes that CloudWatch Logs counts with every event

# US dollars in us-east-1, arm64, on demand, without free tiers.
PRICES: Mapping[str, float] = {
    "Lambda requests": 0.20e-6,
    "Lambda GB-seconds": 0.0000133334,
    "SnapStart GB-seconds kept": 0.0000015046,
    "DynamoDB read units": 0.125e-6,
    "DynamoDB write units": 0.625e-6,
    "SQS requests": 0.40e-6,
    "SQS FIFO requests": 0.50e-6,
    "EventBridge custom events": 1.00e-6,
    "Step Functions transitions": 25e-6,
    "CloudWatch Logs GB": 0.50,
    "CloudWatch metrics": 0.30,
    "CloudWatch alarmed metrics": 0.10,
    "CloudWatch dashboards": 3.00,
    "Secrets": 0.40,
    "Secrets Manager calls": 0.05e-4,
}
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "Lambda": ("Lambda requests", "Lambda GB-seconds", "SnapStart GB-seconds kept"),
    "DynamoDB": ("DynamoDB read units", "DynamoDB write units"),
    "SQS": ("SQS requests", "SQS FIFO requests"),
    "EventBridge": ("EventBridge custom events",),
    "Step Functions": ("Step Functions transitions",),
    "CloudWatch Logs": ("CloudWatch Logs GB",),
    "CloudWatch metrics, alarms, dashboard": (
        "CloudWatch metrics",
        "CloudWatch alarmed metrics",
        "CloudWatch dashboards",
    ),
    "Secrets Manager": ("Secrets", "Secrets Manager calls"),
}
Amounts = defaultdict[str, float]


@dataclass
class Meter:
    """Counts what the functions of one embedded cloud do."""

    stage: Stage
    amounts: Amounts = field(default_factory=lambda: defaultdict(float))
    _calls: int = 0

    def called(self) -> None:
        """Count one call of a function, to AWS or to Kubernetes, for the time that it takes."""
        self._calls += 1

    def aws(self, service: str, operation: str, request: Mapping[str, Any], answer: Any) -> None:
        """Count what one call of a function to AWS is billed as."""
        if service == "dynamodb":
            self._dynamodb(operation, request, answer)
        elif service == "sqs" and operation.startswith("SendMessage"):
            fifo = ".fifo" in request["QueueUrl"]
            self.amounts["SQS FIFO requests" if fifo else "SQS requests"] += 1
        elif service == "events" and operation == "PutEvents":
            self.amounts["EventBridge custom events"] += len(request["Entries"])
        elif service == "secretsmanager":
            self.amounts["Secrets Manager calls"] += 1

    def _dynamodb(self, operation: str, request: Mapping[str, Any], answer: Any) -> None:
        if operation == "GetItem":
            self._read(answer.get("Item"))
        elif operation == "BatchGetItem":
            for item in (one for items in answer["Responses"].values() for one in items):
                self._read(item)
        elif operation == "Query":
            self.amounts["DynamoDB read units"] += max(1, math.ceil(_size(answer["Items"]) / 4096))
        elif operation == "PutItem":
            self._write(request["Item"])
        elif operation == "BatchWriteItem":
            for write in (one for items in request["RequestItems"].values() for one in items):
                self._write(write["PutRequest"]["Item"])
        elif operation == "TransactWriteItems":  # twice the units of each
            for one in request["TransactItems"]:
                self._write(one.get("Put", {}).get("Item"), 2)
        else:
            self._write(answer.get("Attributes"))

    def _read(self, item: Any) -> None:
        self.amounts["DynamoDB read units"] += max(1, math.ceil(_size(item) / 4096))

    def _write(self, item: Any, units: int = 1) -> None:
        self.amounts["DynamoDB write units"] += units * max(1, math.ceil(_size(item) / 1024))

    def ran(self, function: Function, payload: Any, outcome: Outcome, cpu: float) -> None:
        """Count one invocation."""
        calls, self._calls = self._calls, 0
        seconds = outcome.seconds + cpu + calls * CALL_SECONDS
        self.amounts["Lambda requests"] += 1
        self.amounts["Lambda GB-seconds"] += seconds * function.memory / 1024
        logged = sum(len(line.encode()) + LINE_OVERHEAD for line in outcome.output)
        self.amounts["CloudWatch Logs GB"] += logged / 1e9
        records = payload.get("Records", ()) if isinstance(payload, dict) else ()
        for record in records:  # sent by a rule, received, deleted; alone in its batch at worst
            fifo = str(record.get("eventSourceARN", "")).endswith(".fifo")
            self.amounts["SQS FIFO requests" if fifo else "SQS requests"] += 3


def _size(item: Any) -> int:
    """Return about how many bytes DynamoDB counts for *item*."""
    return len(json.dumps(item, default=_bytes)) if item else 0


def _bytes(value: Any) -> str:
    return "x" * len(value.value if isinstance(value, Binary) else value)


@contextmanager
def metered(stage: Stage) -> Iterator[Meter]:
    """Count everything that functions do in *stage*."""
    meter = Meter(stage)
    call, invoke = botocore.client.BaseClient._make_api_call, Registry.invoke
    leave = sandbox.Invocation.call

    def counted(self: Any, operation: str, request: Any) -> Any:
        answer = call(self, operation, request)
        if sandbox.current() is not None:
            meter.aws(self.meta.service_model.service_name, operation, request, answer)
        return answer

    def timed(self: Registry, function: Function, payload: Any) -> Outcome:
        before = time.process_time()
        outcome = invoke(self, function, payload)
        meter.ran(function, payload, outcome, time.process_time() - before)
        return outcome

    def left(self: sandbox.Invocation) -> None:
        meter.called()
        leave(self)

    sandbox.Invocation.call = left  # type: ignore[method-assign]
    botocore.client.BaseClient._make_api_call = counted
    Registry.invoke = timed  # type: ignore[method-assign]
    try:
        yield meter
    finally:
        botocore.client.BaseClient._make_api_call = call
        Registry.invoke = invoke  # type: ignore[method-assign]
        sandbox.Invocation.call = leave  # type: ignore[method-assign]


@dataclass(frozen=True)
class Stretch:
    """What was used in some hours of the cloud's clock."""

    amounts: Amounts
    hours: float


def _amounts(known: Mapping[str, float] | None = None) -> Amounts:
    return defaultdict(float, known or {})


def stretch(meter: Meter, play: Any) -> Stretch:
    """Return what *play* uses."""
    before, at = dict(meter.amounts), meter.stage.cloud.timeline.at()
    transitions = _transitions(meter.stage)
    play()
    used = _amounts({name: now - before.get(name, 0.0) for name, now in meter.amounts.items()})
    used["Step Functions transitions"] += _transitions(meter.stage) - transitions
    return Stretch(used, (meter.stage.cloud.timeline.at() - at) / 3600)


def _transitions(stage: Stage) -> int:
    """Return how many states the executions so far have entered."""
    client = stage.cloud.client("stepfunctions")
    total = 0
    for machine in client.list_state_machines()["stateMachines"]:
        arn = machine["stateMachineArn"]
        for execution in client.list_executions(stateMachineArn=arn)["executions"]:
            pages = client.get_paginator("get_execution_history")
            for page in pages.paginate(executionArn=execution["executionArn"]):
                total += sum(one["type"].endswith("StateEntered") for one in page["events"])
    return total


def standing(stage: Stage, *, idle: bool) -> Amounts:
    """Return what a month costs whether anything happens or not, from the template and the metrics
    that were sent.
    """
    resources = template()["Resources"].values()
    kinds = Counter(resource["Type"] for resource in resources)
    alarms = [one for one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    functions = [one["Properties"] for one in resources if one["Type"].endswith("less::Function")]
    kept = template()["Parameters"]["SnapStart"]["Default"] == "PublishedVersions"
    polls = POLLERS / POLL_SECONDS * 3600 * HOURS
    amounts = _amounts()
    for properties in functions:
        if kept and "SnapStart" in properties:
            amounts["SnapStart GB-seconds kept"] += properties["MemorySize"] / 1024 * HOURS * 3600
        for event in properties.get("Events", {}).values():
            if event["Type"] == "SQS":
                fifo = "Hint" in str(event["Properties"]["Queue"])
                amounts["SQS FIFO requests" if fifo else "SQS requests"] += polls
    amounts["CloudWatch alarmed metrics"] = sum(
        sum("MetricStat" in one for one in alarm["Properties"].get("Metrics", ())) or 1
        for alarm in alarms
    )
    amounts["CloudWatch dashboards"] = kinds["AWS::CloudWatch::Dashboard"]
    amounts["Secrets"] = kinds["AWS::SecretsManager::Secret"]
    amounts["CloudWatch metrics"] = _metrics(stage, 3600 if idle else None)
    return amounts


def _metrics(stage: Stage, last_seconds: float | None) -> int:
    """Return how many of our metrics had a value, in the last hour or at all: each is billed by the
    hour in which it has one.
    """
    now = stage.cloud.timeline.at()
    since = -math.inf if last_seconds is None else now - last_seconds
    found = stage.cloud.metrics.points.items()
    return sum(key[0] == "Outrider" and points[-1][0] >= since for key, points in found)


def idle(stage: Stage, minutes: int) -> None:
    """Let *minutes* pass."""
    stage.cloud.run(minutes * 60)


def launches(stage: Stage, count: int) -> None:
    """Launch *count* nodes one by one, a pod on each, and let them go again."""
    names = [f"one-{number}" for number in range(count)]
    for name in names:
        stage.apply(pod(name, "cost"))
        stage.expect_running(name)
    if len(stage.machines()) != count + 1:
        raise AssertionError("a pod found room on a node that was there")
    for name in names:
        stage.delete("pods", name, "default")
    stage.expect("the nodes are gone", 3600, lambda: len(stage.machines()) == 1)


def interruptions(stage: Stage, count: int) -> None:
    """Interrupt *count* nodes, one after the other."""
    for _ in range(count):
        machines = {one["InstanceId"] for one in stage.machines()}
        warned = min(machines)
        detail = {"instance-id": warned, "instance-action": "terminate"}
        event = {"source": "aws.ec2", "detail": detail}
        kind = "EC2 Spot Instance Interruption Warning"
        stage.cloud.put_event({**event, "detail-type": kind})

        def replaced(gone: str = warned) -> bool:
            left = {one["InstanceId"] for one in stage.machines()}
            return gone not in left and stage.running() == 1

        stage.expect("it is replaced", 600, replaced)


def beyond(part: Stretch, at_rest: Stretch, count: int) -> Amounts:
    """Return what one of *count* events of *part* uses beyond what idling would have."""
    found = _amounts()
    for name, amount in part.amounts.items():
        rest = at_rest.amounts[name] / at_rest.hours * part.hours
        found[name] = max(0.0, amount - rest) / count
    return found


def dollars(amounts: Mapping[str, float]) -> dict[str, float]:
    """Return what *amounts* cost, by component."""
    return {
        component: sum(amounts.get(name, 0) * PRICES[name] for name in names)
        for component, names in COMPONENTS.items()
    }


@dataclass(frozen=True)
class Bill:
    """What a month costs by component: idle, and of a busy day's launches and interruptions."""

    idle: Mapping[str, float]
    busy: Mapping[str, float]
    launch: float
    interruption: float


def measure(minutes: int, count: int) -> Bill:
    """Run the three stretches and return the bill."""
    with staged() as stage, metered(stage) as meter:
        stage.apply(pool("cost", after="30s"), deployment("stays", "cost", 1))
        stage.expect("a node in use", 300, lambda: stage.running() == 1)
        idle(stage, 20)
        at_rest = stretch(meter, lambda: idle(stage, minutes))
        fixed = standing(stage, idle=True)
        launched = stretch(meter, lambda: launches(stage, count))
        interrupted = stretch(meter, lambda: interruptions(stage, max(2, count // 3)))
        fixed_busy = standing(stage, idle=False)
    one_launch = beyond(launched, at_rest, count)
    one_interruption = beyond(interrupted, at_rest, max(2, count // 3))
    resting = _amounts(fixed)
    for name, amount in at_rest.amounts.items():
        resting[name] += amount / at_rest.hours * HOURS
    busy = _amounts(resting)
    busy["CloudWatch metrics"] = fixed_busy["CloudWatch metrics"]
    for name in PRICES:
        daily = one_launch[name] * LAUNCHES_A_DAY + one_interruption[name] * INTERRUPTIONS_A_DAY
        busy[name] += daily * MONTH_DAYS
    return Bill(
        dollars(resting),
        dollars(busy),
        sum(dollars(one_launch).values()),
        sum(dollars(one_interruption).values()),
    )


def rows(bill: Bill) -> list[tuple[str, str, str]]:
    """Return the table's rows."""
    found = [
        (component, f"{bill.idle[component]:.2f}", f"{bill.busy[component]:.2f}")
        for component in COMPONENTS
    ]
    total = (f"{sum(bill.idle.values()):.2f}", f"{sum(bill.busy.values()):.2f}")
    return [*found, ("all", *total)]


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AsIs)
    parser.add_argument("--markdown", action="store_true", help="as docs/deploy.md has it")
    parser.add_argument("--minutes", type=int, default=60, help="how long to idle")
    parser.add_argument("--launches", type=int, default=12, help="how many nodes to launch")
    wanted = parser.parse_args()
    logging.disable(logging.CRITICAL)
    bill = measure(wanted.minutes, wanted.launches)
    headings = ("$ a month", "idle", "1,000 launches and 100 interruptions a day")
    console = Console(highlight=False, width=WIDE, markup=False)
    if wanted.markdown:
        for row in (headings, ("---", "---:", "---:"), *rows(bill)):
            console.print(f"| {' | '.join(row)} |")
    else:
        table = Table(*headings, box=SIMPLE_HEAD)
        for row in rows(bill):
            table.add_row(*row)
        console.print(table)
    console.print(
        f"a launch and its end {bill.launch:.5f} $, an interruption {bill.interruption:.5f} $"
    )
    return 1 if sum(bill.idle.values()) > LIMIT else 0


_AsIs = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
