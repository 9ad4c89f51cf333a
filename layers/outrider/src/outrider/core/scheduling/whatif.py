"""What if these nodes went? One cluster, compiled once, asked as often as one likes.

Disruption asks for every node, and for many sets of nodes, where the pods would go. All of these
questions share classes, shelves, masks and places, so they share one problem: every pod that may
move is lifted out of it and put back where it runs, and a question closes the nodes that would go,
withdraws what their pods count for, and plans those pods alone. Pods that wait already, and
placeholders for room to be kept free, have taken what they will take before the first question.

Places are tried in the order that the caller prefers, initialised ones first. Matches a plan of
"the cluster without these nodes" (Karpenter's SimulateScheduling) except that pods which wait never
share a new node with pods that move. Refuses to know why a node should go, and gangs: whoever asks
about members of a gang plans afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling import devices, firstfit, optimise, queue
from outrider.core.scheduling.bins import Contents
from outrider.core.scheduling.compile import compiled
from outrider.core.scheduling.launches import launches
from outrider.core.scheduling.nodes import PlaceTable
from outrider.core.scheduling.optimise import Solution
from outrider.core.scheduling.policy import FIRST_FIT, Policy
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.result import Launch, Placement
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.supply import Amounts
from outrider.core.scheduling.tally import Counts
from outrider.core.scheduling.volumes import Volumes

Order = NDArray[np.int64]
CLOSED = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the pods of some nodes would go: on places, in launches, or nowhere (`left`)."""

    placements: tuple[Placement, ...] = ()
    launches: tuple[Launch, ...] = ()
    left: tuple[str, ...] = ()


