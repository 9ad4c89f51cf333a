"""How long a mark of insufficient capacity lasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from outrider.core.backoff import FIRST, LONGEST, Mark, next_mark

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)


def test_backoff_grows_and_forgets() -> None:
    """Twice as long with each refusal in a row up to 40 minutes, afresh after a rest."""
    mark = next_mark(None, NOW)
    assert mark.until - NOW == FIRST
    assert next_mark(mark, NOW + timedelta(seconds=1)) == mark
    lengths = []
    for _ in range(6):
        at = mark.until + timedelta(seconds=1)
        mark = next_mark(mark, at)
        lengths.append((mark.until - at).total_seconds())
    assert lengths == [360, 720, 1440, 2400, 2400, 2400]
    assert mark.until - (mark.until - LONGEST) == LONGEST
    rested = next_mark(mark, mark.until + timedelta(hours=1))
    assert rested == Mark(mark.until + timedelta(hours=1) + FIRST, 1)
