"""The problem without what ties pods together over zones: what no feasible plan can be paid less
than.

Decides, for the pods that a plan places, what any other plan that places them must respect as
well: room, requirements, taints, volumes' zones, limits, reservations, what exists and is free,
the order of NodePools (a node of a lighter one needs a pod that may open it), and what a node holds
only so often. Leaves out what would only make plans dearer: zonal spread and affinity, minValues,
preferences that give way. Refuses to make a plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider.apis.storage import EBS_DRIVER
from outrider.core.packing.problem import UNBOUNDED
from outrider.core.packing.problem import Problem as Packable
from outrider.core.scheduling.demand import Ask, PodClass
from outrider.core.scheduling.optimise.goods import bounded, goods
from outrider.core.scheduling.optimise.units import units
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Mask, holding

Floats = NDArray[np.float64]
Table = NDArray[np.bool_]
APART = 40  # so many kinds of places are kept apart; more are taken as one large place


@dataclass(frozen=True, slots=True)
class _Demand:
    """What pods ask in any plan: the least step of their ladder, and how many there are."""

    asks: tuple[Ask, ...]
    counts: Floats


def relaxation(run: Run, placed: Iterable[int]) -> Packable:
    """Return the relaxed problem of the pods *placed*, as it was before *run* placed any."""
    problem = run.problem
    fresh = Run.of(problem, run.contents)
    demand = _demand(problem, placed)
    taken = units(problem, demand.asks, strict=False)
    tables = [
        np.array([problem.rows(ask, shelf) for ask in demand.asks]) for shelf in problem.shelves
    ]
    found = goods(problem, tables, _opened(problem, demand.asks), varied=False)
    usage, limits = bounded(fresh, found.types)
    requests = np.array(
        [
            [
                *ask.request,
                ask.volumes.count(EBS_DRIVER) - len(ask.volumes.shared),
                *taken.requests[place],
            ]
            for place, ask in enumerate(demand.asks)
        ],
        np.float64,
    )
    new = np.hstack([found.room, np.tile(taken.caps, (len(found.types), 1))])
    free, takes, supply = _places(problem, demand.asks, requests, taken.at_places)
    return Packable.of(
        requests=requests,
        demand=demand.counts,
        allocatable=np.vstack([new, free]),
        price=np.concatenate([found.price(problem), np.zeros(len(free))]),
        compatible=np.hstack([found.compatible, takes]),
        supply=np.concatenate([np.full(len(found.types), UNBOUNDED), supply]),
        usage=np.vstack([usage, np.zeros((len(free), usage.shape[1]))]),
        limits=limits,
    )


def _demand(problem: Problem, placed: Iterable[int]) -> _Demand:
    counts: dict[int, tuple[PodClass, int]] = {}
    for pod in placed:
        known = problem.classes[pod]
        counts[known.index] = (known, counts.get(known.index, (known, 0))[1] + 1)
    asks = [_least(problem, known) for known, _ in counts.values()]
    # Classes that differ in what no bound sees are one.
    merged: dict[tuple[object, ...], tuple[Ask, int]] = {}
    for ask, (_, count) in zip(asks, counts.values(), strict=True):
        key = (
            ask.request.tobytes(),
            ask.rule,
            ask.tolerations,
            ask.volumes,
            ask.ports,
            ask.accelerated,
            ask.tied and (ask.spreads, ask.apart, ask.counted),
        )
        merged[key] = (merged.get(key, (ask, 0))[0], merged.get(key, (ask, 0))[1] + count)
    return _Demand(
        tuple(ask for ask, _ in merged.values()),
        np.array([count for _, count in merged.values()], np.float64),
    )


def _least(problem: Problem, known: PodClass) -> Ask:
    """Return the ask that every plan meets: preferences bind where they can always be met."""
    first = next((ask for ask in known.asks if not problem.hopeless(ask)), known.asks[-1])
    endless = not first.tied and any(
        not shelf.limited and not shelf.min_values and _alone(problem, first, shelf).any()
        for shelf in problem.shelves
    )
    return first if endless else known.asks[-1]


def _alone(problem: Problem, ask: Ask, shelf: Shelf) -> Mask:
    """Return the rows of *shelf*, none of them reserved, that hold one pod of *ask*."""
    rows = problem.rows(ask, shelf) & ~problem.reservations.held
    return rows & holding(shelf.room, ask.request)[shelf.shape]


def _opened(problem: Problem, asks: Sequence[Ask]) -> list[Mask]:
    """Return the rows of each shelf on which some pod may open a node (rules 2 and 3)."""
    opened = [np.zeros(problem.market.size, bool) for _ in problem.shelves]
    exotic = problem.market.accelerated | problem.market.metal
    for ask in asks:
        sure_of_plain = not ask.accelerated and any(
            _is_sure(ask, shelf) and (_alone(problem, ask, shelf) & ~exotic).any()
            for shelf in problem.shelves
        )
        certain: int | None = None
        for shelf in problem.shelves:
            if certain is not None and shelf.pool.weight < certain:
                break
            rows = problem.rows(ask, shelf)
            own = rows & ~exotic if sure_of_plain and not shelf.min_values else rows
            opened[shelf.index] |= own & shelf.rows
            if _is_sure(ask, shelf) and (_alone(problem, ask, shelf) & own).any():
                certain = shelf.pool.weight
    return opened


def _is_sure(ask: Ask, shelf: Shelf) -> bool:
    """Return whether a row of *shelf* that holds a pod of *ask* can be launched for it for sure."""
    return not (ask.tied or shelf.limited or shelf.min_values)


def _places(
    problem: Problem, asks: Sequence[Ask], requests: Floats, caps: Floats
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return what exists as types [P, R], which pods it takes [S, P], and how many of each [P]."""
    table = problem.table
    takes: Table = np.array([problem.suitable_places(ask) for ask in asks]).reshape(
        len(asks), table.size
    )
    limits = np.array(
        [item.volume_limits.get(EBS_DRIVER, np.inf) for item in table.places], np.float64
    ).reshape(-1, 1)
    slots = np.where(np.isfinite(limits), limits, float(len(problem.pods) * 128))
    room = np.maximum(np.hstack([table.room.astype(np.float64), slots, caps]), 0.0)
    fits = np.all(requests[:, None, :] <= room[None], axis=2) & takes
    useful = np.flatnonzero(fits.any(axis=0))
    if not len(useful):
        return np.zeros((0, requests.shape[1])), np.zeros((len(asks), 0), bool), np.zeros(0)
    room, takes = room[useful], takes[:, useful]
    key = np.column_stack([room, takes.T.astype(np.float64)])
    _, first, count = np.unique(key, axis=0, return_index=True, return_counts=True)
    if len(first) > APART:
        return room.sum(axis=0)[None], np.any(takes, axis=1, keepdims=True), np.ones(1)
    return room[first], takes[:, first], count.astype(np.float64)
