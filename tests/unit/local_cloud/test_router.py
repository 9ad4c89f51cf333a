"""What a target of a rule is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.local.router import at_path, transformed

EVENT: dict[str, Any] = {
    "id": "1",
    "source": "outrider.hints",
    "detail-type": "PodUnschedulable",
    "time": "2026-03-02T12:00:00Z",
    "detail": {"cluster": 'a"b', "count": 3, "pods": [{"name": "p"}]},
}


def test_an_input_template_gives_json() -> None:
    """Values stand as JSON where JSON is due, and as text inside a string."""
    target = {
        "Arn": "x",
        "InputTransformer": {
            "InputPathsMap": {"cluster": "$.detail.cluster", "n": "$.detail.count"},
            "InputTemplate": '{"cluster": <cluster>, "n": <n>, "said": "<cluster>: <n>"}',
        },
    }
    assert json.loads(transformed(target, EVENT, "rule")) == {
        "cluster": 'a"b',
        "n": 3,
        "said": 'a"b: 3',
    }


def test_a_template_that_is_a_sentence_stays_one() -> None:
    """A template that is no JSON becomes a JSON string."""
    target = {
        "Arn": "x",
        "InputTransformer": {
            "InputPathsMap": {"n": "$.detail.count"},
            "InputTemplate": "there are <n> by <aws.events.rule-name>",
        },
    }
    assert json.loads(transformed(target, EVENT, "mine")) == 'there are 3 by "mine"'


def test_a_broken_template_is_an_error() -> None:
    """A template that begins like JSON and is none is not delivered."""
    target = {"Arn": "x", "InputTransformer": {"InputTemplate": '{"a": }'}}
    with pytest.raises(ValueError, match="gives no JSON"):
        transformed(target, EVENT, "rule")


def test_input_and_input_path() -> None:
    """A constant input wins; a path takes its part of the event."""
    assert transformed({"Arn": "x", "Input": '{"a":1}'}, EVENT, "r") == '{"a":1}'
    assert transformed({"Arn": "x", "InputPath": "$.detail.pods[0].name"}, EVENT, "r") == '"p"'
    assert at_path(EVENT, "$.detail.nothing[3]") is None
