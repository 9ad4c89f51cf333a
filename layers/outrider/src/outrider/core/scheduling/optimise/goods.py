"""Offerings as the kernel's types of bins: rows that are equal to it are one type.

Decides which rows of a NodePool are one type (the same room, the same kinds of pods, the same
reservation), what a reservation and a limit bound, how much room a pool that asks for variety
(minValues) may promise, and what a Spot offering is taken to cost: the mean of the cheapest that
can stand in for it, where there are enough. Refuses to know which pods there are: it is given a
table of kinds by rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider.apis.labels import CAPACITY_TYPE, SPOT
from outrider.core.packing.flexible import shared_room, usual_price
from outrider.core.packing.problem import UNBOUNDED
from outrider.core.scheduling.optimise.realise import Type
from outrider.core.scheduling.policy import STRICT
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Amounts, Mask

Floats = NDArray[np.float64]
Table = NDArray[np.bool_]  # kinds x rows


@dataclass(frozen=True, slots=True)
class Goods:
    """The types, what each holds beside units [T, R + 1], and which kinds it takes [S, T]."""

    types: tuple[Type, ...]
    room: Floats
    compatible: Table

    def price(self, problem: Problem) -> Floats:
        """Return what the cheapest offering of each type costs."""
        return np.asarray(problem.market.price[[item.row for item in self.types]], np.float64)


def goods(
    problem: Problem, tables: Sequence[Table], opened: Sequence[Mask], *, varied: bool = True
) -> Goods:
    """Return the types of the rows *opened*, by shelf, of which *tables* say what they take.

    Where not *varied*, minValues are passed over.
    """
    strict = varied and problem.policy.min_values_policy == STRICT
    types: list[Type] = []
    room: list[Floats] = []
    takes: list[Table] = []
    for shelf, table, rows in zip(problem.shelves, tables, opened, strict=True):
        varied = strict and bool(shelf.min_values)
        useful = rows & np.logical_or.reduce(table, axis=0)
        if varied:
            useful = useful & ~problem.reservations.held
        found = _distinct(problem, shelf, table, useful, varied=varied)
        if not found:
            continue
        columns = [item.row for item in found]
        holds = table[:, columns]
        offered = _room(problem, shelf, columns)
        if varied:
            offered = _varied(problem, shelf, columns, offered, holds)
        types += found
        room.append(offered)
        takes.append(holds)
    kinds = len(tables[0]) if tables else 0
    width = len(problem.axis.names) + 1
    return Goods(
        tuple(types),
        np.vstack(room) if room else np.zeros((0, width)),
        np.hstack(takes) if takes else np.zeros((kinds, 0), bool),
    )


def _distinct(
    problem: Problem, shelf: Shelf, table: Table, useful: Mask, *, varied: bool
) -> list[Type]:
    """Return the types of one shelf, each with its cheapest row; of a varied one, by variety."""
    market, held = problem.market, problem.reservations.held
    packed = np.packbits(table, axis=0)
    variety = _kinds_of_rows(problem, shelf) if varied else []
    found: dict[tuple[object, ...], Type] = {}
    rows = np.flatnonzero(useful)
    for row in rows[np.argsort(market.rank[rows], kind="stable")].tolist():
        name = market.offerings[row].reservation_id if held[row] else None
        key = (
            int(shelf.shape[row]),
            packed[:, row].tobytes(),
            name,
            *(codes[row] for codes in variety),
        )
        if key not in found:
            found[key] = Type(shelf, row, packed[:, row].tobytes(), name, UNBOUNDED)
    return list(found.values())


def _room(problem: Problem, shelf: Shelf, rows: Sequence[int]) -> Floats:
    slots = shelf.volume_slots[problem.market.row_type[rows]]
    return np.column_stack([shelf.room[shelf.shape[rows]], slots]).astype(np.float64)


def _kinds_of_rows(problem: Problem, shelf: Shelf) -> list[NDArray[np.int32]]:
    columns = (problem.market.column(key) for key, _ in shelf.min_values)
    return [column.codes for column in columns if column is not None]


def _varied(
    problem: Problem, shelf: Shelf, rows: Sequence[int], room: Floats, takes: Table
) -> Floats:
    """Return the room that so many values of every minValues key share with each of *rows*."""
    shared = room
    for key, least in shelf.min_values:
        column = problem.market.column(key)
        if column is not None:
            kinds = column.codes[rows].astype(np.int64)
            shared = np.minimum(shared, shared_room(room, takes, kinds, least))
    return shared


def usual(problem: Problem, found: Goods) -> Floats:
    """Return what to plan with as the price of each type: for Spot the mean of its cheapest.

    Every offering of the same NodePool that has the room and takes the pods counts, each zone for
    itself, as far as `spot_flexibility` of them.
    """
    price = found.price(problem)
    column = problem.market.column(CAPACITY_TYPE)
    offers = problem.policy.spot_flexibility
    if column is None or offers <= 1:
        return price
    spot = column.where(lambda item: item.single == SPOT)
    usual_of = price.copy()
    for shelf in problem.shelves:
        mine = [place for place, item in enumerate(found.types) if item.shelf is shelf]
        if not any(spot[found.types[place].row] for place in mine):
            continue
        several = _offers(problem, shelf, [found.types[place] for place in mine], offers)
        means = usual_price(found.room[mine], found.compatible[:, mine], several, offers)
        is_spot = np.array([spot[found.types[place].row] for place in mine])
        usual_of[mine] = np.where(is_spot, means, price[mine])
    return usual_of


def _offers(problem: Problem, shelf: Shelf, types: Sequence[Type], most: int) -> Floats:
    """Return the prices of the *most* cheapest offerings of each type, missing ones infinite."""
    market = problem.market
    rows = np.flatnonzero(shelf.rows & ~problem.reservations.held)
    rows = rows[np.argsort(market.rank[rows], kind="stable")]
    by_shape: dict[int, list[float]] = {}
    for shape, price in zip(shelf.shape[rows].tolist(), market.price[rows].tolist(), strict=True):
        known = by_shape.setdefault(shape, [])
        if len(known) < most:
            known.append(price)
    # Types of one shape that take different pods share its offerings: each counts its own row.
    shapes = [int(shelf.shape[item.row]) for item in types]
    shared = Counter(shapes)
    table = np.full((len(types), most), np.inf)
    for place, (item, shape) in enumerate(zip(types, shapes, strict=True)):
        prices = by_shape.get(shape, []) if shared[shape] == 1 else [float(market.price[item.row])]
        table[place, : len(prices)] = prices
    return table


def bounded(run: Run, types: Sequence[Type]) -> tuple[Floats, Floats]:
    """Return what a bin of each of *types* takes of every limit [T, L], and what is left [L].

    The limits of NodePools come first, then the instances of reservations.
    """
    problem = run.problem
    shelves = [shelf for shelf in problem.shelves if shelf.limited]
    reserved = [
        item
        for item in problem.reservations.items
        if any(kind.reservation == item.id for kind in types)
    ]
    lefts: list[Amounts] = [run.budgets[shelf.index] for shelf in shelves]
    limits = [float(left) for each in lefts for left in each]
    limits += [float(min(run.slots[item.id], len(problem.pods))) for item in reserved]
    table = np.zeros((len(types), len(limits)))
    start = 0
    for shelf in shelves:
        end = start + len(shelf.limited)
        for place, kind in enumerate(types):
            if kind.shelf is shelf:
                table[place, start:end] = shelf.capacity[problem.market.row_type[kind.row]]
        start = end
    for column, item in enumerate(reserved, start):
        table[:, column] = [kind.reservation == item.id for kind in types]
    return table, np.maximum(np.array(limits), 0.0)
