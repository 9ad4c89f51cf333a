"""What an EC2NodeClass's selectors found, as the status that its owner reads.

Every condition that is not met says what to fix, in the words of the manifest. Ready is all of them
together; Karpenter's condition names are kept (F52). What is out of scope is refused here, where
its owner sees it, and not at the first launch: AMI families that are not spoken, and subnets on an
Outpost or in a Local or Wavelength Zone (where Spot, types and prices are others). Refuses to know
how anything is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.catalog.family import Family, family_of
from outrider.core.launch.fleet import Subnet
from outrider.core.launch.nodeclaim import condition, conditions

Json = Mapping[str, Any]

READY = "Ready"
SUBNETS = "SubnetsReady"
SECURITY_GROUPS = "SecurityGroupsReady"
AMIS = "AMIsReady"
INSTANCE_PROFILE = "InstanceProfileReady"
RESERVATIONS = "CapacityReservationsReady"
VALIDATION = "ValidationSucceeded"

AVAILABILITY_ZONE = re.compile(r"[a-z]+(-[a-z]+)+-\d+[a-z]")
"""A region and a letter; Local and Wavelength Zones name a place in between."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a node class's selectors give now.

    *refused* says, by condition, what AWS refused; *tagged* which values the stack's DiscoveryTag
    has on what a selector that found nothing could have found.
    """

    subnets: tuple[Subnet, ...] = ()
    security_groups: tuple[tuple[str, str], ...] = ()
    amis: tuple[Json, ...] = ()
    instance_profile: str | None = None
    role_arn: str | None = None
    reservations: tuple[Json, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    tagged: Mapping[str, str] = field(default_factory=dict)


def status(
    node_class: EC2NodeClass, found: Found, node_roles: Iterable[str], now: datetime
) -> dict[str, Any]:
    """Return the status of *node_class*: what was found, and its conditions.

    *node_roles* are the ARNs of the roles that nodes may run with; none given allows any.
    """
    checks = {
        SUBNETS: _subnets(node_class, found),
        SECURITY_GROUPS: _groups(node_class, found),
        AMIS: _amis(node_class, found),
        INSTANCE_PROFILE: _profile(node_class, found, tuple(node_roles)),
        VALIDATION: _validation(node_class),
    }
    if node_class.spec.capacity_reservation_selector_terms:
        checks[RESERVATIONS] = found.refused.get(RESERVATIONS, "")
    checks = {kind: found.refused.get(kind) or problem for kind, problem in checks.items()}
    # What may not be passed is the reason, whatever IAM said of the attempt.
    unlisted = _unlisted(node_class.spec.role, tuple(node_roles))
    checks[INSTANCE_PROFILE] = unlisted or checks[INSTANCE_PROFILE]
    failing = {kind: problem for kind, problem in checks.items() if problem}
    fresh = [
        condition(kind, holds=not problem, reason=_reason(kind, problem), now=now, message=problem)
        for kind, problem in checks.items()
    ]
    summary = "; ".join(failing[kind] for kind in sorted(failing))
    fresh.append(
        condition(
            READY,
            holds=not failing,
            reason="UnhealthyDependents" if failing else READY,
            now=now,
            message=summary,
        )
    )
    for entry in fresh:
        entry["observedGeneration"] = node_class.metadata.generation
    old = [entry.to_json() for entry in node_class.status.conditions]
    return {
        "subnets": [_subnet(subnet) for subnet in _by_room(found.subnets)],
        "securityGroups": [{"id": key, "name": name} for key, name in found.security_groups],
        "amis": [dict(entry) for entry in found.amis],
        "capacityReservations": [dict(entry) for entry in found.reservations],
        "instanceProfile": found.instance_profile or "",
        "conditions": conditions(fresh, old),
    }


def resolved(node_class: EC2NodeClass) -> bool:
    """Return whether the class is ready, and its status speaks of the spec that it has now.

    One that is not ready is looked up again each time: what it lacked may be there by now.
    """
    ready = node_class.status.condition(READY)
    if ready is None or ready.status != "True":
        return False
    seen = ready.observed_generation
    generation = node_class.metadata.generation
    return seen is None or not generation or seen == generation


def _subnets(node_class: EC2NodeClass, found: Found) -> str:
    elsewhere = [text for subnet in found.subnets if (text := _out_of_scope(subnet))]
    if elsewhere:
        return f"{'; '.join(elsewhere)}: let subnetSelectorTerms leave such subnets out"
    if found.subnets:
        return ""
    terms = _terms(node_class.spec.subnet_selector_terms)
    return f"subnetSelectorTerms select no subnet ({terms}){_instead(SUBNETS, found)}"


def _out_of_scope(subnet: Subnet) -> str:
    """Return why nodes cannot be launched into *subnet*, "" where they can."""
    if subnet.outpost:
        return f"{subnet.id} is on the Outpost {subnet.outpost.rpartition('/')[2]}"
    if not AVAILABILITY_ZONE.fullmatch(subnet.zone):
        return f"{subnet.id} is in {subnet.zone}, a Local or Wavelength Zone"
    return ""


def _groups(node_class: EC2NodeClass, found: Found) -> str:
    if found.security_groups:
        return ""
    terms = _terms(node_class.spec.security_group_selector_terms)
    instead = _instead(SECURITY_GROUPS, found)
    return f"securityGroupSelectorTerms select no security group ({terms}){instead}"


def _instead(kind: str, found: Found) -> str:
    """Return what could have been meant, by the tag that this account is told apart with."""
    return f"; there are some with {found.tagged[kind]}" if kind in found.tagged else ""


def _amis(node_class: EC2NodeClass, found: Found) -> str:
    if found.amis:
        return ""
    return f"amiSelectorTerms select no AMI ({_terms(node_class.spec.ami_selector_terms)})"


def _profile(node_class: EC2NodeClass, found: Found, node_roles: tuple[str, ...]) -> str:
    role, profile = node_class.spec.role, node_class.spec.instance_profile
    if not found.instance_profile:
        if role:
            return f"role {role} has no instance profile, and none could be made for it"
        return f"instanceProfile {profile} does not exist"
    if node_roles and found.role_arn and found.role_arn not in node_roles:
        return _not_listed(found.role_arn)
    return ""


def _unlisted(role: str | None, node_roles: tuple[str, ...]) -> str:
    """Return that *role* (a name, with or without its path) is none of *node_roles*, or ""."""
    names = {arn.rpartition("/")[2] for arn in node_roles}
    if not role or not names or role.rpartition("/")[2] in names:
        return ""
    return _not_listed(role)


def _not_listed(role: str) -> str:
    name = role.rpartition("/")[2]
    return f"role {name} is not one of the stack's NodeRoleArns: nodes may not run with it"


def _validation(node_class: EC2NodeClass) -> str:
    if family_of(node_class) is None:
        known = ", ".join(family.value for family in Family)
        return f"amiFamily {node_class.spec.family} is not supported: use one of {known}"
    return ""


def _reason(kind: str, problem: str) -> str:
    if not problem:
        return kind
    if kind == SUBNETS and "select no" not in problem:
        return "Unsupported"
    return {VALIDATION: "Unsupported", INSTANCE_PROFILE: "NotUsable"}.get(kind, "NotFound")


def _terms(terms: Iterable[Any]) -> str:
    said = []
    for term in terms:
        fields = term.to_json()
        said.append(" and ".join(f"{key} {value}" for key, value in sorted(fields.items())))
    return " or ".join(said)


def _by_room(subnets: Iterable[Subnet]) -> list[Subnet]:
    return sorted(subnets, key=lambda subnet: (-subnet.free_addresses, subnet.id))


def _subnet(subnet: Subnet) -> dict[str, str]:
    return {"id": subnet.id, "zone": subnet.zone, "zoneID": subnet.zone_id}


def reservation(entry: Json) -> dict[str, Any]:
    """Return a DescribeCapacityReservations *entry* as the status lists it."""
    result: dict[str, Any] = {
        "id": entry["CapacityReservationId"],
        "instanceType": entry["InstanceType"],
        "availabilityZone": entry.get("AvailabilityZone", ""),
        "instanceMatchCriteria": entry.get("InstanceMatchCriteria", "open"),
        "ownerID": entry.get("OwnerId", ""),
        "reservationType": entry.get("ReservationType", "default"),
        "state": entry.get("State", "active"),
    }
    ends = entry.get("EndDate")
    if isinstance(ends, datetime):
        result["endTime"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    return result
