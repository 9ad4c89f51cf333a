"""HiGHS through its array interface: one call to pass a model, one to add columns, counted limits.

Single thread, fixed seed, and limits in iterations and nodes rather than seconds, so that the same
model gives the same answer on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import highspy
import numpy as np

from outrider.core.packing.problem import Floats, Ints

INFINITY = highspy.kHighsInf
COLUMNWISE = int(highspy.MatrixFormat.kColwise)
MINIMISE = int(highspy.ObjSense.kMinimize)
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
    """What the solver found: the objective, one value a column, one dual a row, and whether it is
    optimal.
    """

    objective: float
    values: Floats
    duals: Floats
    optimal: bool
    bound: float


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
        integral: bool = False,
        presolve: bool = False,
        iterations: int = 100_000,
    ) -> None:
        """Pass the model: *cost* and *columns* are the variables, from 0 to *upper*."""
        self._solver = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("random_seed", 0),
            ("presolve", "on" if presolve else "off"),
            ("simplex_iteration_limit", iterations),
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
            np.full(len(cost), int(integral), dtype=np.int32),
        )

    def set(self, **options: float | str | bool) -> None:
        """Set solver *options* by HiGHS's own names."""
        for name, value in options.items():
            self._solver.setOptionValue(name, value)

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

    def costs(self, cost: Floats) -> None:
        """Change what the variables cost."""
        self._solver.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)

    def demand(self, lower: Floats, upper: Floats) -> None:
        """Change the bounds of the first rows."""
        rows = np.arange(len(lower), dtype=np.int32)
        self._solver.changeRowsBounds(len(lower), rows, lower, upper)

    def start_from(self, values: Floats) -> None:
        """Offer *values* as a first answer."""
        solution = highspy.HighsSolution()
        solution.col_value = values.tolist()
        self._solver.setSolution(solution)

    def solve(self, expired: Callable[[], bool] | None = None) -> Solved:
        """Return the best answer within the limits; *expired* stops an integral model early."""
        if expired is not None:

            def stop(event: highspy.HighsCallbackEvent) -> None:
                if expired():
                    event.interrupt()

            self._solver.cbMipInterrupt.subscribe(stop)
        self._solver.run()
        information = self._solver.getInfo()
        solution = self._solver.getSolution()
        return Solved(
            objective=float(information.objective_function_value),
            values=np.array(solution.col_value),
            duals=np.array(solution.row_dual),
            optimal=self._solver.getModelStatus() == OPTIMAL,
            bound=float(information.mip_dual_bound),
        )
