"""What comes along with a write: who, under which name, and the options of a delete."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.local.kube.objects import ADMIN, Obj, User
from outrider.local.kube.resources import Resource
from outrider.local.kube.status import conflict


@dataclass(frozen=True, slots=True)
class Call:
    """Who writes, under which manager's name, and how seriously."""

    user: User = ADMIN
    manager: str = "unknown"
    dry_run: bool = False
    strict: bool = False
    options: Obj | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """The options of a delete."""

    grace: int | None = None
    uid: str | None = None
    revision: str | None = None
    propagation: str = "Background"
    how: str = "delete"


def deletion(options: Obj) -> Deletion:
    """Read DeleteOptions."""
    wanted = options.get("preconditions") or {}
    grace = options.get("gracePeriodSeconds")
    policy = options.get("propagationPolicy")
    if not policy:
        policy = "Orphan" if options.get("orphanDependents") else "Background"
    return Deletion(
        grace=None if grace is None else int(grace),
        uid=wanted.get("uid"),
        revision=wanted.get("resourceVersion"),
        propagation=policy,
    )


def check_preconditions(resource: Resource, obj: Obj, options: Deletion) -> None:
    """Refuse a delete that was meant for another state of *obj*, or for its predecessor."""
    meta = obj["metadata"]
    pairs = (
        ("UID", options.uid, meta["uid"]),
        ("ResourceVersion", options.revision, meta["resourceVersion"]),
    )
    for what, wanted, have in pairs:
        if wanted is not None and wanted != have:
            why = (
                f"the {what} in the precondition ({wanted}) does not match the {what} in record "
                f"({have}). The object might have been deleted and then recreated"
            )
            raise conflict(resource.plural, resource.group, meta["name"], why)
