"""Least privilege, read from the policies that SAM makes: conditions, not good intentions.

parliament knows every IAM action, its resource types and condition keys; the rules on top are ours:
nothing is granted by a wildcard that a resource or a condition could narrow.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.stack import ACCOUNT, CLUSTER, NODE_ROLE, REGION, STACK, stack

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # parliament imports pkg_resources
    parliament = pytest.importorskip("parliament")
    from parliament.statement import get_privilege_info

Json = dict[str, Any]

# Actions that take no resource and no condition of their own; each a read or AWS's own demand.
NARROWED_BY_NOTHING = {
    "pricing:GetProducts",  # a public price list, in another region
    "logs:CreateLogDelivery",  # Step Functions' logging, whose documentation demands "*"
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
}
# What a launch reads and does not own; every other wildcard over resources needs our tags.
LAUNCHED_FROM = (
    "image/",
    "snapshot/",
    "security-group/",
    "subnet/",
    "capacity-reservation/",
    "placement-group/",
    "spot-instances-request/",  # passes by without tags; the instance behind it needs them
)
CREATES = {
    "ec2:CreateFleet",
    "ec2:CreateLaunchTemplate",
    "ec2:CreateSnapshot",
    "ec2:CreateTags",
    "ec2:RunInstances",
}


def documents() -> Iterator[tuple[str, Json]]:
    """Yield every policy of every role: its own, and those that several share."""
    shared = {
        f"arn:aws:iam::{ACCOUNT}:policy/{STACK}-{name}": policy["PolicyDocument"]
        for name, policy in stack().of("AWS::IAM::ManagedPolicy").items()
    }
    for name, role in stack().of("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            yield name, policy["PolicyDocument"]
        for arn in role.get("ManagedPolicyArns", []):
            if arn in shared:  # the others are Lambda's own: logs and network interfaces
                yield name, shared[arn]


def statements() -> Iterator[tuple[str, Json]]:
    """Yield every statement of every role, actions and resources as lists."""
    for name, document in documents():
        for statement in document["Statement"]:
            yield name, {**statement, **{k: _listed(statement[k]) for k in ("Action", "Resource")}}


def granted(role: str) -> list[Json]:
    """Return the statements of one function's role."""
    return [statement for name, statement in statements() if name == f"{role}FunctionRole"]


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def conditions(statement: Json) -> dict[str, Any]:
    """Return a statement's conditions as key -> value, operators left out."""
    return {
        key: value
        for operator in statement.get("Condition", {}).values()
        for key, value in operator.items()
    }


def test_parliament_finds_nothing() -> None:
    """Every action exists, every condition key belongs to it, every resource has its format."""
    for name, document in documents():
        text = json.dumps({"Version": "2012-10-17", **document})
        told = [
            (finding.issue, missing)
            for finding in parliament.analyze_policy_string(text).findings
            for missing in (finding.detail or [""])
            if not (finding.issue == "RESOURCE_MISMATCH" and _covered(name, missing))
        ]
        assert told == [], name


def _covered(role: str, missing: Json) -> bool:
    """Return whether another statement of *role* grants the action on the format said missing.

    One action on several resource types is several statements here, each with its condition.
    """
    pattern = re.compile(re.escape(missing["required_format"]).replace(r"\*", "[^:]*"))
    return any(
        missing["action"] in statement["Action"]
        and any(pattern.fullmatch(resource) for resource in statement["Resource"])
        for name, statement in statements()
        if name == role
    )


def test_no_action_is_a_wildcard() -> None:
    """Actions are spelled out."""
    assert [s["Sid"] for _, s in statements() if any("*" in action for action in s["Action"])] == []


def test_a_wildcard_resource_is_only_for_actions_without_resources() -> None:
    """`*` stands where IAM offers nothing to name; a condition narrows it where one can."""
    for name, statement in statements():
        if "*" not in statement["Resource"]:
            continue
        for action in statement["Action"]:
            info = get_privilege_info(*action.split(":"))
            assert not any(kind["resource_type"] for kind in info["resource_types"]), (name, action)
            if action not in NARROWED_BY_NOTHING:
                assert conditions(statement) == {"aws:RequestedRegion": REGION}, (name, action)


