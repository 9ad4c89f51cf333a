"""EC2's allocation strategies."""

from __future__ import annotations

from typing import Any

from outrider.local.allocation import Pool, allotted, ranked, single


def pool(index: int, price: float, left: int = 100, **more: Any) -> Pool:
    """Return a pool."""
    zone = more.pop("zone", "a")
    return Pool(index, {}, more, {}, f"t{index}", f"subnet-{zone}", zone, price, left)


def order(pools: list[Pool], strategy: str) -> list[int]:
    """Return the order in which a strategy fills pools."""
    return [one.index for group in ranked(pools, strategy) for one in group]


def test_each_strategy_has_its_order() -> None:
    """Price, priority and depth, each where its strategy says."""
    pools = [
        pool(0, 3.0, left=1, Priority=2.0),
        pool(1, 1.0, left=10, Priority=3.0),
        pool(2, 2.0, left=100, Priority=1.0),
    ]
    assert order(pools, "lowest-price") == [1, 2, 0]
    assert order(pools, "prioritized") == [2, 0, 1]
    assert order(pools, "capacity-optimized") == [2, 1, 0]
    assert order(pools, "price-capacity-optimized") == [2, 1, 0]


def test_price_decides_among_deep_pools() -> None:
    """With capacity everywhere price-capacity-optimized is the lowest price."""
    assert order([pool(0, 2.0), pool(1, 1.0)], "price-capacity-optimized") == [1, 0]


def test_what_a_pool_lacks_the_next_one_gives() -> None:
    """An empty pool is reported, and its share comes from the next in order."""
    counts, short = allotted(
        ranked([pool(0, 1.0, left=1), pool(1, 2.0), pool(2, 3.0)], "lowest-price"), 3
    )
    assert counts == {0: 1, 1: 2}
    assert [one.index for one in short] == [0]


def test_weights_count_as_capacity() -> None:
    """An instance of weight 4 fills four units, at a quarter of its price each."""
    pools = [pool(0, 4.0, WeightedCapacity=4.0), pool(1, 1.5)]
    assert order(pools, "lowest-price") == [0, 1]
    assert allotted(ranked(pools, "lowest-price"), 8)[0] == {0: 2}


def test_one_zone_is_the_one_that_holds_everything() -> None:
    """A gang goes where it fits whole, even at a higher price."""
    pools = [pool(0, 1.0, left=2, zone="a"), pool(1, 2.0, left=9, zone="b")]
    chosen = single(pools, zone=True, kind=False, target=3, strategy="lowest-price")
    assert [one.zone for one in chosen] == ["b"]
