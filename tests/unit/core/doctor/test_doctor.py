"""The doctor's judgement on facts alone: what is said, how bad it is, and what is left unsaid."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outrider.apis import manifest
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.doctor import Facts, Finding, Severity, diagnose, worst
from outrider.core.doctor.capacity import CODES, free_blocks
from outrider.core.doctor.facts import (
    AccessEntry,
    ControlPlane,
    Definition,
    Installed,
    NodeRole,
    SubnetFacts,
    Unanswered,
)
from tests.support.builders import nodepool

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PLANE = ControlPlane("ACTIVE", "1.36", "API", True, True, ("0.0.0.0/0",))  # noqa: FBT003
STACK = Installed("outrider-prod", "UPDATE_COMPLETE", {"Mode": "full"}, {}, {"drain": "role-drain"})
DRAIN = AccessEntry("arn:aws:iam::1:role/role-drain", "STANDARD", ("outrider:drain",))


def facts(**known: Any) -> Facts:
    """Return facts of a cluster of which only *known* is known."""
    return Facts("prod", NOW, **known)


def codes(found: tuple[Finding, ...]) -> list[str]:
    """Return the codes of findings in their order."""
    return [one.code for one in found]


def test_nothing_known_is_nothing_said() -> None:
    """A judge does not speak about what nobody could find out."""
    assert diagnose(facts()) == ()
    assert worst(()) is Severity.NOTE


def test_what_was_not_answered_is_said_with_the_reason() -> None:
    """A refused question is a warning whose fix is a permission."""
    (one,) = diagnose(facts(unanswered=(Unanswered("EC2's quotas", "denied", denied=True),)))
    assert (one.code, one.severity) == ("Unchecked", Severity.WARNING)
    assert "leave to read" in one.fix


def test_the_worst_comes_first() -> None:
    """Errors before warnings before notes; the worst decides the exit status."""
    plane = replace(PLANE, authentication_mode="CONFIG_MAP", auto_mode=True)
    found = diagnose(facts(control_plane=plane, spot_role=False))
    assert codes(found) == ["AuthenticationMode", "AutoMode", "SpotRoleMissing"]
    assert worst(found) is Severity.ERROR


@pytest.mark.parametrize(
    ("parameters", "plane", "wanted"),
    [
        ({}, PLANE, []),
        ({}, replace(PLANE, public=False), ["EndpointPrivate"]),
        ({}, replace(PLANE, public_cidrs=("10.0.0.0/8",)), ["EndpointCidrs"]),
        ({}, replace(PLANE, public_cidrs=("::/0",)), []),
        ({"LambdaSubnetIds": "subnet-1"}, replace(PLANE, public=False), []),
    ],
)
def test_functions_in_the_vpc_reach_a_private_endpoint(
    parameters: dict[str, str], plane: ControlPlane, wanted: list[str]
) -> None:
    """Those outside of it need one that admits everybody."""
    stack = replace(STACK, parameters=parameters, roles={})
    assert codes(diagnose(facts(stack=stack, control_plane=plane))) == wanted


@pytest.mark.parametrize(
    ("version", "old"), [("1.29", True), ("1.30", False), ("1.36", False), ("odd", False)]
)
def test_match_conditions_need_a_version(version: str, *, old: bool) -> None:
    """Kubernetes evaluates them from 1.30 on; what cannot be read is not judged."""
    found = diagnose(facts(control_plane=replace(PLANE, version=version)))
    assert codes(found) == ["KubernetesVersion"] * old


def test_an_upgrade_is_a_warning_a_failure_an_error() -> None:
    """A control plane that updates works on; one that failed does not."""
    busy = diagnose(facts(control_plane=replace(PLANE, status="UPDATING")))
    dead = diagnose(facts(control_plane=replace(PLANE, status="FAILED")))
    assert [one.severity for one in (*busy, *dead)] == [Severity.WARNING, Severity.ERROR]


def test_entries_are_compared_by_role_and_group() -> None:
    """A path in the role's ARN does not matter; a missing group does."""
    known = facts(stack=STACK, entries=(DRAIN,))
    assert diagnose(known) == ()
    pathed = replace(DRAIN, principal="arn:aws:iam::1:role/teams/ml/role-drain")
    assert diagnose(replace(known, entries=(pathed,))) == ()
    assert codes(diagnose(replace(known, entries=()))) == ["FunctionAccessEntry"]
    other = replace(DRAIN, groups=("viewers",))
    assert "outrider:drain" in diagnose(replace(known, entries=(other,)))[0].problem


def test_a_node_role_of_the_wrong_type_cannot_register() -> None:
    """An entry of type STANDARD is there and helps nobody."""
    policies = frozenset({"AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"})
    role = NodeRole("arn:aws:iam::1:role/node", exists=True, policies=policies)
    entry = AccessEntry(role.arn, "STANDARD")
    (one,) = diagnose(facts(node_roles=(role,), entries=(entry,)))
    assert one.code == "NodeAccessEntry"
    assert "STANDARD" in one.problem


