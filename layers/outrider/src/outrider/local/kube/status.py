"""What the API answers when it says no: `metav1.Status`, worded as kube-apiserver words it.

Clients branch on `code` and `reason` and show `message`; all three are kept. Refuses to know why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from outrider.local.kube.objects import Obj


class StatusError(Exception):
    """A request was refused; *code* is the HTTP status and *reason* the machine's word for it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Obj | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after

    def body(self) -> Obj:
        """Return the Status object for the answer's body."""
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        details = dict(self.details or {})
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        if details:
            status["details"] = details
        return status


def qualified(plural: str, group: str) -> str:
    """Return the resource's name as messages write it: `pods`, `deployments.apps`."""
    return f"{plural}.{group}" if group else plural


def _named(plural: str, group: str, name: str, **more: Any) -> Obj:
    details: Obj = {"name": name, "kind": plural, **more}
    if group:
        details["group"] = group
    return details


def bad_request(message: str) -> StatusError:
    """Refuse a request that makes no sense."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """Refuse a caller who is nobody."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(plural: str, group: str, name: str, why: str) -> StatusError:
    """Refuse what the caller may not do."""
    shown = f' "{name}"' if name else ""
    message = f"{qualified(plural, group)}{shown} is forbidden: {why}"
    return StatusError(403, "Forbidden", message, details=_named(plural, group, name))


def not_found(plural: str, group: str, name: str) -> StatusError:
    """Refuse: the object does not exist."""
    message = f'{qualified(plural, group)} "{name}" not found'
    return StatusError(404, "NotFound", message, details=_named(plural, group, name))


def no_such_path() -> StatusError:
    """Refuse: nothing is served there."""
    message = "the server could not find the requested resource"
    return StatusError(404, "NotFound", message, details={})


def method_not_allowed(message: str) -> StatusError:
    """Refuse a verb that the resource does not have."""
    return StatusError(405, "MethodNotAllowed", message)


def not_acceptable(message: str) -> StatusError:
    """Refuse: the caller takes no representation that is made here."""
    return StatusError(406, "NotAcceptable", message)


def already_exists(plural: str, group: str, name: str) -> StatusError:
    """Refuse to create what is there."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, details=_named(plural, group, name))


def conflict(plural: str, group: str, name: str, why: str) -> StatusError:
    """Refuse a write that was made from an old reading."""
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return StatusError(409, "Conflict", message, details=_named(plural, group, name))


def stale(plural: str, group: str, name: str) -> StatusError:
    """Refuse a write whose resourceVersion is not the object's."""
    why = (
        "the object has been modified; please apply your changes to the latest version and "
        "try again"
    )
    return conflict(plural, group, name, why)


def apply_conflict(conflicts: Sequence[tuple[str, str, str]]) -> StatusError:
    """Refuse a server-side apply: *conflicts* are (manager, what it used, field)."""
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{who}"{using}',
            "field": field,
        }
        for who, using, field in conflicts
    ]
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        shown = "\n".join(f"- {cause['message']}: {cause['field']}" for cause in causes)
        message = f"Apply failed with {len(causes)} conflicts:\n{shown}"
    return StatusError(409, "Conflict", message, details={"causes": causes})


def expired(message: str) -> StatusError:
    """Refuse to go on from a revision that was compacted away."""
    return StatusError(410, "Expired", message)


def unsupported_media_type(message: str) -> StatusError:
    """Refuse a body in a format that is not read here."""
    return StatusError(415, "UnsupportedMediaType", message)


Cause = tuple[str, str, str]  # field, reason (FieldValueInvalid …), message


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> StatusError:
    """Refuse an object whose fields are wrong; *causes* name each."""
    listed = [
        {"reason": reason, "message": message, "field": field} for field, reason, message in causes
    ]
    shown = [f"{cause['field']}: {cause['message']}" for cause in listed]
    text = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    details: Obj = {"name": name, "kind": kind, "causes": listed}
    if group:
        details["group"] = group
    message = f'{qualified(kind, group)} "{name}" is invalid: {text}'
    return StatusError(422, "Invalid", message, details=details)


def internal(message: str) -> StatusError:
    """Give up: something here, or a webhook that must answer, is broken."""
    text = f"Internal error occurred: {message}"
    return StatusError(500, "InternalError", text, details={"causes": [{"message": message}]})
