"""Time for the embedded cloud: every timer, wait and timestamp in `outrider.local` is on one Clock.

Two clocks, one promise. `ScaledClock` runs `speed` times as fast as the wall and serves people and
clients. `DiscreteClock` serves repeatable tests: it moves only when nothing is runnable, exactly
one thread runs at a time (the dispatcher hands a baton to a worker and waits until the worker
sleeps or ends), and timers that are due at the same instant fire in the order in which they were
set.

Rules for everything in `outrider.local`: no `time.sleep`, no `time.time`, no `datetime.now`; a
short piece of work goes into `call_later`, one that blocks (a handler, a state machine) into
`spawn`, and one worker waits for another at a `gate`. Refuses to know what it times.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

log = logging.getLogger("outrider.local")
Action = Callable[[], None]


class Timer:
    """One planned call; `cancel` keeps it from firing."""

    __slots__ = ("action", "cancelled", "due", "order")

    def __init__(self, due: float, order: int, action: Action) -> None:
        self.due = due
        self.order = order
        self.action = action
        self.cancelled = False

    def __lt__(self, other: Timer) -> bool:
        return (self.due, self.order) < (other.due, other.order)

    def cancel(self) -> None:
        """Keep the call from firing, if it has not fired yet."""
        self.cancelled = True


class Gate(Protocol):
    """A thing to wait for: like `threading.Event`, with its timeout on the clock."""

    def set(self) -> None:
        """Open the gate for good and let the waiters through."""

    def is_set(self) -> bool:
        """Return whether the gate is open."""

    def wait(self, timeout: float | None = None) -> bool:
        """Hold the calling worker until the gate opens or *timeout* passes; return whether it is
        open.
        """


class Clock(Protocol):
    """What the embedded cloud asks of time."""

    speed: float

    def now(self) -> datetime:
        """Return the instant on this clock, in UTC."""

    def at(self) -> float:
        """Return the seconds on this clock since it was made."""

    def call_later(self, delay: float, action: Action) -> Timer:
        """Run a short *action* on the dispatcher after *delay* seconds of this clock."""

    def spawn(self, action: Action, name: str) -> None:
        """Run an *action* that may block on a thread of its own."""

    def sleep(self, seconds: float) -> None:
        """Hold the calling worker for *seconds* of this clock."""

    def gate(self) -> Gate:
        """Return a closed gate on this clock."""

    def may_wait(self) -> bool:
        """Return whether the calling thread may `sleep` or wait at a gate."""

    def stop(self) -> None:
        """Fire nothing more, and wake every sleeper with `Stopped`."""


class Stopped(BaseException):
    """The clock was stopped while this worker slept; not an Exception, so that no handler
    eats it.
    """


def every(clock: Clock, seconds: float, action: Action) -> None:
    """Run *action* each *seconds*, the first time after one such wait, for as long as the clock
    runs.
    """

    def beat() -> None:
        clock.call_later(seconds, beat)
        action()

    clock.call_later(seconds, beat)


class ScaledClock:
    """Real time, *speed* times as fast; one dispatcher thread, workers in parallel."""

    def __init__(self, speed: float = 1.0, start: datetime | None = None) -> None:
        self.speed = speed
        self._start = start or datetime.now(UTC)
        self._zero = time.monotonic()
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._stopped = threading.Event()
        self._workers: set[threading.Thread] = set()
        self._gates: weakref.WeakSet[_ScaledGate] = weakref.WeakSet()
        self._dispatcher = threading.Thread(target=self._dispatch, name="clock", daemon=True)
        self._dispatcher.start()

    def at(self) -> float:
        """Return the seconds on this clock since it was made."""
        return (time.monotonic() - self._zero) * self.speed

    def now(self) -> datetime:
        """Return the instant on this clock, in UTC."""
        return self._start + timedelta(seconds=self.at())

    def call_later(self, delay: float, action: Action) -> Timer:
        """Run a short *action* on the dispatcher thread after *delay* seconds of this clock."""
        timer = Timer(self.at() + max(delay, 0.0), next(self._order), action)
        with self._wake:
            heapq.heappush(self._timers, timer)
            self._wake.notify()
        return timer

    def spawn(self, action: Action, name: str) -> None:
        """Run *action* on a daemon thread of its own."""

        def work() -> None:
            try:
                _guarded(action, name)
            finally:
                self._workers.discard(threading.current_thread())

        thread = threading.Thread(target=work, name=name, daemon=True)
        self._workers.add(thread)
        thread.start()

    def sleep(self, seconds: float) -> None:
        """Hold the calling thread for *seconds* of this clock."""
        if self._stopped.wait(max(seconds, 0.0) / self.speed):
            raise Stopped

    def gate(self) -> Gate:
        """Return a closed gate on this clock."""
        gate = _ScaledGate(self)
        self._gates.add(gate)
        return gate

    def may_wait(self) -> bool:
        """Return True but for the dispatcher, whom everything waits for."""
        return threading.current_thread() is not self._dispatcher

    def stop(self) -> None:
        """Fire nothing more, wake every sleeper, and wait a moment for workers to end."""
        self._stopped.set()
        for gate in tuple(self._gates):
            gate.release()
        with self._wake:
            self._wake.notify()
        patience = time.monotonic() + 2.0
        for thread in (self._dispatcher, *tuple(self._workers)):
            # One that is spawned at this very moment is not alive yet; it will find us stopped.
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(timeout=max(patience - time.monotonic(), 0.05))

    def _dispatch(self) -> None:
        while not self._stopped.is_set():
            with self._wake:
                if not self._timers:
                    self._wake.wait()
                    continue
                wait = (self._timers[0].due - self.at()) / self.speed
                if wait > 0:
                    self._wake.wait(wait)
                    continue
                timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                _guarded(timer.action, "timer")


class _ScaledGate:
    """A gate on a ScaledClock."""

    def __init__(self, clock: ScaledClock) -> None:
        self._clock = clock
        self._open = False
        self._event = threading.Event()

    def set(self) -> None:
        """Open the gate."""
        self._open = True
        self._event.set()

    def release(self) -> None:
        """Wake the waiters without opening: the clock stops."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the gate is open."""
        return self._open

    def wait(self, timeout: float | None = None) -> bool:
        """Hold the calling thread; *timeout* is in seconds of the clock."""
        real = None if timeout is None else max(timeout, 0.0) / self._clock.speed
        if real is not None:
            real = min(real, threading.TIMEOUT_MAX)
        self._event.wait(real)
        if not self._open and self._event.is_set():
            raise Stopped
        return self._open


