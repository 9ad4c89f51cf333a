"""From the active types to all of them: what a bin of a type left aside could be worth at most.

A worth for every pod was found on a few types. For the proof no other type may hold contents
worth more than its price. Most are cleared in one array operation: a type whose classes all go on
an active one may value its room as that one does. What is not cleared is relaxed, and searched,
on its own.
"""

from __future__ import annotations

import numpy as np

from outrider.core.packing.bound import Charges
from outrider.core.packing.duals import Duals, alone, relax
from outrider.core.packing.pricing import Knapsacks
from outrider.core.packing.problem import Floats, Ints, Problem
from outrider.core.packing.reduce import only_types
from outrider.core.packing.search import search

WIDENINGS = 4  # how often types may be let in
CLEAR = 1.0 + 1e-7


def relaxed_on(problem: Problem, active: Ints) -> tuple[Duals, Ints, Floats]:
    """Return the relaxation of *problem*, the active types, and what contents are worth at most,
    [T].

    Types outside *active* that could lower the value are let in, until there are none.
    """
    most = alone(problem)
    for _ in range(WIDENINGS):
        duals = relax(only_types(problem, active))
        price = problem.price + problem.usage @ duals.limit
        price[active] += duals.scarcity[: len(active)]
        most_worth = most_worth_as(problem, most, active, duals.worth, duals.resource)
        open_ = np.setdiff1d(np.flatnonzero(most_worth > price * CLEAR), active)
        if len(open_):
            relaxed = Knapsacks(problem, open_, most).relaxed(duals.worth).value
            most_worth[open_] = np.minimum(most_worth[open_], relaxed)
            open_ = open_[most_worth[open_] > price[open_] * CLEAR]
        if not len(open_):
            break
        active = np.union1d(active, open_)
    return duals, active, most_worth


def lifted(
    problem: Problem, active: Ints, limit: Floats, resource: Floats
) -> tuple[Charges, Floats]:
    """Return what pods of *problem* may be worth when room on *active* types is, and each type's
    worth.

    For classes that were put together: each is worth the room it really takes where that is
    least.
    """
    size = np.where(problem.compatible[:, active], problem.requests @ resource.T, np.inf)
    worth = size.min(axis=1)
    worth[~np.isfinite(worth)] = 0.0
    most = alone(problem)
    most_worth = most_worth_as(problem, most, active, worth, resource)
    open_ = np.flatnonzero(most_worth > (problem.price + problem.usage @ limit) * CLEAR)
    open_ = np.setdiff1d(open_, active)
    if len(open_):
        relaxed = Knapsacks(problem, open_, most).relaxed(worth).value
        most_worth[open_] = np.minimum(most_worth[open_], relaxed)
    return Charges(worth, limit), most_worth


def most_worth_as(
    problem: Problem, most: Floats, active: Ints, worth: Floats, resource: Floats
) -> Floats:
    """Return what contents of each type are worth at most when room is valued as on an active type.

    *resource* is what each resource is worth on each of *active*, [A, R]. A type is valued by every
    active type that takes all its classes, and by itself if it is active.
    """
    profit = worth[:, None] - problem.requests @ resource.T  # [S, A]
    own = (problem.allocatable[active] * resource).sum(axis=1)
    own += (np.maximum(profit, 0.0) * most[:, active]).sum(axis=0)
    covers = (problem.compatible.T.astype(np.float64) @ ~problem.compatible[:, active]) == 0
    value = problem.allocatable @ resource.T + most.T @ np.maximum(profit, 0.0)  # [T, A]
    value = np.where(covers, value, np.inf)
    value[active, np.arange(len(active))] = np.minimum(value[active, np.arange(len(active))], own)
    return np.asarray(value.min(axis=1))


def most_worth_outside(problem: Problem, active: Ints, charges: Charges, width: int) -> Floats:
    """Return what contents of the types outside *active* are worth at most, [T]; 0 for the
    active.
    """
    most_worth = np.zeros(len(problem.price))
    outside = np.setdiff1d(np.arange(len(problem.price)), active)
    if not len(outside):
        return most_worth
    most = alone(problem)
    price = (problem.price + problem.usage @ charges.limit)[outside]
    relaxed = Knapsacks(problem, outside, most).relaxed(charges.worth)
    found = search(problem, outside, most, charges.worth, relaxed, price, width)
    most_worth[outside] = np.minimum(relaxed.value, found.bound)
    return most_worth
