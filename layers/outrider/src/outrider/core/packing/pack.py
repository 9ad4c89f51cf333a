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
from dataclasses import dataclass, field, replace

import numpy as np

from outrider.core.packing.bins import Bins, trimmed
from outrider.core.packing.bound import Charges, proof
from outrider.core.packing.certify import lifted, most_worth_outside, relaxed_on
from outrider.core.packing.coarse import Coarse, coarsened, refined
from outrider.core.packing.columns import Budget, Generated, generate
from outrider.core.packing.duals import Duals, alone
from outrider.core.packing.greedy import Stock, active_types, cover, worth_alone
from outrider.core.packing.pricing import Contents
from outrider.core.packing.problem import Floats, Ints, Left, Packing, Pattern, Problem, Shortage
from outrider.core.packing.reduce import Reduced, holds, only_types, reduced
from outrider.core.packing.retype import Repair, repaired, retyped
from outrider.core.packing.rounding import cheapest, rounded

WIDENINGS = 2  # how often types outside the active ones may be let in
WORTH_IT = 1.001  # worth so much more than its price, contents of a type outside matter


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work may go into a packing, in counted steps."""

    pricing: Budget
    deeper: tuple[Budget, ...]
    repair: Repair
    gap: float = 0.002
    classes: int = 120
    active: int = 20
    outside: int = 300  # partial contents kept when a type outside the active ones is searched
    all_types: int = 1500  # classes x types up to which all types are active

    @classmethod
    def of(cls, pods: float) -> Effort:
        """Return the default effort for so many *pods*."""
        if pods <= 30:
            return cls(Budget(100_000, (100,)), (), Repair(30))
        if pods <= 100:
            return cls(Budget(150_000, (100,)), (), Repair(6))
        if pods <= 1_000:
            return cls(Budget(3_800_000, (300, 3_000, 60_000)), (), Repair(10))
        return cls(Budget(12_000_000, (300, 3_000, 60_000)), (), Repair(5))

    @classmethod
    def thorough(cls) -> Effort:
        """Return the effort of a planner that has twenty seconds."""
        return cls(
            Budget(250_000_000, (300, 3_000, 60_000)),
            (Budget(2_000_000, (300, 3_000)),) * 2,
            Repair(400),
            gap=5e-4,
            classes=160,
            active=30,
            all_types=4000,
        )


def never() -> bool:
    """Return that time is not up."""
    return False


def pack(
    problem: Problem, expired: Callable[[], bool] = never, effort: Effort | None = None
) -> Packing:
    """Return the best packing of *problem* within *effort*; *expired* is the last resort."""
    *_, last = stages(problem, expired, effort)
    return last


@dataclass(frozen=True, slots=True)
class _Known:
    """One proof: charges, and what contents of each type are worth at most under them."""

    charges: Charges
    most_worth: Floats


@dataclass(slots=True)
class _Best:
    """The best bins so far, on the classes and types that matter, and the proofs known."""

    whole: Problem
    part: Reduced
    bins: Bins
    proofs: list[_Known]
    listed: tuple[Problem, _Known] | None = None  # the same for what is paid, if that differs
    stage: str = "none"
    steps: dict[str, int] = field(default_factory=dict)

    def offer(self, bins: Bins, stage: str) -> None:
        """Take *bins* if they are better."""
        problem = self.part.problem
        bins = retyped(problem, trimmed(bins, problem.demand)).merged()
        if cheapest(problem, problem.demand, [self.bins, bins]) is bins:
            self.bins, self.stage = bins, stage

    def bound(self) -> float:
        """Return the best bound on what is minimised, for the pods that are packed."""
        problem = self.part.problem
        shown = [_shown(problem, problem.price, self.bins, one) for one in self.proofs]
        return max([self._dearest(self.part.least), *shown])

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
            shown.append(_shown(listed, listed.price, self.bins, known))
        extra = problem.price - problem.list_price
        if len(extra) and float(np.ptp(extra)) <= 1e-9 * float(problem.price.max()):
            # The same types are unbeaten at both prices: what was proven for one serves both.
            shown += [_shown(problem, problem.list_price, self.bins, one) for one in self.proofs]
        return max(shown)


def _shown(problem: Problem, price: Floats, bins: Bins, known: _Known) -> float:
    """Return the bound that *known* shows on packing what *bins* hold at *price*."""
    demand = np.minimum(problem.demand, bins.packed())
    return proof(problem, price, demand, known.charges, known.most_worth).bound


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
    active = _active(small, worth, effort)
    first = cover(small, worth, active, small.demand, Stock.of(small))
    members = worth if small is part.problem else worth_alone(part.problem)
    best.offer(refined(part.problem, coarse, first, members), "greedy")
    yield best.packing()
    if best.gap() <= effort.gap or expired():
        return

    duals, active, known = _relaxed(part.problem, coarse, active)
    best.proofs.append(known)
    if (part.problem.price != part.problem.list_price).any():
        best.listed = _listed(problem, effort)
    by_duals = cover(small, duals.worth, active, small.demand, Stock.of(small))
    best.offer(refined(part.problem, coarse, by_duals, members), "duals")
    yield best.packing()
    if best.gap() <= effort.gap or expired():
        return

    generated, shown = _generated(small, active, first.plus(by_duals), duals, effort, expired)
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


def _active(problem: Problem, worth: Floats, effort: Effort) -> Ints:
    """Return the types to begin with: all of a small problem, the promising ones of a large one."""
    if problem.compatible.size <= effort.all_types:
        return np.arange(len(problem.price))
    return active_types(problem, worth, effort.active)


def _relaxed(whole: Problem, coarse: Coarse, active: Ints) -> tuple[Duals, Ints, _Known]:
    """Return the relaxation of the coarse problem, its active types, and the proof for the
    *whole*.
    """
    duals, active, most_worth = relaxed_on(coarse.problem, active)
    if coarse.problem is whole:
        return duals, active, _Known(Charges(duals.worth, duals.limit), most_worth)
    return duals, active, _Known(*lifted(whole, active, duals.limit, duals.resource))


def _listed(problem: Problem, effort: Effort) -> tuple[Problem, _Known]:
    """Return the part of *problem* that matters to what is paid, and a proof about that."""
    whole = reduced(replace(problem, price=problem.list_price)).problem
    coarse = coarsened(whole, effort.classes)
    active = _active(coarse.problem, worth_alone(coarse.problem), effort)
    return whole, _relaxed(whole, coarse, active)[2]


def _generated(
    problem: Problem,
    active: Ints,
    known: Bins,
    duals: Duals,
    effort: Effort,
    expired: Callable[[], bool],
) -> tuple[Generated, _Known]:
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
    return replace(generated, contents=contents), _Known(generated.proven, most_worth)


def _at(types: Ints, known: Ints, values: Floats) -> Floats:
    """Return for *types* the *values* of those *known*, and 0 for the others."""
    placed = np.zeros(len(types))
    placed[np.searchsorted(types, known)] = values
    return placed


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
