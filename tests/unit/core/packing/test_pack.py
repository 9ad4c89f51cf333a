"""What the door promises: the cheapest bins known, odd input answered, time kept. Nothing is
mocked.
"""

from __future__ import annotations

import numpy as np
import pytest

from outrider.core.packing.effort import Effort
from outrider.core.packing.pack import pack, stages
from outrider.core.packing.problem import Packing, Problem, Shortage

GPU_TYPES = {
    "allocatable": np.array([[4, 16, 1], [48, 192, 4], [96, 384, 8]], dtype=float),
    "price": np.array([0.526, 3.912, 16.288]),
}


def bought(packing: Packing) -> dict[int, int]:
    """Return how many bins of each type are bought."""
    counts: dict[int, int] = {}
    for pattern in packing.patterns:
        counts[pattern.bin_type] = counts.get(pattern.bin_type, 0) + pattern.times
    return counts


def test_one_pod_gets_the_cheapest_type_that_holds_it_and_the_proof() -> None:
    """A single pod is planned at the price of its cheapest type, and that is the bound."""
    packing = pack(Problem.of(requests=np.array([[3.0, 8, 1]]), demand=np.array([1]), **GPU_TYPES))
    assert bought(packing) == {0: 1}
    assert packing.list_price == pytest.approx(0.526)
    assert packing.gap == pytest.approx(0.0)


def test_pods_that_fill_a_larger_bin_get_it_when_it_is_cheaper() -> None:
    """Ten CPUs with a GPU each share the four-GPU type, which no small one could hold."""
    packing = pack(
        Problem.of(requests=np.array([[10.0, 20, 1]]), demand=np.array([8]), **GPU_TYPES)
    )
    assert bought(packing) == {1: 2}
    assert packing.gap < 1e-6


def test_pods_without_gpus_ride_along() -> None:
    """Small pods fill what GPU pods leave, and cost nothing more."""
    problem = Problem.of(
        requests=np.array([[3.0, 8, 1], [1.0, 2, 0]]), demand=np.array([40, 40]), **GPU_TYPES
    )
    assert pack(problem).list_price == pytest.approx(40 * 0.526)


def test_what_costs_nothing_is_used_first_and_never_beyond_its_supply() -> None:
    """Reserved capacity at no price is filled before anything is bought."""
    problem = Problem.of(
        requests=np.array([[3.0, 8, 1]]),
        demand=np.array([9]),
        allocatable=np.vstack([GPU_TYPES["allocatable"], [[4, 16, 1]]]),
        price=np.append(GPU_TYPES["price"], 0.0),
        supply=np.array([np.inf, np.inf, np.inf, 4]),
    )
    packing = pack(problem)
    assert bought(packing) == {0: 5, 3: 4}
    assert packing.bound == pytest.approx(5 * 0.526)


def test_a_limit_leaves_pods_out_and_is_named() -> None:
    """Under a limit of three bins the fourth pod stays out because of that limit."""
    problem = Problem.of(
        requests=np.array([[3.0, 8, 1]]),
        demand=np.array([4]),
        allocatable=GPU_TYPES["allocatable"][:1],
        price=GPU_TYPES["price"][:1],
        usage=np.array([[0.0, 1.0]]),
        limits=np.array([5.0, 3.0]),
    )
    packing = pack(problem)
    assert bought(packing) == {0: 3}
    (left,) = packing.left
    assert (left.pod_class, left.count, left.shortage, left.limits) == (0, 1, Shortage.LIMIT, (1,))
    assert packing.bound <= packing.list_price


def test_a_limit_is_spent_on_the_type_that_makes_the_most_of_it() -> None:
    """A limit on CPUs is met by the type that serves the same pods with fewer of them."""
    problem = Problem.of(
        requests=np.array([[1.0, 4]]),
        demand=np.array([40]),
        allocatable=np.array([[16.0, 16], [8.0, 32]]),
        price=np.array([0.1, 0.9]),
        usage=np.array([[16.0], [8.0]]),
        limits=np.array([40.0]),
    )
    packing = pack(problem)
    assert not packing.left
    assert bought(packing) == {1: 5}


