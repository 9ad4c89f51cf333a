"""moto on the embedded cloud's clock, and the one place that reaches into moto's modules for time.

moto asks `moto.core.utils.utcnow` (and, in its state machine interpreter, `datetime`, `time` and
`threading`) for the time and for threads. `install` puts ours in their place once per process,
before moto's other modules are imported; with no cloud running they answer as before. The cloud
that runs says so with `use`. Refuses to know what moto does with the time.
"""

from __future__ import annotations

import datetime as real_datetime  # noqa: ICN001 - beside the one on the clock
import importlib
import sys
import threading
import time as real_time
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from outrider.local.clock import Clock, Gate

_clock: Clock | None = None


def use(clock: Clock | None) -> None:
    """Put moto on *clock*, or back on the machine's."""
    global _clock  # noqa: PLW0603 - moto's backends are global, so is their time
    _clock = clock


def _now() -> real_datetime.datetime:
    return _clock.now() if _clock else real_datetime.datetime.now(real_datetime.UTC)


def _utcnow() -> real_datetime.datetime:
    return _now().replace(tzinfo=None)


def _unix_time(at: real_datetime.datetime | None = None) -> float:
    """Return an instant that is naive in UTC, or now, in seconds; moto's own takes four dates."""
    if at is None:
        return _now().timestamp()
    return at.replace(tzinfo=real_datetime.UTC).timestamp()


class _Datetime(real_datetime.datetime):
    """`datetime.datetime` whose now() is on the clock; naive answers are in UTC, as on AWS."""

    @classmethod
    def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
        """Return the instant on the clock."""
        return _now().astimezone(tz) if tz else _utcnow()

    @classmethod
    def utcnow(cls) -> Any:
        """Return the instant on the clock, naive."""
        return _utcnow()


def _time() -> float:
    return _now().timestamp()


def _sleep(seconds: float) -> None:
    if _clock and _clock.may_wait():
        _clock.sleep(seconds)
    elif not _clock:
        real_time.sleep(seconds)


class _Thread:
    """A thread that is a worker of the clock."""

    def __init__(
        self,
        target: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str = "state-machine",
        *,
        daemon: bool = True,
    ) -> None:
        self.name = name
        self.daemon = daemon
        self.native_id = 0
        self._work = partial(target, *args, **(kwargs or {}))
        self._done: Gate | None = None

    def start(self) -> None:
        """Let the clock run the target."""
        if _clock is None:
            raise RuntimeError("no embedded cloud runs")
        done = self._done = _clock.gate()

        def work() -> None:
            try:
                self._work()
            finally:
                done.set()

        _clock.spawn(work, self.name)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end, at most *timeout* seconds of the clock."""
        if self._done:
            self._done.wait(timeout)

    def is_alive(self) -> bool:
        """Return whether the target still runs."""
        return self._done is not None and not self._done.is_set()


class _Event:
    """`threading.Event` on the clock; `clear` gives a new gate."""

    def __init__(self) -> None:
        self._gate: Gate | None = None
        self._set = False

    def set(self) -> None:
        """Let the waiters through."""
        self._set = True
        if self._gate:
            self._gate.set()

    def clear(self) -> None:
        """Make later waiters wait."""
        self._set = False
        self._gate = None

    def is_set(self) -> bool:
        """Return whether the event happened."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the event, at most *timeout* seconds of the clock."""
        if not self._set and _clock is not None:
            if self._gate is None:
                self._gate = _clock.gate()
            self._gate.wait(timeout)
        return self._set


def _like(module: types.ModuleType, **changed: Any) -> types.ModuleType:
    """Return a copy of *module* with some names changed."""
    copy = types.ModuleType(module.__name__, module.__doc__)
    copy.__dict__.update(vars(module))
    copy.__dict__.update(changed)
    return copy


_DATETIME = _like(real_datetime, datetime=_Datetime)
_TIME = _like(real_time, time=_time, sleep=_sleep)
_THREADING = _like(threading, Thread=_Thread, Event=_Event)
_INTERPRETER = "moto.stepfunctions.parser"


def install() -> None:
    """Put moto's time and the interpreter's threads on the clock; a second call changes nothing."""
    utils = importlib.import_module("moto.core.utils")
    for called, ours in (("utcnow", _utcnow), ("unix_time", _unix_time)):
        original = getattr(utils, called)
        utils.__dict__[called] = ours
        for name, module in list(sys.modules.items()):
            if name.startswith("moto.") and getattr(module, called, None) is original:
                module.__dict__[called] = ours
    importlib.import_module(f"{_INTERPRETER}.models")
    originals: dict[Any, Any] = {
        id(real_datetime): _DATETIME,
        id(real_time): _TIME,
        id(threading): _THREADING,
        id(threading.Thread): _Thread,
        id(threading.Event): _Event,
    }
    for name, module in list(sys.modules.items()):
        if name.startswith(_INTERPRETER):
            for key, value in list(vars(module).items()):
                if id(value) in originals:
                    module.__dict__[key] = originals[id(value)]
