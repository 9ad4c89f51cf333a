"""What can be launched: one row for each way to buy an instance type, as arrays.

A `Market` holds the rows of the catalogue (type x zone x capacity type x reservation), their prices
and their labels as columns of codes; a requirement is evaluated against a column once and becomes a
mask over rows, never a test per pod. A type without a label that others carry has it as
DoesNotExist (rule 6). Refuses to know NodePools (`core.scheduling.shelf`) and pods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outrider.apis.labels import (
    CAPACITY_RESERVATION_ID,
    CAPACITY_TYPE,
    GPU_FRACTION,
    INSTANCE_TYPE,
    REGION,
    RESERVED,
    ZONE,
    ZONE_ID,
)
from outrider.core.catalog.instancetype import Catalog, InstanceType, Offering
from outrider.core.requirements import Requirement
from outrider.core.scheduling.result import Choice

Mask = NDArray[np.bool_]
Codes = NDArray[np.int32]
Amounts = NDArray[np.int64]
Prices = NDArray[np.float64]

_REGION = re.compile(r"^[a-z]+(?:-[a-z]+)+-[0-9]+")


def region_of(zone: str) -> str:
    """Return the region that a zone's name begins with."""
    match = _REGION.match(zone)
    return match.group(0) if match else zone


@dataclass(frozen=True, slots=True)
class Column:
    """One label over all rows: a code for each row, and what each code says."""

    codes: Codes
    states: tuple[Requirement, ...]

    def where(self, allowed: Callable[[Requirement], bool]) -> Mask:
        """Return the rows whose state is *allowed*."""
        table = np.fromiter((allowed(state) for state in self.states), bool, len(self.states))
        return table[self.codes]


_BY_OFFERING: dict[str, Callable[[Offering], str | None]] = {
    ZONE: lambda offering: offering.zone,
    ZONE_ID: lambda offering: offering.zone_id or None,
    REGION: lambda offering: region_of(offering.zone),
    CAPACITY_TYPE: lambda offering: offering.capacity_type,
    CAPACITY_RESERVATION_ID: lambda offering: offering.reservation_id,
}


@dataclass(eq=False)
class Market:
    """Every offering of a catalogue, cheapest-first rank, labels by column.

    `open` marks rows that can be bought now; the others are kept to explain what is missing.
    """

    types: tuple[InstanceType, ...]
    offerings: tuple[Offering, ...]
    row_type: Codes
    price: Prices
    rank: Codes
    open: Mask
    accelerated: Mask
    metal: Mask
    sliver: Mask
    keys: frozenset[str]
    by_rank: Codes
    _columns: dict[str, Column] = field(default_factory=dict)
    _choices: dict[int, Choice] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return len(self.offerings)

    def column(self, key: str) -> Column | None:
        """Return the column of a label, None where no row carries it."""
        if key not in self.keys:
            return None
        if key not in self._columns:
            self._columns[key] = self._build(key)
        return self._columns[key]

    def _build(self, key: str) -> Column:
        read = _BY_OFFERING.get(key)
        codes: dict[Requirement, int] = {}
        if read is not None:
            values: dict[str | None, int] = {}
            per_row = np.fromiter(
                (values.setdefault(read(item), len(values)) for item in self.offerings),
                np.int32,
                self.size,
            )
            return Column(per_row, tuple(state(key, value) for value in values))
        absent = state(key, None)
        per_type = np.fromiter(
            (codes.setdefault(_label(kind, key) or absent, len(codes)) for kind in self.types),
            np.int32,
            len(self.types),
        )
        return Column(per_type[self.row_type], tuple(codes))

    def names(self, key: str, rows: NDArray[np.int64]) -> frozenset[str]:
        """Return the values of a label that *rows* have settled."""
        column = self.column(key)
        if column is None:
            return frozenset()
        states = (column.states[code] for code in distinct(column.codes[rows]).tolist())
        return frozenset(value for state in states if (value := state.single) is not None)

    def choices(self, rows: NDArray[np.int64]) -> tuple[Choice, ...]:
        """Return *rows* as a launch lists them, in the same order; each is written once."""
        return tuple([self._choices.get(row) or self._choice(row) for row in rows.tolist()])

    def _choice(self, row: int) -> Choice:
        offering = self.offerings[row]
        found = self._choices[row] = Choice(
            instance_type=self.types[self.row_type[row]].name,
            zone=offering.zone,
            capacity_type=offering.capacity_type,
            price_per_hour=float(self.price[row]),
            zone_id=offering.zone_id,
            reservation_id=offering.reservation_id,
            stated=offering.stated,
        )
        return found

    def value(self, row: int, key: str) -> str | None:
        """Return the value of a label on a row, None where it is missing or not settled."""
        column = self.column(key)
        return None if column is None else column.states[column.codes[row]].single


