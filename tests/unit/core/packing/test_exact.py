"""The last word on a knapsack: exact where the search is loose, and never below a target."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from outrider.core.packing.duals import alone
from outrider.core.packing.effort import Effort
from outrider.core.packing.exact import exact
from outrider.core.packing.pack import never, pack
from outrider.core.packing.pricing import Knapsacks
from outrider.core.packing.problem import Problem
from outrider.core.packing.prove import proven


def drawn(seed: int, classes: int = 4) -> Problem:
    """Return a small problem of one type."""
    dice = np.random.default_rng(seed)
    return Problem.of(
        requests=dice.integers(1, 9, (classes, 2)).astype(float),
        demand=dice.integers(1, 4, classes),
        allocatable=np.array([[20.0, 20.0]]),
        price=np.array([1.0]),
    )


def best_by_hand(problem: Problem, worth: np.ndarray) -> float:  # type: ignore[type-arg]
    """Return what the best contents of the one type are worth, by trying them all."""
    ranges = [range(int(count) + 1) for count in problem.demand]
    return max(
        float(np.array(counts) @ worth)
        for counts in product(*ranges)
        if (np.array(counts) @ problem.requests <= problem.allocatable[0]).all()
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_bound_is_the_best_there_is(seed: int) -> None:
    """Contents and bound meet, at what trying everything gives."""
    problem = drawn(seed)
    worth = np.random.default_rng(seed).uniform(0.1, 1.0, 4)
    most = alone(problem)
    relaxed = Knapsacks(problem, np.array([0]), most).relaxed(worth)
    found = exact(problem, np.array([0]), most, worth, relaxed, np.array([0.0]))
    best = best_by_hand(problem, worth)
    assert found.bound[0] == pytest.approx(best, rel=3e-4)
    assert found.bound[0] >= best
    assert float(found.contents.counts[0] @ worth) == pytest.approx(best, rel=3e-4)


def test_a_target_that_nothing_reaches_is_a_proof() -> None:
    """Above the best there is, the bound is the target and there are no contents."""
    problem = drawn(1)
    worth = np.array([0.3, 0.2, 0.4, 0.1])
    most = alone(problem)
    relaxed = Knapsacks(problem, np.array([0]), most).relaxed(worth)
    target = np.array([best_by_hand(problem, worth) * 1.001])
    found = exact(problem, np.array([0]), most, worth, relaxed, target)
    assert found.bound[0] == pytest.approx(target[0])
    assert not len(found.contents.types)


def test_a_bound_alone_is_the_packings() -> None:
    """Proving without packing comes to a bound that the packing does not go below."""
    dice = np.random.default_rng(4)
    problem = Problem.of(
        requests=dice.integers(1, 9, (12, 3)).astype(float),
        demand=dice.integers(1, 40, 12),
        allocatable=dice.integers(10, 60, (9, 3)).astype(float),
        price=dice.uniform(1, 5, 9),
    )
    packing = pack(problem)
    bound = proven(problem, never, Effort.of(problem.pods), np.inf)
    assert bound <= packing.list_price
    assert bound == pytest.approx(packing.bound, rel=0.02)


def test_free_bins_lower_the_bound_no_more_than_they_hold() -> None:
    """Three free bins that hold four pods each leave the rest to be paid."""
    problem = Problem.of(
        requests=np.array([[1.0]]),
        demand=np.array([20.0]),
        allocatable=np.array([[4.0], [4.0]]),
        price=np.array([1.0, 0.0]),
        supply=np.array([np.inf, 3.0]),
    )
    bound = proven(problem, never, Effort.of(20), np.inf)
    assert bound == pytest.approx(2.0)


def test_time_that_is_up_leaves_a_bound() -> None:
    """A clock that has run out costs tightness, not validity."""
    bound = proven(drawn(3), lambda: True, Effort.of(10), np.inf)
    assert 0.0 <= bound <= pack(drawn(3)).list_price
