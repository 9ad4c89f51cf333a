"""Instance profiles: the one that a node class names, or one that wraps its role.

A role needs an instance profile to be an instance's. One with the role's own name is used where it
exists (the console makes it so); otherwise one of ours is made, named after cluster and role, once.
Refuses to judge the role: `core.launch.readiness` compares it with the stack's NodeRoleArns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.launch import tags

LONGEST = 128
EXISTS = "EntityAlreadyExists"
FULL = "LimitExceeded"


def resolve(
    session: Session, cluster: str, owner: Mapping[str, str], node_class: EC2NodeClass
) -> tuple[str | None, str | None]:
    """Return (instance profile name, role ARN) for *node_class*; None where there is none."""
    client = session.client("iam")
    named = node_class.spec.instance_profile
    if named:
        return _read(client, named)
    role = node_class.spec.role or ""
    name, arn = _read(client, role)
    if name and arn:
        return name, arn
    own = f"outrider-{cluster}-{role}"[:LONGEST]
    name, arn = _read(client, own)
    if name and arn:
        return name, arn
    return _make(client, own, role, owner)


def _read(client: Any, name: str) -> tuple[str | None, str | None]:
    try:
        profile = client.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    except ClientError as error:
        if errors.code_of(error) in errors.NOT_FOUND:
            return None, None
        raise errors.translated(error, "GetInstanceProfile") from error
    roles = profile.get("Roles", ())
    return str(profile["InstanceProfileName"]), str(roles[0]["Arn"]) if roles else None


def _make(
    client: Any, name: str, role: str, owner: Mapping[str, str]
) -> tuple[str | None, str | None]:
    try:
        client.create_instance_profile(InstanceProfileName=name, Tags=tags.listed(owner))
    except ClientError as error:
        if errors.code_of(error) != EXISTS:
            raise errors.translated(error, "CreateInstanceProfile") from error
    try:
        client.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
    except ClientError as error:
        if errors.code_of(error) != FULL:
            raise errors.translated(error, "AddRoleToInstanceProfile") from error
    return _read(client, name)
