"""Who gets the room that is paid for already: existing nodes, and those on their way.

Decides which pods fill the places that cost nothing: first fit's way, as the queue has them, and by
worth: the pods that would be dearest on new nodes first, each on the place that the others want
least, and a pod that finds no room makes another move over to a place of its own. `best` compares
the plans that follow; where pods are too many for two plans, the way that keeps more worth from
being bought is taken. Refuses to know what is bought for the rest, and to touch rule 5: a pod goes
by its first ask that anything could meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from outrider.core.scheduling.bins import Contents
from outrider.core.scheduling.demand import Ask, PodClass
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.supply import Mask, holding

_CLOSE = 1e-9
_PAIRS = 200_000
"""So many pairs of an ask and a place are weighed; with more only first fit's way is gone."""
_MOVES = 2_000
"""So many pods are asked to move over for another, in one plan."""
_NOWHERE = 1e9
"""What a pod is worth that no new node could hold."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Filled:
    """Who sits on which place, who is left with which ask, and what the former are worth."""

    placements: Mapping[int, int]
    waiting: dict[int, Ask]
    asks: Mapping[int, Ask]
    worth: tuple[float, ...]  # by priority, the most important first

    def begun(self, problem: Problem, contents: Contents) -> Run:
        """Return a run in which the places are filled and nothing is bought."""
        run = Run.of(problem, contents)
        for pod, place in self.placements.items():
            run.put(pod, self.asks[pod], place)
        return run


def fillings(problem: Problem, contents: Contents, order: Sequence[int]) -> list[Filled]:
    """Return the ways in which the pods of *order* fill what exists, first fit's way first.

    The second is there only where it is another, and leaves something of worth to be gained.
    """
    asks = _hopeful(problem, order)
    if not problem.table.size:
        return [Filled({}, asks, asks, ())]
    several = len(problem.table.places) * len({ask.index for ask in asks.values()})
    worth = _worth(problem, asks) if several <= _PAIRS else {}
    run = Run.of(problem, contents)
    for pod, ask in asks.items():
        run.place_on_node(pod, ask)
    plain = _filled(problem, run, asks, worth)
    if not worth or not plain.waiting or not _contested(run, plain):
        return [plain]
    careful = _ByWorth(Run.of(problem, contents), asks, worth)
    careful.fill()
    other = _filled(problem, careful.run, asks, worth)
    return [plain] if other.waiting.keys() == plain.waiting.keys() else [plain, other]


def _hopeful(problem: Problem, order: Sequence[int]) -> dict[int, Ask]:
    """Return the first ask of every pod that anything could meet, else its last."""
    known: dict[PodClass, Ask] = {
        item: next((ask for ask in item.asks if not problem.hopeless(ask)), item.asks[-1])
        for item in dict.fromkeys(map(problem.classes.__getitem__, order))
    }
    return {pod: known[problem.classes[pod]] for pod in order}


def _filled(
    problem: Problem, run: Run, asks: Mapping[int, Ask], worth: Mapping[int, float]
) -> Filled:
    gained = dict.fromkeys(sorted({-problem.pods[pod].priority for pod in asks}), 0.0)
    for pod in run.placements if worth else ():
        gained[-problem.pods[pod].priority] += worth[asks[pod].index]
    waiting = {pod: ask for pod, ask in asks.items() if pod not in run.placements}
    total = tuple(round(amount, 9) for amount in gained.values())
    return Filled(dict(run.placements), waiting, asks, total)


def _contested(run: Run, filled: Filled) -> bool:
    """Return whether some pod that is left could have had a place that others took."""
    problem = run.problem
    left = {ask.index: ask for ask in filled.waiting.values()}
    start = problem.table.room
    return any(
        bool((problem.suitable_places(ask) & holding(start, ask.request)).any())
        for ask in left.values()
    )


def _worth(problem: Problem, asks: Mapping[int, Ask]) -> dict[int, float]:
    """Return, by ask, the price of the share of a new node that a pod would take up there."""
    return {
        ask.index: _share_of_a_node(problem, ask)
        for ask in {ask.index: ask for ask in asks.values()}.values()
    }


def _share_of_a_node(problem: Problem, ask: Ask) -> float:
    """Return what the largest share that a pod has of anything costs on the cheapest new node.

    A hundredth of its other shares counts as well: of two pods that take one of three slots the
    larger one is worth more.
    """
    lowest = _NOWHERE
    for shelf in problem.shelves:
        rows = problem.rows(ask, shelf) & holding(shelf.room, ask.request)[shelf.shape]
        if not rows.any():
            continue
        room = np.maximum(shelf.room, 1).astype(np.float64)
        share = ask.request / room
        taken = share.max(axis=1) + share.sum(axis=1) / 100.0
        node = problem.policy.node_cost_per_hour
        price = (problem.market.price[rows] + node) * taken[shelf.shape[rows]]
        lowest = min(lowest, float(price.min()))
    return lowest


@dataclass(eq=False)
class _ByWorth:
    """Fills the places of *run*, which is fresh, with the pods worth most."""

    run: Run
    asks: Mapping[int, Ask]
    worth: Mapping[int, float]
    _wanted: Floats = field(init=False)  # by place: what could be there
    _moves: int = 0

    def __post_init__(self) -> None:
        """Count who wants which place."""
        problem = self.run.problem
        self._wanted = np.zeros(problem.table.size)
        for ask in {ask.index: ask for ask in self.asks.values()}.values():
            self._wanted[self._open(ask)] += self.worth[ask.index]

    def fill(self) -> None:
        """Fill the places, the important pods first, then those worth most."""
        pods, promised = self.run.problem.pods, self.run.problem.nominated
        turns = sorted(
            self.asks,
            key=lambda pod: (
                -pods[pod].priority,
                pod not in promised,
                -self.worth[self.asks[pod].index],
            ),
        )
        for pod in turns:
            ask = self.asks[pod]
            if pod in promised and self.run.place_on_node(pod, ask):
                continue
            place = self._best(ask)
            if place is None:
                place = self._made_room(ask)
            if place is not None:
                self.run.put(pod, ask, place)

    def _open(self, ask: Ask) -> Mask:
        """Return the places that have room for a pod of *ask*, neighbours aside."""
        return self.run.problem.suitable_places(ask) & holding(self.run.room, ask.request)

    def _best(self, ask: Ask, besides: int | None = None) -> int | None:
        """Return the place for a pod of *ask* that is wanted least, then the one it fills best."""
        run = self.run
        mask = self._open(ask)
        if besides is not None:
            mask[besides] = False
        if ask.tied:
            mask &= run.topology.open_places(ask)
        choices = np.flatnonzero(mask)
        if not len(choices):
            return None
        left = (run.room[choices] - ask.request) / np.maximum(run.problem.table.room[choices], 1)
        order = np.lexsort((choices, left.sum(axis=1).round(9), self._wanted[choices].round(9)))
        return next((at for at in choices[order].tolist() if run.takes(at, ask)), None)

    def _made_room(self, ask: Ask) -> int | None:
        """Return a place that has room for a pod of *ask* since another moved to a third one."""
        run = self.run
        mask = run.problem.suitable_places(ask) & holding(run.problem.table.room, ask.request)
        if ask.tied:
            mask &= run.topology.open_places(ask)
        for place in np.flatnonzero(mask).tolist():
            if not run.takes(place, ask):
                continue
            for other in self._movable(place, ask):
                self._moves += 1
                if self._moves > _MOVES:
                    return None
                target = self._best(self.asks[other], besides=place)
                if target is not None:
                    run.move(other, self.asks[other], target)
                    return place
        return None

    def _movable(self, place: int, ask: Ask) -> list[int]:
        """Return the pods put on *place* without which one of *ask* has room, one of each ask."""
        run = self.run
        found: dict[int, int] = {}
        for pod, at in run.placements.items():
            own = self.asks[pod]
            if (
                at == place
                and own.index not in found
                and pod not in run.problem.nominated
                and not (own.tied or own.counted or own.ports or own.volumes.own)
                and not own.volumes.shared
                and bool((run.room[place] + own.request >= ask.request).all())
            ):
                found[own.index] = pod
        return list(found.values())