class DiscreteClock:
    """Time that moves only when nothing is runnable; the caller of `run` is the dispatcher."""

    speed = float("inf")

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._at = 0.0
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._batons: dict[int, threading.Semaphore] = {}
        self._workers: set[int] = set()
        self._back = threading.Semaphore(0)
        self._stopped = False

    def at(self) -> float:
        """Return the seconds on this clock since it was made."""
        return self._at

    def now(self) -> datetime:
        """Return the instant on this clock, in UTC."""
        return self._start + timedelta(seconds=self._at)

    def call_later(self, delay: float, action: Action) -> Timer:
        """Run *action* within `run`, after *delay* seconds of this clock."""
        with self._lock:
            timer = Timer(self._at + max(delay, 0.0), next(self._order), action)
            heapq.heappush(self._timers, timer)
        return timer

    def spawn(self, action: Action, name: str) -> None:
        """Run *action* on a thread that gets the baton as soon as the dispatcher is free."""

        def work() -> None:
            self._baton().acquire()
            self._workers.add(threading.get_ident())
            try:
                if not self._stopped:
                    _guarded(action, name)
            finally:
                self._workers.discard(threading.get_ident())
                self._batons.pop(threading.get_ident(), None)
                self._back.release()

        def begin() -> None:
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            assert thread.ident is not None  # noqa: S101 - a started thread has one
            self._hand_to(thread.ident)

        self.call_later(0.0, begin)

    def sleep(self, seconds: float) -> None:
        """Give the baton back and hold this worker until the clock has moved on by *seconds*."""
        ident = threading.get_ident()
        self.call_later(seconds, lambda: self._hand_to(ident))
        self._park()

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Fire timers for at most *seconds* of this clock or *until* holds; return whether
        it does.
        """
        end = self._at + seconds
        while not until():
            with self._lock:
                if not self._timers or self._timers[0].due > end:
                    self._at = max(self._at, end)
                    break
                timer = heapq.heappop(self._timers)
                self._at = max(self._at, timer.due)
            if not timer.cancelled:
                _guarded(timer.action, "timer")
        return until()

    def gate(self) -> Gate:
        """Return a closed gate on this clock."""
        return _DiscreteGate(self)

    def may_wait(self) -> bool:
        """Return whether the calling thread is a worker: nobody else has a baton to give back."""
        return threading.get_ident() in self._workers

    def stop(self) -> None:
        """Wake every sleeper so that its thread ends."""
        self._stopped = True
        for baton in list(self._batons.values()):
            baton.release()

    def _park(self) -> None:
        """Give the baton back and hold the calling worker until it is handed the baton again."""
        if self._stopped:
            raise Stopped
        self._back.release()
        self._baton().acquire()
        if self._stopped:
            raise Stopped

    def _baton(self, ident: int | None = None) -> threading.Semaphore:
        key = threading.get_ident() if ident is None else ident
        with self._lock:
            return self._batons.setdefault(key, threading.Semaphore(0))

    def _hand_to(self, ident: int) -> None:
        self._baton(ident).release()
        self._back.acquire()


class _DiscreteGate:
    """A gate on a DiscreteClock: waiters get the baton one after the other, in the order
    they came.
    """

    def __init__(self, clock: DiscreteClock) -> None:
        self._clock = clock
        self._open = False
        self._waiting: list[Action] = []

    def set(self) -> None:
        """Open the gate; the waiters run when the dispatcher is free."""
        self._open = True
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            self._clock.call_later(0.0, wake)

    def is_set(self) -> bool:
        """Return whether the gate is open."""
        return self._open

    def wait(self, timeout: float | None = None) -> bool:
        """Hold the calling worker; *timeout* is in seconds of the clock."""
        if self._open:
            return True
        ident = threading.get_ident()
        woken = False

        def wake() -> None:
            nonlocal woken
            if not woken:
                woken = True
                self._clock._hand_to(ident)

        self._waiting.append(wake)
        timer = None if timeout is None else self._clock.call_later(timeout, wake)
        self._clock._park()
        if timer is not None:
            timer.cancel()
        if wake in self._waiting:
            self._waiting.remove(wake)
        return self._open


def _guarded(action: Action, name: str) -> None:
    """Run *action*; an error is logged and ends it, never the clock."""
    try:
        action()
    except Stopped:
        pass
    except Exception:
        log.exception("%s failed", name)
