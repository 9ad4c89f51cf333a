"""EventBridge's patterns: moto's matcher, and what it misses."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.local.patterns import matches

EVENT: dict[str, Any] = {
    "source": "aws.ec2",
    "detail-type": "EC2 Instance State-change Notification",
    "detail": {
        "state": "running",
        "n": 5,
        "pods": [{"x": "a", "y": 1}, {"x": "b", "y": 2}],
        "tags": ["one", "two"],
    },
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"source": ["aws.ec2"]}, True),
        ({"source": ["aws.ecr"]}, False),
        ({"source": [{"prefix": "aws."}]}, True),
        ({"detail": {"state": [{"anything-but": ["running"]}]}}, False),
        ({"detail": {"missing": [{"exists": False}]}}, True),
        ({"detail": {"n": [{"numeric": [">", 4, "<=", 5]}]}}, True),
        ({"detail": {"tags": ["two"]}}, True),
        ({"detail": {"pods": {"x": ["b"]}}}, True),
        ({"detail": {"pods": {"x": ["c"]}}}, False),
        ({"detail": {"pods": {"x": ["a"], "y": [1]}}}, True),
        ({"detail": {"pods": {"x": [{"prefix": "b"}]}, "state": ["running"]}}, True),
        ({"$or": [{"source": ["nobody"]}, {"detail": {"state": ["running"]}}]}, True),
    ],
)
def test_patterns_match_as_eventbridge_does(pattern: dict[str, Any], *, expected: bool) -> None:
    """Values, operators, and fields of objects inside a list."""
    assert matches(pattern, EVENT) is expected
