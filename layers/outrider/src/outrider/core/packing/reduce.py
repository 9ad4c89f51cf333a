"""Leave out what cannot matter: classes nobody holds, resources nobody asks for, beaten types.

A type is beaten by another that holds at least as much of all that could be used, holds at least
the same classes, costs no more, takes no more of any limit and can be bought without end.
Capacity beyond what all compatible pods together ask for does not count, so that a batch of one
pod leaves one type. Thousands of types of a few distinct shapes are no more work than the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from outrider.core.packing.bins import distinct_rows
from outrider.core.packing.problem import UNBOUNDED, Bools, Floats, Ints, Problem

CHUNK = 4_000_000  # cells compared at a time: bounds the memory of the pairwise comparison


@dataclass(frozen=True, slots=True)
class Reduced:
    """The part of a problem that matters, and where its classes and types stand in the whole.

    In `problem`, `compatible` says more than in the whole: that one pod fits a bin that may be
    bought. `least` and `least_listed` are what the cheapest bin for one pod of each class costs.
    """

    problem: Problem
    classes: Ints
    types: Ints
    least: Floats
    least_listed: Floats


def holds(problem: Problem) -> Bools:
    """Return, per class and type, whether an empty bin of the type holds one pod of the class."""
    fits = problem.compatible.copy()
    for resource in range(problem.requests.shape[1]):
        fits &= problem.requests[:, resource, None] <= problem.allocatable[None, :, resource]
    return fits


def open_types(problem: Problem) -> Bools:
    """Return the types of which at least one bin can be bought under the limits."""
    within = (problem.usage <= problem.limits).all(axis=1)
    return np.asarray((problem.supply > 0) & within)


def reduced(problem: Problem) -> Reduced:
    """Return *problem* without the classes, resources and types that cannot matter."""
    fits = holds(problem) & open_types(problem)
    classes = np.flatnonzero(fits.any(axis=1) & (problem.demand > 0))
    fits = fits[classes]
    types = np.flatnonzero(fits.any(axis=0))
    fits = fits[:, types]
    requests, demand = problem.requests[classes], problem.demand[classes]
    asked = requests.any(axis=0)
    requests = requests[:, asked]
    useful = fits.T.astype(np.float64) @ (requests * demand[:, None])
    part = replace(
        problem,
        requests=np.ascontiguousarray(requests),
        demand=demand,
        allocatable=np.minimum(problem.allocatable[types][:, asked], useful),
        price=problem.price[types],
        list_price=problem.list_price[types],
        compatible=fits,
        supply=problem.supply[types],
        usage=problem.usage[types],
    )
    kept = _unbeaten(part)
    return Reduced(
        problem=only_types(part, kept),
        classes=classes,
        types=types[kept],
        least=np.where(fits, part.price, np.inf).min(axis=1, initial=np.inf),
        least_listed=np.where(fits, part.list_price, np.inf).min(axis=1, initial=np.inf),
    )


def only_types(problem: Problem, types: Ints) -> Problem:
    """Return *problem* with these *types* and no other."""
    return replace(
        problem,
        allocatable=np.ascontiguousarray(problem.allocatable[types]),
        price=problem.price[types],
        list_price=problem.list_price[types],
        compatible=np.ascontiguousarray(problem.compatible[:, types]),
        supply=problem.supply[types],
        usage=np.ascontiguousarray(problem.usage[types]),
    )


def _unbeaten(problem: Problem) -> Ints:
    """Return the types that no other type beats; of equals, the first."""
    types = len(problem.price)
    if types <= 1:
        return np.arange(types)
    signature = np.packbits(problem.compatible, axis=0).T
    _, kinds = distinct_rows(signature.astype(np.float64))
    # Of types that are equal but for the price the cheapest that never runs out is enough.
    key = np.column_stack([kinds, problem.allocatable, problem.usage])
    order = np.lexsort((np.arange(types), problem.price, problem.supply != UNBOUNDED))
    first, _ = distinct_rows(key[order])
    cheapest = np.zeros(types, dtype=np.bool_)
    cheapest[order[first]] = True
    alive = np.flatnonzero(cheapest | (problem.supply != UNBOUNDED))
    alive = alive[np.lexsort((alive, problem.price[alive]))]
    beaten = _beaten(problem, alive, kinds)
    return np.sort(alive[~beaten])


def _beaten(problem: Problem, alive: Ints, kinds: Ints) -> Bools:
    """Return which of *alive*, sorted by price, an earlier or equally cheap one beats."""
    subset = _subsets(problem.compatible, kinds)
    ability: Floats = np.column_stack([problem.allocatable, -problem.usage])[alive]
    price, endless = problem.price[alive], problem.supply[alive] == UNBOUNDED
    beaten = np.zeros(len(alive), dtype=np.bool_)
    step = max(1, CHUNK // max(1, len(alive)))
    for start in range(0, len(alive), step):
        rows = slice(start, start + step)
        better = endless[None, :] & (price[None, :] <= price[rows, None])
        better &= subset[np.ix_(kinds[alive[rows]], kinds[alive])]
        for column in range(ability.shape[1]):
            better &= ability[None, :, column] >= ability[rows, None, column]
        # Equals beat each other: only the earlier one counts.
        same = (price[None, :] == price[rows, None]) & endless[rows, None]
        for column in range(ability.shape[1]):
            same &= ability[None, :, column] == ability[rows, None, column]
        same &= kinds[alive[rows]][:, None] == kinds[alive][None, :]
        later = np.arange(len(alive))[None, :] >= np.arange(len(alive))[rows, None]
        beaten[rows] = (better & ~(same & later)).any(axis=1)
    return beaten


def _subsets(compatible: Bools, kinds: Ints) -> Bools:
    """Return, per pair of kinds of columns, whether the first holds no class that the second
    lacks.
    """
    _, representative = np.unique(kinds, return_index=True)
    columns = compatible[:, representative].astype(np.float64)
    shared = columns.T @ columns
    return np.asarray(shared >= columns.sum(axis=0)[:, None])
