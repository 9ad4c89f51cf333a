"""A deployed stack as CloudFormation describes it: what a person's command needs to find the rest.

Refuses to know what the parameters and outputs mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.errors import NotFound

CLUSTER_PARAMETER = "ClusterName"
OUTPUT = "LedgerTable"  # one of ours: another's stack may have a ClusterName too
UNKNOWN = "ValidationError"  # what CloudFormation says of a name that no stack has
ENDED = frozenset({"DELETE_COMPLETE", "DELETE_IN_PROGRESS"})


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack of ours: its name, its parameters, its outputs and how it stands."""

    name: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    status: str = ""


def find(session: Session, name: str = "", cluster: str = "") -> Stack:
    """Return the stack called *name*, or the only one of ours (for *cluster*, where it is named).

    None, and more than one, are NotFound with what there is.
    """
    described = _described(session, name)
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


def _described(session: Session, name: str) -> list[Stack]:
    wanted = {"StackName": name} if name else {}
    pages = session.client("cloudformation").get_paginator("describe_stacks")
    try:
        return [
            _read(entry)
            for page in pages.paginate(**wanted)
            for entry in page["Stacks"]
            if entry["StackStatus"] not in ENDED
        ]
    except ClientError as error:
        if name and errors.code_of(error) == UNKNOWN:
            return []
        raise errors.translated(error, "DescribeStacks") from error
    except BotoCoreError as error:
        raise errors.translated(error, "DescribeStacks") from error


def resources(session: Session, name: str) -> tuple[tuple[str, str, str], ...]:
    """Return (logical id, type, physical id) of every resource of the stack *name*."""
    with errors.speaking("ListStackResources"):
        pages = session.client("cloudformation").get_paginator("list_stack_resources")
        return tuple(
            (
                str(entry["LogicalResourceId"]),
                str(entry["ResourceType"]),
                str(entry.get("PhysicalResourceId", "")),
            )
            for page in pages.paginate(StackName=name)
            for entry in page["StackResourceSummaries"]
        )


def _read(entry: Mapping[str, Any]) -> Stack:
    return Stack(
        str(entry["StackName"]),
        {one["ParameterKey"]: one.get("ParameterValue", "") for one in entry.get("Parameters", ())},
        {one["OutputKey"]: one.get("OutputValue", "") for one in entry.get("Outputs", ())},
        str(entry["StackStatus"]),
    )