@pytest.mark.parametrize(
    ("requests", "supply", "shortage"),
    [
        ([[500.0, 1, 0]], np.inf, Shortage.NO_TYPE),
        ([[1.0, 1, 0]], 0.0, Shortage.SUPPLY),
    ],
)
def test_a_pod_that_nobody_can_hold_is_named(
    requests: list[list[float]], supply: float, shortage: Shortage
) -> None:
    """A pod too large for every type, or whose types are sold out, stays out with that reason."""
    problem = Problem.of(
        requests=np.array(requests), demand=np.array([7]), supply=np.full(3, supply), **GPU_TYPES
    )
    packing = pack(problem)
    assert [(left.count, left.shortage) for left in packing.left] == [(7, shortage)]
    assert packing.patterns == ()
    assert packing.list_price == packing.bound == 0.0


@pytest.mark.parametrize("price", [np.nan, np.inf, -1.0])
def test_a_type_without_a_price_is_not_bought(price: float) -> None:
    """A missing or absurd price closes its type and disturbs nothing else."""
    problem = Problem.of(
        requests=np.array([[1.0, 1, 0]]),
        demand=np.array([100]),
        allocatable=GPU_TYPES["allocatable"],
        price=np.array([price, 3.912, 16.288]),
    )
    assert bought(pack(problem)) == {1: 3}


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e9])
def test_the_unit_of_money_does_not_matter(factor: float) -> None:
    """Prices of a thousand million give the plan that prices of a cent give."""
    dice = np.random.default_rng(3)
    requests = dice.integers(1, 9, (12, 3)).astype(float)
    arguments = {"requests": requests, "demand": dice.integers(1, 60, 12)}
    types = {
        "allocatable": dice.integers(8, 40, (9, 3)).astype(float),
        "price": dice.uniform(0.3, 4, 9),
    }
    plain = pack(Problem.of(**arguments, **types))
    types["price"] = types["price"] * factor
    scaled = pack(Problem.of(**arguments, **types))
    assert scaled.list_price / factor == pytest.approx(plain.list_price, rel=0.01)
    assert scaled.bound / factor == pytest.approx(plain.bound, rel=0.01)


def test_thousands_of_identical_types_are_one() -> None:
    """Five thousand equal types are no more work than one."""
    problem = Problem.of(
        requests=np.array([[1.0, 2.0], [3.0, 1.0]]),
        demand=np.array([500, 300]),
        allocatable=np.tile([[16.0, 32.0]], (5000, 1)),
        price=np.full(5000, 0.7),
    )
    packing = pack(problem)
    assert set(bought(packing)) == {0}
    assert packing.gap < 0.02


def test_requests_in_bytes_are_packed_exactly() -> None:
    """A byte too much is too much, however large the numbers are."""
    gibibyte = 2.0**30
    problem = Problem.of(
        requests=np.array([[1.0, 64 * gibibyte], [1.0, 64 * gibibyte + 1]]),
        demand=np.array([16, 1]),
        allocatable=np.array([[1000.0, 512 * gibibyte]]),
        price=np.array([4.0]),
    )
    assert pack(problem).bins == 3


def test_a_cost_per_node_is_minimised_but_not_paid() -> None:
    """Where the list price is the same, fewer nodes win; the price and the bound stay list
    prices.
    """
    arguments = {
        "requests": np.array([[1.0]]),
        "demand": np.array([64]),
        "allocatable": np.array([[4.0], [32.0]]),
        "price": np.array([0.1, 0.8]),
    }
    packing = pack(Problem.of(**arguments, cost_per_node=0.01))
    assert bought(packing) == {1: 2}
    assert packing.list_price == pytest.approx(1.6)
    assert packing.price == pytest.approx(1.62)
    assert packing.bound == pytest.approx(1.6)


def test_a_list_price_that_differs_is_what_the_bound_bounds() -> None:
    """With the mean of several offerings as price, the bound is on what is paid."""
    problem = Problem.of(
        requests=np.array([[1.0]]),
        demand=np.array([64]),
        allocatable=np.array([[4.0], [32.0]]),
        price=np.array([0.1, 1.2]),
        list_price=np.array([0.1, 0.5]),
    )
    packing = pack(problem)
    assert bought(packing) == {0: 16}
    assert packing.bound == pytest.approx(1.0)


