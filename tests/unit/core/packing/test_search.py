"""The search finds the best contents of a bin, and its bound is one. Compared with HiGHS and
brute force.
"""

from __future__ import annotations

import itertools

import highspy
import numpy as np
import pytest

from outrider.core.packing.duals import alone
from outrider.core.packing.pricing import Knapsacks
from outrider.core.packing.problem import Floats, Problem
from outrider.core.packing.search import search


def drawn(seed: int, classes: int, types: int, top: int) -> tuple[Problem, Floats]:
    """Return a random problem and what its pods are worth."""
    dice = np.random.default_rng(seed)
    requests = dice.integers(0, top, (classes, 3)).astype(float)
    requests[:, 0] += 1.0
    problem = Problem.of(
        requests=requests,
        demand=dice.integers(1, 5, classes),
        allocatable=dice.integers(top, 3 * top, (types, 3)).astype(float),
        price=dice.uniform(1.0, 3.0, types),
        compatible=dice.random((classes, types)) < 0.8,
    )
    return problem, requests @ dice.uniform(0.1, 1.0, 3) * dice.uniform(0.7, 1.3, classes)


def brute_force(problem: Problem, kind: int, worth: Floats) -> float:
    """Return the most that contents of one bin are worth."""
    counts = [range(int(most) + 1) for most in alone(problem)[:, kind]]
    return max(
        float(np.array(chosen) @ worth)
        for chosen in itertools.product(*counts)
        if (np.array(chosen) @ problem.requests <= problem.allocatable[kind]).all()
    )


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("width", [1, 5, 10_000])
def test_contents_and_bounds_enclose_the_best(seed: int, width: int) -> None:
    """However narrow the search, nothing is worth more than the bound; wide, it finds the best."""
    problem, worth = drawn(seed, classes=4, types=3, top=6)
    types, most = np.arange(3), alone(problem)
    relaxed = Knapsacks(problem, types, most).relaxed(worth)
    found = search(problem, types, most, worth, relaxed, np.zeros(3), width)
    values = found.contents.counts @ worth
    for kind in range(3):
        best = brute_force(problem, kind, worth)
        mine = values[found.contents.types == kind].max(initial=0.0)
        assert mine <= best + 1e-9
        assert found.bound[kind] >= best - 1e-9
        assert relaxed.value[kind] >= best - 1e-9
        if width == 10_000:
            assert mine == pytest.approx(best)
            assert found.bound[kind] == pytest.approx(best)
    used = found.contents.counts @ problem.requests
    assert (used <= problem.allocatable[found.contents.types]).all()
    assert (found.contents.counts <= most[:, found.contents.types].T).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_search_agrees_with_an_integer_solver(seed: int) -> None:
    """On knapsacks of forty classes the search ends where HiGHS ends."""
    problem, worth = drawn(seed, classes=40, types=1, top=40)
    most = alone(problem)
    relaxed = Knapsacks(problem, np.arange(1), most).relaxed(worth)
    found = search(problem, np.arange(1), most, worth, relaxed, np.zeros(1), 100_000)
    best = (found.contents.counts @ worth).max()
    assert best == pytest.approx(solved(problem, most[:, 0], worth), rel=1e-6)


def solved(problem: Problem, most: Floats, worth: Floats) -> float:
    """Return the most that contents are worth, by HiGHS."""
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("mip_rel_gap", 0.0)
    pods = [solver.addIntegral(lb=0, ub=float(bound)) for bound in most]
    for resource in range(problem.requests.shape[1]):
        solver.addConstr(
            sum(float(problem.requests[one, resource]) * pod for one, pod in enumerate(pods))
            <= float(problem.allocatable[0, resource])
        )
    solver.maximize(sum(float(value) * pod for value, pod in zip(worth, pods, strict=True)))
    return float(solver.getObjectiveValue())
