"""Subnets and security groups that a node class selects.

Terms are alternatives, the tags of a term all have to match, and the value `*` means any (F34,
F35). Refuses to know which subnet a launch takes: `core.launch.fleet` goes by free addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.core.launch.fleet import Subnet

Json = Mapping[str, Any]


def subnets(session: Session, terms: Iterable[Any]) -> tuple[Subnet, ...]:
    """Return the subnets that any of *terms* selects, sorted by id."""
    found: dict[str, Subnet] = {}
    for term in terms:
        for entry in _pages(
            session, "describe_subnets", "Subnets", term_filters(term, "subnet-id")
        ):
            found[str(entry["SubnetId"])] = _subnet(entry)
    return tuple(found[key] for key in sorted(found))


def free_addresses(session: Session, ids: Sequence[str]) -> tuple[Subnet, ...]:
    """Return subnets by id with their free addresses now; unknown ids are left out."""
    if not ids:
        return ()
    filters: list[Json] = [{"Name": "subnet-id", "Values": sorted(ids)}]
    return tuple(
        _subnet(entry) for entry in _pages(session, "describe_subnets", "Subnets", filters)
    )


def security_groups(session: Session, terms: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    """Return (id, name) of the security groups that any of *terms* selects."""
    found: dict[str, str] = {}
    for term in terms:
        filters = term_filters(term, "group-id", "group-name")
        for entry in _pages(session, "describe_security_groups", "SecurityGroups", filters):
            found[str(entry["GroupId"])] = str(entry.get("GroupName", ""))
    return tuple(sorted(found.items()))


def tagged(session: Session, kind: str, tag: str) -> str:
    """Return `tag value or value` for the *kind* ("subnets", "security_groups") that have *tag*."""
    key = {"subnets": "Subnets", "security_groups": "SecurityGroups"}[kind]
    entries = _pages(session, f"describe_{kind}", key, tag_filters({tag: "*"}))
    values = {one["Value"] for entry in entries for one in entry["Tags"] if one["Key"] == tag}
    return f"{tag} {' or '.join(sorted(values))}" if values else ""


def term_filters(term: Any, id_filter: str, name_filter: str = "") -> list[Json]:
    """Return the Describe filters that say what a selector *term* says."""
    if getattr(term, "id", None):
        return [{"Name": id_filter, "Values": [term.id]}]
    filters: list[Json] = []
    if name_filter and getattr(term, "name", None):
        filters.append({"Name": name_filter, "Values": [term.name]})
    if getattr(term, "vpc_id", None):
        filters.append({"Name": "vpc-id", "Values": [term.vpc_id]})
    return filters + tag_filters(term.tags or {})


def tag_filters(wanted: Mapping[str, str]) -> list[Json]:
    """Return filters for tags; the value `*` asks for the key only."""
    return [
        {"Name": "tag-key", "Values": [key]}
        if value == "*"
        else {"Name": f"tag:{key}", "Values": [value]}
        for key, value in sorted(wanted.items())
    ]


def _pages(session: Session, operation: str, key: str, filters: list[Json]) -> list[Json]:
    with errors.speaking(operation):
        pages = session.client("ec2").get_paginator(operation).paginate(Filters=filters)
        return [entry for page in pages for entry in page[key]]


def _subnet(entry: Json) -> Subnet:
    return Subnet(
        id=str(entry["SubnetId"]),
        zone=str(entry["AvailabilityZone"]),
        zone_id=str(entry.get("AvailabilityZoneId", "")),
        free_addresses=int(entry.get("AvailableIpAddressCount", 0)),
        outpost=str(entry.get("OutpostArn", "")),
    )
