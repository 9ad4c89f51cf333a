"""The master program: buy known contents of bins, in fractions, so that every pod has a place.

Its columns are contents, its rows the pods of each class, the limits and the types that run out;
pods may be left out at a penalty. Columns that have become bad are forgotten when there are many,
because a solver's steps take as long as there are columns.
"""

from __future__ import annotations

import numpy as np

from outrider.core.packing.duals import Duals, limit_scale, money, penalties
from outrider.core.packing.linear import INFINITY, Model, Sparse
from outrider.core.packing.pricing import Contents
from outrider.core.packing.problem import UNBOUNDED, Floats, Ints, Problem

MANY = 1500  # columns from which on the worst are forgotten
KEPT = 700  # columns that stay then
STEP = 10_000  # units of work of any solving, beside its steps


class Master:
    """The program, which keeps its basis while columns come and go."""

    def __init__(self, problem: Problem, contents: Contents) -> None:
        """Pass the program with its first *contents*."""
        self.problem = problem
        self.contents = Contents(np.zeros(0, dtype=np.int64), np.zeros((0, len(problem.demand))))
        self.work = 0  # of the last solving
        self._unit, self._capped = money(problem), limit_scale(problem)
        self._scarce = np.flatnonzero(problem.supply != UNBOUNDED)
        self._known: set[tuple[int, bytes]] = set()
        classes, limits = len(problem.demand), len(problem.limits)
        self._rows = classes + limits + len(self._scarce)
        left_out = np.zeros((classes, self._rows))
        left_out[:, :classes] = np.eye(classes)
        self._model = Model(
            cost=penalties(problem) / self._unit,
            columns=Sparse.of(left_out),
            row_lower=np.concatenate(
                [problem.demand, -problem.limits / self._capped, -problem.supply[self._scarce]]
            ),
            row_upper=np.full(self._rows, INFINITY),
        )
        self.add(contents, np.arange(len(contents.types)), len(contents.types))

    def add(self, contents: Contents, rows: Ints, most: int) -> int:
        """Add the first *most* new ones of the *contents* in *rows*; return how many there were."""
        new: list[int] = []
        for row in rows:
            key = _key(contents, int(row))
            if key not in self._known:
                self._known.add(key)
                new.append(int(row))
                if len(new) == most:
                    break
        if new:
            added = contents.take(np.array(new))
            self.contents = self.contents.plus(added)
            self._model.add(
                self.problem.price[added.types] / self._unit, Sparse.of(self._column(added))
            )
        return len(new)

    def solve(self) -> tuple[Floats, Duals]:
        """Return the best fractions of what is known, and the duals."""
        solved = self._model.solve()
        classes, limits = len(self.problem.demand), len(self.problem.limits)
        duals = np.maximum(solved.duals, 0.0) * self._unit
        scarcity = np.zeros(len(self.problem.price))
        scarcity[self._scarce] = duals[classes + limits :]
        current = Duals(
            worth=duals[:classes],
            limit=duals[classes : classes + limits] / self._capped,
            scarcity=scarcity,
            resource=np.zeros((0, 0)),
            value=solved.objective * self._unit,
        )
        times = solved.values[classes:]
        self.work = STEP + 3 * solved.steps * (self._rows + len(solved.values)) // 2
        if len(times) > MANY:
            times = self._forget(times, current)
        return times, current

    def _forget(self, times: Floats, duals: Duals) -> Floats:
        """Forget the columns furthest from being worth their price; return the *times* left."""
        price = self.problem.price + self.problem.usage @ duals.limit + duals.scarcity
        price = price[self.contents.types]
        loss = 1.0 - self.contents.counts @ duals.worth / np.maximum(price, 1e-9)
        loss[times > 0] = -np.inf
        order = np.argsort(loss, kind="stable")
        kept, gone = np.sort(order[:KEPT]), np.sort(order[KEPT:])
        for row in gone:
            self._known.discard(_key(self.contents, int(row)))
        self._model.drop(gone + len(self.problem.demand))
        self.contents = self.contents.take(kept)
        return np.asarray(times[kept])

    def _column(self, contents: Contents) -> Floats:
        """Return the rows of the program that *contents* stand in, dense, [P, rows]."""
        return np.hstack(
            [
                contents.counts,
                -self.problem.usage[contents.types] / self._capped,
                -(contents.types[:, None] == self._scarce).astype(np.float64),
            ]
        )


def _key(contents: Contents, row: int) -> tuple[int, bytes]:
    """Return what tells the contents in *row* from others."""
    return int(contents.types[row]), contents.counts[row].tobytes()