def _label(kind: InstanceType, key: str) -> Requirement | None:
    """Return what a type says of a label; its name and its share of a GPU need not be written."""
    if key == INSTANCE_TYPE:
        return state(key, kind.name)
    stated = kind.requirements.get(key)
    if stated is None and key == GPU_FRACTION and _is_sliver(kind):
        share = min(gpu.partition_size for gpu in kind.ec2.gpus) if kind.ec2 else 1.0
        return state(key, f"{share:g}")
    return stated


def state(key: str, value: str | None) -> Requirement:
    """Return the state of a label that has *value*; None is a missing label."""
    if value is None:
        return Requirement(key, absent=True)
    return Requirement(key, frozenset((value,)))


_MARKETS_KEPT = 4
_markets: dict[int, tuple[Catalog, Market]] = {}


def market(catalog: Catalog) -> Market:
    """Return the rows of *catalog*, types sorted by name.

    The last few are kept: disruption plans the same catalogue once for every candidate.
    """
    known = _markets.get(id(catalog))
    if known is not None and known[0] is catalog:
        return known[1]
    built = _market(catalog)
    for oldest in tuple(_markets)[: max(0, len(_markets) - _MARKETS_KEPT + 1)]:
        _markets.pop(oldest, None)
    _markets[id(catalog)] = (catalog, built)
    return built


def _market(catalog: Catalog) -> Market:
    types = tuple(sorted(catalog.instance_types, key=lambda kind: kind.name))
    rows = [
        (index, offering)
        for index, kind in enumerate(types)
        for offering in sorted(kind.offerings, key=_place)
    ]
    offerings = tuple(offering for _, offering in rows)
    row_type = np.fromiter((index for index, _ in rows), np.int32, len(rows))
    price = np.fromiter((_price(offering) for offering in offerings), np.float64, len(rows))
    order = np.lexsort((np.arange(len(rows)), price)).astype(np.int32)
    rank = np.empty(len(rows), np.int32)
    rank[order] = np.arange(len(rows), dtype=np.int32)
    return Market(
        types=types,
        offerings=offerings,
        row_type=row_type,
        price=price,
        rank=rank,
        by_rank=order,
        open=np.fromiter((offering.for_sale for offering in offerings), bool, len(rows)),
        accelerated=_of_types(types, row_type, lambda kind: kind.accelerated),
        metal=_of_types(types, row_type, _is_metal),
        sliver=_of_types(types, row_type, _is_sliver),
        keys=frozenset(key for kind in types for key in kind.requirements)
        | {INSTANCE_TYPE}
        | ({GPU_FRACTION} if any(_is_sliver(kind) for kind in types) else set())
        | (frozenset(_BY_OFFERING) if offerings else frozenset()),
    )


def _of_types(
    types: Sequence[InstanceType], row_type: Codes, holds: Callable[[InstanceType], bool]
) -> Mask:
    return np.fromiter((holds(kind) for kind in types), bool, len(types))[row_type]


def _place(offering: Offering) -> tuple[str, str, str]:
    return offering.zone, offering.capacity_type, offering.reservation_id or ""


def _price(offering: Offering) -> float:
    return 0.0 if offering.capacity_type == RESERVED else offering.price_per_hour


def _is_metal(kind: InstanceType) -> bool:
    return (
        bool(kind.ec2 and kind.ec2.bare_metal)
        or kind.name.endswith(".metal")
        or (".metal-" in kind.name)
    )


def _is_sliver(kind: InstanceType) -> bool:
    """Return whether the type's GPU is a share of one (g6f, gr6f)."""
    return kind.ec2 is not None and any(0 < gpu.partition_size < 1 for gpu in kind.ec2.gpus)


def holding(have: Amounts, need: Amounts) -> Mask:
    """Return where *have* covers *need* in every column; either may be one row for all."""
    covered: Mask = np.logical_and.reduce(have >= need, axis=1)
    return covered


def distinct(codes: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return the distinct *codes* (small whole numbers), in order."""
    return np.flatnonzero(np.bincount(codes))


def numbered(
    codes: NDArray[np.integer[Any]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct *codes*, and for each entry the place of its code among them."""
    found = distinct(codes)
    places = np.zeros(int(found[-1]) + 1 if len(found) else 0, np.int64)
    places[found] = np.arange(len(found))
    return found, places[codes]
