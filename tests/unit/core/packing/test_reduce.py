"""What is left out cannot matter: compared with a plain re-telling of the rule, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from outrider.core.packing.pack import pack
from outrider.core.packing.problem import Problem
from outrider.core.packing.reduce import holds, reduced


def drawn(seed: int) -> Problem:
    """Return a random problem with equal types, scarce types and limits."""
    dice = np.random.default_rng(seed)
    kinds = dice.integers(1, 5, (14, 3)).astype(float) * 4
    return Problem.of(
        requests=dice.integers(0, 4, (5, 3)).astype(float),
        demand=dice.integers(0, 30, 5),
        allocatable=kinds,
        price=dice.integers(1, 5, 14) / 2,
        compatible=dice.random((5, 14)) < 0.7,
        supply=np.where(dice.random(14) < 0.2, 2, np.inf),
        usage=dice.integers(0, 2, (14, 1)).astype(float),
        limits=np.array([50.0]),
    )


@pytest.mark.parametrize("seed", range(30))
def test_every_type_left_out_is_beaten_by_one_that_is_kept(seed: int) -> None:
    """For each type left out a kept one holds as much, costs no more and never runs out."""
    problem = drawn(seed)
    part = reduced(problem)
    fits = holds(problem)[part.classes]
    for one in np.setdiff1d(np.arange(14), part.types):
        if not fits[:, one].any():
            continue
        asked = (problem.requests * problem.demand[:, None])[part.classes][fits[:, one]].sum(axis=0)
        needed = np.minimum(problem.allocatable[one], asked)
        assert any(
            (problem.allocatable[other] >= needed).all()
            and problem.price[other] <= problem.price[one]
            and (problem.usage[other] <= problem.usage[one]).all()
            and problem.supply[other] == np.inf
            and (fits[:, other] >= fits[:, one]).all()
            for other in part.types
        )


@pytest.mark.parametrize("seed", range(30))
def test_no_type_that_is_kept_is_needless(seed: int) -> None:
    """Of two kept types, none beats the other."""
    problem = reduced(drawn(seed)).problem
    for one in range(len(problem.price)):
        for other in range(len(problem.price)):
            beaten = (
                one != other
                and (problem.allocatable[other] >= problem.allocatable[one]).all()
                and problem.price[other] <= problem.price[one]
                and (problem.usage[other] <= problem.usage[one]).all()
                and problem.supply[other] == np.inf
                and (problem.compatible[:, other] >= problem.compatible[:, one]).all()
            )
            assert not beaten


def test_one_pod_leaves_one_type() -> None:
    """What a single pod does not ask for does not count: the cheapest type beats all."""
    dice = np.random.default_rng(1)
    problem = Problem.of(
        requests=np.array([[2.0, 3.0]]),
        demand=np.array([1]),
        allocatable=dice.integers(4, 90, (300, 2)).astype(float),
        price=dice.uniform(1, 9, 300),
    )
    assert list(reduced(problem).types) == [int(problem.price.argmin())]
    assert pack(problem).list_price == problem.price.min()
