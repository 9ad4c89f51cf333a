"""Column generation: ever better contents of bins, until no others could lower the price.

The master program buys bins by known contents in fractions; its duals say what a pod of each
class is worth now; pricing makes contents worth more than their bin. Duals are smoothed towards
the best proof so far, because those of a master with few columns swing. At first contents come
from filling alone; once that finds nothing, the search proves how much any contents could be
worth, and with that a bound. The work is counted in rounds; the clock is asked only as a last
resort.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outrider.core.packing.bins import Bins
from outrider.core.packing.bound import Charges, proof
from outrider.core.packing.duals import Duals
from outrider.core.packing.exact import exact
from outrider.core.packing.master import Master
from outrider.core.packing.pricing import Contents, Knapsacks, Relaxed
from outrider.core.packing.problem import Floats, Ints, Problem
from outrider.core.packing.search import search

SEARCHING = 2  # units of work for looking at partial contents in a search
FREE = 1e-9  # what a free bin counts, to divide by
PER_ROUND = 100  # columns added a round: more make the master slow, fewer make more rounds
TRIFLE = 1e-7  # of the price: a gain below it is rounding
CLOSE = 5e-4  # of the price: a master so close to its bound is solved
BETTER = 1e-5  # of the bound: a smaller step is not worth another round
NEAR = 1.01  # an objective so much above its bound may soon be proven
EXTENSION = 1.7  # times the work that may go into such a proof
PATIENCE = 6  # rounds without a better bound or a new column before giving up
DEEPEST = 3  # types that are looked at again when a bound is loose


@dataclass(frozen=True, slots=True)
class Budget:
    """How much pricing may cost: bins offered a class, and what a search keeps, in turn.

    A unit of *work* is about forty nanoseconds on a machine of 2020.
    """

    work: int
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """The master's last answer: known contents, bins bought in fractions, duals, and the bound."""

    contents: Contents
    times: Floats
    charges: Charges
    objective: float
    proven: Charges
    most_worth: Floats
    bound: float
    rounds: int


def generate(
    problem: Problem,
    first: Bins,
    duals: Duals,
    most: Floats,
    budget: Budget,
    expired: Callable[[], bool],
) -> Generated:
    """Generate columns from those of *first*, smoothing towards *duals*, within *budget*."""
    master = Master(problem, Contents(first.types, first.counts))
    pricing = _Pricing(problem, most, duals, budget)
    times, current = master.solve()
    while pricing.going(current.value) and not expired():
        contents = pricing.priced(current)
        if master.add(contents, _gainful(problem, contents, current), PER_ROUND):
            times, current = master.solve()
            pricing.work += master.work
            pricing.fruitless = 0
        else:
            pricing.go_deeper()
    return Generated(
        contents=master.contents,
        times=times,
        charges=Charges(current.worth, current.limit),
        objective=current.value,
        proven=Charges(pricing.centre.worth, pricing.centre.limit),
        most_worth=pricing.proven_worth,
        bound=pricing.bound,
        rounds=pricing.rounds,
    )


class _Pricing:
    """Where the pricing stands: how deep it goes, the best proof, and how far duals lean on it.

    Depth 0 only fills; depth 1 searches a little, for columns; depth 2 searches until the bound is
    as close as it can be at the duals it is given.
    """

    def __init__(self, problem: Problem, most: Floats, duals: Duals, budget: Budget) -> None:
        """Begin with *duals* as the best proof."""
        self.problem, self.most, self.budget = problem, most, budget
        self.knapsacks = Knapsacks(problem, np.arange(len(problem.price)), most)
        self.centre, self.bound = duals, duals.value
        self.proven_worth = np.full(len(problem.price), np.inf)
        self.rounds = self.work = self.depth = self.fruitless = 0
        self.smoothing = 0.5
        self.better = False
        self.most_work = float(budget.work)

    def going(self, objective: float) -> bool:
        """Return whether another round is worth it at the master's *objective*.

        Where bound and objective are near each other a proof is near as well, and worth more work.
        """
        near = self.bound * NEAR > objective
        self.most_work = self.budget.work * (EXTENSION if near else 1.0)
        return (
            self.work < self.most_work
            and self.fruitless < PATIENCE
            and self.bound < objective * (1.0 - CLOSE)
        )

    def priced(self, current: Duals) -> Contents:
        """Return contents worth more than their bins at duals between the centre and *current*."""
        self.rounds += 1
        problem = self.problem
        at = _between(self.centre, current, self.smoothing)
        price = problem.price + problem.usage @ at.limit + at.scarcity
        relaxed = self.knapsacks.relaxed(at.worth)
        contents, filling = self.knapsacks.filled(at.worth, relaxed, price)
        self.work += filling + relaxed.work
        self.better = False
        if not self.depth:
            return contents
        sought = _Sought(problem, self.most, at, relaxed, price, contents)
        self._search(sought, at)
        shown = proof(
            problem, problem.price, problem.demand, Charges(at.worth, at.limit), sought.bound
        )
        self.better = shown.bound > self.bound * (1.0 + BETTER)
        if self.better:
            self.bound = shown.bound
            self.proven_worth = sought.bound * _scale(at.worth, shown.charges.worth)
            self.centre = Duals(
                shown.charges.worth,
                shown.charges.limit,
                shown.scarcity,
                relaxed.resource,
                shown.bound,
            )
        return contents.plus(sought.found)

    def _search(self, sought: _Sought, at: Duals) -> None:
        """Search as deep as the stage allows, and no deeper than a better bound asks for."""
        widths = self.budget.widths if self.depth > 1 else self.budget.widths[:1]
        most = float(at.worth @ self.problem.demand) / self.bound if self.bound > 0 else np.inf
        for turn, width in enumerate(widths):
            hopeless = sought.best() * (1.0 + CLOSE) >= most
            if turn and (hopeless or self.work + SEARCHING * sought.work > self.most_work):
                break
            sought.search(width, (self.most_work - self.work) / SEARCHING - sought.work)
        else:
            if self.depth > 1 and sought.best() * (1.0 + CLOSE) < most:
                self.work += sought.solve(self.most_work - self.work - SEARCHING * sought.work)
        self.work += SEARCHING * sought.work

    def go_deeper(self) -> None:
        """Take the next step after a round without columns: deeper, or other duals."""
        if self.depth < 2:
            self.depth += 1
            self.smoothing = 0.5 if self.depth == 1 else 0.3
        elif self.better:
            self.smoothing *= 0.5
        else:
            self.smoothing = min(0.9, 1.0 - (1.0 - self.smoothing) * 0.6)
            self.fruitless += 1


