"""CloudWatch's numbers and its alarms, evaluated on the clock.

Metrics come from what functions print (Embedded Metric Format), from PutMetricData, and from the
services here (SQS, Lambda, Step Functions, EventBridge). Every alarm of the template is evaluated
each period as CloudWatch does: statistic or metric math, M out of N datapoints, treatment of
missing data. A change of state is written to moto, so that DescribeAlarms shows it, published as an
event, and sent to the alarm's actions. Refuses to know what any metric means.
"""

from __future__ import annotations

import ast
import json
import logging
import math
import operator
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Call

log = logging.getLogger("outrider.local")

Key = tuple[str, str, tuple[tuple[str, str], ...]]
KEPT_SECONDS = 6 * 3600.0


@dataclass(slots=True)
class Metrics:
    """Every datapoint of the last hours: (seconds on the clock, value), in order."""

    clock: Clock
    points: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)
    gauges: list[Callable[[], Iterable[tuple[str, str, dict[str, str], float]]]] = field(
        default_factory=list
    )
    _sampled: float = -1.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, namespace: str, name: str, dimensions: Mapping[str, str], value: float) -> None:
        """Record one value now."""
        key = (namespace, name, tuple(sorted(dimensions.items())))
        now = self.clock.at()
        with self._lock:
            series = self.points.setdefault(key, [])
            series.append((now, float(value)))
            if series[0][0] < now - KEPT_SECONDS:
                del series[: bisect_left(series, (now - KEPT_SECONDS, -math.inf))]

    def sample(self) -> None:
        """Record what the gauges show now, once an instant."""
        if self.clock.at() == self._sampled:
            return
        self._sampled = self.clock.at()
        for gauge in self.gauges:
            for namespace, name, dimensions, value in gauge():
                self.add(namespace, name, dimensions, value)

    def between(self, key: Key, start: float, end: float) -> list[float]:
        """Return the values in [start, end): what comes at the very end is the next period's, as it
        may not be there yet.
        """
        with self._lock:
            points = self.points.get(key, [])
            first = bisect_left(points, (start, -math.inf))
            return [value for _, value in points[first : bisect_left(points, (end, -math.inf))]]

    def read_line(self, line: str) -> bool:
        """Take the metrics of a log line in Embedded Metric Format; return whether it was one."""
        if not line.startswith("{") or '"_aws"' not in line:
            return False
        try:
            document = json.loads(line)
            directives = document["_aws"]["CloudWatchMetrics"]
        except (ValueError, KeyError, TypeError):
            return False
        for directive in directives:
            for names in directive.get("Dimensions", [[]]):
                dimensions = {name: str(document.get(name, "")) for name in names}
                for metric in directive.get("Metrics", []):
                    values = document.get(metric["Name"], [])
                    for value in values if isinstance(values, list) else [values]:
                        self.add(directive["Namespace"], metric["Name"], dimensions, float(value))
        return True

    def put_metric_data(self, wanted: dict[str, Any], _call: Call) -> None:
        """Take PutMetricData's values before moto does."""
        for datum in wanted.get("MetricData", []):
            dimensions = {one["Name"]: one["Value"] for one in datum.get("Dimensions", [])}
            counts = datum.get("Counts") or []
            values = datum.get("Values") or [datum.get("Value", 0.0)]
            for index, value in enumerate(values):
                for _ in range(int(counts[index]) if index < len(counts) else 1):
                    self.add(wanted["Namespace"], datum["MetricName"], dimensions, value)


@dataclass(slots=True)
class _Alarm:
    name: str
    properties: dict[str, Any]
    since: float
    state: str = "INSUFFICIENT_DATA"

    @property
    def period(self) -> float:
        """Return the alarm's period: its own, or its longest metric's."""
        if "Period" in self.properties:
            return float(self.properties["Period"])
        stats = [one["MetricStat"] for one in self.properties["Metrics"] if "MetricStat" in one]
        return float(max(one["Period"] for one in stats))


