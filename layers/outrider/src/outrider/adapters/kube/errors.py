"""Kubernetes API errors, classed once: an HTTP status and a Status object become our error tree.

Callers ask for the class, never for a message. The one message that is looked at is the API
server's answer to an eviction of a pod that several PodDisruptionBudgets match: a 500 that means
"blocked".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from outrider.errors import Blocked, ClusterError, Conflict, Gone, Unreachable

MANY_BUDGETS = "more than one PodDisruptionBudget"


def of(status: int, body: bytes, asked: str) -> ClusterError:
    """Return the error for an answer with *status* and *body* to what was *asked*."""
    content = status_object(body)
    message = f"{asked}: {content.get('message') or f'HTTP {status}'}"
    if status == 409:
        return Conflict(message, status)
    if status in (404, 410):
        return Gone(message, status)
    if blocks(status, content):
        return Blocked(message, status)
    if status == 429 or status >= 500:
        return Unreachable(message, status)
    return ClusterError(message, status)


def blocks(status: int, content: Mapping[str, Any]) -> bool:
    """Return whether the answer says that a PodDisruptionBudget holds the pod."""
    message = str(content.get("message") or "")
    if status == 500:
        return MANY_BUDGETS in message
    if status != 429:
        return False
    details = content.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return "disruption budget" in message.lower() or any(
        cause.get("reason") == "DisruptionBudget"
        for cause in causes or ()
        if isinstance(cause, Mapping)
    )


def status_object(body: bytes) -> Mapping[str, Any]:
    """Return the Status object in *body*, empty where there is none (a proxy's HTML, say)."""
    try:
        content = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, Mapping) else {}
