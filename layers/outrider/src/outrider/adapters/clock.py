"""The only clock: the wall's, unless somebody has put another in its place.

The embedded cloud runs the same functions on its own time; `use` is where it hooks in. Everything
that asks for the instant or waits asks here, so a day of virtual time needs no second of real time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class SystemClock:
    """The instant in UTC, and waits."""

    def __init__(self) -> None:
        self._now: Callable[[], datetime] = _wall
        self._sleep: Callable[[float], None] = time.sleep

    def now(self) -> datetime:
        """Return the instant, in UTC."""
        return self._now()

    def sleep(self, seconds: float) -> None:
        """Hold the caller for *seconds* of this clock."""
        self._sleep(max(seconds, 0.0))

    def use(
        self,
        now: Callable[[], datetime] | None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Ask *now* and *sleep* from here on; None goes back to the wall's."""
        self._now = now or _wall
        self._sleep = sleep or time.sleep


def _wall() -> datetime:
    return datetime.now(UTC)


clock = SystemClock()
