"""From fractions of bins to whole ones: round down, and pack what is left as a problem of its
own.

Rounding down keeps the larger part of a good fraction. The rest is small and has its own best
patterns, so it is covered greedily, and before that, as long as rounds remain, generated and
rounded down again. Of all the ways the cheapest stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from outrider.core.packing.bins import Bins
from outrider.core.packing.columns import Budget, Generated, generate
from outrider.core.packing.duals import Duals, alone
from outrider.core.packing.greedy import Stock, cover
from outrider.core.packing.problem import Floats, Problem

WHOLE = 1e-7  # a fraction so close below a whole number is that number


def rounded(
    problem: Problem,
    generated: Generated,
    worth: Floats,
    deeper: tuple[Budget, ...],
    expired: Callable[[], bool],
) -> Bins:
    """Return whole bins for the fractions of *generated*; *deeper* are the budgets for the rest.

    *worth* is the other scale, beside the duals, by which pods may be valued.
    """
    contents = generated.contents
    floor = Bins(contents.types, contents.counts, np.floor(generated.times + WHOLE)).merged()
    left = np.maximum(problem.demand - floor.packed(), 0.0)
    if not left.any():
        return floor
    rest = _rest(problem, floor, left)
    worths = (worth, generated.charges.worth)
    best = cheapest(
        problem,
        problem.demand,
        [floor.plus(covered(problem, floor, left, worth)) for worth in worths],
    )
    if not deeper or expired():
        return best
    first = covered(problem, floor, left, worths[0])
    if not len(first.types):
        return best
    start = Duals(
        generated.charges.worth,
        generated.charges.limit,
        np.zeros(len(problem.price)),
        np.zeros((0, 0)),
        0.0,
    )
    again = generate(rest, first, start, alone(rest), deeper[0], expired)
    below = rounded(rest, again, worth, deeper[1:], expired)
    return cheapest(problem, problem.demand, [best, floor.plus(below)])


def cheapest(problem: Problem, demand: Floats, candidates: list[Bins]) -> Bins:
    """Return the candidate that leaves the fewest pods of *demand* out, and of those the
    cheapest.
    """
    return min(
        candidates,
        key=lambda bins: (
            float(np.maximum(demand - bins.packed(), 0.0).sum()),
            bins.price(problem.price),
        ),
    )


def covered(problem: Problem, bought: Bins, left: Floats, worth: Floats) -> Bins:
    """Return bins for the pods *left* after *bought*."""
    return cover(problem, worth, np.arange(len(problem.price)), left, Stock.of(problem, bought))


def _rest(problem: Problem, bought: Bins, left: Floats) -> Problem:
    """Return the problem of the pods *left*, with what *bought* leaves of supply and limits."""
    stock = Stock.of(problem, bought)
    return replace(problem, demand=left, supply=stock.supply, limits=stock.room)
