"""What holds for every packing, whatever the problem: validity, the bound, determinism.

Problems are drawn small enough to be solved by brute force, and odd: missing prices, types that run
out, limits, classes nobody holds, the same type many times. Nothing is mocked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outrider.core.packing.effort import Effort
from outrider.core.packing.flexible import usual_price
from outrider.core.packing.pack import never, pack, stages
from outrider.core.packing.problem import Packing, Problem
from outrider.core.packing.prove import proven


@st.composite
def problems(draw: st.DrawFn, *, tiny: bool = False) -> Problem:
    """Draw a problem; a *tiny* one has at most five pods and every type without end."""
    classes, types = draw(st.integers(1, 3 if tiny else 6)), draw(st.integers(1, 3 if tiny else 7))
    resources = draw(st.integers(1, 3))
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    requests = dice.integers(0, 6, (classes, resources)).astype(float)
    requests[:, 0] += 1.0
    demand = dice.integers(0, 3 if tiny else 30, classes)
    if tiny:
        demand = np.minimum(demand, 2)
    price = np.round(dice.uniform(0.1, 9.0, types), 2)
    supply, usage, limits = np.full(types, np.inf), None, None
    if not tiny and draw(st.booleans()):
        supply = np.where(dice.random(types) < 0.3, dice.integers(0, 4, types), np.inf)
        price = np.where(np.isfinite(supply) & (dice.random(types) < 0.5), 0.0, price)
    if not tiny and draw(st.booleans()):
        usage = dice.integers(0, 5, (types, 2)).astype(float)
        limits = dice.integers(0, 60, 2).astype(float)
    if draw(st.booleans()):
        price = np.where(dice.random(types) < 0.15, np.nan, price)
    return Problem.of(
        requests=requests,
        demand=demand,
        allocatable=dice.integers(1, 14, (types, resources)).astype(float),
        price=price,
        compatible=dice.random((classes, types)) < 0.8,
        supply=supply,
        usage=usage,
        limits=limits,
        cost_per_node=draw(st.sampled_from([0.0, 0.01])),
    )


def check(problem: Problem, packing: Packing) -> None:
    """Assert that *packing* is a complete and valid answer to *problem*."""
    placed = np.zeros(len(problem.demand))
    bought = np.zeros(len(problem.price))
    for pattern in packing.patterns:
        assert pattern.times >= 1
        assert pattern.counts
        used = np.zeros(problem.requests.shape[1])
        for pod_class, count in pattern.counts:
            assert count >= 1
            assert problem.compatible[pod_class, pattern.bin_type]
            used += count * problem.requests[pod_class]
            placed[pod_class] += count * pattern.times
        assert (used <= problem.allocatable[pattern.bin_type]).all()
        bought[pattern.bin_type] += pattern.times
    for left in packing.left:
        assert left.count >= 1
        placed[left.pod_class] += left.count
    assert (placed == problem.demand).all()
    assert (bought <= problem.supply).all()
    assert (bought @ problem.usage <= problem.limits + 1e-9).all()
    assert packing.bound <= packing.list_price
    assert np.isclose(packing.list_price, bought @ problem.list_price)
    assert np.isclose(packing.price, bought @ problem.price)


@given(problems())
@settings(max_examples=150, deadline=None)
def test_every_stage_is_a_complete_and_valid_answer(problem: Problem) -> None:
    """Whenever it is stopped, every pod is in a bin that holds it or is named as left out."""
    dearest = np.inf
    out = np.inf
    for packing in stages(problem):
        check(problem, packing)
        now = float(sum(left.count for left in packing.left))
        assert (now, packing.price) <= (out, dearest + 1e-9)
        out, dearest = now, packing.price


@given(problems())
@settings(max_examples=60, deadline=None)
def test_the_same_problem_gives_the_same_packing(problem: Problem) -> None:
    """Planning twice is equal, to the last bit."""
    assert pack(problem) == pack(problem)


ROOM_BY_RETYPING = Problem(  # a bin that takes another's place leaves room under a limit
    requests=np.array([[3.0], [4.0], [5.0], [6.0]]),
    demand=np.array([1.0, 4.0, 24.0, 28.0]),
    allocatable=np.array([[13.0], [4.0], [10.0], [3.0]]),
    price=np.array([2.88, 0.0, 7.47, 3.74]),
    list_price=np.array([2.88, 0.0, 7.47, 3.74]),
    compatible=np.array(
        [
            [False, True, True, True],
            [True, True, False, True],
            [True, True, True, True],
            [False, True, True, False],
        ]
    ),
    supply=np.array([np.inf, 1.0, np.inf, np.inf]),
    usage=np.array([[4.0, 1.0], [2.0, 1.0], [0.0, 3.0], [0.0, 1.0]]),
    limits=np.array([29.0, 29.0]),
)


@given(problems())
@example(ROOM_BY_RETYPING)
@settings(max_examples=60, deadline=None)
def test_nothing_is_left_out_that_could_be_bought_a_bin(problem: Problem) -> None:
    """A pod stays out only if no type that holds it can be bought once more."""
    packing = pack(problem)
    bought = np.zeros(len(problem.price))
    for pattern in packing.patterns:
        bought[pattern.bin_type] += pattern.times
    room = problem.limits - bought @ problem.usage
    can = (bought + 1 <= problem.supply) & (problem.usage <= room).all(axis=1)
    for left in packing.left:
        holds = (problem.requests[left.pod_class] <= problem.allocatable).all(axis=1)
        assert not (holds & can & problem.compatible[left.pod_class]).any()


@given(problems(tiny=True))
@settings(max_examples=120, deadline=None)
def test_no_bound_is_above_the_cheapest_packing_there_is(problem: Problem) -> None:
    """The bound is a bound: brute force over every packing never finds one that is paid less."""
    packing = pack(problem, effort=Effort.thorough())
    check(problem, packing)
    placed = problem.demand.copy()
    for left in packing.left:
        placed[left.pod_class] -= left.count
    cheapest = brute_force(problem, tuple(int(count) for count in placed))
    assert packing.bound <= cheapest * (1 + 1e-9)
    assert packing.list_price >= cheapest * (1 - 1e-9)


@given(problems())
@settings(max_examples=60, deadline=None)
def test_a_bound_alone_is_below_every_packing_of_all_pods(problem: Problem) -> None:
    """What is proven without packing holds for the packing, under supply and limits too."""
    packing = pack(problem)
    if packing.left:
        return
    listed = replace(problem, price=problem.list_price)
    bound = proven(listed, never, Effort.of(problem.pods), np.inf)
    assert bound <= packing.list_price * (1 + 1e-9)


@given(problems(), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_a_usual_price_is_between_the_price_and_twice_it(problem: Problem, offers: int) -> None:
    """Alternatives make an offering dearer to plan with, never cheaper and never out of sight."""
    usual = usual_price(problem.allocatable, problem.compatible, problem.price, offers)
    assert (usual >= 0.0).all()
    assert (usual <= 2.0 * problem.price + 1e-9).all()


def brute_force(problem: Problem, demand: tuple[int, ...]) -> float:
    """Return the least that any packing of *demand* is paid, every type being without end."""
    best = {
        counts: price
        for counts in contents(demand)
        if any(counts) and np.isfinite(price := cheapest_bin(problem, counts))
    }

    @cache
    def least(left: tuple[int, ...]) -> float:
        if not any(left):
            return 0.0
        return min(
            (
                price + least(tuple(have - take for have, take in zip(left, counts, strict=True)))
                for counts, price in best.items()
                if all(take <= have for have, take in zip(left, counts, strict=True))
            ),
            default=np.inf,
        )

    return least(demand)


def contents(demand: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield every choice of pods out of *demand*."""
    if not demand:
        yield ()
        return
    for rest in contents(demand[1:]):
        for count in range(demand[0] + 1):
            yield (count, *rest)


def cheapest_bin(problem: Problem, counts: tuple[int, ...]) -> float:
    """Return the list price of the cheapest type that holds *counts*."""
    inside = np.array(counts) > 0
    holds = (np.array(counts) @ problem.requests <= problem.allocatable).all(axis=1)
    holds &= problem.compatible[inside].all(axis=0) & (problem.supply > 0)
    return float(problem.list_price[holds].min(initial=np.inf))
