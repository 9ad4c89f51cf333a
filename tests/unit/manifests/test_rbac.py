"""Each function's group can do what its flow asks of the API server, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.adapters.kube.reader import KARPENTER_LEASE, RESOURCES
from outrider.manifests import rbac

ENDING = {"drain", "lifecycle"}


def roles() -> dict[str, list[dict[str, Any]]]:
    """Return every ClusterRole's rules by name."""
    return {o["metadata"]["name"]: o["rules"] for o in rbac.objects() if o["kind"] == "ClusterRole"}


def may(function: str, verb: str, resource: str, group: str = "") -> bool:
    """Return whether *function*'s group may do *verb* on every *resource* of *group*."""
    bound = [
        o["roleRef"]["name"]
        for o in rbac.objects()
        if o["kind"] == "ClusterRoleBinding"
        and any(subject["name"] == f"outrider:{function}" for subject in o["subjects"])
    ]
    return any(
        group in rule["apiGroups"]
        and resource in rule["resources"]
        and verb in rule["verbs"]
        and "resourceNames" not in rule
        for name in bound
        for rule in roles()[name]
    )


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: f"{r.group or 'core'}-{r.plural}")
def test_everything_that_is_read_may_be_listed(resource: Any) -> None:
    """The reading role covers each list that makes up the ClusterState."""
    for function in rbac.FUNCTIONS:
        assert may(function, "list", resource.plural, resource.group)
        assert may(function, "get", resource.plural, resource.group)


def test_only_karpenters_lease_is_looked_at() -> None:
    """Leases are readable by name, and by no other name."""
    (rule,) = [r for r in roles()[rbac.READER] if "leases" in r["resources"]]
    assert rule["resourceNames"] == [KARPENTER_LEASE]


def test_nobody_reads_secrets_or_anything_unnamed() -> None:
    """No rule has a wildcard, and none is about Secrets or ConfigMaps."""
    for rules in roles().values():
        for rule in rules:
            named = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "*" not in named
            assert not named & {"secrets", "configmaps", "serviceaccounts", "escalate", "bind"}


def test_the_webhook_has_no_place_in_the_cluster() -> None:
    """The public door has no group."""
    assert "webhook" not in rbac.FUNCTIONS
    assert not [o for o in rbac.objects() if "webhook" in str(o)]


def test_drain_alone_evicts() -> None:
    """Evictions and forced deletions are one function's."""
    for function in rbac.FUNCTIONS:
        assert may(function, "create", "pods/eviction") is (function == "drain")
        assert may(function, "delete", "pods") is (function == "drain")


@pytest.mark.parametrize("function", rbac.FUNCTIONS)
def test_only_those_who_end_nodes_delete_them(function: str) -> None:
    """drain and lifecycle delete Nodes; nobody creates one."""
    assert may(function, "delete", "nodes") is (function in ENDING)
    assert not may(function, "create", "nodes")


def test_who_launches_makes_nodeclaims() -> None:
    """Planning functions create NodeClaims; drain, seed and catalog do not."""
    launching = {f for f in rbac.FUNCTIONS if may(f, "create", "nodeclaims", "karpenter.sh")}
    assert launching == {"provision", "interrupt", "disrupt", "lifecycle"}
    for function in launching:
        assert may(function, "patch", "nodeclaims/status", "karpenter.sh")
        assert may(function, "update", "nodepools/finalizers", "karpenter.sh")
        assert may(function, "patch", "pods/status")


def test_who_registers_nodes_may_tie_them_to_their_claims() -> None:
    """lifecycle alone writes owner references to NodeClaims."""
    tying = {f for f in rbac.FUNCTIONS if may(f, "update", "nodeclaims/finalizers", "karpenter.sh")}
    assert tying == {"lifecycle"}


def test_everybody_may_say_what_was_done() -> None:
    """Kubernetes Events are written by all."""
    assert all(may(function, "create", "events") for function in rbac.FUNCTIONS)


def test_nodepools_and_classes_belong_to_their_authors() -> None:
    """Their spec is never ours to create or delete."""
    for function in rbac.FUNCTIONS:
        for verb in ("create", "delete", "update"):
            assert not may(function, verb, "nodepools", "karpenter.sh")
            assert not may(function, verb, "ec2nodeclasses", "karpenter.k8s.aws")
