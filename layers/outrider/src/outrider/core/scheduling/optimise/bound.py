"""A price that no feasible plan can beat, cheaply.

Decides the larger of two proofs over all offerings of all usable pools, constraints between pods
left out (they only make plans dearer): for each resource, what is asked beyond the room that
costs nothing, at the lowest price per unit that any offering has; and for each pod that no free
place could hold even empty of others, the cheapest offering that holds it alone. Of a handful of
pods every way to share nodes is priced. Refuses to know how the plan was made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.supply import Amounts, Mask, distinct, holding

_FEW = 4
"""Of so many pods all ways to share nodes are priced: fifteen."""


def lower_bound(problem: Problem, placed: dict[int, Ask]) -> float:
    """Return a price per hour that any plan placing the same pods costs at least."""
    if not placed:
        return 0.0
    asks: dict[int, tuple[Ask, int]] = {}
    for pod in placed:
        last = problem.classes[pod].asks[-1]
        known = asks.get(last.index)
        asks[last.index] = (last, known[1] + 1 if known else 1)
    demand = sum((ask.request * count for ask, count in asks.values()), problem.axis.vector({}))
    free = _free_room(problem)
    best = 0.0
    for place in range(len(problem.axis.names)):
        missing = int(demand[place]) - int(free[place])
        if missing > 0:
            best = max(best, missing * _cheapest_unit(problem, asks, place))
    best = max(best, _largest_single(problem, asks))
    return max(best, _cheapest_split(problem, [*placed.values()])) if len(placed) <= _FEW else best


def _free_room(problem: Problem) -> Amounts:
    """Return what existing places and unused reservations could hold together."""
    room = np.maximum(problem.table.room, 0).sum(axis=0)
    for reservation in problem.reservations.items:
        most = problem.axis.vector({})
        for shelf in problem.shelves:
            rows = reservation.rows & shelf.rows
            if rows.any():
                most = np.maximum(most, shelf.room[distinct(shelf.shape[rows])].max(axis=0))
        room = room + most * min(reservation.instances, len(problem.pods))
    total: Amounts = room
    return total


def _cheapest_unit(problem: Problem, asks: dict[int, tuple[Ask, int]], place: int) -> float:
    """Return the lowest price of one unit of a resource over the rows that anybody could use."""
    lowest = np.inf
    for shelf in problem.shelves:
        rows = _usable(problem, asks, shelf.index, place)
        room = shelf.room[shelf.shape[rows], place]
        price = problem.market.price[rows]
        some = room > 0
        if some.any():
            lowest = min(lowest, float((price[some] / room[some]).min()))
    return 0.0 if lowest == np.inf else lowest


def _usable(problem: Problem, asks: dict[int, tuple[Ask, int]], index: int, place: int) -> Mask:
    shelf = problem.shelves[index]
    rows = np.zeros(problem.market.size, bool)
    for ask, _ in asks.values():
        if ask.request[place]:
            rows |= problem.rows(ask, shelf)
    return rows & ~problem.reservations.held


def _largest_single(problem: Problem, asks: dict[int, tuple[Ask, int]]) -> float:
    largest = 0.0
    for ask, _ in asks.values():
        if (problem.suitable_places(ask) & holding(problem.table.room, ask.request)).any():
            continue
        lowest = np.inf
        for shelf in problem.shelves:
            rows = problem.rows(ask, shelf)
            rows = rows & holding(shelf.room, ask.request)[shelf.shape]
            if rows.any():
                lowest = min(lowest, float(problem.market.price[rows].min()))
        if lowest != np.inf:
            largest = max(largest, lowest)
    return largest


def _cheapest_split(problem: Problem, asks: Sequence[Ask]) -> float:
    """Return what the cheapest way to split pods of *asks* over nodes costs, each node alone."""
    everybody = (1 << len(asks)) - 1
    together = [0.0] * (everybody + 1)
    for group in range(1, everybody + 1):
        own = _together(problem, [ask for bit, ask in enumerate(asks) if group >> bit & 1])
        # The first of the group is with some of it, and the rest are split at their best.
        first = group & -group
        part = rest = group & ~first
        while part:
            part = (part - 1) & rest
            own = min(own, together[first | part] + together[group & ~(first | part)])
        together[group] = own
    return together[everybody] if together[everybody] < np.inf else 0.0


def _together(problem: Problem, asks: Sequence[Ask]) -> float:
    """Return the price of the cheapest node that holds one pod of each of *asks*, 0 on a place."""
    request = sum((ask.request for ask in asks), problem.axis.vector({}))
    places = holding(problem.table.room, request)
    for ask in asks:
        places = places & problem.suitable_places(ask)
    if places.any():
        return 0.0
    lowest = np.inf
    for shelf in problem.shelves:
        rows = holding(shelf.room, request)[shelf.shape] & shelf.rows
        for ask in asks:
            rows = rows & problem.rows(ask, shelf)
        if rows.any():
            lowest = min(lowest, float(problem.market.price[rows].min()))
    return lowest