def test_time_up_at_once_still_gives_a_complete_answer() -> None:
    """An expired clock costs quality, never a pod."""
    dice = np.random.default_rng(5)
    problem = Problem.of(
        requests=dice.integers(1, 9, (30, 3)).astype(float),
        demand=dice.integers(1, 60, 30),
        allocatable=dice.integers(8, 40, (20, 3)).astype(float),
        price=dice.uniform(0.3, 4, 20),
    )
    hurried = list(stages(problem, lambda: True))
    assert len(hurried) == 1
    assert not hurried[0].left
    assert pack(problem).list_price <= hurried[0].list_price


def test_more_effort_is_never_dearer_and_never_proves_less() -> None:
    """Twenty seconds' effort ends at or below the default's price, at or above its bound."""
    dice = np.random.default_rng(8)
    problem = Problem.of(
        requests=np.column_stack([dice.integers(1, 30, 25), dice.integers(1, 90, 25)]).astype(
            float
        ),
        demand=dice.integers(1, 40, 25),
        allocatable=np.array([[32.0, 64], [64, 128], [64, 256], [128, 512], [30, 250]]),
        price=np.array([1.0, 1.9, 2.4, 4.6, 1.6]),
    )
    usual, thorough = pack(problem), pack(problem, effort=Effort.thorough())
    assert thorough.list_price <= usual.list_price * 1.002
    assert thorough.bound >= usual.bound * 0.999
    assert thorough.gap < 0.01


def test_an_empty_problem_is_an_empty_packing() -> None:
    """Nothing asked, nothing bought."""
    packing = pack(Problem.of(requests=np.zeros((0, 3)), demand=np.zeros(0), **GPU_TYPES))
    assert (packing.patterns, packing.left, packing.list_price) == ((), (), 0.0)


def test_no_types_at_all_leaves_everything_out() -> None:
    """Without a catalogue every pod stays out."""
    packing = pack(
        Problem.of(
            requests=np.array([[1.0]]),
            demand=np.array([3]),
            allocatable=np.zeros((0, 1)),
            price=np.zeros(0),
        )
    )
    assert packing.left[0].shortage is Shortage.NO_TYPE


def test_a_pod_that_asks_for_nothing_is_placed() -> None:
    """A pod without requests costs a bin if it is alone and nothing if it is not."""
    problem = Problem.of(
        requests=np.array([[0.0], [2.0]]),
        demand=np.array([5, 4]),
        allocatable=np.array([[8.0]]),
        price=np.array([1.0]),
    )
    assert pack(problem).bins == 1


def test_limits_in_bytes_bind_as_limits_in_nodes_do() -> None:
    """A limit on memory and the same limit on nodes leave the same pods out."""
    gibibyte = 2.0**30
    arguments = {
        "requests": np.array([[2.0, 3 * gibibyte], [1.0, 9 * gibibyte]]),
        "demand": np.array([60, 40]),
        "allocatable": np.array([[16.0, 64 * gibibyte]]),
        "price": np.array([0.8]),
    }
    nodes = pack(Problem.of(**arguments, usage=np.array([[1.0]]), limits=np.array([9.5])))
    memory = pack(
        Problem.of(
            **arguments,
            usage=np.array([[64 * gibibyte, 3.0]]),
            limits=np.array([9.5 * 64 * gibibyte, np.inf]),
        )
    )
    assert nodes.bins == memory.bins == 9
    assert sum(left.count for left in nodes.left) == sum(left.count for left in memory.left)
    assert all(left.limits == (0,) for left in memory.left)


def test_an_overdrawn_limit_closes_what_uses_it_and_nothing_else() -> None:
    """Below zero a limit leaves no room, and types that do not count towards it stay open."""
    problem = Problem.of(
        requests=np.array([[1.0]]),
        demand=np.array([4]),
        allocatable=np.array([[4.0], [4.0]]),
        price=np.array([0.1, 0.9]),
        usage=np.array([[4.0], [0.0]]),
        limits=np.array([-7.0]),
    )
    assert bought(pack(problem)) == {1: 1}
