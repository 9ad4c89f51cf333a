"""The door: the cheapest bins for a problem, better with every stage, each stage a complete
answer.

Stages, in order: `greedy` (patterns that serve most worth per dollar), `duals` (the same by the
worth of the resource relaxation, which also gives the first bound), `columns` (column generation
and rounding), `repair` (weak bins emptied). Work is counted in rounds and tries, so the answer is
the same on every machine; the clock behind `expired` is only asked so that nothing runs for ever.
It stops early when price and bound are within the gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from outrider.core.packing.bins import Bins, trimmed
from outrider.core.packing.coarse import coarsened, refined
from outrider.core.packing.effort import Effort
from outrider.core.packing.greedy import Stock, cover, worth_alone
from outrider.core.packing.problem import Floats, Left, Packing, Pattern, Problem, Shortage
from outrider.core.packing.prove import Known, active_of, listed, relaxed, with_columns
from outrider.core.packing.reduce import Reduced, holds, reduced
from outrider.core.packing.retype import repaired, retyped
from outrider.core.packing.rounding import cheapest, covered, rounded


def never() -> bool:
    """Return that time is not up."""
    return False


def pack(
    problem: Problem, expired: Callable[[], bool] = never, effort: Effort | None = None
) -> Packing:
    """Return the best packing of *problem* within *effort*; *expired* is the last resort."""
    *_, last = stages(problem, expired, effort)
    return last


@dataclass(slots=True)
class _Best:
    """The best bins so far, on the classes and types that matter, and the proofs known."""

    whole: Problem
    part: Reduced
    bins: Bins
    proofs: list[Known]
    listed: tuple[Problem, Known] | None = None  # the same for what is paid, if that differs
    stage: str = "none"
    steps: dict[str, int] = field(default_factory=dict)

    def offer(self, bins: Bins, stage: str) -> None:
        """Take *bins* if they are better."""
        problem = self.part.problem
        bins = _completed(problem, retyped(problem, trimmed(bins, problem.demand))).merged()
        if cheapest(problem, problem.demand, [self.bins, bins]) is bins:
            self.bins, self.stage = bins, stage

    def bound(self) -> float:
        """Return the best bound on what is minimised, for the pods that are packed."""
        problem = self.part.problem
        shown = [one.bound(problem, problem.price, self._demand) for one in self.proofs]
        return max([self._dearest(self.part.least), *shown])

    @property
    def _demand(self) -> Floats:
        """Return the pods that are packed, by class."""
        return np.minimum(self.part.problem.demand, self.bins.packed())

    def _dearest(self, least: Floats) -> float:
        """Return the price of the dearest bin that some packed pod needs at *least*."""
        return float(least[self.bins.packed() > 0].max(initial=0.0))

    def gap(self) -> float:
        """Return how far above its bound the price that is minimised is.

        While pods are left out it is not known: other bins may have room for them under the limits.
        """
        if (self.bins.packed() < self.part.problem.demand).any():
            return np.inf
        price, bound = self.bins.price(self.part.problem.price), self.bound()
        if price <= bound:
            return 0.0
        return price / bound - 1.0 if bound > 0 else np.inf

    def packing(self) -> Packing:
        """Return the answer in the terms of the whole problem."""
        part, bins = self.part, self.bins
        patterns = tuple(
            Pattern(
                bin_type=int(part.types[kind]),
                counts=tuple(
                    (int(part.classes[one]), int(counts[one])) for one in np.flatnonzero(counts)
                ),
                times=int(times),
            )
            for kind, counts, times in zip(bins.types, bins.counts, bins.times, strict=True)
        )
        list_price = bins.price(part.problem.list_price)
        return Packing(
            patterns=patterns,
            left=_left(self.whole, part, bins),
            price=bins.price(part.problem.price),
            list_price=list_price,
            bound=min(list_price, self._list_bound()),
            stage=self.stage,
            steps=dict(self.steps),
        )

    def _list_bound(self) -> float:
        """Return the best bound on what is paid, for the pods that are packed."""
        problem = self.part.problem
        if (problem.price == problem.list_price).all():
            return self.bound()
        shown = [self._dearest(self.part.least_listed)]
        if self.listed is not None:
            listed, known = self.listed
            shown.append(known.bound(listed, listed.price, self._demand))
        extra = problem.price - problem.list_price
        if len(extra) and float(np.ptp(extra)) <= 1e-9 * float(problem.price.max()):
            # The same types are unbeaten at both prices: what was proven for one serves both.
            shown += [one.bound(problem, problem.list_price, self._demand) for one in self.proofs]
        return max(shown)


def stages(
    problem: Problem, expired: Callable[[], bool] = never, effort: Effort | None = None
) -> Iterator[Packing]:
    """Yield ever better packings of *problem*, one a stage; the last is the answer."""
    effort = effort or Effort.of(problem.pods)
    part = reduced(problem)
    best = _Best(problem, part, Bins.none(len(part.classes)), [])
    if not len(part.classes):
        yield best.packing()
        return
    coarse = coarsened(part.problem, effort.classes)
    small = coarse.problem
    worth = worth_alone(small)
    active = active_of(small, worth, effort)
    first = cover(small, worth, active, small.demand, Stock.of(small))
    members = worth if small is part.problem else worth_alone(part.problem)
    best.offer(refined(part.problem, coarse, first, members), "greedy")
    yield best.packing()
    if best.gap() <= effort.gap or expired():
        return

    duals, active, known = relaxed(part.problem, coarse, active)
    best.proofs.append(known)
    if (part.problem.price != part.problem.list_price).any():
        best.listed = listed(problem, effort)
    by_duals = cover(small, duals.worth, active, small.demand, Stock.of(small))
    best.offer(refined(part.problem, coarse, by_duals, members), "duals")
    yield best.packing()
    if best.gap() <= effort.gap or expired():
        return

    generated, shown = with_columns(small, active, first.plus(by_duals), duals, effort, expired)
    best.steps["rounds"] = generated.rounds
    if small is part.problem:
        best.proofs.append(shown)
    whole_bins = rounded(small, generated, worth, effort.deeper, expired)
    best.offer(refined(part.problem, coarse, whole_bins, members), "columns")
    yield best.packing()
    if best.gap() <= effort.gap or expired() or small is not part.problem:
        return

    worths = (members, generated.charges.worth)
    best.offer(repaired(part.problem, best.bins, worths, active, effort.repair, expired), "repair")
    yield best.packing()


def _completed(problem: Problem, bins: Bins) -> Bins:
    """Return *bins* and what else can be bought for pods that they leave out.

    A type that took another's place may use less of a limit, so that there is room once more.
    """
    left = problem.demand - np.minimum(bins.packed(), problem.demand)
    if not left.any():
        return bins
    return bins.plus(covered(problem, bins, left, worth_alone(problem)))


def _left(problem: Problem, part: Reduced, bins: Bins) -> tuple[Left, ...]:
    """Return the pods that *bins* leave out, and what keeps them out."""
    packed = np.zeros(len(problem.demand))
    packed[part.classes] = bins.packed()
    out = np.flatnonzero(problem.demand - packed > 0.5)
    if not len(out):
        return ()
    named = Bins(
        part.types[bins.types], np.zeros((len(bins.types), len(problem.demand))), bins.times
    )
    stock = Stock.of(problem, named)
    fits = holds(problem)
    blocked = problem.usage > stock.room
    answers = []
    for one in out:
        types = np.flatnonzero(fits[one])
        count = int(problem.demand[one] - packed[one])
        in_stock = types[stock.supply[types] >= 1]
        if len(in_stock):
            limits = tuple(int(limit) for limit in np.flatnonzero(blocked[in_stock].any(axis=0)))
            answers.append(Left(int(one), count, Shortage.LIMIT, limits))
        else:
            shortage = Shortage.SUPPLY if len(types) else Shortage.NO_TYPE
            answers.append(Left(int(one), count, shortage))
    return tuple(answers)
