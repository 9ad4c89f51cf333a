"""The webhook: the API server shows us a FailedScheduling Event, and somebody may have work to do.

The answer is always "allowed": outrider only listens. What arrives is a hint and nothing more,
since an AdmissionReview carries no signature: its content is never acted on, it wakes the planner,
which LISTs the truth. A forged call therefore costs one debounced LIST at most. Whoever calls has
to know the secret in the path's last segment; two secrets are good at a time, so that it can be
rotated without a gap.

One PutEvents, three tenths of a second, no retry, every failure swallowed: the minute tick finds
what a lost hint would have told. A Lambda cannot work on after it has answered, so the hint goes
first. Imports neither pydantic nor boto3 nor the planner: a cold start is in the API server's way.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from outrider.apis import admission
from outrider.errors import InvalidManifest

LARGEST_BODY = 64 * 1024

Answer = dict[str, Any]


class Telemetry(Protocol):
    """Logs and metrics."""

    def log(self, message: str, **fields: Any) -> None:
        """Write one line."""

    def count(self, name: str, value: float = 1, unit: str = "", **dimensions: str) -> None:
        """Add to a metric."""


@dataclass(frozen=True, slots=True)
class WebhookWorld:
    """The little that the webhook needs: `secrets` are those in force, `hint` wakes the planner."""

    cluster: str
    secrets: Callable[[], Sequence[str]]
    hint: Callable[[str], None]
    telemetry: Telemetry


def answer(event: Mapping[str, Any], world: WebhookWorld) -> Answer:
    """Answer one HTTP API *event*: pass a hint on if it is one, and allow the object."""
    if not _authentic(event, world):
        return _refuse(world, 403, "Secret")
    try:
        question = admission.parse(_body(event))
    except InvalidManifest as error:
        return _refuse(world, 400, "Malformed", str(error))
    if question.says_unschedulable and not question.dry_run:
        _pass_on(world)
    return _reply(200, admission.allowed(question))


def _authentic(event: Mapping[str, Any], world: WebhookWorld) -> bool:
    """Return whether the path ends in a secret that is in force, in constant time."""
    parameters = event.get("pathParameters")
    given = parameters.get("secret") if isinstance(parameters, Mapping) else None
    if not isinstance(given, str) or not given:
        return False
    try:
        secrets = world.secrets()
    except Exception as error:  # noqa: BLE001 - no secret, no entry; the API server must get an answer
        world.telemetry.log("the webhook's secret cannot be read", error=str(error))
        return False
    said = given.encode()
    matches = [hmac.compare_digest(said, secret.encode()) for secret in secrets if secret]
    return any(matches)


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body")
    if not isinstance(body, str) or not body:
        raise InvalidManifest("empty", thing="body")
    if len(body) > LARGEST_BODY * 4 // 3 + 4:
        raise InvalidManifest("too large", thing="body")
    if event.get("isBase64Encoded"):
        try:
            content = base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise InvalidManifest("not base64", thing="body") from error
    else:
        content = body.encode(errors="surrogatepass")
    if len(content) > LARGEST_BODY:
        raise InvalidManifest("too large", thing="body")
    return content


def _pass_on(world: WebhookWorld) -> None:
    try:
        world.hint(world.cluster)
    except Exception as error:  # noqa: BLE001 - a lost hint is made good by the tick; an error is not
        world.telemetry.count("HintsLost")
        world.telemetry.log("hint lost", error=str(error))
    else:
        world.telemetry.count("HintsReceived")


def _refuse(world: WebhookWorld, status: int, reason: str, problem: str = "") -> Answer:
    world.telemetry.count("HintsRefused", Reason=reason)
    world.telemetry.log("webhook call refused", reason=reason, problem=problem[:200])
    return _reply(status, {"message": "refused"})


def _reply(status: int, content: Mapping[str, Any]) -> Answer:
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(content),
    }
