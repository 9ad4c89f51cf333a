"""Exhaustive search: on a cluster small enough, every plan there is.

`Search(case).cheapest(keys, below)` looks through all assignments of pods to places and to new
nodes, each with one offering, and judges them with the laws of `feasible`: weights, limits,
reservations and neighbours included. Identical pods are tried in one order only, dear branches are
cut. Gives up, and says so, when a case is too large. Imports nothing of the planner's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from tests.support import fits
from tests.support.feasible import World
from tests.support.fits import HOSTNAME, Json, Machine
from tests.support.goods import Option, accelerated
from tests.support.scenario import Scenario

MOST_STEPS = 4_000
_CLOSE = 1e-9


class TooLarge(Exception):
    """A case has more assignments than anybody wants to wait for."""


@dataclass
class _Bin:
    """A node of an assignment: a place, or a new one of a pool with an option."""

    machine: Machine
    pool: Json | None = None
    option: Option | None = None
    pods: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """The cheapest assignment that the search has come upon."""

    price: float
    nodes: tuple[tuple[str, tuple[str, ...]], ...]


class Search:
    """Every plan for one small case."""

    def __init__(self, case: Scenario) -> None:
        self.world = World(list(case.documents), case.catalog)
        self.best: Found | None = None
        self._below = float("inf")
        self._steps = 0
        self._fits: dict[tuple[object, frozenset[str]], bool] = {}
        self._openings: list[tuple[Json, Option, Machine]] = []
        for pool in self.world.goods.usable():
            for option in self.world.goods.options(pool):
                machine = self.world.goods.machine(pool, option)
                self._openings.append((pool, option, machine))
        self._openings.sort(key=lambda item: item[1].price)

    def suits(self) -> bool:
        """Return whether the search understands everything in the case."""
        pools = self.world.goods.usable()
        return not (
            any(self.world.goods.varied(pool) for pool in pools)
            or self.world.gangs()
            or len(self.world.pending()) > 6
            or any(
                line["operator"] != "In"
                for pool in pools
                for line in self.world.goods.lines(pool)
                if self.world.goods.is_open(line["key"])
            )
            or any(len(line["values"]) > 1 for pool in pools for line in self._custom(pool))
            or any(
                len(line["values"]) > 1
                for kind in self.world.goods.types.values()
                for line in kind["requirements"]
            )
        )

    def _custom(self, pool: Json) -> list[Json]:
        return [
            line
            for line in self.world.goods.lines(pool)
            if self.world.goods.is_open(line["key"]) and line["operator"] == "In"
        ]

    def cheapest(self, keys: set[str], below: float = float("inf")) -> Found | None:
        """Return the cheapest plan that places the pods *keys*, None where none costs less than
        *below*."""
        self.best, self._below, self._steps = None, below, 0
        places = [_Bin(machine) for machine in self.world.existing() if not machine.leaving]
        order = sorted(keys, key=lambda key: (self._size(key), key), reverse=True)
        self._go(order, places, 0.0, {})
        return self.best

    def _size(self, key: str) -> Fraction:
        return fits.requests(self.world.pods[key]["spec"]).get("cpu", Fraction(0))

    def _go(self, left: list[str], bins: list[_Bin], price: float, after: dict[str, int]) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TooLarge
        if price >= self._below - _CLOSE:
            return
        if not left:
            if self._holds(bins):
                nodes = tuple((item.machine.name, tuple(item.pods)) for item in bins if item.pods)
                self.best, self._below = Found(price, nodes), price
            return
        key, rest = left[0], left[1:]
        shape = str(self._shape(key))
        start = after.get(shape, 0)
        for place in range(start, len(bins)):
            if self._takes(bins[place], key):
                bins[place].pods.append(key)
                self._go(rest, bins, price, {**after, shape: place})
                bins[place].pods.pop()
        for pool, option, machine in self._openings:
            opened = _Bin(machine, pool, option)
            if price + option.price < self._below - _CLOSE and self._takes(opened, key):
                opened.pods.append(key)
                bins.append(opened)
                self._go(rest, bins, price + option.price, {**after, shape: len(bins) - 1})
                bins.pop()

    def _shape(self, key: str) -> Json:
        pod = self.world.pods[key]
        return {
            "spec": pod["spec"],
            "labels": pod["metadata"].get("labels"),
            "in": pod["metadata"]["namespace"],
            "at": (pod["spec"].get("volumes") or None) and key,
        }

    def _takes(self, known: _Bin, key: str) -> bool:
        keys = frozenset((*known.pods, key))
        where: object = known.machine.name if known.option is None else id(known.machine)
        verdict = self._fits.get((where, keys))
        if verdict is None:
            pods = [self.world.pods[name] for name in sorted(keys)]
            verdict = not list(self.world.unfit(known.machine, pods))
            self._fits[where, keys] = verdict
        return verdict

    def _holds(self, bins: list[_Bin]) -> bool:
        """Return whether an assignment keeps the laws that look at more than one node."""
        new = [item for item in bins if item.option is not None]
        return self._within_limits(new) and all(map(self._may_open, new)) and self._admitted(bins)

    def _within_limits(self, new: list[_Bin]) -> bool:
        slots: Counter[str] = Counter()
        for item in new:
            assert item.option is not None
            slots[item.option.offering.get("reservationId") or ""] += 1
            count = item.option.offering.get("reservationCapacity")
            if count is not None and slots[item.option.offering["reservationId"]] > count:
                return False
        for pool in self.world.goods.usable():
            mine = [item.option for item in new if item.pool is pool and item.option]
            for resource, left in self.world.left(pool).items():
                used = sum(
                    (self.world.goods.capacity(it.kind["name"], resource) for it in mine),
                    Fraction(0),
                )
                if mine and used > left:
                    return False
        return True

    def _may_open(self, item: _Bin) -> bool:
        """Return whether one of a new node's pods may open it: rules 2 and 3."""
        assert item.pool is not None
        assert item.option is not None
        return any(self._may(item.pool, item.option, self.world.pods[key]) for key in item.pods)

    def _may(self, pool: Json, option: Option, pod: Json) -> bool:
        weight = pool["spec"].get("weight") or 0
        heavier = [
            it for it in self.world.goods.usable() if (it["spec"].get("weight") or 0) > weight
        ]
        if any(self.world.opens(it, pod) for it in heavier):
            return False
        if not accelerated(option.kind):
            return True
        return any(name in fits.requests(pod["spec"]) for name in ("nvidia.com/gpu",)) or all(
            accelerated(other.kind)
            for other_pool in self.world.goods.usable()
            for other in self.world.alone(other_pool, pod)
        )

    def _admitted(self, bins: list[_Bin]) -> bool:
        waiting = []
        machines = self.world.existing()
        for index, item in enumerate(bins):
            home = item.machine
            if item.option is not None:
                name = f"new-{index}"
                home = Machine(
                    name,
                    {**home.labels, HOSTNAME: name},
                    home.taints,
                    home.room,
                    slots=home.slots,
                )
                machines = [*machines, home]
            waiting += [(self.world.pods[key], home) for key in item.pods]
        return not self.world.together(waiting, machines)
