"""Alarms and the dashboard speak only of metrics that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from outrider.observability import DIMENSION, METRICS, NAMESPACE
from tests.support.stack import CLUSTER, stack

TOPIC = "arn:aws:sns:us-east-1:123456789012:pager"
WATCHED = {
    "OldestPendingPodSeconds",
    "ReconcileHeartbeat",
    "LaunchesAttempted",
    "LaunchesFailed",
    "CatalogAgeSeconds",
    "LeaseHeldSeconds",
    "DrainPastDeadline",
    "ClaimsNotInitialized",
    "SeedsFailed",
    "BesideKarpenter",
    "LaunchesHeldBack",
}


def alarms() -> dict[str, dict[str, Any]]:
    """Return every alarm's properties."""
    return stack().of("AWS::CloudWatch::Alarm")


def metrics() -> Iterator[dict[str, Any]]:
    """Yield every metric that an alarm looks at."""
    for alarm in alarms().values():
        if "MetricName" in alarm:
            yield alarm
        for query in alarm.get("Metrics", []):
            if "MetricStat" in query:
                yield query["MetricStat"]["Metric"]


def test_alarms_watch_what_has_to_be_watched_and_nothing_invented() -> None:
    """Each promise that can be broken silently has its alarm, on a metric that is counted."""
    ours = [metric for metric in metrics() if metric["Namespace"] == NAMESPACE]
    assert {metric["MetricName"] for metric in ours} == WATCHED <= set(METRICS)
    for metric in ours:
        assert metric["Dimensions"] == [{"Name": DIMENSION, "Value": CLUSTER}]


def test_silence_is_an_alarm_for_the_heartbeat_alone() -> None:
    """A reconcile that does not run emits nothing; elsewhere nothing means that all is well."""
    for name, alarm in alarms().items():
        breaching = alarm["TreatMissingData"] == "breaching"
        assert breaching is (name == "ReconcileAlarm")


def test_every_alarm_says_what_is_wrong() -> None:
    """Whoever is woken reads a sentence, not a metric's name."""
    for alarm in alarms().values():
        assert len(alarm["AlarmDescription"].split()) >= 5


@pytest.mark.parametrize("topic", ["", TOPIC])
def test_alarms_go_to_the_topic_that_was_given(topic: str) -> None:
    """With a topic every alarm tells it, both ways; without one none has an action."""
    for alarm in stack(AlarmTopicArn=topic).of("AWS::CloudWatch::Alarm").values():
        assert alarm.get("AlarmActions", []) == ([topic] if topic else [])
        assert alarm.get("OKActions", []) == ([topic] if topic else [])


def test_the_dashboard_shows_metrics_that_exist() -> None:
    """The body is JSON, and each metric of ours in it is counted somewhere."""
    (dashboard,) = stack().of("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    shown: set[str] = set()
    for widget in widgets:
        namespace = ""
        for line in widget["properties"]["metrics"]:
            namespace = namespace if line[0] in {".", "..."} else line[0]
            if namespace == NAMESPACE and line[0] != "...":
                shown.add(line[1])
    assert shown
    assert shown <= set(METRICS)
