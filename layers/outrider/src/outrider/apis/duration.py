"""Durations as Go prints and Karpenter accepts them: `720h`, `1h30m`, `300ms`, `Never`.

Decides what the text means, exactly; refuses to know from when a duration counts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache

from outrider.errors import InvalidManifest

NEVER = "Never"

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_MICROSECONDS = {
    "ns": Fraction(1, 1000),
    "us": Fraction(1),
    "µs": Fraction(1),
    "μs": Fraction(1),
    "ms": Fraction(1000),
    "s": Fraction(10**6),
    "m": Fraction(60 * 10**6),
    "h": Fraction(3600 * 10**6),
}
_LONGEST = timedelta(days=290 * 365)  # Go's int64 nanoseconds end at 292 years


@lru_cache(maxsize=1024)
def parse(text: str) -> timedelta:
    """Return a Go duration; raise InvalidManifest where *text* is none."""
    sign, body = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if body == "0":
        return timedelta()
    total = Fraction(0)
    position = 0
    while position < len(body):
        match = _PART.match(body, position)
        if match is None:
            break
        total += Fraction(match[1]) * _MICROSECONDS[match[2]]
        position = match.end()
    if position != len(body) or not body or total > _LONGEST // timedelta(microseconds=1):
        raise InvalidManifest(f"{text[:64]!r} is not a duration")
    return sign * timedelta(microseconds=int(total))


def nillable(text: str) -> timedelta | None:
    """Return Karpenter's NillableDuration: None stands for `Never`."""
    return None if text == NEVER else parse(text)


@lru_cache(maxsize=4096)
def instant(text: str) -> datetime:
    """Return an RFC 3339 timestamp as an instant in UTC."""
    try:
        result = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidManifest(f"{text[:64]!r} is not an RFC 3339 timestamp") from None
    if result.tzinfo is None:
        raise InvalidManifest(f"{text[:64]!r} has no time zone")
    return result.astimezone(UTC)


def stamp(at: datetime) -> str:
    """Return an instant as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
