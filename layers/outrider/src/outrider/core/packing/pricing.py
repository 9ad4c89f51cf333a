"""Which contents of a bin are worth more than the bin: one knapsack a type, all types at once.

The knapsacks are relaxed together in one linear program. Its value bounds each of them from above;
its duals say what every resource of a type is worth, and so in which order classes should go in.
Whole contents are then made by rounding the relaxed ones down and filling up, and by giving each
class in turn the first place. `search` closes the gap between the two where it matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider.core.packing.fill import common_and_rare, in_own_order
from outrider.core.packing.linear import INFINITY, Model, Sparse
from outrider.core.packing.problem import Floats, Ints, Problem

WHOLE = 1e-9  # a relaxed count so close below a whole number is that number
SMALL = 1e-12
OVERHEAD = 700  # units of work to offer a class at all, beside one for each bin
SOLVING = 300  # units of work of a step of the solver
TRIALS = 600  # contents tried at a time, beside the rounded ones


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The relaxed knapsacks: what each resource is worth [A, R], contents [A, S], the value [A]."""

    resource: Floats
    contents: Floats
    value: Floats
    work: int


@dataclass(frozen=True, slots=True)
class Contents:
    """Whole contents of bins: the type [P], the pods of each class [P, S]."""

    types: Ints
    counts: Floats

    def plus(self, other: Contents) -> Contents:
        """Return these contents and the *other* ones."""
        return Contents(
            np.concatenate([self.types, other.types]), np.vstack([self.counts, other.counts])
        )

    def take(self, rows: Ints) -> Contents:
        """Return the contents in *rows*."""
        return Contents(self.types[rows], self.counts[rows])


class Knapsacks:
    """The relaxed knapsacks of some types; the program keeps its basis from one pricing to the
    next.
    """

    def __init__(self, problem: Problem, types: Ints, most: Floats) -> None:
        """Pass the program: *most* is how many pods of a class a bin may hold, [S, T]."""
        self.problem, self.types, self.most = problem, types, most
        self._rare = len(common_and_rare(problem.requests.T)[1])
        self._class, self._which = np.nonzero(most[:, types] > 0)
        pairs, resources = len(self._class), problem.requests.shape[1]
        room = problem.allocatable[types]
        # Rows are scaled to a room of one: requests in bytes beside GPUs would be ill-conditioned.
        self._scale = np.where(room > 0, room, 1.0)
        asked = problem.requests[self._class]
        pair, resource = np.nonzero(asked)
        self._shares = asked / self._scale[self._which]
        self._upper = most[self._class, types[self._which]]
        self._model = Model(
            cost=np.zeros(pairs),
            columns=Sparse(
                np.searchsorted(pair, np.arange(pairs + 1)).astype(np.int32),
                (self._which[pair] * resources + resource).astype(np.int32),
                self._shares[pair, resource],
            ),
            row_lower=np.full(len(types) * resources, -INFINITY),
            row_upper=np.where(room > 0, 1.0, 0.0).ravel(),
            upper=self._upper,
        )

    def relaxed(self, worth: Floats) -> Relaxed:
        """Return the relaxed knapsacks when a pod is worth *worth*."""
        self._model.costs(-worth[self._class])
        solved = self._model.solve()
        types, classes = len(self.types), len(worth)
        duals = np.maximum(-solved.duals.reshape(types, -1), 0.0)
        contents = np.zeros((types, classes))
        contents[self._which, self._class] = np.clip(solved.values, 0.0, self._upper)
        # The bound is summed from the duals: it holds even where the solver stopped short.
        profit = worth[self._class] - (duals[self._which] * self._shares).sum(axis=1)
        value = np.where(self.problem.allocatable[self.types] > 0, duals, 0.0).sum(axis=1)
        value += np.bincount(
            self._which, weights=np.maximum(profit, 0.0) * self._upper, minlength=types
        )
        return Relaxed(duals / self._scale, contents, value, SOLVING * solved.steps)

    def filled(self, worth: Floats, relaxed: Relaxed, price: Floats) -> tuple[Contents, int]:
        """Return good whole contents, and the work.

        Contents that cannot be worth *price* [A] are not tried.
        """
        problem, types = self.problem, self.types
        size = problem.requests @ relaxed.resource.T  # [S, A]
        usable = (self.most[:, types] > 0) & (worth > 0)[:, None]
        per_size = np.where(usable, worth[:, None] / np.maximum(size, SMALL), -1.0)
        order = np.argsort(-per_size, axis=0, kind="stable").T
        order = np.where(np.take_along_axis(usable.T, order, axis=1), order, -1)
        order = order[:, : int(usable.sum(axis=0).max(initial=0))]
        loss = size - worth[:, None]
        tried = loss < (relaxed.value - price)
        first, which = np.nonzero(tried & usable)
        if len(first) > TRIALS:
            # The least loss against the bin's price first: those are the likeliest to be worth it.
            share = loss[first, which] / np.maximum(price[which], SMALL)
            likeliest = np.sort(np.argsort(share, kind="stable")[:TRIALS])
            first, which = first[likeliest], which[likeliest]
        rounded = np.floor(relaxed.contents + WHOLE)
        start = np.zeros((len(first), len(worth)))
        start[np.arange(len(first)), first] = 1.0
        row = np.concatenate([np.arange(len(types)), which])
        counts = in_own_order(
            problem, types[row], order[row], self.most[:, types[row]], np.vstack([rounded, start])
        )
        work = order.shape[1] * (len(row) + OVERHEAD) * (1 + self._rare)
        return Contents(types[row], counts), work
