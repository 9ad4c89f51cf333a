"""How CloudWatch judges datapoints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from outrider.local.alarms import Metrics, evaluate, judged, statistic_of
from outrider.local.clock import DiscreteClock


def alarm(**more: Any) -> dict[str, Any]:
    """Return an alarm on values above 5."""
    return {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 5, **more}


@pytest.mark.parametrize(
    ("values", "missing", "needed", "expected"),
    [
        ([6.0], "missing", 1, "ALARM"),
        ([5.0], "missing", 1, "OK"),
        ([None], "missing", 1, "INSUFFICIENT_DATA"),
        ([None], "breaching", 1, "ALARM"),
        ([None], "notBreaching", 1, "OK"),
        ([None], "ignore", 1, None),
        ([6.0, 1.0, 6.0], "missing", 2, "ALARM"),
        ([6.0, None, 1.0], "missing", 2, "OK"),
        ([6.0, None, None], "breaching", 3, "ALARM"),
    ],
)
def test_datapoints_are_judged(
    values: list[float | None], missing: str, needed: int, expected: str | None
) -> None:
    """M out of N datapoints breach, missing ones as the alarm says."""
    assert judged(alarm(TreatMissingData=missing), values, needed) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("IF(attempted >= 5, failed / attempted, 0)", 0.4),
        ("failed / none", None),
        ("FILL(missing, 7) + 1", 8.0),
        ("-failed", -4.0),
        ("MAX(failed, attempted)", 10.0),
        ("failed / (attempted - 10)", None),
    ],
)
def test_metric_math(expression: str, expected: float | None) -> None:
    """Arithmetic over datapoints; a missing one, or a division by zero, gives none."""
    values = {"attempted": 10.0, "failed": 4.0, "missing": None, "none": None}
    assert evaluate(expression, values) == expected


def test_percentiles_are_interpolated() -> None:
    """p50 of four values lies between the middle two."""
    assert statistic_of([1.0, 2.0, 3.0, 10.0], "p50") == 2.5


def test_embedded_metrics_are_read_from_a_log_line() -> None:
    """A line in Embedded Metric Format gives its metrics, any other line none."""
    metrics = Metrics(DiscreteClock(datetime(2026, 1, 1, tzinfo=UTC)))
    line = (
        '{"_aws": {"CloudWatchMetrics": [{"Namespace": "N", "Dimensions": [["Cluster"]], '
        '"Metrics": [{"Name": "M"}]}]}, "Cluster": "c", "M": [1, 2]}'
    )
    assert metrics.read_line(line)
    assert not metrics.read_line('{"message": "hello"}')
    assert metrics.between(("N", "M", (("Cluster", "c"),)), 0, 1) == [1.0, 2.0]
