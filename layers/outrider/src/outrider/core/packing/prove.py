"""Proofs: charges, what they show, and how they are come by; and a bound alone.

Decides which types a proof begins with and which are let in, and what is proven for all types from
what was found on a few. `proven` bounds a problem without packing it: the same reduction, resource
relaxation and column generation as a packing has, and nothing of its rounding and repair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from outrider.core.packing.bins import Bins
from outrider.core.packing.bound import Charges, proof
from outrider.core.packing.certify import lifted, most_worth_outside, relaxed_on
from outrider.core.packing.coarse import Coarse, coarsened
from outrider.core.packing.columns import Generated, generate
from outrider.core.packing.duals import Duals, alone
from outrider.core.packing.effort import Effort
from outrider.core.packing.greedy import Stock, active_types, cover, worth_alone
from outrider.core.packing.pricing import Contents
from outrider.core.packing.problem import Floats, Ints, Problem
from outrider.core.packing.reduce import only_types, reduced

WIDENINGS = 2  # how often types outside the active ones may be let in
WORTH_IT = 1.001  # worth so much more than its price, contents of a type outside matter


@dataclass(frozen=True, slots=True)
class Known:
    """One proof: charges, and what contents of each type are worth at most under them."""

    charges: Charges
    most_worth: Floats

    def bound(self, problem: Problem, price: Floats, demand: Floats) -> float:
        """Return what this shows on packing *demand* of *problem* at *price*."""
        return proof(problem, price, demand, self.charges, self.most_worth).bound


def active_of(problem: Problem, worth: Floats, effort: Effort) -> Ints:
    """Return the types to begin with: all of a small problem, the promising ones of a large one."""
    if problem.compatible.size <= effort.all_types:
        return np.arange(len(problem.price))
    return active_types(problem, worth, effort.active)


def relaxed(whole: Problem, coarse: Coarse, active: Ints) -> tuple[Duals, Ints, Known]:
    """Return the relaxation of the coarse problem, its active types, and the proof for the
    *whole*.
    """
    duals, active, most_worth = relaxed_on(coarse.problem, active)
    if coarse.problem is whole:
        return duals, active, Known(Charges(duals.worth, duals.limit), most_worth)
    return duals, active, Known(*lifted(whole, active, duals.limit, duals.resource))


def listed(problem: Problem, effort: Effort) -> tuple[Problem, Known]:
    """Return the part of *problem* that matters to what is paid, and a proof about that."""
    whole = reduced(replace(problem, price=problem.list_price)).problem
    coarse = coarsened(whole, effort.classes)
    active = active_of(coarse.problem, worth_alone(coarse.problem), effort)
    return whole, relaxed(whole, coarse, active)[2]


def with_columns(
    problem: Problem,
    active: Ints,
    known: Bins,
    duals: Duals,
    effort: Effort,
    expired: Callable[[], bool],
) -> tuple[Generated, Known]:
    """Return columns for *problem*, in the numbers of all its types, and what they prove.

    They are made on the *active* types; those outside that turn out to be worth it are let in.
    """
    budget = effort.pricing
    for _ in range(WIDENINGS):
        part = only_types(problem, active)
        named = Bins(np.searchsorted(active, known.types), known.counts, known.times)
        generated = generate(part, named, duals, alone(part), budget, expired)
        most_worth = most_worth_outside(problem, active, generated.proven, effort.outside)
        base = problem.price + problem.usage @ generated.proven.limit
        worth_it = np.flatnonzero(most_worth > base * WORTH_IT)
        most_worth[active] = generated.most_worth
        contents = Contents(active[generated.contents.types], generated.contents.counts)
        if not len(worth_it) or expired():
            break
        known = Bins(contents.types, contents.counts, generated.times)
        wider = np.union1d(active, worth_it)
        duals = replace(duals, scarcity=_at(wider, active, duals.scarcity))
        active = wider
        budget = replace(budget, work=budget.work // 4)
    return replace(generated, contents=contents), Known(generated.proven, most_worth)


def _at(types: Ints, known: Ints, values: Floats) -> Floats:
    """Return for *types* the *values* of those *known*, and 0 for the others."""
    placed = np.zeros(len(types))
    placed[np.searchsorted(types, known)] = values
    return placed


def proven(problem: Problem, expired: Callable[[], bool], effort: Effort, enough: float) -> float:
    """Return a price that no packing of the pods of *problem* is paid less than.

    A bound of *enough* is not raised any further.
    """
    part = reduced(problem)
    best = float(part.least.max(initial=0.0))
    if not len(part.classes) or best >= enough or expired():
        return best
    whole = part.problem
    coarse = coarsened(whole, effort.classes)
    small = coarse.problem
    worth = worth_alone(small)
    duals, active, known = relaxed(whole, coarse, active_of(small, worth, effort))
    best = max(best, known.bound(whole, whole.price, whole.demand))
    if best >= enough * (1.0 - effort.gap) or small is not whole or expired():
        return best
    first = cover(small, worth, active, small.demand, Stock.of(small))
    _, known = with_columns(small, active, first, duals, effort, expired)
    return max(best, known.bound(whole, whole.price, whole.demand))
