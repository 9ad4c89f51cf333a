"""AdmissionReview (admission.k8s.io/v1): the question that the API server asks, and our answer.

Plain code without pydantic: the webhook's cold start pays for every import. Only what the webhook
looks at is read; the object is a hint and nothing in it is acted on. Matches the API server's
rules: the answer is an AdmissionReview that carries the request's uid, or it counts as no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outrider.errors import InvalidManifest

GROUP_VERSION = "admission.k8s.io/v1"
UID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")


@dataclass(frozen=True, slots=True)
class Question:
    """One admission request, as much of it as matters."""

    uid: str
    operation: str
    resource: str
    reason: str
    dry_run: bool

    @property
    def says_unschedulable(self) -> bool:
        """Return whether the object is a new Event that says that a pod found no node."""
        return (
            self.resource == "events"
            and self.operation == "CREATE"
            and self.reason == "FailedScheduling"
        )


def parse(body: bytes) -> Question:
    """Return the question in the *body* of a webhook call."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest("not JSON", thing="AdmissionReview") from error
    review = _mapping(review, "")
    if review.get("kind") != "AdmissionReview" or review.get("apiVersion") != GROUP_VERSION:
        raise InvalidManifest(f"not {GROUP_VERSION} AdmissionReview", path="kind")
    request = _mapping(review.get("request"), "request")
    uid = request.get("uid")
    if not isinstance(uid, str) or not UID.match(uid):
        raise InvalidManifest("not a UUID", thing="AdmissionReview", path="request.uid")
    seen = request.get("object")
    resource = request.get("resource")
    return Question(
        uid=uid,
        operation=_text(request.get("operation")),
        resource=_text(resource.get("resource")) if isinstance(resource, Mapping) else "",
        reason=_text(seen.get("reason")) if isinstance(seen, Mapping) else "",
        dry_run=request.get("dryRun") is True,
    )


def allowed(question: Question) -> dict[str, Any]:
    """Return the review that lets the object of *question* pass."""
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "AdmissionReview",
        "response": {"uid": question.uid, "allowed": True},
    }


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidManifest("not an object", thing="AdmissionReview", path=path)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
