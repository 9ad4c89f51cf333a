"""What the printed roles grant, as the audit log says it: who may do what to which resource."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from outrider.manifests import rbac
from tests.e2e.real.audit import OURS, Deed


class Grant(NamedTuple):
    """One verb on one resource for one function's group."""

    group: str
    verb: str
    resource: str


def granted() -> set[Grant]:
    """Return every grant that the manifests print."""
    objects = rbac.objects()
    rules = {
        one["metadata"]["name"]: one["rules"] for one in objects if one["kind"] == "ClusterRole"
    }
    return {
        Grant(subject["name"].removeprefix(OURS), verb, ".".join(filter(None, (resource, group))))
        for binding in objects
        if binding["kind"] == "ClusterRoleBinding"
        for subject in binding["subjects"]
        for rule in rules[binding["roleRef"]["name"]]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def unused(deeds: Iterable[Deed]) -> set[Grant]:
    """Return the grants to write that no deed needed: reading is one role, bound to all."""
    used = {Grant(one.group, one.verb, one.resource) for one in deeds if one.code < 400}
    # What admission asks of the roles appears in the log under the object that is written.
    asked_by_admission = {
        one for one in granted() if one.resource.partition("/")[2] == "finalizers"
    }
    reading = {one for one in granted() if one.verb in {"get", "list"}}
    return granted() - used - reading - asked_by_admission


def in_words(grants: Iterable[Grant]) -> str:
    """Return *grants* by function, to be read."""
    by_group: dict[str, list[str]] = {}
    for one in sorted(grants):
        by_group.setdefault(one.group, []).append(f"{one.verb} {one.resource}")
    return "; ".join(f"{group}: {', '.join(listed)}" for group, listed in by_group.items())
