"""Make good bins better: the cheapest type for what each holds, and weak bins emptied into the
rest.

A weak bin is one whose pods are worth little for its price. A few weak bins at a time are taken
out, their pods go where other bins have room left, and what does not fit is packed anew; the
change stays if it saves. Which bins are taken out follows a fixed seed, so that the same problem
gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outrider.core.packing.bins import Bins
from outrider.core.packing.fill import in_own_order
from outrider.core.packing.greedy import Stock, cover
from outrider.core.packing.problem import UNBOUNDED, Floats, Ints, Problem

SAVES = 1e-9  # of the price: less is rounding
SEED = 20
PAIRS = 150  # patterns up to which every pair is tried as one bin
SHAKES = (0.0, 0.1, 0.4)  # how much the worth of pods is shaken when they are packed anew


def retyped(problem: Problem, bins: Bins) -> Bins:
    """Return *bins*, each of the cheapest type that holds its pods and takes no more of any
    limit.
    """
    if not len(bins.types):
        return bins
    used = bins.counts @ problem.requests
    holds = ((bins.counts > 0).astype(np.float64) @ ~problem.compatible) == 0
    for resource in range(used.shape[1]):
        holds &= used[:, resource, None] <= problem.allocatable[:, resource]
    for limit in range(len(problem.limits)):
        holds &= problem.usage[:, limit] <= problem.usage[bins.types, limit, None]
    holds &= problem.supply == UNBOUNDED
    price = np.where(holds, problem.price, np.inf)
    cheapest = price.argmin(axis=1)
    saves = price[np.arange(len(cheapest)), cheapest] < problem.price[bins.types]
    return Bins(np.where(saves, cheapest, bins.types), bins.counts, bins.times)


@dataclass(frozen=True, slots=True)
class Repair:
    """How much repair to do: how many tries, and how many bins are taken out at most."""

    tries: int
    most: int = 8


def repaired(
    problem: Problem,
    bins: Bins,
    worths: tuple[Floats, ...],
    types: Ints,
    repair: Repair,
    expired: Callable[[], bool],
) -> Bins:
    """Return *bins* after weak ones were emptied, where that saved; pods are valued at *worths*."""
    dice = np.random.default_rng(SEED)
    best = joined(problem, retyped(problem, bins))
    for attempt in range(repair.tries):
        if expired() or len(best.types) < 2:
            break
        worth = worths[attempt % len(worths)]
        best = _once(problem, best, worth, types, repair.most, dice)
    return best.merged()


def joined(problem: Problem, bins: Bins) -> Bins:
    """Return *bins* with pairs put into one bin wherever a type holds both and costs less."""
    plain = problem.supply == UNBOUNDED
    plain &= ~(problem.usage > 0).any(axis=1)
    types = np.flatnonzero(plain)
    types = types[np.argsort(problem.price[types], kind="stable")]
    if not len(types) or len(bins.types) > PAIRS:
        return bins
    while True:
        used = bins.counts @ problem.requests
        lacking = (bins.counts > 0).astype(np.float64) @ ~problem.compatible[:, types]
        one, other = np.triu_indices(len(bins.types))
        both = (lacking[one] + lacking[other]) == 0
        for resource in range(used.shape[1]):
            together = used[one, resource] + used[other, resource]
            both &= together[:, None] <= problem.allocatable[types, resource]
        both[(one == other) & (bins.times[one] < 2)] = False
        price = np.where(both.any(axis=1), problem.price[types[both.argmax(axis=1)]], np.inf)
        saving = problem.price[bins.types[one]] + problem.price[bins.types[other]] - price
        best = int(saving.argmax()) if len(saving) else 0
        if not len(saving) or saving[best] <= SAVES * bins.price(problem.price):
            return bins
        first, second = one[best], other[best]
        copies = bins.times[first] // 2 if first == second else bins.times[[first, second]].min()
        times = bins.times.copy()
        times[first] -= copies
        times[second] -= copies
        pair = Bins(
            types[both[best].argmax()].reshape(1),
            (bins.counts[first] + bins.counts[second]).reshape(1, -1),
            np.array([copies]),
        )
        bins = Bins(bins.types, bins.counts, times).plus(pair).merged()


def _once(
    problem: Problem, bins: Bins, worth: Floats, types: Ints, most: int, dice: np.random.Generator
) -> Bins:
    """Return *bins* with a few weak ones taken out and their pods packed anew, if that saves."""
    yield_ = (bins.counts @ worth) / np.maximum(problem.price[bins.types], 1e-9)
    lottery = dice.exponential(size=len(yield_))
    weakest = np.argsort(yield_ - 0.08 * lottery, kind="stable")
    out = weakest[: int(dice.integers(2, most + 1))]
    copies = np.minimum(bins.times[out], dice.integers(1, 3, size=len(out)))
    freed = copies @ bins.counts[out]
    times = bins.times.copy()
    times[out] -= copies
    rest = Bins(bins.types, bins.counts, times).merged()
    rest, left = inserted(problem, rest, freed, worth)
    shaken = worth * np.exp(dice.normal(scale=dice.choice(SHAKES), size=len(worth)))
    anew = cover(problem, shaken, types, left, Stock.of(problem, rest))
    if (anew.packed() < left).any():
        return bins
    changed = retyped(problem, rest.plus(anew))
    gain = bins.price(problem.price) - changed.price(problem.price)
    return changed.merged() if gain > SAVES * bins.price(problem.price) else bins


def inserted(problem: Problem, bins: Bins, pods: Floats, worth: Floats) -> tuple[Bins, Floats]:
    """Return *bins* with as many of *pods* as they have room for, and the pods left."""
    left = pods.copy()
    if not len(bins.types):
        return bins, left
    order = np.argsort(-worth, kind="stable")
    while left.any():
        offered = order[left[order] > 0]
        spare = problem.allocatable[bins.types] - bins.counts @ problem.requests
        smallest = problem.requests[offered].min(axis=0)
        roomy = np.flatnonzero((spare >= smallest).all(axis=1))
        if not len(roomy):
            break
        start = bins.counts[roomy]
        most = np.where(problem.compatible[:, bins.types[roomy]], left[:, None] + start.T, 0.0)
        full = in_own_order(
            problem,
            bins.types[roomy],
            np.broadcast_to(offered, (len(roomy), len(offered))),
            most,
            start,
        )
        gain = (full - start) @ worth + (full - start).sum(axis=1) * 1e-12
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        taken = full[best] - start[best]
        inside = np.flatnonzero(taken)
        row = roomy[best]
        copies = min(bins.times[row], float(np.floor((left[inside] / taken[inside]).min())))
        left -= copies * taken
        times = bins.times.copy()
        times[row] -= copies
        bins = Bins(bins.types, bins.counts, times).plus(
            Bins(bins.types[row : row + 1], full[best : best + 1], np.array([copies]))
        )
        bins = Bins(bins.types, bins.counts, bins.times).merged()
    return bins, left
