"""Quantities, durations and cron lines: exactly what Kubernetes and Karpenter mean by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from outrider.apis import cron, duration, quantity
from outrider.errors import InvalidManifest


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("100m", Fraction(1, 10)),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Gi", 3 * 2**29),
        ("2e3", 2000),
        ("2E3", 2000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("12e-1", Fraction(6, 5)),
        ("3n", Fraction(3, 10**9)),
        ("7u", Fraction(7, 10**6)),
        ("-1", -1),
        (4, 4),
        (0.1, Fraction(1, 10)),
    ],
)
def test_quantities_are_exact(text: object, value: Fraction) -> None:
    """Every suffix and exponent is read exactly, floats by their shortest decimal."""
    assert quantity.exact(text) == value


@pytest.mark.parametrize(
    "text", ["", "1Qi", "1 Gi", "Gi", "1e", "--1", "1.2.3", "NaN", True, None, "1" * 99, "٣"]
)
def test_what_is_no_quantity(text: object) -> None:
    """What Kubernetes refuses is refused."""
    with pytest.raises(InvalidManifest):
        quantity.exact(text)


def test_rounding_is_upward() -> None:
    """cpu rounds up to a milli-CPU, everything else to a whole unit."""
    assert quantity.amount("cpu", "100u") == 1
    assert quantity.amount("memory", "1500m") == 2
    assert quantity.amount("memory", "100m") == 1


def test_negative_amounts_are_refused() -> None:
    """A request below zero is an error that names the resource."""
    with pytest.raises(InvalidManifest, match=r"requests\.cpu: .* negative"):
        quantity.resources({"cpu": "-1"}, "requests")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cpu", 3100, "3100m"),
        ("cpu", 4000, "4"),
        ("memory", 15155 * 2**20, "15155Mi"),
        ("memory", 2**30, "1Gi"),
        ("memory", 1001, "1001"),
        ("nvidia.com/gpu", 8, "8"),
    ],
)
def test_printing(name: str, value: int, text: str) -> None:
    """Amounts print as Kubernetes prints them, and read back as the same."""
    assert quantity.text(name, value) == text
    assert quantity.amount(name, text) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("720h", 720 * 3600),
        ("1h30m", 5400),
        ("300ms", 0.3),
        ("1.5h", 5400),
        ("0", 0),
        ("-5m", -300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Go's durations are read exactly."""
    assert duration.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "5 m", "1d", "5mm", "9" * 40 + "h"])
def test_what_is_no_duration(text: str) -> None:
    """What Go refuses is refused."""
    with pytest.raises(InvalidManifest):
        duration.parse(text)


def test_never_is_no_duration() -> None:
    """Karpenter's Never stands for none."""
    assert duration.nillable("Never") is None


@pytest.mark.parametrize(
    ("line", "after", "fires"),
    [
        ("0 9 * * 1-5", "2026-11-21T10:00", "2026-11-23T09:00"),
        ("@daily", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("*/15 * * * *", "2026-11-23T12:01", "2026-11-23T12:15"),
        ("0 0 1 jan *", "2026-11-23T12:00", "2027-01-01T00:00"),
        ("0 0 13 * fri", "2026-11-23T12:00", "2026-11-27T00:00"),
        ("30 22 29 2 *", "2026-11-23T12:00", "2028-02-29T22:30"),
    ],
)
def test_schedules(line: str, after: str, fires: str) -> None:
    """Cron lines fire when robfig/cron says, day of month and of week joined by OR."""
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert cron.parse(line).next(moment) == datetime.fromisoformat(fires).replace(tzinfo=UTC)


def test_a_day_that_never_comes() -> None:
    """The 30th of February fires never."""
    assert cron.parse("0 0 30 2 *").next(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    "line", ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"]
)
def test_what_is_no_schedule(line: str) -> None:
    """A line that cron refuses is refused."""
    with pytest.raises(InvalidManifest):
        cron.parse(line)
