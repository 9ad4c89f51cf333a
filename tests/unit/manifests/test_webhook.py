"""The webhook listens to a scheduler's refusals, and cannot hurt the API server."""

from __future__ import annotations

from typing import Any

import celpy
import pytest

from outrider.manifests import webhook

URL = "https://abc.execute-api.us-east-1.amazonaws.com/hint/s3cr3t"


def only(**kwargs: Any) -> dict[str, Any]:
    """Return the configuration's one webhook."""
    (one,) = webhook.configuration("prod", URL, **kwargs)["webhooks"]
    return dict(one)


def holds(condition: str, user: str, event: dict[str, Any]) -> bool:
    """Evaluate a matchCondition as the API server would."""
    environment = celpy.Environment()
    program = environment.program(environment.compile(condition))
    given = {"request": {"userInfo": {"username": user}}, "object": event}
    return bool(program.evaluate({key: celpy.json_to_cel(value) for key, value in given.items()}))


def test_it_listens_to_events_and_never_to_pods() -> None:
    """Creating an Event costs the scheduler nothing; a pod's status is in its loop."""
    (rule,) = only()["rules"]
    assert rule["apiGroups"] == ["events.k8s.io"]
    assert rule["resources"] == ["events"]
    assert rule["operations"] == ["CREATE"]
    assert only()["matchPolicy"] == "Equivalent"


def test_it_cannot_hold_anything_up() -> None:
    """A second at most, every failure ignored, nothing done on a dry run."""
    one = only()
    assert one["failurePolicy"] == "Ignore"
    assert one["timeoutSeconds"] == 1
    assert one["sideEffects"] == "NoneOnDryRun"
    assert one["admissionReviewVersions"] == ["v1"]


@pytest.mark.parametrize(
    ("user", "event", "expected"),
    [
        (
            "system:kube-scheduler",
            {"reason": "FailedScheduling", "regarding": {"kind": "Pod"}},
            True,
        ),
        ("somebody", {"reason": "FailedScheduling", "regarding": {"kind": "Pod"}}, False),
        ("system:kube-scheduler", {"reason": "Scheduled", "regarding": {"kind": "Pod"}}, False),
        (
            "system:kube-scheduler",
            {"reason": "FailedScheduling", "regarding": {"kind": "Job"}},
            False,
        ),
        ("system:kube-scheduler", {"reason": "FailedScheduling"}, False),
    ],
)
def test_only_a_schedulers_refusal_of_a_pod_leaves_the_cluster(
    user: str, event: dict[str, Any], expected: bool
) -> None:
    """The condition is evaluated in the API server, before any call."""
    (condition,) = only()["matchConditions"]
    assert holds(condition["expression"], user, event) is expected


def test_other_schedulers_can_be_named() -> None:
    """A second scheduler's refusals count when its user is named."""
    (condition,) = only(schedulers=("system:kube-scheduler", "system:serviceaccount:kai:binder"))[
        "matchConditions"
    ]
    refused = {"reason": "FailedScheduling", "regarding": {"kind": "Pod"}}
    assert holds(condition["expression"], "system:serviceaccount:kai:binder", refused)
    assert not holds(condition["expression"], "system:serviceaccount:other:one", refused)


def test_without_a_url_it_leads_nowhere() -> None:
    """The placeholder is a name that never resolves, and failures are ignored."""
    (one,) = webhook.configuration("prod")["webhooks"]
    assert one["clientConfig"] == {"url": webhook.PLACEHOLDER}
    assert ".invalid/" in webhook.PLACEHOLDER


def test_a_private_authority_is_passed_on() -> None:
    """caBundle appears only when it was given."""
    assert "caBundle" not in only()["clientConfig"]
    assert only(ca_bundle="Q0E=")["clientConfig"]["caBundle"] == "Q0E="
