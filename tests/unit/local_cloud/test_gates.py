"""Gates: one worker waits for another, on either clock."""

from __future__ import annotations

from datetime import UTC, datetime

from outrider.local.clock import DiscreteClock, ScaledClock


def test_a_gate_opens_for_its_waiters_in_their_order() -> None:
    """Waiters go on at the instant at which the gate opens."""
    clock = DiscreteClock(datetime(2026, 1, 1, tzinfo=UTC))
    gate = clock.gate()
    seen: list[tuple[str, float]] = []

    def wait(name: str) -> None:
        assert gate.wait()
        seen.append((name, clock.at()))

    clock.spawn(lambda: wait("one"), "one")
    clock.spawn(lambda: wait("two"), "two")
    clock.call_later(7.0, gate.set)
    clock.run(10)
    assert seen == [("one", 7.0), ("two", 7.0)]


def test_a_wait_that_times_out_says_so() -> None:
    """The timeout is on the clock, and what opens later wakes nobody twice."""
    clock = DiscreteClock(datetime(2026, 1, 1, tzinfo=UTC))
    gate = clock.gate()
    seen: list[tuple[bool, float]] = []
    clock.spawn(lambda: seen.append((gate.wait(3.0), clock.at())), "waiter")
    clock.call_later(5.0, gate.set)
    clock.run(10)
    assert seen == [(False, 3.0)]


def test_stopping_ends_a_waiter() -> None:
    """A clock that stops ends the threads that wait on it."""
    clock = ScaledClock(speed=1000)
    gate, reached = clock.gate(), []

    def work() -> None:
        gate.wait()
        reached.append("never")

    clock.spawn(work, "waiter")
    clock.stop()
    assert not reached
