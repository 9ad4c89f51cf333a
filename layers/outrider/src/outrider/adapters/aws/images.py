"""AMIs that a node class selects: aliases through SSM parameters, everything else by
DescribeImages.

An image found by tags, name or id is for its architecture; one found by an alias also for its
variant of accelerators (`core.launch.images`). Newest first, deprecated ones last (F53). Refuses to
choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from outrider.adapters.aws import errors
from outrider.adapters.aws.network import tag_filters
from outrider.adapters.aws.session import Session
from outrider.apis import labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.apis.selectors import AMISelectorTerm
from outrider.core.catalog.describe import ARCHITECTURES
from outrider.core.launch.images import Parameter, parameters

Json = Mapping[str, Any]

AT_ONCE = 10
OWN_AND_AMAZON = ("self", "amazon")


def images(
    session: Session, node_class: EC2NodeClass, kubernetes_version: str, now: datetime
) -> tuple[Json, ...]:
    """Return `status.amis` of *node_class*: id, name, requirements, best first."""
    wanted = parameters(node_class, kubernetes_version)
    if wanted:
        return _of_alias(session, wanted, now)
    found: dict[str, Json] = {}
    for term in node_class.spec.ami_selector_terms:
        for entry in _of_term(session, term):
            found[str(entry["ImageId"])] = entry
    ranked = sorted(found.values(), key=lambda entry: _rank(entry, now))
    return tuple(_status(entry, _by_arch(entry), now) for entry in ranked)


def parameter(session: Session, path: str) -> str | None:
    """Return the value of one public SSM parameter; None where there is none."""
    return _values(session, [path]).get(path)


def _of_alias(session: Session, wanted: Sequence[Parameter], now: datetime) -> tuple[Json, ...]:
    ids = _values(session, [one.path for one in wanted])
    described = {
        str(entry["ImageId"]): entry for entry in _described(session, ids=sorted(set(ids.values())))
    }
    result: list[Json] = []
    for one in wanted:
        image_id = ids.get(one.path)
        if image_id is None:
            continue
        entry = described.get(image_id, {"ImageId": image_id})
        result.append(_status(entry, [dict(item) for item in one.requirements], now))
    return tuple(result)


def _values(session: Session, paths: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(paths), AT_ONCE):
        with errors.speaking("GetParameters"):
            answer = session.client("ssm").get_parameters(
                Names=list(paths[start : start + AT_ONCE])
            )
        found.update((entry["Name"], entry["Value"]) for entry in answer["Parameters"])
    return found


def _of_term(session: Session, term: AMISelectorTerm) -> Iterable[Json]:
    if term.ssm_parameter:
        value = parameter(session, term.ssm_parameter)
        return _described(session, ids=[value]) if value else ()
    if term.id:
        return _described(session, ids=[term.id])
    filters = tag_filters(term.tags)
    if term.name:
        filters = [*filters, {"Name": "name", "Values": [term.name]}]
    owners = (term.owner,) if term.owner else OWN_AND_AMAZON if term.name else ("self",)
    return _described(session, filters=filters, owners=owners)


def _described(
    session: Session,
    *,
    ids: Sequence[str] = (),
    filters: Sequence[Json] = (),
    owners: Sequence[str] = (),
) -> Iterable[Json]:
    if not ids and not filters:
        return ()
    call: dict[str, Any] = {"IncludeDeprecated": True}
    by_id = [{"Name": "image-id", "Values": list(ids)}] if ids else []
    call["Filters"] = [*by_id, *filters, {"Name": "state", "Values": ["available"]}]
    if owners:
        call["Owners"] = list(owners)
    with errors.speaking("DescribeImages"):
        pages = session.client("ec2").get_paginator("describe_images").paginate(**call)
        return [entry for page in pages for entry in page["Images"]]


def _status(entry: Json, requirements: Sequence[Json], now: datetime) -> Json:
    status: dict[str, Any] = {
        "id": entry["ImageId"],
        "name": entry.get("Name", ""),
        "requirements": list(requirements),
    }
    return status | ({"deprecated": True} if _deprecated(entry, now) else {})


def _by_arch(entry: Json) -> list[Json]:
    arch = ARCHITECTURES.get(str(entry.get("Architecture", "x86_64")), "amd64")
    return [{"key": labels.ARCH, "operator": "In", "values": [arch]}]


def _rank(entry: Json, now: datetime) -> tuple[bool, float, str]:
    created = _time(entry.get("CreationDate"))
    return _deprecated(entry, now), -(created.timestamp() if created else 0), str(entry["Name"])


def _deprecated(entry: Json, now: datetime) -> bool:
    at = _time(entry.get("DeprecationTime"))
    return at is not None and at <= now


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text).astimezone(UTC)
