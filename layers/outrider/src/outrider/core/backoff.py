"""For how long a capacity pool without capacity is left alone: 180 s at first, longer each time.

Karpenter forgets a pool after a flat three minutes and asks again, whatever happened before, which
makes endless claim churn where a type is out for hours (kubernetes-sigs/karpenter#1899). Here the
time doubles with each refusal in a row, up to 40 minutes; a pool that was not refused for a while
starts afresh.

Refuses to know where marks are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST = timedelta(seconds=180)
LONGEST = timedelta(minutes=40)


@dataclass(frozen=True, slots=True)
class Mark:
    """A pool marked unavailable *until*, refused *strikes* times in a row."""

    until: datetime
    strikes: int = 1


def next_mark(before: Mark | None, now: datetime) -> Mark:
    """Return the mark after one more refusal at *now*.

    Refusals while the pool is marked are one shortage seen twice (by two launches of one plan), not
    another strike.
    """
    if before is None:
        return Mark(now + FIRST, 1)
    if before.until > now:
        return before
    rested = now - before.until
    if rested > _length(before.strikes):
        return Mark(now + FIRST, 1)
    strikes = before.strikes + 1
    return Mark(now + _length(strikes), strikes)


def _length(strikes: int) -> timedelta:
    doubled: int = 2 ** min(strikes - 1, 10)
    return min(FIRST * doubled, LONGEST)
