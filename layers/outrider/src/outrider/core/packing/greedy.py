"""The first complete answer: the pattern that serves most worth per dollar, bought while it
lasts.

A pod's worth is what it costs in the cheapest bins of its own kind only; a pattern worth more
than its price is a saving over keeping the classes apart. All patterns are made at once, one for
every class that may come first and every active type; the best is bought as often as demand
allows, the others are cut down to what is left, and when they have lost too much they are made
anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider.core.packing.bins import Bins
from outrider.core.packing.duals import alone, unit_price
from outrider.core.packing.fill import in_one_order
from outrider.core.packing.problem import UNBOUNDED, Floats, Ints, Problem

MANY = 200  # classes from which on patterns are made anew less often
RENEW_MANY = 0.93
RENEW = 0.98  # patterns are made anew when the best has lost two percent of its worth per dollar
TRIALS = 400  # patterns made anew at a time
FREE = 1e-9  # what a bin without a price counts, as a share of the dearest: free bins come first


@dataclass(slots=True)
class Stock:
    """What may still be bought: bins of each type, and room under each limit."""

    supply: Floats
    room: Floats

    @classmethod
    def of(cls, problem: Problem, bins: Bins | None = None) -> Stock:
        """Return what *problem* has to sell after *bins* are bought."""
        stock = cls(problem.supply.copy(), problem.limits.copy())
        if bins is not None:
            for bin_type, times in zip(bins.types, bins.times, strict=True):
                stock.take(problem, int(bin_type), float(times))
        return stock

    def most(self, problem: Problem, bin_type: int) -> float:
        """Return how many more bins of *bin_type* may be bought."""
        usage = problem.usage[bin_type]
        uses = usage > 0
        within = np.floor(self.room[uses] / usage[uses]).min(initial=np.inf)
        return float(max(0.0, min(self.supply[bin_type], within)))

    def on_sale(self, problem: Problem, types: Ints) -> Ints:
        """Return those of *types* of which one more bin may be bought."""
        left = types[self.supply[types] >= 1]
        if not len(self.room):
            return left
        return left[(problem.usage[left] <= self.room).all(axis=1)]

    def take(self, problem: Problem, bin_type: int, times: float) -> None:
        """Buy *times* bins of *bin_type*."""
        self.supply[bin_type] -= times
        self.room -= problem.usage[bin_type] * times

    def sold_out(self, problem: Problem) -> bool:
        """Return whether no type at all can be bought any more."""
        return not len(self.on_sale(problem, np.arange(len(self.supply))))


def worth_alone(problem: Problem) -> Floats:
    """Return the least that a pod of each class costs in bins of its own kind that never run out.

    Where every type that holds the class is bounded, in those.
    """
    each = unit_price(problem, alone(problem))
    endless = np.where(problem.supply == UNBOUNDED, each, np.inf).min(axis=1, initial=np.inf)
    worth = np.where(np.isfinite(endless), endless, each.min(axis=1, initial=np.inf))
    return _positive(worth)


def active_types(problem: Problem, worth: Floats, extra: int) -> Ints:
    """Return the types worth looking at: each class's cheapest, the *extra* best fills, all
    bounded.
    """
    cheapest = np.unique(unit_price(problem, alone(problem)).argmin(axis=1))
    types = np.arange(len(problem.price))
    fills = in_one_order(problem, types, np.argsort(-worth, kind="stable"), problem.demand)
    per_dollar = (fills @ worth) / _counted(problem)
    best = np.argsort(-per_dollar, kind="stable")[:extra]
    return np.unique(np.concatenate([cheapest, best, np.flatnonzero(problem.supply != UNBOUNDED)]))


def cover(problem: Problem, worth: Floats, types: Ints, demand: Floats, stock: Stock) -> Bins:
    """Return bins of *types* for as much of *demand* as *stock* allows; *stock* is used up."""
    keep = RENEW if len(demand) <= MANY else RENEW_MANY
    left, worth = demand.copy(), _positive(worth)
    order = np.argsort(-worth, kind="stable")
    counted = _counted(problem)
    # What a pattern was worth per dollar when it was last made: as pods run out it only gets less,
    # so that the patterns that were best are the ones to make anew.
    hoped = np.full(problem.compatible.shape, np.inf)
    chosen: list[tuple[int, Floats, float]] = []
    while left.any():
        open_now = stock.on_sale(problem, types)
        pod_class, which = np.nonzero(problem.compatible[:, open_now] & (left[:, None] > 0))
        if not len(pod_class):
            break
        kinds = open_now[which]
        if len(kinds) > TRIALS:
            most = np.sort(np.argsort(-hoped[pod_class, kinds], kind="stable")[:TRIALS])
            if np.isfinite(hoped[pod_class[most], kinds[most]]).any():
                pod_class, kinds = pod_class[most], kinds[most]
        counts = np.ascontiguousarray(in_one_order(problem, kinds, order, left, pod_class).T)
        hoped[pod_class, kinds] = (worth @ counts) / counted[kinds]
        bought = _bought(problem, worth, counted[kinds], kinds, counts, left, stock, keep)
        if not bought:
            break
        chosen += bought
    if not chosen:
        return Bins.none(len(demand))
    kinds_, patterns, times = zip(*chosen, strict=True)
    return Bins(np.array(kinds_, dtype=np.int64), np.array(patterns), np.array(times))


def _bought(
    problem: Problem,
    worth: Floats,
    price: Floats,
    kinds: Ints,
    counts: Floats,
    left: Floats,
    stock: Stock,
    keep: float,
) -> list[tuple[int, Floats, float]]:
    """Buy the best of the patterns *counts* [S, P] while they are good; *left* and *stock*
    shrink.
    """
    per_dollar = (worth @ counts) / price
    at_most = counts.max(axis=1)
    least = keep * float(per_dollar.max())
    chosen: list[tuple[int, Floats, float]] = []
    while True:
        best = int(per_dollar.argmax())
        if per_dollar[best] <= 0 or per_dollar[best] < least:
            return chosen
        pattern, kind = counts[:, best].copy(), int(kinds[best])
        inside = np.flatnonzero(pattern)
        times = min(
            float(np.floor((left[inside] / pattern[inside]).min())), stock.most(problem, kind)
        )
        if times < 1:
            per_dollar[kinds == kind] = 0.0
            continue
        chosen.append((kind, pattern, times))
        stock.take(problem, kind, times)
        left[inside] -= times * pattern[inside]
        for pod_class in inside[left[inside] < at_most[inside]]:
            over = np.maximum(counts[pod_class] - left[pod_class], 0.0)
            counts[pod_class] -= over
            per_dollar -= over * worth[pod_class] / price
            at_most[pod_class] = left[pod_class]


def _positive(worth: Floats) -> Floats:
    """Return *worth* with a trifle for pods that cost nothing: they are to be placed too."""
    dearest = float(worth.max(initial=0.0))
    return np.maximum(worth, FREE * dearest if dearest > 0 else 1.0)


def _counted(problem: Problem) -> Floats:
    """Return the prices with the free ones raised to next to nothing, to divide by."""
    dearest = float(problem.price.max(initial=0.0))
    return np.maximum(problem.price, FREE * dearest if dearest > 0 else 1.0)
