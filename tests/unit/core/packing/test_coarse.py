"""Many classes packed as few: still every pod in its place, and the bound still one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outrider.core.packing.bins import Bins
from outrider.core.packing.coarse import coarsened, refined
from outrider.core.packing.effort import Effort
from outrider.core.packing.greedy import Stock, cover, worth_alone
from outrider.core.packing.pack import pack
from outrider.core.packing.problem import Problem
from outrider.core.packing.reduce import reduced


@pytest.fixture
def problem() -> Problem:
    """Return four hundred classes on eight types."""
    dice = np.random.default_rng(4)
    requests = np.column_stack(
        [dice.integers(100, 9000, 400), dice.integers(200, 30_000, 400), dice.integers(0, 2, 400)]
    )
    return Problem.of(
        requests=requests.astype(float),
        demand=dice.integers(1, 20, 400),
        allocatable=np.array(
            [[4e3, 16e3, 1], [16e3, 64e3, 1], [16e3, 32e3, 0], [32e3, 128e3, 0], [48e3, 192e3, 4],
             [64e3, 512e3, 0], [96e3, 192e3, 0], [192e3, 768e3, 8]], dtype=float
        ),
        price=np.array([0.5, 1.2, 0.6, 1.4, 4.0, 4.1, 4.0, 14.0]),
    )  # fmt: skip


def test_a_group_is_as_large_as_its_largest_and_fits_where_each_of_it_fits(
    problem: Problem,
) -> None:
    """Grouping never loses a type for anyone and never makes a pod look smaller."""
    part = reduced(problem).problem
    coarse = coarsened(part, 60)
    assert len(coarse.problem.demand) < len(part.demand)
    assert coarse.problem.demand.sum() == part.demand.sum()
    assert (coarse.problem.requests[coarse.group] >= part.requests).all()
    assert (coarse.problem.compatible[coarse.group] == part.compatible).all()


def test_refined_bins_hold_everyone_and_nobody_twice(problem: Problem) -> None:
    """The bins of the coarse problem, given to its members, serve the true demand exactly."""
    part = reduced(problem).problem
    coarse = coarsened(part, 60)
    worth = worth_alone(coarse.problem)
    types = np.arange(len(part.price))
    bins: Bins = cover(
        coarse.problem, worth, types, coarse.problem.demand, Stock.of(coarse.problem)
    )
    fine = refined(part, coarse, bins, worth_alone(part))
    assert (fine.packed() == part.demand).all()
    assert (fine.counts @ part.requests <= part.allocatable[fine.types]).all()
    assert fine.price(part.price) <= bins.price(part.price)


def test_the_bound_is_taken_from_the_true_classes(problem: Problem) -> None:
    """Packing coarsely proves a little less than packing finely, and never more than the truth."""
    coarse = pack(problem, effort=replace(Effort.of(problem.pods), classes=60))
    fine = pack(problem, effort=replace(Effort.of(problem.pods), classes=1000))
    assert coarse.bound <= fine.list_price
    assert coarse.bound >= fine.bound * 0.98
    assert coarse.list_price <= fine.list_price * 1.05
