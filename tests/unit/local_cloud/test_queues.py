"""Looks at a queue are planned and taken on different threads; none is waited for in vain."""

from __future__ import annotations

import threading
from typing import Any
from unittest.mock import MagicMock

from outrider.local.clock import Action, Timer
from outrider.local.queues import Mapping, Pollers

MOMENT = 0.2


class HastyClock:
    """Fires on a thread of its own, at once: before whoever asked has noted what it asked for."""

    def __init__(self) -> None:
        self.fired = 0
        self.threads: list[threading.Thread] = []

    def at(self) -> float:
        """Return the instant, always the same."""
        return 0.0

    def call_later(self, delay: float, action: Action) -> Timer:
        """Fire *action* now, and give it a moment's start."""
        self.fired += 1
        thread = threading.Thread(target=action, daemon=True)
        self.threads.append(thread)
        thread.start()
        thread.join(MOMENT)
        return Timer(delay, self.fired, action)


def test_a_look_that_comes_before_it_is_noted_is_not_waited_for() -> None:
    """Each arrival is looked for, also after a look that overtook its own planning."""
    clock: Any = HastyClock()
    pollers = Pollers(MagicMock(), clock, MagicMock())
    pollers.mappings.append(Mapping("hints", MagicMock()))
    for arrivals in (1, 2, 3):
        pollers.look("hints")
        for thread in clock.threads:
            thread.join()
        assert clock.fired == arrivals
