"""EventBridge: events in, rules matched, targets delivered to.

moto holds buses, rules and targets, so whatever a client adds, disables or deletes counts from its
next event on. Delivery is ours: Lambda (asynchronously, with its own retries), Step Functions, SQS,
SNS, log groups and other buses, with input, input path and input transformer, each target's retry
policy and dead-letter queue. At least once and in any order is what EventBridge promises; the
faults `duplicateEvents` and `reorderEvents` take it at its word.
"""

from __future__ import annotations

import json
import logging
import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.functions import Registry
from outrider.local.patterns import matches
from outrider.local.queues import Pollers
from outrider.local.region import ACCOUNT, REGION
from outrider.local.timeline import Timeline
from outrider.local.wire import Call

log = logging.getLogger("outrider.local")

Event = dict[str, Any]
LATENCY_SECONDS = 0.02
REORDER_WINDOW_SECONDS = 5.0
RETRY_SECONDS = 10.0
DEFAULT_ATTEMPTS = 185
DEFAULT_AGE_SECONDS = 86_400.0


@dataclass(slots=True)
class Router:
    """Every bus of the account."""

    endpoint: Endpoint
    clock: Clock
    timeline: Timeline
    functions: Registry
    pollers: Pollers
    client: Callable[[str], Any]
    dice: random.Random
    duplicates: int = 1
    reorder: bool = False
    delivered: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    listeners: list[Callable[[str, Event], None]] = field(default_factory=list)

    def install(self) -> None:
        """Answer PutEvents."""
        self.endpoint.serve("events:PutEvents", self._put_events)

    def _put_events(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        results = [self._put_entry(entry) for entry in wanted.get("Entries", [])]
        failures = sum("ErrorCode" in result for result in results)
        return {"FailedEntryCount": failures, "Entries": results}

    def _put_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        for needed in ("Source", "DetailType", "Detail"):
            if not entry.get(needed):
                message = (
                    f"Parameter {needed} is not valid. Reason: {needed} is a required argument."
                )
                return {"ErrorCode": "InvalidArgument", "ErrorMessage": message}
        try:
            detail = json.loads(entry["Detail"])
        except ValueError:
            detail = None
        if not isinstance(detail, dict):
            return {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
        event = self.event(
            entry["Source"],
            entry["DetailType"],
            detail,
            entry.get("Resources") or [],
            entry.get("Time"),
        )
        bus = str(entry.get("EventBusName") or "default").rpartition("/")[2]
        self.put(event, bus)
        return {"EventId": event["id"]}

    def event(
        self,
        source: str,
        detail_type: str,
        detail: dict[str, Any],
        resources: list[str] | None = None,
        time: Any = None,
    ) -> Event:
        """Return an event in its envelope; without *time* it is dated by the clock."""
        moment = time if isinstance(time, datetime) else self.clock.now()
        return {
            "version": "0",
            "id": str(uuid.UUID(int=self.dice.getrandbits(128), version=4)),
            "detail-type": detail_type,
            "source": source,
            "account": ACCOUNT,
            "time": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": resources or [],
            "detail": detail,
        }

    def put(self, event: Event, bus: str = "default") -> None:
        """Put an event on a bus: every enabled rule that matches gets it."""
        self._tell(event, bus)
        for _ in range(max(self.duplicates, 1)):
            delay = LATENCY_SECONDS
            if self.reorder:
                delay += self.dice.uniform(0.0, REORDER_WINDOW_SECONDS)
            self.clock.call_later(delay, lambda: self._route(event, bus))

    def _tell(self, event: Event, bus: str) -> None:
        for listen in self.listeners:
            listen(bus, event)
        detail = event["detail"]
        if event["source"].startswith("aws."):
            instance = detail.get("instance-id") or detail.get("EC2InstanceId")
            if event["source"] in ("aws.ec2", "aws.health", "aws.ecr"):
                self.timeline.record("signal", detailType=event["detail-type"], instance=instance)
        elif event["source"] == "outrider.hints":
            self.timeline.record("hint", **{key: detail[key] for key in detail if key != "at"})
        elif event["detail-type"] == "PlanMade":
            self.timeline.record("plan", **{k: v for k, v in detail.items() if k != "kind"})

    def _route(self, event: Event, bus: str) -> None:
        from moto.events.models import events_backends

        with self.endpoint.lock:
            found = events_backends[ACCOUNT][REGION].event_buses.get(bus)
            rules = list(found.rules.values()) if found else []
            chosen = [
                (rule.name, dict(target))
                for rule in rules
                if rule.state == "ENABLED"
                and (pattern := rule.event_pattern.get_pattern())
                and matches(pattern, event)
                for target in rule.targets
            ]
        for name, target in chosen:
            self.deliver(target, event, name)

    def deliver(self, target: dict[str, Any], event: Event, rule: str) -> None:
        """Deliver to one target, with its retry policy and dead-letter queue."""
        try:
            text = transformed(target, event, rule)
        except ValueError as error:
            self._give_up(target, event, str(error))
            return
        self._attempt(target, event, text, 0, self.clock.at())

    def _attempt(
        self, target: dict[str, Any], event: Event, text: str, attempt: int, since: float
    ) -> None:
        try:
            self._send(target, event, text)
        except Exception as error:  # noqa: BLE001 - whatever a target says is its refusal
            policy = target.get("RetryPolicy") or {}
            age = float(policy.get("MaximumEventAgeInSeconds", DEFAULT_AGE_SECONDS))
            wait = min(RETRY_SECONDS * 2**attempt, 600.0)
            if (
                attempt < int(policy.get("MaximumRetryAttempts", DEFAULT_ATTEMPTS))
                and self.clock.at() + wait - since <= age
            ):
                self.clock.call_later(
                    wait, lambda: self._attempt(target, event, text, attempt + 1, since)
                )
            else:
                self._give_up(target, event, str(error))
            return
        self.delivered[target["Arn"]] = self.delivered.get(target["Arn"], 0) + 1

    def _give_up(self, target: dict[str, Any], event: Event, reason: str) -> None:
        self.failed[target["Arn"]] = self.failed.get(target["Arn"], 0) + 1
        log.warning("event %s not delivered to %s: %s", event["id"], target["Arn"], reason)
        if dead_letters := (target.get("DeadLetterConfig") or {}).get("Arn"):
            self.pollers.send(dead_letters, json.dumps(event))

    def _send(self, target: dict[str, Any], event: Event, text: str) -> None:
        arn = str(target["Arn"])
        service = arn.split(":")[2]
        if service == "lambda":
            function = self.functions.find(arn)
            if function is None:
                raise LookupError(f"no function {arn}")
            self.functions.invoke_later(function, json.loads(text))
        elif service == "sqs":
            group = (target.get("SqsParameters") or {}).get("MessageGroupId", "")
            self.pollers.send(arn, text, group=group)
        elif service == "states":
            name = f"{event['id']}_{uuid.UUID(int=self.dice.getrandbits(128))}"[:80]
            self.client("stepfunctions").start_execution(stateMachineArn=arn, input=text, name=name)
        elif service == "sns":
            self.client("sns").publish(TopicArn=arn, Message=text)
        elif service == "logs":
            self._log(arn.split(":log-group:")[1].split(":", maxsplit=1)[0], text)
        elif service == "events" and ":event-bus/" in arn:
            self.put(event, arn.rpartition("/")[2])
        else:
            raise LookupError(f"no delivery to {arn}")

    def _log(self, group: str, text: str) -> None:
        stream = str(uuid.UUID(int=self.dice.getrandbits(128)))
        logs = self.client("logs")
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        at = int(self.clock.now().timestamp() * 1000)
        logs.put_log_events(
            logGroupName=group,
            logStreamName=stream,
            logEvents=[{"timestamp": at, "message": text}],
        )


def transformed(target: dict[str, Any], event: Event, rule: str) -> str:
    """Return what a target gets: its own input, a part of the event, a template, or the event."""
    if target.get("Input"):
        return str(target["Input"])
    if target.get("InputPath"):
        return json.dumps(at_path(event, target["InputPath"]))
    transformer = target.get("InputTransformer")
    if not transformer:
        return json.dumps(event)
    values: dict[str, Any] = {
        "aws.events.rule-name": rule,
        "aws.events.rule-arn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{rule}",
        "aws.events.event.ingestion-time": event["time"],
        "aws.events.event": event,
        "aws.events.event.json": event,
    }
    for name, path in (transformer.get("InputPathsMap") or {}).items():
        values[name] = at_path(event, path)
    return fill(transformer["InputTemplate"], values)


def fill(template: str, values: dict[str, Any]) -> str:
    """Fill `<name>` places: JSON where a value is due, plain text inside a string."""

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            return found[0]
        value = values[name]
        before = template[: found.start()]
        inside_string = len(re.findall(r'(?<!\\)"', before)) % 2 == 1
        if inside_string:
            text = value if isinstance(value, str) else json.dumps(value)
            return json.dumps(text)[1:-1]
        return json.dumps(value)

    filled = re.sub(r"<([\w.\-]+)>", replace, template)
    try:
        json.loads(filled)
    except ValueError:
        if filled.lstrip().startswith(("{", "[")):
            raise ValueError(f"the input template gives no JSON: {filled[:200]}") from None
        return json.dumps(filled)
    return filled


def at_path(event: Event, path: str) -> Any:
    """Return the part of an event that a path such as `$.detail.pods[0]` names, else None."""
    value: Any = event
    for name, index in re.findall(r"\.([\w\-]+)|\[(\d+)\]", path):
        if name:
            value = value.get(name) if isinstance(value, dict) else None
        else:
            place = int(index)
            value = value[place] if isinstance(value, list) and place < len(value) else None
    return value