def test_a_wildcard_over_what_ec2_makes_is_narrowed_by_our_tags() -> None:
    """Creating needs the cluster and the stack on the request, changing needs them on the thing."""
    for name, statement in statements():
        wild = [r for r in statement["Resource"] if ":ec2:" in r and r.endswith("/*")]
        owned = [r for r in wild if not r.rpartition(":")[2].startswith(LAUNCHED_FROM)]
        if not wild:
            continue
        asked = conditions(statement)
        if not owned and set(statement["Action"]) <= {"ec2:CreateFleet", "ec2:RunInstances"}:
            assert asked == {"aws:RequestedRegion": REGION}, name
            continue
        wheres = (
            {"aws:RequestTag", "aws:ResourceTag"}
            if CREATES & set(statement["Action"])
            else {"aws:ResourceTag"}
        )
        assert any(
            asked.get(f"{where}/eks:eks-cluster-name") == CLUSTER
            and asked.get(f"{where}/outrider.dev/managed-by") == STACK
            for where in wheres
        ), (name, statement["Sid"])


def test_tags_are_given_only_while_something_is_made() -> None:
    """CreateTags on new things needs ec2:CreateAction, on old ones our tags and a list of keys."""
    for name, statement in statements():
        if "ec2:CreateTags" not in statement["Action"]:
            continue
        asked = conditions(statement)
        at_creation = "ec2:CreateAction" in asked
        of_ours = "aws:ResourceTag/eks:eks-cluster-name" in asked
        assert at_creation or of_ours, (name, statement["Sid"])


def test_roles_are_passed_to_ec2_alone() -> None:
    """Only the listed node roles can be passed, and only to EC2."""
    passing = [(name, s) for name, s in statements() if "iam:PassRole" in s["Action"]]
    assert {name for name, _ in passing} == {
        f"{function}FunctionRole"
        for function in ("Provision", "Interrupt", "Disrupt", "Lifecycle", "Seed", "Catalog")
    }
    for _, statement in passing:
        assert statement["Resource"] == [NODE_ROLE]
        # EC2 goes by either name in the partition of China; by the first one everywhere else.
        principals = ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]
        assert conditions(statement) == {"iam:PassedToService": principals}


def test_instances_are_ended_by_those_who_drain_or_launch() -> None:
    """TerminateInstances is for drain and seed, and for launchers who got more than they need."""
    ending = {name for name, s in statements() if "ec2:TerminateInstances" in s["Action"]}
    assert ending == {
        f"{function}FunctionRole"
        for function in ("Provision", "Interrupt", "Drain", "Disrupt", "Lifecycle", "Seed")
    }


def test_the_builder_is_all_that_seed_may_touch() -> None:
    """Seed's own EC2 writes are fenced by the seed tag as well."""
    for statement in granted("Seed"):
        if any(action.startswith("ec2:") for action in statement["Action"]):
            keys = set(conditions(statement))
            fenced = any(key.endswith("outrider.dev/seed") for key in keys)
            assert fenced or keys == {"aws:RequestedRegion"}, statement["Sid"]


def test_the_webhook_can_hint_and_read_its_secret_and_nothing_else() -> None:
    """Whoever breaks the one public door can wake the planner."""
    allowed = {action for statement in granted("Webhook") for action in statement["Action"]}
    assert allowed == {"events:PutEvents", "secretsmanager:GetSecretValue"}
    hint = next(s for s in granted("Webhook") if s["Action"] == ["events:PutEvents"])
    assert hint["Resource"] == [f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"]
    assert conditions(hint) == {
        "events:source": "outrider.hints",
        "events:detail-type": "PodUnschedulable",
    }


def test_decisions_are_published_under_our_name() -> None:
    """The bus of decisions takes source `outrider` from the functions that decide."""
    for name, statement in statements():
        if statement.get("Sid") == "Decisions":
            assert statement["Resource"] == [
                f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/outrider-{CLUSTER}"
            ]
            assert conditions(statement) == {"events:source": "outrider"}, name


def test_state_machines_call_their_one_function() -> None:
    """A state machine invokes the alias of its function; drain may also hand over to itself."""
    for machine in ("Drain", "Seed"):
        called = [
            resource
            for name, statement in statements()
            if name == f"{machine}StateMachineRole"
            and statement["Action"] == ["lambda:InvokeFunction"]
            for resource in statement["Resource"]
        ]
        assert len(called) == 1
        assert f"{machine}Function" in called[0]
    started = {
        resource
        for name, statement in statements()
        if name == "DrainStateMachineRole" and statement["Action"] == ["states:StartExecution"]
        for resource in statement["Resource"]
    }
    machine = stack().of("AWS::StepFunctions::StateMachine")["DrainStateMachine"]
    assert started == {
        f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{machine['StateMachineName']}"
    }