@pytest.mark.parametrize(
    ("status", "unwell"),
    [
        ("CREATE_COMPLETE", False),
        ("UPDATE_ROLLBACK_COMPLETE", False),
        ("UPDATE_IN_PROGRESS", False),
        ("ROLLBACK_COMPLETE", True),
        ("UPDATE_ROLLBACK_FAILED", True),
        ("DELETE_FAILED", True),
    ],
)
def test_a_stack_stands_or_not(status: str, *, unwell: bool) -> None:
    """One that went back to its last state works; one whose creation went back is empty."""
    found = diagnose(facts(stack=replace(STACK, status=status)))
    assert codes(found) == ["StackUnwell"] * unwell


def test_an_old_catalogue_is_told_by_its_age() -> None:
    """Two hours are as long as its alarm waits."""
    old = Catalog((), as_of=NOW - timedelta(hours=5))
    (one,) = diagnose(facts(catalog=old))
    assert (one.code, "5 h" in one.problem) == ("CatalogOld", True)
    assert diagnose(facts(catalog=replace(old, as_of=NOW - timedelta(hours=1)))) == ()


# --- quotas ---------------------------------------------------------------------------------------


def quota_findings(pool: Any, **quotas: float) -> tuple[Finding, ...]:
    """Return what is said of *pool* in an account whose quotas are 5,000 but for *quotas*."""
    known = {
        **dict.fromkeys(CODES, 5000.0),
        **{key.replace("_", "-"): quotas[key] for key in quotas},
    }
    state = ClusterState.of([manifest.parse(pool)])
    found = diagnose(facts(state=state, catalog=bundled(), quotas=known))
    return tuple(one for one in found if one.code == "VcpuQuota")


def wants(*rules: tuple[str, list[str]]) -> Any:
    """Return a NodePool whose nodes are of certain labels."""
    return nodepool(
        requirements=[{"key": key, "operator": "In", "values": values} for key, values in rules]
    )


def test_a_pool_with_another_class_is_not_held_up() -> None:
    """Where G has no quota and P has, a pool that takes both is fine."""
    both = wants(("node.kubernetes.io/instance-type", ["g5.xlarge", "p4d.24xlarge"]))
    assert quota_findings(both, L_DB2E81BA=0) == ()
    (one,) = quota_findings(both, L_DB2E81BA=0, L_417A185B=64)
    assert one.severity is Severity.ERROR
    assert "needs 4 vCPUs" in one.problem


def test_spot_and_on_demand_are_counted_apart() -> None:
    """No Spot quota is a warning while on-demand is left."""
    pool = wants(
        ("node.kubernetes.io/instance-type", ["g6.xlarge"]),
        ("karpenter.sh/capacity-type", ["spot", "on-demand"]),
    )
    (one,) = quota_findings(pool, L_3819A6DF=0)
    assert (one.severity, "spot" in one.problem) == (Severity.WARNING, True)
    assert {one.severity for one in quota_findings(pool, L_3819A6DF=0, L_DB2E81BA=2)} == {
        Severity.ERROR
    }


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cidr", "taken", "prefixes", "free"),
    [
        ("10.0.0.0/28", [], [], 0),  # AWS' own addresses are in its only block
        ("10.0.0.0/26", [], [], 2),
        ("10.0.0.0/24", [], [], 14),
        ("10.0.0.0/24", ["10.0.0.17", "10.0.0.18", "10.0.0.40"], [], 12),
        ("10.0.0.0/24", ["10.0.0.4"], ["10.0.0.16/28", "10.0.0.240/28"], 13),
        ("10.0.0.0/24", ["10.9.9.9"], [], 14),  # a secondary network's
        ("2600:1f14::/64", [], [], 0),
    ],
)
def test_free_blocks_are_whole_and_aligned(
    cidr: str, taken: list[str], prefixes: list[str], free: int
) -> None:
    """One address in a block of sixteen takes all of it; the first and the last never count."""
    assert free_blocks(cidr, taken, prefixes) == free


def test_one_full_subnet_of_two_is_a_warning() -> None:
    """Nodes go to the other."""
    subnets = (SubnetFacts("a", "us-east-1a", 3, 0), SubnetFacts("b", "us-east-1b", 300, 9))
    (one,) = diagnose(facts(subnets={"gpu": subnets}))
    assert (one.code, one.severity) == ("FewAddresses", Severity.WARNING)


# --- clocks and definitions -----------------------------------------------------------------------


def test_clocks_are_compared_with_aws() -> None:
    """This machine's and the nodes', each by AWS' time."""
    known = facts(aws_time=NOW + timedelta(minutes=6))
    (one,) = diagnose(known)
    assert "-360 s" in one.problem
    ahead = NOW + timedelta(minutes=6, seconds=5)
    assert codes(diagnose(replace(known, heartbeats={"n": ahead}))) == ["ClockSkew"]
    fast = {"n": NOW + timedelta(minutes=1)}
    assert "nodes n" in diagnose(facts(heartbeats=fast))[0].about


def test_a_converter_that_runs_is_fine() -> None:
    """A Karpenter beside us may convert; one that is gone breaks every read."""
    names = ("nodepools.karpenter.sh", "nodeclaims.karpenter.sh")
    found = (
        *(Definition(name, ("v1",), converter="kube-system/karpenter") for name in names),
        Definition("ec2nodeclasses.karpenter.k8s.aws", ("v1",)),
    )
    alive = facts(definitions=found, deployments={"kube-system/karpenter": 2})
    assert diagnose(alive) == ()
    gone = replace(alive, deployments={"kube-system/karpenter": 0})
    assert codes(diagnose(gone)) == ["DefinitionConversion"] * 2
