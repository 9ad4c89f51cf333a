"""Cron schedules of disruption budgets: standard five fields and the @macros, in UTC.

Decides when a schedule fires next, as robfig/cron's standard parser does (which Karpenter uses);
day of month and day of week are joined by OR when both are restricted. Refuses to know the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from outrider.errors import InvalidManifest

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {
    name: index
    for index, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DAYS = {
    name: index for index, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_HORIZON_YEARS = 5  # robfig/cron gives up after five years (30 February)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a cron line fires: the allowed values of each field."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def next(self, after: datetime) -> datetime | None:
        """Return the first firing strictly *after* an instant; None where there is none."""
        at = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        last_year = at.year + _HORIZON_YEARS
        while at.year <= last_year:
            if at.month not in self.months:
                at = _month_after(at)
            elif not self._falls_on(at):
                at = at.replace(hour=0, minute=0) + timedelta(days=1)
            elif at.hour not in self.hours:
                at = at.replace(minute=0) + timedelta(hours=1)
            elif at.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at
        return None

    def _falls_on(self, at: datetime) -> bool:
        day = at.day in self.days
        weekday = (at.weekday() + 1) % 7 in self.weekdays
        return day and weekday if self.any_day or self.any_weekday else day or weekday


def _month_after(at: datetime) -> datetime:
    year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
    return at.replace(year=year, month=month, day=1, hour=0, minute=0)


@lru_cache(maxsize=256)
def parse(text: str) -> Schedule:
    """Return the schedule that *text* states; raise InvalidManifest where it states none."""
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise InvalidManifest(f"{text[:64]!r} is not a cron schedule of five fields")
    minutes, hours, days, months, weekdays = fields
    return Schedule(
        minutes=_field(minutes, 0, 59, {}),
        hours=_field(hours, 0, 23, {}),
        days=_field(days, 1, 31, {}),
        months=_field(months, 1, 12, _MONTHS),
        weekdays=_field(weekdays, 0, 6, _DAYS),
        any_day=days[0] in "*?",
        any_weekday=weekdays[0] in "*?",
    )


def _field(text: str, low: int, high: int, names: Mapping[str, int]) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        values |= _range(part, low, high, names)
    return frozenset(values)


def _range(part: str, low: int, high: int, names: Mapping[str, int]) -> set[int]:
    span, slash, step_text = part.partition("/")
    first_text, dash, last_text = span.partition("-")
    if span in {"*", "?"}:
        first, last = low, high
    else:
        first = _number(first_text, names, part)
        last = _number(last_text, names, part) if dash else (high if slash else first)
    step = _number(step_text, {}, part) if slash else 1
    if not (low <= first <= last <= high and step > 0):
        raise InvalidManifest(f"cron field {part[:64]!r} is outside {low}-{high}")
    return set(range(first, last + 1, step))


def _number(text: str, names: Mapping[str, int], part: str) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise InvalidManifest(f"cron field {part[:64]!r} is not a number")
    return int(text)