@dataclass(slots=True)
class Alarms:
    """Every alarm of the stack."""

    endpoint: Endpoint
    clock: Clock
    metrics: Metrics
    publish: Callable[[str, str, dict[str, Any], list[str]], None]
    client: Callable[[str], Any]
    _alarms: dict[str, _Alarm] = field(default_factory=dict)

    def add(self, name: str, properties: dict[str, Any]) -> None:
        """Evaluate an alarm each minute (each period, where that is shorter)."""
        alarm = self._alarms[name] = _Alarm(name, properties, self.clock.at())
        beat = min(alarm.period, 60.0)

        def evaluate() -> None:
            if self._alarms.get(name) is alarm:
                self.clock.call_later(beat, evaluate)
                self._evaluate(alarm)

        self.clock.call_later(beat, evaluate)

    def states(self) -> dict[str, str]:
        """Return each alarm's state."""
        return {name: alarm.state for name, alarm in self._alarms.items()}

    def _evaluate(self, alarm: _Alarm) -> None:
        self.metrics.sample()
        properties = alarm.properties
        wanted = int(properties["EvaluationPeriods"])
        needed = int(properties.get("DatapointsToAlarm", wanted))
        now = self.clock.at()
        if now - alarm.since < alarm.period * wanted - 1e-6:
            return  # what was before the alarm says nothing
        values = [
            self._value(alarm, now - alarm.period * (index + 1), now - alarm.period * index)
            for index in range(wanted)
        ]
        state = judged(properties, values, needed)
        if state is not None and state != alarm.state:
            self._change(alarm, state, values)

    def _value(self, alarm: _Alarm, start: float, end: float) -> float | None:
        properties = alarm.properties
        if "Metrics" not in properties:
            return self._statistic(properties, properties["Statistic"], start, end)
        values: dict[str, float | None] = {}
        expressions = []
        for one in properties["Metrics"]:
            if "MetricStat" in one:
                stat = one["MetricStat"]
                values[one["Id"]] = self._statistic(stat["Metric"], stat["Stat"], start, end)
            else:
                expressions.append(one)
        result: float | None = None
        for one in expressions:
            values[one["Id"]] = evaluate(one["Expression"], values)
        for one in properties["Metrics"]:
            if one.get("ReturnData", True):
                result = values[one["Id"]]
        return result

    def _statistic(
        self, metric: Mapping[str, Any], statistic: str, start: float, end: float
    ) -> float | None:
        dimensions = tuple(sorted((d["Name"], d["Value"]) for d in metric.get("Dimensions", [])))
        key = (metric["Namespace"], metric["MetricName"], dimensions)
        values = self.metrics.between(key, start, end)
        return statistic_of(values, statistic) if values else None

    def _change(self, alarm: _Alarm, state: str, values: list[float | None]) -> None:
        from moto.cloudwatch.models import cloudwatch_backends

        previous, alarm.state = alarm.state, state
        threshold = alarm.properties.get("Threshold")
        reason = f"Threshold Crossed: datapoints {values} against the threshold {threshold}."
        with self.endpoint.lock:
            stored = cloudwatch_backends[ACCOUNT][REGION].alarms.get(alarm.name)
            if stored is not None:
                stored.update_state(reason, json.dumps({"recent": values}), state)
        level = logging.WARNING if "ALARM" in (state, previous) else logging.INFO
        log.log(level, "alarm %s: %s -> %s", alarm.name, previous, state)
        arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{alarm.name}"
        at = self.clock.now().isoformat(timespec="milliseconds")
        detail = {
            "alarmName": alarm.name,
            "configuration": {"description": alarm.properties.get("AlarmDescription", "")},
            "previousState": {"value": previous},
            "state": {"value": state, "reason": reason, "timestamp": at},
        }
        self.publish("aws.cloudwatch", "CloudWatch Alarm State Change", detail, [arn])
        lists = {"ALARM": "AlarmActions", "OK": "OKActions"}
        for topic in alarm.properties.get(lists.get(state, "InsufficientDataActions")) or ():
            self.client("sns").publish(
                TopicArn=topic, Subject=f"{state}: {alarm.name}", Message=json.dumps(detail)
            )


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def judged(properties: Mapping[str, Any], values: list[float | None], needed: int) -> str | None:
    """Return the state that datapoints mean; None keeps the state as it is."""
    missing = properties.get("TreatMissingData", "missing")
    compare = _COMPARISONS[properties["ComparisonOperator"]]
    threshold = float(properties["Threshold"])
    if all(value is None for value in values):
        if missing in ("missing", "ignore"):
            return "INSUFFICIENT_DATA" if missing == "missing" else None
        return "ALARM" if missing == "breaching" else "OK"
    breaching = 0
    for value in values:
        if value is None:
            breaching += missing == "breaching"
        else:
            breaching += compare(value, threshold)
    return "ALARM" if breaching >= needed else "OK"


def statistic_of(values: list[float], statistic: str) -> float:
    """Return a statistic, percentiles as `p95`."""
    if statistic.startswith("p"):
        ordered = sorted(values)
        rank = float(statistic[1:]) / 100 * (len(ordered) - 1)
        low = math.floor(rank)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)
    return _STATISTICS[statistic](values)


_STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Sum": math.fsum,
    "Average": lambda some: math.fsum(some) / len(some),
    "Maximum": max,
    "Minimum": min,
    "SampleCount": lambda some: float(len(some)),
}

_OPERATORS: dict[type[ast.operator | ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def evaluate(expression: str, values: Mapping[str, float | None]) -> float | None:
    """Return a metric-math expression's value: arithmetic, comparisons, IF, FILL, MAX, MIN, ABS,
    SUM.
    """
    text = expression.replace("&&", " and ").replace("||", " or ")
    return _math(ast.parse(text, mode="eval").body, values)


def _math(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    result: float | None
    match node:
        case ast.Constant(value=int() | float() as number):
            result = float(number)
        case ast.Name(id=name):
            result = values[name]
        case ast.BinOp(left=left, op=op, right=right):
            result = _both(op, _math(left, values), _math(right, values))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            result = _both(ast.Mult(), -1.0, _math(operand, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            result = _both(op, _math(left, values), _math(right, values))
        case ast.BoolOp(op=op, values=parts):
            truths = [bool(_math(part, values)) for part in parts]
            result = float(all(truths) if isinstance(op, ast.And) else any(truths))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            result = _called(name, arguments, values)
        case _:
            raise ValueError(f"no metric math: {ast.unparse(node)}")
    return result


def _both(op: ast.operator | ast.cmpop, left: float | None, right: float | None) -> float | None:
    """Return an operation's value; a missing side, or a division by zero, gives no datapoint."""
    if left is None or right is None or (isinstance(op, ast.Div) and right == 0):
        return None
    return float(_OPERATORS[type(op)](left, right))


def _called(
    name: str, arguments: list[ast.expr], values: Mapping[str, float | None]
) -> float | None:
    if name == "IF":
        condition = _math(arguments[0], values)
        if condition is None:
            return None
        return _math(arguments[1] if condition else arguments[2], values)
    some = [_math(argument, values) for argument in arguments]
    if name == "FILL":
        return some[1] if some[0] is None else some[0]
    present = [value for value in some if value is not None]
    functions: dict[str, Callable[[list[float]], float]] = {
        "MAX": max,
        "MIN": min,
        "SUM": math.fsum,
        "ABS": lambda one: abs(one[0]),
    }
    if name not in functions:
        raise ValueError(f"no metric math function {name}")
    return functions[name](present) if present else None
