"""The catalogue as the ledger keeps it: written by us, trusted, and quick to read.

A new sandbox reads a thousand types with several thousand offerings before its first plan. So the
shape is close to the values: a type's labels are one object, an offering is a row without its
trailing defaults, EC2's facts are those that differ from theirs. What is not of EC2's description
(capacity stated outright, a requirement that is no label) stays an entry as `codec` writes it.
Another release's shape is refused by its number, and the catalogue is then described anew.

Refuses to know where the bytes lie, and to judge what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, astuple, fields
from datetime import datetime
from typing import Any

import orjson

from outrider.apis import duration
from outrider.core.catalog import codec
from outrider.core.catalog.describe import card, shared
from outrider.core.catalog.instancetype import Catalog, Ec2Facts, Gpu, InstanceType, Offering
from outrider.core.requirements import Requirements
from outrider.errors import InvalidManifest

Row = list[Any]

SHAPE = 2
_ENDS = 7  # where a row has the end of its reservation
_OFFERING_DEFAULTS = tuple(field.default for field in fields(Offering))
_EC2_DEFAULTS = {field.name: field.default for field in fields(Ec2Facts)}


def dump(catalog: Catalog) -> bytes:
    """Return *catalog* as bytes, the same for the same catalogue."""
    return orjson.dumps(
        {
            "shape": SHAPE,
            "version": catalog.version,
            "asOf": catalog.as_of,
            "types": [_entry(kind) for kind in catalog.instance_types],
        }
    )


def restore(content: bytes) -> Catalog:
    """Return the catalogue that `dump` wrote; another shape is an InvalidManifest."""
    document = orjson.loads(content)
    if document.get("shape") != SHAPE:
        raise InvalidManifest(f"is not {SHAPE}, of this release", path="shape", thing="catalogue")
    as_of = document["asOf"]
    return Catalog(
        tuple([_kind(entry) for entry in document["types"]]),
        version=document["version"],
        as_of=datetime.fromisoformat(as_of) if as_of else None,
    )


def _entry(kind: InstanceType) -> dict[str, Any]:
    names = kind.requirements.labels()
    plain = Requirements({key: shared(key, value) for key, value in names.items()})
    stated = kind.capacity or kind.devices is not None or kind.requirements != plain
    if kind.ec2 is None or stated:
        return {"as": codec.write_entry(kind)}
    return {
        "name": kind.name,
        "labels": names,
        "ec2": _ec2_entry(kind.ec2),
        "offerings": [_row(offering) for offering in kind.offerings],
    }


def _kind(entry: dict[str, Any]) -> InstanceType:
    if "as" in entry:
        return codec.read_entry(entry["as"])
    return InstanceType(
        entry["name"],
        Requirements({key: shared(key, value) for key, value in entry["labels"].items()}),
        {},
        {},
        tuple([_offering(row) for row in entry["offerings"]]),
        _ec2(entry["ec2"]),
    )


def _row(offering: Offering) -> Row:
    row: Row = list(astuple(offering))
    while row[-1] == _OFFERING_DEFAULTS[len(row) - 1]:
        row.pop()
    if len(row) > _ENDS and row[_ENDS] is not None:
        row[_ENDS] = duration.stamp(row[_ENDS])
    return row


def _offering(row: Row) -> Offering:
    if len(row) > _ENDS and row[_ENDS]:
        row[_ENDS] = duration.instant(row[_ENDS])
    return Offering(*row)


def _ec2_entry(ec2: Ec2Facts) -> dict[str, Any]:
    entry = {
        name: value
        for name, default in _EC2_DEFAULTS.items()
        if (value := getattr(ec2, name)) != default or default is MISSING
    }
    for name in ("network_cards", "gpus"):
        if name in entry:
            entry[name] = [astuple(one) for one in entry[name]]
    return entry


def _ec2(entry: dict[str, Any]) -> Ec2Facts:
    cards: Sequence[Row] = entry.get("network_cards", ())
    entry["network_cards"] = tuple([card(enis, efa=efa) for enis, efa in cards])
    if "gpus" in entry:
        entry["gpus"] = tuple([Gpu(*one) for one in entry["gpus"]])
    return Ec2Facts(**entry)
