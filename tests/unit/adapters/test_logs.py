"""Log lines as links of a trace: which groups are asked, what is made of a line, what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

from outrider.adapters.aws import logs
from outrider.adapters.aws.session import Session

SINCE = datetime(2026, 3, 2, 12, tzinfo=UTC)
LINE = {
    "level": "INFO",
    "message": "launched",
    "timestamp": "…",
    "service": "outrider",
    "function_name": "f",
    "cold_start": True,
    "decision": "d1",
    "claim": "gpu-1",
    "instance": "i-1",
}


class FakeLogs:
    """CloudWatch Logs with two groups: one has a line, one that is no JSON and another's."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self._operation = ""

    def client(self, service: str) -> FakeLogs:
        """Return itself: there is one service here."""
        assert service == "logs"
        return self

    def get_paginator(self, operation: str) -> FakeLogs:
        """Remember what is paged through."""
        self._operation = operation
        return self

    def paginate(self, **wanted: Any) -> Iterator[dict[str, Any]]:
        """Answer in one page."""
        if self._operation == "describe_log_groups":
            assert wanted == {"logGroupNamePrefix": "/outrider/prod/"}
            names = ("/outrider/prod/provision", "/outrider/prod/drain")
            return iter([{"logGroups": [{"logGroupName": name} for name in names]}])
        self.asked.append(wanted)
        words = ["no JSON", json.dumps({"decision": "d2"}), json.dumps([1])]
        if wanted["logGroupName"].endswith("provision"):
            words = [json.dumps(LINE)]
        at = int(SINCE.timestamp() * 1000) + 1500
        return iter([{"events": [{"timestamp": at, "message": word} for word in words]}])


def test_a_line_becomes_a_link() -> None:
    """With what it says of things, without what every line says; no other line does."""
    fake = FakeLogs()
    (link,) = logs.lines(cast("Session", fake), "prod", ["d1"], SINCE)
    assert link.about == "function provision"
    assert link.what == "launched: claim=gpu-1, instance=i-1"
    assert link.decision == "d1"
    assert (link.at - SINCE).total_seconds() == 1.5
    assert {one["filterPattern"] for one in fake.asked} == {'{ $.decision = "d1" }'}
    assert {one["startTime"] for one in fake.asked} == {int(SINCE.timestamp() * 1000)}