class WhatIf:
    """A cluster from which nodes are taken away, in thought or (`remove`) for good."""

    def __init__(
        self,
        state: ClusterState,
        moving: Sequence[Pod],
        waiting: Sequence[Pod],
        catalog: Catalog,
        policy: Policy,
        *,
        preference: Mapping[str, int] | None = None,
    ) -> None:
        """Compile *state*; pods *moving* run on nodes that may be asked about, those *waiting* have
        no place yet. Places of low *preference* are tried first.
        """
        allotted = devices.allot(state, (*moving, *waiting), catalog)
        pods = tuple(
            replace(pod, node_name="", nominated_node_name="") if number < len(moving) else pod
            for number, pod in enumerate(allotted.pods)
        )
        made = compiled(state, pods, catalog, policy, {}, replace(allotted, pods=pods))
        self._problem = _ordered(made.problem, preference or {})
        self._contents = Contents(self._problem)
        self._volumes = Volumes(state)
        self._usage = {node.name: node for node in state.nodes}
        self._index = {place.name: index for index, place in enumerate(self._problem.table.places)}
        self._home: dict[int, str] = {}
        self._on: dict[str, list[int]] = {}
        self._originals = dict(enumerate((*moving, *waiting)))
        self._numbers = {pod.key: index for index, pod in enumerate(pods)}
        for number, pod in enumerate(moving):
            self._settle(number, pod.node_name)
        self._admit(range(len(moving), len(pods)))

    def pods_on(self, name: str) -> tuple[Pod, ...]:
        """Return the pods that would have to leave the node called *name*."""
        return tuple(self._originals[number] for number in self._on.get(name, ()))

    def takes(self, name: str) -> bool:
        """Return whether the node called *name* is a place at all."""
        return name in self._index

    def without(
        self,
        names: Iterable[str],
        *,
        avoid: Collection[str] = (),
        launching: bool = True,
        expired: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Return where the pods of the nodes called *names* would go if these went.

        Nodes to *avoid* take none; without *launching* only what exists takes any.
        """
        going = tuple(names)
        numbers = [number for name in going for number in self._on.get(name, ())]
        if not numbers:
            return Answer()
        problem = self._asked(going, avoid)
        able, unable = self._parted(numbers)
        pods = tuple(problem.pods[number] for number in able)
        order = [able[place] for place in queue.ordered(pods)]
        solution = self._solved(problem, order, launching=launching, expired=expired)
        return self._worded(problem, solution, unable)

    def remove(
        self, names: Iterable[str], placements: Iterable[Placement], coming: Iterable[Node] = ()
    ) -> None:
        """Go on without the nodes called *names*: pods are where *placements* say, the rest of them
        on nodes *coming*, which count against limits and take nothing else.
        """
        going = tuple(names)
        target = {item.pod: item.node for item in placements}
        leaving = [number for name in going for number in self._on.pop(name, ())]
        for number in leaving:
            self._uncount(number, self._home.pop(number), self._problem.start)
        budgets = self._budgets(going)
        for node in coming:
            for shelf in self._problem.shelves:
                if shelf.name == node.node_pool:
                    budgets[shelf.index] = budgets[shelf.index] - _use(shelf.limited, node)
        self._problem = self._with_budgets(self._problem, budgets)
        for name in going:
            index = self._index.get(name)
            if index is not None:
                self._problem.table.room[index] = CLOSED
        for number in leaving:
            home = target.get(self._originals[number].key)
            if home is not None:
                self._settle(number, home)

    # The cluster as it stands.

    def _settle(self, number: int, name: str) -> None:
        """Let a pod run on the node called *name*."""
        self._home[number] = name
        self._on.setdefault(name, []).append(number)
        index = self._index.get(name)
        if index is None:
            return
        problem = self._problem
        ask, pod = problem.classes[number].asks[-1], self._originals[number]
        problem.table.room[index] -= ask.request
        place = problem.table.places[index]
        if pod.host_ports:
            place.ports = (*place.ports, *pod.host_ports)
        if pod.volumes:
            place.attached = place.attached | self._volumes.attached(pod)
        for tally in ask.counted:
            item = problem.tallies.items[tally]
            if problem.eligible_places(item.nodes)[index]:
                value = problem.table.values(item.key)[index]
                problem.start.add_on_node(tally, index, value)

    def _admit(self, waiting: Iterable[int]) -> None:
        """Let the pods that wait take what exists, the most important first."""
        problem = replace(self._problem, _hopeless={})
        run = Run.of(problem, self._contents)
        numbers, _ = self._parted(waiting)
        promised = {place for place, number in enumerate(numbers) if number in problem.nominated}
        ordered = queue.ordered([problem.pods[number] for number in numbers], promised)
        order = [numbers[place] for place in ordered]
        queue.drain(order, problem.classes, run.place_on_node, _never, lambda: False)
        for number, index in sorted(run.placements.items()):
            self._settle(number, problem.table.places[index].name)

    def _parted(self, numbers: Iterable[int]) -> tuple[list[int], list[int]]:
        """Return those of the pods that can be planned at all, and the others."""
        able: list[int] = []
        unable: list[int] = []
        for number in numbers:
            known = self._problem.classes[number]
            (unable if known.problem or known.devices else able).append(number)
        return able, unable

    def _uncount(self, number: int, name: str, counts: Counts) -> None:
        """Take a pod that runs on the node called *name* off *counts*."""
        index = self._index.get(name)
        if index is None:
            return
        problem = self._problem
        for tally in problem.classes[number].asks[-1].counted:
            item = problem.tallies.items[tally]
            if not problem.eligible_places(item.nodes)[index]:
                continue
            by_node = counts.by_node[tally]
            domain = problem.table.values(item.key)[index]
            if by_node is not None:
                by_node[index] -= 1
                counts.total[tally] -= 1
            elif domain is not None:
                counts.by_domain[tally][domain] -= 1
                counts.total[tally] -= 1

    # One question.

    def _asked(self, going: Sequence[str], avoid: Collection[str]) -> Problem:
        """Return the problem in which the nodes *going* are gone and those to *avoid* are shut."""
        problem = self._problem
        room = problem.table.room.copy()
        for name in (*going, *avoid):
            index = self._index.get(name)
            if index is not None:
                room[index] = CLOSED
        counts = problem.start.copy()
        for name in going:
            for number in self._on.get(name, ()):
                self._uncount(number, name, counts)
        table = replace(problem.table, room=room)
        asked = replace(problem, table=table, start=counts, nominated={}, _hopeless={})
        return self._with_budgets(asked, self._budgets(going))

    def _budgets(self, going: Iterable[str]) -> list[Amounts]:
        """Return what the limits of each shelf leave once the nodes *going* are gone."""
        budgets = [shelf.budget for shelf in self._problem.shelves]
        if not any(shelf.limited for shelf in self._problem.shelves):
            return budgets
        for name in going:
            node = self._usage.get(name)
            for shelf in self._problem.shelves:
                if node is not None and shelf.limited and node.node_pool == shelf.name:
                    budgets[shelf.index] = budgets[shelf.index] + _use(shelf.limited, node)
        return budgets

    def _with_budgets(self, problem: Problem, budgets: Sequence[Amounts]) -> Problem:
        shelves = problem.shelves
        if all(shelf.budget is budget for shelf, budget in zip(shelves, budgets, strict=True)):
            return problem
        return replace(
            problem,
            shelves=tuple(
                shelf if shelf.budget is budget else replace(shelf, budget=budget)
                for shelf, budget in zip(shelves, budgets, strict=True)
            ),
        )

    def _solved(
        self,
        problem: Problem,
        order: Sequence[int],
        *,
        launching: bool,
        expired: Callable[[], bool],
    ) -> Solution:
        if not launching:
            run = Run.of(problem, self._contents)
            left = queue.drain(order, problem.classes, run.place_on_node, _never, lambda: False)
            return Solution(run, left, FIRST_FIT)
        contents = Contents(problem)
        run = Run.of(problem, contents)
        place = partial(firstfit.place, run)
        left = queue.drain_runs(order, problem.classes, place, problem.hopeless, lambda: False)
        plain = Solution(run, left, FIRST_FIT)
        if expired() or problem.policy.strategy == FIRST_FIT:
            return plain
        return optimise.best(problem, contents, order, plain, expired)

    def _worded(self, problem: Problem, solution: Solution, unable: Iterable[int]) -> Answer:
        run = solution.run
        placements = sorted(
            (problem.pods[number].key, problem.table.places[index].name)
            for number, index in run.placements.items()
        )
        left = sorted(problem.pods[number].key for number in (*solution.left, *unable))
        return Answer(
            placements=tuple(Placement(pod, node) for pod, node in placements),
            launches=launches(run, {}) if run.bins else (),
            left=tuple(left),
        )


def _never(ask: object) -> bool:
    del ask
    return False


def _use(limited: Sequence[str], node: Node) -> Amounts:
    """Return what *node* counts against the limits called *limited*."""
    return np.array(
        [1 if name == "nodes" else node.capacity.get(name, 0) for name in limited], np.int64
    )


def _ordered(problem: Problem, preference: Mapping[str, int]) -> Problem:
    """Return *problem* with its places in the order of *preference*, initialised ones first."""
    places = problem.table.places
    order = sorted(
        range(len(places)),
        key=lambda index: (
            not places[index].initialized,
            preference.get(places[index].name, 0),
            index,
        ),
    )
    rank = {index: place for place, index in enumerate(order)}
    rows: Order = np.array(order, np.int64)
    start = problem.start
    counts = Counts(
        by_domain=start.by_domain,
        by_node=[None if numbers is None else numbers[rows] for numbers in start.by_node],
        total=start.total,
    )
    return replace(
        problem,
        table=PlaceTable(tuple(places[index] for index in order), problem.table.room[rows]),
        start=counts,
        nominated={pod: rank[index] for pod, index in problem.nominated.items()},
        _place_rules={},
        _place_masks={},
        _eligible={},
        _universes={},
        _hopeless={},
    )
