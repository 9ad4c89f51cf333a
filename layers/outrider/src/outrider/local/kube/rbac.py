"""Authorisation by RBAC over the Role, ClusterRole and binding objects in the store.

`system:masters` may do everything; everybody who is authenticated may use discovery and ask about
themselves. Compiled rules are kept for each caller until an RBAC object changes. Escalation checks
on writing roles are not made: whoever may write roles here is the cluster's owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from outrider.local.kube.objects import Obj, User, labels_of
from outrider.local.kube.selectors import structured
from outrider.local.kube.store import Change, Store

_SUFFIX = ".rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = f"roles{_SUFFIX}", f"clusterroles{_SUFFIX}"
BINDINGS, CLUSTER_BINDINGS = f"rolebindings{_SUFFIX}", f"clusterrolebindings{_SUFFIX}"
MASTERS = "system:masters"
_OPEN_PATHS = ("/api", "/apis", "/version", "/openapi", "/healthz", "/livez", "/readyz")
_SELF_REVIEWS = frozenset(
    {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
)


class Attributes(NamedTuple):
    """What somebody wants to do."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def described(self, user: User) -> str:
        """Word the refusal as kube-apiserver does."""
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        wish = f'{self.verb} resource "{what}" in API group "{self.group}" {where}'
        return f'User "{user.name}" cannot {wish}'


class Grant(NamedTuple):
    """One policy rule, and the namespace in which it holds ("" for everywhere)."""

    namespace: str
    rule: Obj


class Authoriser:
    """Answers who may do what."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._grants: dict[User, tuple[Grant, ...]] = {}
        for storage in (ROLES, CLUSTER_ROLES, BINDINGS, CLUSTER_BINDINGS):
            store.subscribe(storage, self._forget)

    def allows(self, user: User, wanted: Attributes) -> bool:
        """Tell whether *user* may do what *wanted* says."""
        if MASTERS in user.groups or wanted.resource in _SELF_REVIEWS:
            return True
        return any(
            grant.namespace in {"", wanted.namespace} and _rule_allows(grant.rule, wanted)
            for grant in self.grants(user)
        )

    def allows_path(self, user: User, path: str, verb: str) -> bool:
        """Tell whether *user* may *verb* a path that is no resource."""
        if MASTERS in user.groups:
            return True
        if verb == "get" and any(path == one or path.startswith(f"{one}/") for one in _OPEN_PATHS):
            return True
        return any(
            not grant.namespace
            and _listed(grant.rule.get("verbs"), verb)
            and any(_path_fits(one, path) for one in grant.rule.get("nonResourceURLs") or ())
            for grant in self.grants(user)
        )

    def grants(self, user: User) -> tuple[Grant, ...]:
        """Return every rule that holds for *user*."""
        found = self._grants.get(user)
        if found is None:
            with self._store.lock:  # no RBAC object may change between collecting and keeping
                found = self._grants[user] = tuple(self._collect(user))
        return found

    def _forget(self, _change: Change) -> None:
        self._grants = {}

    def _collect(self, user: User) -> Iterator[Grant]:
        for binding in self._store.objects(CLUSTER_BINDINGS):
            if _binds(binding, user):
                for rule in self._rules(binding["roleRef"], ""):
                    yield Grant("", rule)
        for binding in self._store.objects(BINDINGS):
            if _binds(binding, user):
                namespace = binding["metadata"]["namespace"]
                for rule in self._rules(binding["roleRef"], namespace):
                    yield Grant(namespace, rule)

    def _rules(self, reference: Obj, namespace: str) -> Iterable[Obj]:
        if reference.get("kind") == "Role":
            entry = self._store.get(ROLES, (namespace, reference["name"]))
        else:
            entry = self._store.get(CLUSTER_ROLES, ("", reference["name"]))
        if entry is None:
            return
        yield from entry.object.get("rules") or ()
        aggregation = entry.object.get("aggregationRule") or {}
        tests = [structured(selector) for selector in aggregation.get("clusterRoleSelectors") or ()]
        if tests:
            for role in self._store.objects(CLUSTER_ROLES):
                if any(test(labels_of(role)) for test in tests):
                    yield from role.get("rules") or ()


def _binds(binding: Obj, user: User) -> bool:
    for subject in binding.get("subjects") or ():
        match subject.get("kind"):
            case "User" if subject["name"] == user.name:
                return True
            case "Group" if subject["name"] in user.groups:
                return True
            case "ServiceAccount":
                namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
                if user.name == f"system:serviceaccount:{namespace}:{subject['name']}":
                    return True
            case _:
                pass
    return False


def _listed(values: Iterable[str] | None, value: str) -> bool:
    return any(one in {"*", value} for one in values or ())


def _rule_allows(rule: Obj, wanted: Attributes) -> bool:
    if not _listed(rule.get("verbs"), wanted.verb) or not _listed(
        rule.get("apiGroups"), wanted.group
    ):
        return False
    full = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    every = f"*/{wanted.subresource}"
    resources = rule.get("resources") or ()
    if not any(one in {"*", full} or (wanted.subresource and one == every) for one in resources):
        return False
    names = rule.get("resourceNames") or ()
    return not names or wanted.name in names


def _path_fits(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path == pattern
