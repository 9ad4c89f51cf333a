"""Which pools a fleet fills, in which order: EC2's allocation strategies as arithmetic.

A pool is one override of one launch template config. The capacity left in a pool stands for EC2's
own estimate of depth. Matches the strategies as documented for `instant` fleets; refuses to launch
anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pool:
    """One way to launch: a template config with an override."""

    index: int
    specification: Mapping[str, Any]
    override: Mapping[str, Any]
    data: Mapping[str, Any]
    instance_type: str
    subnet_id: str
    zone: str
    price_per_hour: float
    left: int
    problem: tuple[str, str] | None = None

    @property
    def weight(self) -> float:
        """Return how many units of capacity one instance counts."""
        return float(self.override.get("WeightedCapacity") or 1.0)

    @property
    def unit_price(self) -> float:
        """Return the price of one unit of capacity."""
        return self.price_per_hour / self.weight

    @property
    def priority(self) -> float:
        """Return the override's priority; one without comes last."""
        return float(self.override.get("Priority", float("inf")))


def ranked(pools: Sequence[Pool], strategy: str, pools_to_use: int = 1) -> list[list[Pool]]:
    """Return the pools as *strategy* would fill them: rounds of pools that are filled evenly."""
    match strategy:
        case "diversified":
            return [list(pools)]
        case "prioritized":
            order = sorted(pools, key=lambda pool: (pool.priority, pool.unit_price, pool.index))
        case "capacity-optimized":
            order = sorted(pools, key=lambda pool: (-pool.left, pool.unit_price, pool.index))
        case "capacity-optimized-prioritized":
            order = sorted(pools, key=lambda pool: (-pool.left, pool.priority, pool.index))
        case "price-capacity-optimized":
            deep = max((pool.left for pool in pools), default=0) / 2
            order = sorted(pools, key=lambda pool: (pool.left < deep, pool.unit_price, pool.index))
        case _:
            order = sorted(pools, key=lambda pool: (pool.unit_price, pool.index))
            if pools_to_use > 1:
                return [order[:pools_to_use], *([pool] for pool in order[pools_to_use:])]
    return [[pool] for pool in order]


def allotted(rounds: Sequence[Sequence[Pool]], target: float) -> tuple[dict[int, int], list[Pool]]:
    """Return the instances by pool index that fill *target*, and the pools found wanting."""
    counts: dict[int, int] = {}
    short: list[Pool] = []
    for pools in rounds:
        usable: list[Pool] = []
        for pool in pools:
            (short if pool.left <= 0 or pool.problem else usable).append(pool)
        while target > 1e-9 and usable:
            for pool in tuple(usable):
                if target <= 1e-9:
                    break
                if counts.get(pool.index, 0) >= pool.left:
                    usable.remove(pool)
                    short.append(pool)
                    continue
                counts[pool.index] = counts.get(pool.index, 0) + 1
                target -= pool.weight
        if target <= 1e-9:
            break
    return counts, short


def single(
    pools: Sequence[Pool], *, zone: bool, kind: bool, target: float, strategy: str
) -> list[Pool]:
    """Return the pools of the one zone, or the one type, that a whole fleet fits into best."""
    groups: dict[tuple[str, str], list[Pool]] = {}
    for pool in pools:
        key = (pool.zone if zone else "", pool.instance_type if kind else "")
        groups.setdefault(key, []).append(pool)

    def quality(group: list[Pool]) -> tuple[float, float, int]:
        counts, _ = allotted(ranked(group, strategy), target)
        by_index = {pool.index: pool for pool in group}
        filled = sum(by_index[index].weight * count for index, count in counts.items())
        paid = sum(by_index[index].price_per_hour * count for index, count in counts.items())
        return -min(filled, target), paid, group[0].index

    return min(groups.values(), key=quality, default=[])
