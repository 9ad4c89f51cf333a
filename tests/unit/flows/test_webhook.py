"""The webhook's promises: a hint at most, an answer always, and nobody in without the secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from outrider.errors import CloudError
from outrider.flows.webhook import WebhookWorld, answer
from tests.support.world import FakeTelemetry

UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
SECRET = "3f1c" * 8


class Door:
    """A webhook's world that remembers its hints."""

    def __init__(self, secrets: Sequence[str] = (SECRET,)) -> None:
        self.hints: list[str] = []
        self.telemetry = FakeTelemetry()
        self.trouble: Exception | None = None
        self.world = WebhookWorld("test", lambda: secrets, self._hint, self.telemetry)

    def _hint(self, cluster: str) -> None:
        if self.trouble:
            raise self.trouble
        self.hints.append(cluster)


def review(reason: str = "FailedScheduling", **request: Any) -> dict[str, Any]:
    """Return an AdmissionReview about an Event with *reason*."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "operation": "CREATE",
            "resource": {"group": "events.k8s.io", "version": "v1", "resource": "events"},
            "object": {"kind": "Event", "reason": reason},
            **request,
        },
    }


def call(body: Any, secret: str | None = SECRET, *, encoded: bool = False) -> dict[str, Any]:
    """Return the HTTP API event for *body*."""
    text = body if isinstance(body, str) else json.dumps(body)
    if encoded:
        text = base64.b64encode(text.encode()).decode()
    parameters = {"pathParameters": {"secret": secret}} if secret is not None else {}
    return {**parameters, "body": text, "isBase64Encoded": encoded}


@pytest.mark.parametrize("encoded", [False, True])
def test_a_failed_scheduling_is_a_hint(encoded: bool) -> None:
    """One hint goes out, and the object is allowed under the request's uid."""
    door = Door()
    replied = answer(call(review(), encoded=encoded), door.world)
    assert door.hints == ["test"]
    assert replied["statusCode"] == 200
    assert json.loads(replied["body"])["response"] == {"uid": UID, "allowed": True}


@pytest.mark.parametrize(
    "body",
    [
        review("Scheduled"),
        review(operation="UPDATE"),
        review(resource={"resource": "pods"}),
        review(object=None),
        review(dryRun=True),
    ],
)
def test_everything_else_is_let_pass(body: dict[str, Any]) -> None:
    """What is no new FailedScheduling Event is allowed without a hint."""
    door = Door()
    assert answer(call(body), door.world)["statusCode"] == 200
    assert door.hints == []


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "0", SECRET[:-1]])
def test_nobody_gets_in_without_the_secret(secret: str | None) -> None:
    """A wrong or missing secret is refused, and nothing is passed on."""
    door = Door()
    assert answer(call(review(), secret), door.world)["statusCode"] == 403
    assert door.hints == []


def test_two_secrets_are_good_at_a_time() -> None:
    """The secret before the current one still opens, so that a rotation has no gap."""
    door = Door(secrets=("new", "old"))
    assert answer(call(review(), "old"), door.world)["statusCode"] == 200
    assert answer(call(review(), "new"), door.world)["statusCode"] == 200


def test_no_secret_opens_nothing() -> None:
    """Without any secret in force, an empty one included, everybody is refused."""
    assert answer(call(review(), ""), Door(secrets=("",)).world)["statusCode"] == 403


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        "{}",
        "x" * 70_000,
        json.dumps(review()) + " " * 70_000,
        {**review(), "kind": "Pod"},
        {**review(), "apiVersion": "admission.k8s.io/v1beta1"},
        {**review(), "request": 3},
        review(uid="../../etc"),
        review(uid=None),
    ],
)
def test_garbage_is_refused(body: Any) -> None:
    """What is no AdmissionReview of a sane size gets 400, never an error and never a hint."""
    door = Door()
    assert answer(call(body), door.world)["statusCode"] == 400
    assert door.hints == []


@pytest.mark.parametrize("event", [{}, {"pathParameters": None}, {"pathParameters": {"secret": 1}}])
def test_an_event_without_a_path_is_refused(event: dict[str, Any]) -> None:
    """An event that is no call at all is refused like a wrong secret."""
    assert answer(event, Door().world)["statusCode"] == 403


def test_a_lost_hint_changes_nothing() -> None:
    """EventBridge's failure is counted; the API server gets its answer."""
    door = Door()
    door.trouble = CloudError("slow")
    assert answer(call(review()), door.world)["statusCode"] == 200
    assert door.telemetry.total("HintsLost") == 1


def test_the_secret_is_never_logged() -> None:
    """No log line holds what was given as the secret."""
    door = Door()
    answer(call(review(), "guess"), door.world)
    assert "guess" not in repr(door.telemetry.lines)
