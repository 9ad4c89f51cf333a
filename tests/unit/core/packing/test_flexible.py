"""Room that several kinds share and prices that several offer, on tables small enough to check."""

from __future__ import annotations

import numpy as np
import pytest

from outrider.core.packing.flexible import shared_room, usual_price
from outrider.core.packing.pack import pack
from outrider.core.packing.problem import Problem

ROOM = np.array([[4.0, 16], [4, 15], [3.9, 16], [8, 32], [64, 8]])
ALL = np.ones((1, 5), dtype=np.bool_)


def test_one_kind_is_what_a_type_has_itself() -> None:
    """Asking for one kind changes nothing."""
    assert (shared_room(ROOM, ALL, np.arange(5), 1) == ROOM).all()


def test_room_is_cut_to_what_the_nearest_kinds_have() -> None:
    """Three kinds hold whatever fits the room that is left of each of them."""
    room = shared_room(ROOM, ALL, np.arange(5), 3)
    assert room[0].tolist() == [3.9, 16]
    for one in range(5):
        assert ((room[one] <= ROOM).all(axis=1)).sum() >= 3


def test_types_of_one_kind_count_once() -> None:
    """Two zones of one instance type are no two kinds."""
    kinds = np.array([0, 0, 0, 1, 1])
    room = shared_room(ROOM, ALL, kinds, 2)
    assert room[0].tolist() == [4, 16]
    assert shared_room(ROOM, ALL, np.zeros(5, dtype=np.int64), 2).tolist() == [[0, 0]] * 5


def test_a_stand_in_takes_every_class_that_the_type_takes() -> None:
    """A type that some pod must not go to is no alternative for one that it may go to."""
    compatible = np.array([[True, True, True, False, True]])
    room = shared_room(ROOM, compatible, np.arange(5), 4)
    assert not room[3].any() or (ROOM[[0, 1, 2, 4]] >= room[3]).all(axis=1).sum() >= 3
    assert ((ROOM[[0, 1, 2, 4]] >= room[0]).all(axis=1)).sum() >= 4


def test_whatever_is_packed_in_shared_room_fits_enough_kinds() -> None:
    """Every pattern has the alternatives that were asked for."""
    dice = np.random.default_rng(2)
    room = dice.integers(8, 40, (12, 3)).astype(float)
    problem = Problem.of(
        requests=dice.integers(1, 5, (6, 3)).astype(float),
        demand=dice.integers(1, 30, 6),
        allocatable=shared_room(room, np.ones((6, 12), dtype=np.bool_), np.arange(12), 4),
        price=dice.uniform(1, 3, 12),
    )
    for pattern in pack(problem).patterns:
        used = sum(count * problem.requests[one] for one, count in pattern.counts)
        assert (used <= room).all(axis=1).sum() >= 4


def test_the_usual_price_is_the_mean_of_what_can_stand_in() -> None:
    """A bargain among dear alternatives is valued at their mean; a lone type at its own price."""
    price = np.array([1.0, 2.0, 3.0, 6.0, 9.0])
    usual = usual_price(ROOM, ALL, price, 2)
    assert usual[0] == pytest.approx((1.0 + 2.0) / 2)  # 6.0 is far dearer: it counts as 2.0
    assert usual[1] == pytest.approx((1.0 + 2.0) / 2)
    assert usual[3] == pytest.approx(6.0)
    assert usual[4] == pytest.approx(9.0)
    assert (usual_price(ROOM, ALL, price, 1) == price).all()
    assert (usual_price(ROOM, ALL, price, 9) == price).all()


def test_every_offering_of_a_type_counts() -> None:
    """Zones are offerings of their own: one type sold in three places has three ways to come."""
    room, takes = ROOM[:2], ALL[:, :2]
    several = np.array([[1.0, 1.2, 1.4], [1.1, np.inf, np.inf]])
    usual = usual_price(room, takes, several, 3)
    assert usual[0] == pytest.approx((1.0 + 1.2 + 1.4) / 3)
    assert usual[1] == pytest.approx((1.0 + 1.1 + 1.2) / 3)
    assert usual_price(room, takes, several, 4)[0] == pytest.approx(1.0)
