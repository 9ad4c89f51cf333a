"""What the flows do is what the functions may: the calls are read from the code, the grants from
the template and the RBAC manifests, and neither may lack what the other has.

A flow's calls are followed by name from its door through every function that it mentions. That
finds too much rather than too little, so a missing grant cannot hide.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from outrider.flows import ports
from outrider.manifests import rbac
from tests.infrastructure.test_policies import statements
from tests.support.stack import ROOT

FLOWS = ROOT / "layers/outrider/src/outrider/flows"
DOORS = {
    "provision": "provision",
    "interrupt": "interrupt",
    "drain": "step",
    "disrupt": "disrupt",
    "lifecycle": "lifecycle",
    "seed": "step",
    "catalog": "refresh",
}

LAUNCHERS = {"provision", "interrupt", "disrupt", "lifecycle"}

# What each method of the Cloud port asks of AWS.
CLOUD: dict[str, set[str]] = {
    "cluster": {"eks:DescribeCluster"},
    "ensure_template": {"ec2:CreateLaunchTemplate", "ec2:DescribeLaunchTemplates"},
    "create_fleet": {"ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"},
    "subnets": {"ec2:DescribeSubnets"},
    "sweep_templates": {"ec2:DescribeLaunchTemplates", "ec2:DeleteLaunchTemplate"},
    "instances": {"ec2:DescribeInstances"},
    "terminate": {"ec2:TerminateInstances"},
    "name_instance": {"ec2:CreateTags"},
    "adopt_instance": {"ec2:CreateTags"},
    "instance_status": {"ec2:DescribeInstances", "ec2:DescribeInstanceStatus"},
    "catalog_facts": {
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeInstanceTypeOfferings",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeSpotPriceHistory",
        "pricing:GetProducts",
    },
    "reservations": {"ec2:DescribeCapacityReservations"},
    "resolve": {
        "ec2:DescribeImages",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "iam:AddRoleToInstanceProfile",
        "iam:CreateInstanceProfile",
        "iam:GetInstanceProfile",
        "iam:PassRole",
        "ssm:GetParameters",
    },
    "image": {"ecr:BatchGetImage"},
    "builder_image": {"ssm:GetParameters"},
    "run_seeder": {"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"},
    "builders": {"ec2:DescribeInstances"},
    "console": {"ec2:GetConsoleOutput"},
    "stop_builder": {"ec2:StopInstances"},
    "create_snapshot": {"ec2:CreateSnapshot", "ec2:CreateTags", "ec2:DescribeSnapshots"},
    "snapshots": {"ec2:DescribeSnapshots"},
    "delete_snapshot": {"ec2:DeleteSnapshot"},
    "seed_volumes": {"ec2:DescribeVolumes"},
    "delete_seed_volume": {"ec2:DeleteVolume"},
    "fast_restore": {"ec2:EnableFastSnapshotRestores"},
    "fast_restores": {"ec2:DescribeFastSnapshotRestores"},
    "end_fast_restores": {
        "ec2:DescribeFastSnapshotRestores",
        "ec2:DisableFastSnapshotRestores",
    },
}
NODECLAIMS = ("karpenter.sh", "nodeclaims")
# What each writing method of the Cluster port asks of the API server: group, resource, verb.
CLUSTER: dict[str, set[tuple[str, str, str]]] = {
    "create_nodeclaim": {
        (*NODECLAIMS, "create"),
        ("karpenter.sh", "nodepools/finalizers", "update"),
    },
    "create_nodeclaims": {
        (*NODECLAIMS, "create"),
        ("karpenter.sh", "nodepools/finalizers", "update"),
    },
    "tell_nodeclaims": {
        (*NODECLAIMS, "patch"),
        ("karpenter.sh", "nodeclaims/status", "patch"),
    },
    "patch_nodeclaim": {(*NODECLAIMS, "patch")},
    "patch_nodeclaim_status": {("karpenter.sh", "nodeclaims/status", "patch")},
    "delete_nodeclaim": {(*NODECLAIMS, "delete")},
    "release_nodeclaim": {(*NODECLAIMS, "patch")},
    "patch_node": {("", "nodes", "patch")},
    "taint": {("", "nodes", "patch")},
    "untaint_all": {("", "nodes", "patch")},
    "delete_node": {("", "nodes", "delete"), ("", "nodes", "patch")},
    "evict": {("", "pods/eviction", "create")},
    "delete_pod": {("", "pods", "delete")},
    "nominate": {("", "pods/status", "patch")},
    "nominate_all": {("", "pods/status", "patch")},
    "event": {("", "events", "create"), ("", "events", "patch")},
}
READS = {"pending", "waiting", "state", "node_state", "machines", "karpenter_is_live"}
STATUS_KINDS = {
    "NodePool": ("karpenter.sh", "nodepools/status", "patch"),
    "EC2NodeClass": ("karpenter.k8s.aws", "ec2nodeclasses/status", "patch"),
}
OTHERS = {
    ("bus", "hint"): "events:PutEvents",
    ("workflows", "start"): "states:StartExecution",
    ("workflows", "watch_join"): "sqs:SendMessage",
    ("workflows", "show_again"): "sqs:ChangeMessageVisibility",
}
SPEAKERS = {"cloud", "cluster", "bus", "workflows"}


@cache
def _module(name: str) -> tuple[dict[str, ast.AST], dict[str, tuple[str, str]]]:
    """Return a flow module's definitions by name, and what it imports from other flows."""
    tree = ast.parse((FLOWS / f"{name}.py").read_text())
    definitions: dict[str, ast.AST] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "outrider.flows":
            imported |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("outrider.flows."):
            home = str(node.module).rpartition(".")[2]
            imported |= {alias.asname or alias.name: (home, alias.name) for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            definitions |= {t.id: node.value for t in targets if isinstance(t, ast.Name)}
    return definitions, imported


def _mentions(module: str, body: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every definition of the flows that *body* mentions."""
    definitions, imported = _module(module)
    for node in ast.walk(body):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            home, name = imported.get(node.value.id, ("", ""))
            if home and not name:
                yield home, node.attr
        if isinstance(node, ast.Name):
            if node.id in definitions:
                yield module, node.id
            elif imported.get(node.id, ("", ""))[1]:
                yield imported[node.id]


@cache
def calls(function: str) -> frozenset[tuple[str, str, str]]:
    """Return (neighbour, method, first argument if it is a word) of all calls below a door."""
    found: set[tuple[str, str, str]] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(function, DOORS[function])]
    while waiting:
        place = waiting.pop()
        if place in seen or place[0] == "ports":
            continue
        seen.add(place)
        body = _module(place[0])[0].get(place[1])
        if body is None:
            continue
        waiting.extend(_mentions(place[0], body))
        for node in ast.walk(body):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                speaker = node.func.value
                if isinstance(speaker, ast.Attribute) and speaker.attr in SPEAKERS:
                    first = node.args[0] if node.args else None
                    word = str(first.value) if isinstance(first, ast.Constant) else ""
                    found.add((speaker.attr, node.func.attr, word))
    return frozenset(found)


def allowed(function: str) -> set[str]:
    """Return every AWS action that a function's role has, but for Lambda's own dead letters."""
    role = f"{function.capitalize()}FunctionRole"
    return {
        action
        for name, statement in statements()
        if name == role and "DeadLetter" not in str(statement["Resource"])
        for action in statement["Action"]
    }


def permitted(function: str) -> set[tuple[str, str, str]]:
    """Return (group, resource, verb) of every rule of a function's RBAC group."""
    return {
        (group, resource, verb)
        for group, resources, verbs in rbac.WRITE[function]
        for resource in resources
        for verb in verbs
    }


def methods(port: Any) -> set[str]:
    """Return the methods of a Protocol."""
    return {name for name in vars(port) if not name.startswith("_")}


def test_the_tables_know_every_method_of_the_ports() -> None:
    """A new method of a port needs its line here, and then its grant."""
    assert set(CLOUD) == methods(ports.Cloud)
    assert set(CLUSTER) | READS | {"patch_status"} == methods(ports.Cluster)


@pytest.mark.parametrize("function", sorted(DOORS))
def test_a_function_may_ask_aws_what_its_flow_asks(function: str) -> None:
    """Each call to EC2 and its neighbours is granted to the role."""
    needed = {
        action
        for speaker, method, _ in calls(function)
        for action in (CLOUD[method] if speaker == "cloud" else ())
    }
    needed |= {OTHERS[s, m] for s, m, _ in calls(function) if (s, m) in OTHERS}
    assert needed - allowed(function) == set()


@pytest.mark.parametrize("function", sorted(DOORS))
def test_a_function_may_write_what_its_flow_writes(function: str) -> None:
    """Each write to the API server is permitted to the group."""
    needed = {
        rule
        for speaker, method, _ in calls(function)
        for rule in (CLUSTER.get(method, ()) if speaker == "cluster" else ())
    }
    needed |= {
        STATUS_KINDS[word]
        for speaker, method, word in calls(function)
        if (speaker, method) == ("cluster", "patch_status")
    }
    assert needed - permitted(function) == set()


@pytest.mark.parametrize("function", sorted(DOORS))
def test_a_function_has_no_power_that_its_flow_does_not_use(function: str) -> None:
    """What no call needs is not granted; policies shared by the launchers are read together."""
    together = LAUNCHERS if function in LAUNCHERS else {function}
    said = {call for name in together for call in calls(name)}
    used = {action for s, m, _ in said if s == "cloud" for action in CLOUD[m]}
    used |= {OTHERS[s, m] for s, m, _ in said if (s, m) in OTHERS}
    held = {
        action
        for action in allowed(function)
        if not action.startswith(("dynamodb:", "events:", "iam:Tag", "eks:"))
    }
    assert held - used == set()
