"""A deployed stack as CloudFormation describes it: what a person's command needs to find the rest.

Refuses to know what the parameters and outputs mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.errors import NotFound

CLUSTER_PARAMETER = "ClusterName"
OUTPUT = "LedgerTable"  # one of ours: another's stack may have a ClusterName too
ENDED = frozenset({"DELETE_COMPLETE", "DELETE_IN_PROGRESS"})


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack of ours: its name, its parameters and its outputs."""

    name: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]


def find(session: Session, name: str = "", cluster: str = "") -> Stack:
    """Return the stack called *name*, or the only one of ours (for *cluster*, where it is named).

    None, and more than one, are NotFound with what there is.
    """
    wanted = {"StackName": name} if name else {}
    with errors.speaking("DescribeStacks"):
        pages = session.client("cloudformation").get_paginator("describe_stacks")
        described = [
            _read(entry)
            for page in pages.paginate(**wanted)
            for entry in page["Stacks"]
            if entry["StackStatus"] not in ENDED
        ]
    found = [
        stack
        for stack in described
        if OUTPUT in stack.outputs
        and (not cluster or stack.parameters.get(CLUSTER_PARAMETER) == cluster)
    ]
    if len(found) == 1:
        return found[0]
    about = f"stack {name}" if name else f"stack of outrider for cluster {cluster or 'any'}"
    if not found:
        raise NotFound(f"no {about} in {session.region}")
    names = ", ".join(sorted(stack.name for stack in found))
    raise NotFound(f"more than one {about} in {session.region}: {names}; name one with --stack")


def _read(entry: Mapping[str, Any]) -> Stack:
    return Stack(
        str(entry["StackName"]),
        {one["ParameterKey"]: one.get("ParameterValue", "") for one in entry.get("Parameters", ())},
        {one["OutputKey"]: one.get("OutputValue", "") for one in entry.get("Outputs", ())},
    )
