"""HiGHS through its array interface: one call to pass a model, one to add columns, counted limits.

Single thread, fixed seed, and limits in iterations and nodes rather than seconds, so that the same
model gives the same answer on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np

from outrider.core.packing.problem import Floats, Ints

INFINITY = highspy.kHighsInf
COLUMNWISE = int(highspy.MatrixFormat.kColwise)
MINIMISE = int(highspy.ObjSense.kMinimize)
ITERATIONS = 50_000  # a program of ours takes hundreds; a degenerate one must end as well
ROUND = 1e-6  # a value so close below a whole number is that number
OPTIMAL = highspy.HighsModelStatus.kOptimal


@dataclass(frozen=True, slots=True)
class Sparse:
    """A matrix by columns: where each begins, its rows, its values."""

    starts: Ints
    rows: Ints
    values: Floats

    @classmethod
    def of(cls, dense: Floats) -> Sparse:
        """Return the matrix whose columns are the rows of *dense*."""
        column, row = np.nonzero(dense)
        starts = np.searchsorted(column, np.arange(len(dense) + 1))
        return cls(starts.astype(np.int32), row.astype(np.int32), dense[column, row])


@dataclass(frozen=True, slots=True)
class Solved:
    """What the solver found: the objective, one value a column, one dual a row, and its steps."""

    objective: float
    values: Floats
    duals: Floats
    steps: int


@dataclass(frozen=True, slots=True)
class Whole:
    """What the solver found in whole numbers: the values, a bound on the best, and its steps."""

    values: Floats
    bound: float
    steps: int


def whole(
    profit: Floats, columns: Sparse, row_upper: Floats, upper: Floats, gap: float, nodes: int
) -> Whole:
    """Return whole values from 0 to *upper* of nearly the most *profit* under *row_upper*.

    The search ends when values and bound are within *gap* of each other, or after *nodes*; the
    bound holds either way.
    """
    solver = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", 0),
        ("mip_rel_gap", gap),
        ("mip_max_nodes", nodes),
    ):
        solver.setOptionValue(name, value)
    count, rows = len(profit), len(row_upper)
    solver.passModel(
        count,
        rows,
        len(columns.values),
        COLUMNWISE,
        MINIMISE,
        0.0,
        -profit,
        np.zeros(count),
        upper,
        np.full(rows, -INFINITY),
        row_upper,
        columns.starts[:-1],
        columns.rows,
        columns.values,
        np.ones(count, dtype=np.int32),
    )
    solver.run()
    information = solver.getInfo()
    values = np.array(solver.getSolution().col_value)
    feasible = len(values) == count and np.isfinite(information.mip_dual_bound)
    return Whole(
        values=np.floor(np.clip(values, 0.0, upper) + ROUND) if feasible else np.zeros(count),
        bound=-float(information.mip_dual_bound) if feasible else np.inf,
        steps=max(0, int(information.simplex_iteration_count)),
    )


class Model:
    """A model that is minimised; it keeps its basis, so that a changed model is solved from
    there.
    """

    def __init__(
        self,
        *,
        cost: Floats,
        columns: Sparse,
        row_lower: Floats,
        row_upper: Floats,
        upper: Floats | None = None,
    ) -> None:
        """Pass the model: *cost* and *columns* are the variables, from 0 to *upper*."""
        self._solver = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("random_seed", 0),
            ("presolve", "off"),  # it would forget the basis
            ("simplex_iteration_limit", ITERATIONS),
        ):
            self._solver.setOptionValue(name, value)
        self._solver.passModel(
            len(cost),
            len(row_lower),
            len(columns.values),
            COLUMNWISE,
            MINIMISE,
            0.0,
            cost,
            np.zeros(len(cost)),
            np.full(len(cost), INFINITY) if upper is None else upper,
            row_lower,
            row_upper,
            columns.starts[:-1],
            columns.rows,
            columns.values,
            np.zeros(len(cost), dtype=np.int32),
        )

    def add(self, cost: Floats, columns: Sparse) -> None:
        """Add variables from 0 up."""
        self._solver.addCols(
            len(cost),
            cost,
            np.zeros(len(cost)),
            np.full(len(cost), INFINITY),
            len(columns.values),
            columns.starts[:-1],
            columns.rows,
            columns.values,
        )

    def drop(self, columns: Ints) -> None:
        """Take variables out."""
        self._solver.deleteCols(len(columns), columns.astype(np.int32))

    def costs(self, cost: Floats) -> None:
        """Change what the variables cost."""
        self._solver.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)

    def solve(self) -> Solved:
        """Return the best answer within the limits."""
        self._solver.run()
        solution = self._solver.getSolution()
        optimal = self._solver.getModelStatus() == OPTIMAL
        values, duals = np.array(solution.col_value), np.array(solution.row_dual)
        # What a stopped solver leaves behind need not be feasible: nothing is bought by it.
        information = self._solver.getInfo()
        return Solved(
            objective=float(information.objective_function_value),
            values=values if optimal else np.zeros(len(values)),
            duals=np.nan_to_num(duals),
            steps=max(0, int(information.simplex_iteration_count)),
        )
