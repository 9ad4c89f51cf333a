"""Faults on demand: what `POST /_outrider/faults` sets.

One set at a time; a new one replaces it whole, an unknown key or a bad value changes nothing and is
said. Throttles and failures refuse calls here; capacity, kills, events and nodes are told to the
room that owns them. The keys and their meaning are the command line's contract.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outrider.local.timeline import Timeline
from outrider.local.wire import Call, Refused


class BadFault(ValueError):
    """The body is no set of faults; the message says where."""


@dataclass(slots=True)
class Faults:
    """The faults in force."""

    timeline: Timeline
    on_change: list[Callable[[Mapping[str, Any]], None]] = field(default_factory=list)
    current: dict[str, Any] = field(default_factory=dict)
    _throttle: dict[str, int] = field(default_factory=dict)
    _fail: dict[str, list[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, wanted: Any) -> None:
        """Replace the whole set; raise BadFault and change nothing where it is not one."""
        if not isinstance(wanted, dict):
            raise BadFault("the body has to be a JSON object")
        for key, value in wanted.items():
            if key not in _CHECKS:
                raise BadFault(f"unknown fault {key!r}; known are {', '.join(sorted(_CHECKS))}")
            if (problem := _CHECKS[key](value)) is not None:
                raise BadFault(f"{key}: {problem}")
        with self._lock:
            self.current = wanted
            self._throttle = {
                _folded(name): count for name, count in wanted.get("throttle", {}).items()
            }
            self._fail = {
                _folded(name): [fault["code"], int(fault.get("times", 1))]
                for name, fault in wanted.get("fail", {}).items()
            }
        for tell in self.on_change:
            tell(wanted)
        self.timeline.record("fault", faults=wanted)

    def refuse(self, call: Call) -> Exception | None:
        """Return the error that a call meets, or None."""
        if not self._throttle and not self._fail:
            return None
        name = _folded(call.name)
        with self._lock:
            if self._throttle.get(name, 0) > 0:
                self._throttle[name] -= 1
                code = "RequestLimitExceeded" if call.service == "ec2" else "ThrottlingException"
                return self._met(call, code, "Request limit exceeded.")
            if name in self._fail and self._fail[name][1] > 0:
                self._fail[name][1] -= 1
                return self._met(call, self._fail[name][0], "A fault was asked for.")
        return None

    def _met(self, call: Call, code: str, message: str) -> Exception:
        self.timeline.record("fault", call=call.name, code=code)
        return Refused(code, message)


_SERVICES = {"stepfunctions": "states", "cloudwatch": "monitoring", "eventbridge": "events"}


def _folded(name: str) -> str:
    service, _, operation = name.partition(":")
    service = service.lower()
    return f"{_SERVICES.get(service, service)}:{operation.lower()}"


def _capacity(value: Any) -> str | None:
    if not isinstance(value, list):
        return "has to be a list"
    known = {"instanceType", "zone", "capacityType", "available"}
    for item in value:
        if not isinstance(item, dict) or not set(item) <= known:
            return f"has to hold objects with {', '.join(sorted(known))}"
        if not all(isinstance(item.get(key, "*"), str) for key in known - {"available"}):
            return "instanceType, zone and capacityType have to be strings"
        if not _is_count(item.get("available", 0)):
            return "available has to be a whole number from 0"
    return None


def _throttle(value: Any) -> str | None:
    if not isinstance(value, dict) or not all(_is_call(name) for name in value):
        return "has to be an object from service:Operation to a number of calls"
    return None if all(map(_is_count, value.values())) else "counts have to be whole numbers"


def _fail(value: Any) -> str | None:
    if not isinstance(value, dict) or not all(_is_call(name) for name in value):
        return "has to be an object from service:Operation to {code, times}"
    for fault in value.values():
        if not isinstance(fault, dict) or not set(fault) <= {"code", "times"}:
            return "has to give {code, times}"
        if not isinstance(fault.get("code"), str) or not _is_count(fault.get("times", 1)):
            return "code has to be a string, times a whole number"
    return None


def _kill(number: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if not isinstance(value, dict) or set(value) != {"function", number}:
            return f"has to be {{function, {number}}}"
        if not isinstance(value["function"], str) or not _is_number(value[number]):
            return f"function has to be a string, {number} a number from 0"
        return None

    return check


def _types(value: Any) -> str | None:
    good = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return None if good else "has to be a list of instance types"


def _is_call(name: Any) -> bool:
    return isinstance(name, str) and name.count(":") == 1 and not name.startswith(":")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "insufficientCapacity": _capacity,
    "throttle": _throttle,
    "fail": _fail,
    "kill": _kill("afterSeconds"),
    "killAtCall": _kill("call"),
    "joinDelaySeconds": lambda value: None if _is_number(value) else "has to be a number from 0",
    "neverJoin": _types,
    "neverInitialize": _types,
    "duplicateEvents": lambda value: (
        None if _is_count(value) and value > 0 else "has to be a whole number from 1"
    ),
    "reorderEvents": lambda value: None if isinstance(value, bool) else "has to be true or false",
}
