"""Schedules on the clock: EventBridge Scheduler's, and rules with a schedule expression.

A rate of EventBridge Scheduler fires at once and then each period; a rule's rate fires first after
one period; cron fires at its minutes. Rules are read from moto each time they are due, so that one
that a client adds, disables or deletes counts. Refuses to know what a target does.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from croniter import croniter

from outrider.errors import InvalidManifest
from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Call, parameters

log = logging.getLogger("outrider.local")

_RATE = re.compile(r"^rate\((\d+) (second|minute|hour|day)s?\)$")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_CRON = re.compile(r"^cron\(([^)]+)\)$")
_AT = re.compile(r"^at\(([^)]+)\)$")


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a schedule calls, and with what."""

    arn: str
    payload: str | None = None
    dead_letters: str = ""
    attempts: int = 185
    group: str = ""


@dataclass(slots=True)
class Schedules:
    """Everything that happens by the clock alone."""

    endpoint: Endpoint
    clock: Clock
    deliver: Callable[[dict[str, Any], dict[str, Any], str], None]
    event: Callable[..., dict[str, Any]]
    _rules: set[str] = field(default_factory=set)

    def install(self) -> None:
        """Notice rules with a schedule as they are put."""
        self.endpoint.after("events:PutRule", self._rule_put)

    def add(self, name: str, expression: str, target: Target, *, at_once: bool) -> None:
        """Call *target* by *expression*; *at_once* also at the start, where it is a rate."""

        def fire() -> None:
            payload = target.payload
            event = self.event("aws.scheduler", "Scheduled Event", {})
            described: dict[str, Any] = {
                "Arn": target.arn,
                "Input": payload if payload is not None else json.dumps(event),
                "RetryPolicy": {"MaximumRetryAttempts": target.attempts},
            }
            if target.dead_letters:
                described["DeadLetterConfig"] = {"Arn": target.dead_letters}
            if target.group:
                described["SqsParameters"] = {"MessageGroupId": target.group}
            self.deliver(described, event, name)

        self._repeat(expression, fire, lambda: True, at_once=at_once)

    def _rule_put(self, call: Call) -> None:
        wanted = parameters(call)
        expression, name = wanted.get("ScheduleExpression"), str(wanted.get("Name", ""))
        if not expression or name in self._rules:
            return
        self._rules.add(name)
        self._repeat(
            str(expression),
            lambda: self._fire_rule(name),
            lambda: self._exists(name),
            at_once=False,
        )

    def start_rare(self, seconds: float) -> None:
        """Fire once, now, every rule whose rate is *seconds* or rarer."""
        for name in sorted(self._rules):
            rule = self._rule(name)
            rate = _RATE.match((rule and rule.scheduled_expression) or "")
            if rate and int(rate[1]) * _SECONDS[rate[2]] >= seconds:
                self.clock.call_later(0.0, partial(self._fire_rule, name))

    def _rule(self, name: str) -> Any:
        from moto.events.models import events_backends

        with self.endpoint.lock:
            return events_backends[ACCOUNT][REGION].event_buses["default"].rules.get(name)

    def _exists(self, name: str) -> bool:
        if self._rule(name) is None:
            self._rules.discard(name)
            return False
        return True

    def _fire_rule(self, name: str) -> None:
        rule = self._rule(name)
        if rule is None or rule.state != "ENABLED":
            return
        event = self.event("aws.events", "Scheduled Event", {}, [rule.arn])
        for target in list(rule.targets):
            self.deliver(dict(target), event, name)

    def _repeat(
        self,
        expression: str,
        fire: Callable[[], None],
        alive: Callable[[], bool],
        *,
        at_once: bool,
    ) -> None:
        if rate := _RATE.match(expression):
            period = float(int(rate[1]) * _SECONDS[rate[2]])
            first = 0.0 if at_once else period

            def beat() -> None:
                if alive():
                    self.clock.call_later(period, beat)
                    fire()

            self.clock.call_later(first, beat)
        elif cron := _CRON.match(expression):
            fields = cron[1].replace("?", "*").split()

            def next_minute() -> float:
                now = self.clock.now()
                following = croniter(" ".join(fields[:5]), now).get_next(datetime)
                return float((following - now).total_seconds())

            def tick() -> None:
                if alive():
                    fire()
                    self.clock.call_later(next_minute(), tick)

            self.clock.call_later(next_minute(), tick)
        elif once := _AT.match(expression):
            moment = datetime.fromisoformat(once[1]).replace(tzinfo=UTC)
            wait = (moment - self.clock.now()).total_seconds()
            if wait >= 0:
                self.clock.call_later(wait, fire)
        else:
            raise InvalidManifest(f"no schedule expression: {expression}")