def _scale(worth: Floats, scaled: Floats) -> float:
    """Return by how much *scaled* exceeds *worth*."""
    top = int(worth.argmax())
    return float(scaled[top] / worth[top]) if worth[top] > 0 else 1.0


def _between(centre: Duals, current: Duals, smoothing: float) -> Duals:
    """Return duals between *centre* and *current*, *smoothing* of the way to the centre."""
    rest = 1.0 - smoothing
    return Duals(
        smoothing * centre.worth + rest * current.worth,
        smoothing * centre.limit + rest * current.limit,
        smoothing * centre.scarcity + rest * current.scarcity,
        centre.resource,
        smoothing * centre.value + rest * current.value,
    )


def _gainful(problem: Problem, contents: Contents, duals: Duals) -> Ints:
    """Return the rows of *contents* that would lower the master's price, the best first."""
    price = problem.price + problem.usage @ duals.limit + duals.scarcity
    asked = price[contents.types]
    gain = contents.counts @ duals.worth - asked
    per_dollar = gain / np.maximum(asked, 1e-9)
    rows = np.flatnonzero(gain > TRIFLE * np.maximum(asked, 1e-9))
    return rows[np.argsort(-per_dollar[rows], kind="stable")]


class _Sought:
    """What a search at some duals has found so far, and what no contents are worth more than."""

    def __init__(
        self,
        problem: Problem,
        most: Floats,
        at: Duals,
        relaxed: Relaxed,
        price: Floats,
        contents: Contents,
    ) -> None:
        """Begin with the *contents* that are known, at what the types cost, charges included."""
        self._problem, self._most, self._at, self._relaxed = problem, most, at, relaxed
        self.floor = np.maximum(price, FREE)
        self._known = np.zeros(len(price))
        self._remember(contents)
        self.bound = np.maximum(relaxed.value, self._known)
        self.found = Contents(np.zeros(0, dtype=np.int64), np.zeros((0, len(at.worth))))
        self.work = 0
        self._turn = 0

    def best(self) -> float:
        """Return the best known ratio of what contents are worth to what their bin costs."""
        return float((self._known / self.floor).max())

    def search(self, width: int, most_work: float) -> None:
        """Search the types whose bound is above the best ratio: all at first, then the loosest."""
        best = self.best()
        loose = np.flatnonzero(self.bound / self.floor > best * (1.0 + CLOSE))
        if not len(loose):
            return
        if self._turn:
            order = np.argsort(-(self.bound / self.floor)[loose], kind="stable")
            loose = loose[order[:DEEPEST]]
        self._turn += 1
        target = np.full(len(self.floor), np.inf)
        target[loose] = self.floor[loose] * best * (1.0 + CLOSE / 2)
        answer = search(
            self._problem,
            np.arange(len(self.floor)),
            self._most,
            self._at.worth,
            self._relaxed,
            target,
            width,
            most_work,
        )
        self.bound[loose] = np.minimum(self.bound[loose], answer.bound[loose])
        self.found = self.found.plus(answer.contents)
        self.work += answer.work
        self._remember(answer.contents)
        self.bound = np.maximum(self.bound, self._known)

    def solve(self, most_work: float) -> int:
        """Ask the solver for the loosest types, as long as there is work left; return the work."""
        work = 0
        for _ in range(DEEPEST):
            best = self.best()
            ratio = self.bound / self.floor
            kind = int(ratio.argmax())
            if ratio[kind] <= best * (1.0 + CLOSE) or work >= most_work:
                break
            target = self.floor * best * (1.0 + CLOSE / 2)
            answer = exact(
                self._problem, np.array([kind]), self._most, self._at.worth, self._relaxed, target
            )
            tighter = float(answer.bound[kind])
            work += answer.work
            self.found = self.found.plus(answer.contents)
            self._remember(answer.contents)
            stuck = tighter >= self.bound[kind]
            self.bound[kind] = min(self.bound[kind], tighter)
            self.bound = np.maximum(self.bound, self._known)
            if stuck:
                break
        return work

    def _remember(self, contents: Contents) -> None:
        """Keep what the best of *contents* are worth, by type."""
        np.maximum.at(self._known, contents.types, contents.counts @ self._at.worth)
