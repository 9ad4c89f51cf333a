"""One run of packing: what is still free, what is planned so far, and the moves that are legal.

Decides whether a pod may be put on an existing node, into a bin that is planned, or into a new
bin, and carries it out: room, counts, ports, volumes, limits and reservations stay true. A bin that
is one of many is made once and repeated. Which bins are worth asking is `roster`'s business.
Refuses to choose between legal moves: strategies do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from outrider.apis.labels import ZONE
from outrider.apis.pod import HostPort
from outrider.core.scheduling.bins import Content, Contents, Domains
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.hostports import conflict
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.result import Code
from outrider.core.scheduling.roster import Bin, Roster
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Amounts, Mask, distinct, holding
from outrider.core.scheduling.topology import Topology
from outrider.core.scheduling.volumes import over_limit

__all__ = ["Bin", "Move", "Run"]

_UNLIMITED: Amounts = np.zeros(0, np.int64)
_WAYS = 64
"""So many ways of settling topology keys are tried, to know whether a bin is full for good."""


@dataclass(frozen=True, slots=True)
class Move:
    """A pod's way into a bin: what the bin then holds, at what price."""

    content: Content
    domains: Domains
    score: int
    committed: Amounts
    reservation: str | None = None

    @property
    def order(self) -> tuple[int, float, int]:
        """Return the order of preference: even spread, then price, then the row's rank."""
        shelf = self.content.shelf
        return self.score, self.content.price, int(shelf.market.rank[self.content.best])


@dataclass(eq=False)
class Run:
    """The state of one packing run over *problem*."""

    problem: Problem
    contents: Contents
    topology: Topology
    room: Amounts
    place_ports: dict[int, tuple[HostPort, ...]]
    place_volumes: dict[int, tuple[frozenset[tuple[str, str]], dict[str, int]]]
    budgets: list[Amounts]
    slots: dict[str, int]
    roster: Roster
    placements: dict[int, int] = field(default_factory=dict)  # pod -> place
    _moves: dict[tuple[int, int], Move] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, contents: Contents | None = None) -> Run:
        """Return a fresh run; *contents* of another run over the same problem may be shared."""
        contents = contents or Contents(problem)
        return cls(
            problem=problem,
            contents=contents,
            topology=Topology(problem, problem.start.copy()),
            room=problem.table.room.copy(),
            place_ports={},
            place_volumes={},
            budgets=[shelf.budget.copy() for shelf in problem.shelves],
            slots={item.id: item.instances for item in problem.reservations.items},
            roster=Roster(contents),
        )

    @property
    def bins(self) -> list[Bin]:
        """Return the planned nodes, in the order in which they were opened."""
        return self.roster.bins

    @property
    def price_per_hour(self) -> float:
        """Return what the planned nodes cost."""
        return sum(known.content.price for known in self.bins)

    def zone_of(self, pods: set[int]) -> str | None:
        """Return the zone of the first of *pods* that has a place, None where none has."""
        for known in self.bins:
            if not pods.isdisjoint(known.members):
                return min(self.contents.domains(known.content, ZONE), default=None)
        for pod, node in sorted(self.placements.items()):
            if pod in pods:
                return self.problem.table.values(ZONE)[node]
        return None

    # Existing nodes.

    def place_on_node(self, pod: int, ask: Ask) -> bool:
        """Put *pod* on the first existing node that takes it; return whether one did."""
        if not self.problem.table.size:
            return False
        mask = self.problem.suitable_places(ask) & holding(self.room, ask.request)
        if not mask.any():
            return False
        if ask.tied:
            mask &= self.topology.open_places(ask)
        promised = self.problem.nominated.get(pod)
        if promised is not None and mask[promised] and self.takes(promised, ask):
            self.put(pod, ask, promised)
            return True
        for node in np.flatnonzero(mask).tolist():
            if self.takes(node, ask):
                self.put(pod, ask, node)
                return True
        return False

    def takes(self, node: int, ask: Ask) -> bool:
        """Return whether ports and volumes on the existing *node* leave a pod of *ask* alone."""
        place = self.problem.table.places[node]
        if ask.ports and conflict(ask.ports, (*place.ports, *self.place_ports.get(node, ()))):
            return False
        if ask.volumes.own or ask.volumes.shared:
            attached, own = self.place_volumes.get(node, (place.attached, {}))
            return over_limit(attached, own, ask.volumes, place.volume_limits) is None
        return True

    def put(self, pod: int, ask: Ask, node: int) -> None:
        """Put *pod* on the existing *node*, which takes it."""
        self.room[node] -= ask.request
        self.placements[pod] = node
        if ask.ports:
            self.place_ports[node] = (*self.place_ports.get(node, ()), *ask.ports)
        if ask.volumes.own or ask.volumes.shared:
            place = self.problem.table.places[node]
            attached, own = self.place_volumes.get(node, (place.attached, {}))
            counts = dict(own)
            for driver, count in ask.volumes.own:
                counts[driver] = counts.get(driver, 0) + count
            self.place_volumes[node] = (attached | ask.volumes.shared, counts)
        self.topology.placed_on_node(ask, node)

    def move(self, pod: int, ask: Ask, node: int) -> None:
        """Move *pod*, which no neighbour counts and which has no ports and no volumes, to another
        existing *node*, which takes it."""
        self.room[self.placements[pod]] += ask.request
        self.room[node] -= ask.request
        self.placements[pod] = node

    # Planned nodes.

    def candidates(self, ask: Ask) -> NDArray[np.int64]:
        """Return the bins that may take a pod of *ask*, fewest pods first; each is to be asked."""
        return self.roster.candidates(ask, self.topology.admitted(ask))

    def first(self, ask: Ask) -> tuple[Bin, Move] | None:
        """Return the first of the candidates that takes a pod of *ask*, and the way into it."""
        if self._wants_neighbours(ask):
            return self.roster.first_of(self.candidates(ask), partial(self.into, ask))
        return self.roster.first(ask, self.topology.admitted(ask), partial(self.into, ask))

    def _wants_neighbours(self, ask: Ask) -> bool:
        """Return whether a node that refuses a pod may take it once others are there."""
        items = self.problem.tallies.items
        return any(items[tally].hosted for near in ask.near for tally in near.tallies)

    def into(self, ask: Ask, known: Bin) -> Move | None:
        """Return the best way of a pod of *ask* into a bin, None where there is none."""
        if ask.tied:
            refusal = self.topology.refuses(ask, known.content)
            if refusal is not None:
                if self._is_final(ask, refusal):
                    self.roster.bury(ask, known)
                return None
        limited = known.content.shelf.limited
        if ask.keys or limited:
            move = self._best(ask, known.content, known.committed)
            full = move is None and not limited and self._is_full(ask, known.content)
        else:
            move = self._only_move(ask, known.content)
            full = move is None
        if full:
            self.roster.bury(ask, known)
        return move

    def _only_move(self, ask: Ask, content: Content) -> Move | None:
        """Return the way into *content* that depends on nothing else."""
        grown = content.steps.get((ask.index, ())) or self.contents.after(content, ask, ())
        if isinstance(grown, Code):
            return None
        key = (id(content), ask.index)
        move = self._moves.get(key)
        if move is None:
            move = self._moves[key] = Move(grown, (), 0, _UNLIMITED)
        return move

    def _is_full(self, ask: Ask, content: Content) -> bool:
        """Return whether a pod of *ask* fits into *content* whatever domain is open to it."""
        choices: list[list[tuple[str, str]]] = []
        for key in ask.keys:
            values = self.contents.domains(content, key)
            if values:
                choices.append([(key, value) for value in sorted(values)])
            elif self.topology.needs_label(ask, key):
                return True
        if prod(map(len, choices)) > _WAYS:
            return False
        return all(
            isinstance(self.contents.after(content, ask, choice), Code)
            for choice in product(*choices)
        )

    def _is_final(self, ask: Ask, refusal: Code) -> bool:
        """Return whether a refusal by neighbours on the node will never be taken back.

        Counts on a node only grow, and the least of them stays 0 while nodes can be made.
        """
        return refusal is Code.POD_ANTI_AFFINITY or (
            refusal is Code.TOPOLOGY_SPREAD and self.problem.launchable(ask)
        )

    def _best(self, ask: Ask, content: Content, committed: Amounts) -> Move | None:
        best: Move | None = None
        for domains in self._options(ask, content):
            move = self._move(ask, content, domains, committed)
            if isinstance(move, Move) and (best is None or move.order < best.order):
                best = move
        return best

    def _options(self, ask: Ask, content: Content) -> Iterator[Domains]:
        """Yield the ways in which the topology keys of *ask* may settle on *content*."""
        admitted = self.topology.admitted(ask)
        if not admitted:
            yield ()
            return
        choices: list[list[tuple[str, str] | None]] = []
        for key, open_domains in admitted.items():
            values = self.contents.domains(content, key)
            if not values:
                if self.topology.needs_label(ask, key):
                    return
                choices.append([None])
                continue
            choices.append([(key, value) for value in sorted(values) if open_domains.has(value)])
        for choice in product(*choices):
            yield tuple(pair for pair in choice if pair is not None)

    def _move(
        self, ask: Ask, content: Content, domains: Domains, committed: Amounts
    ) -> Move | Code:
        grown = self.contents.after(content, ask, domains)
        if isinstance(grown, Code):
            return grown
        shelf = content.shelf
        if shelf.limited:
            within = self._within(shelf, grown, self.budgets[shelf.index] + committed)
            if within is None:
                return Code.LIMITS_EXCEEDED
            grown = within
        return Move(
            content=grown,
            domains=domains,
            score=self.topology.score(ask, domains),
            committed=self.commitment(grown),
        )

    def settled_move(
        self,
        ask: Ask,
        content: Content,
        domains: Domains,
        known: Bin | None,
        *,
        reservation: str | None = None,
    ) -> Move | None:
        """Return the way of a pod of *ask* into *content* with its domains settled before; *known*
        is the bin that holds it, None for a new one."""
        none = np.zeros(len(content.shelf.limited), np.int64)
        move = self._move(ask, content, domains, none if known is None else known.committed)
        return replace(move, reservation=reservation) if isinstance(move, Move) else None

    def _within(self, shelf: Shelf, content: Content, ceiling: Amounts) -> Content | None:
        """Return *content* with a first choice that the limits still allow."""
        if (self.commitment(content) <= ceiling).all():
            return content
        fitting = holding(ceiling, shelf.capacity)
        narrowed = self.contents.narrowed(content, fitting[shelf.market.row_type])
        if narrowed is None or not self.contents.keeps_variety(narrowed):
            return None
        return narrowed

    def commitment(self, content: Content) -> Amounts:
        """Return what a bin takes of its pool's limits: its first choice's capacity, or with
        minValues, where the list may not be cut later, the largest one's."""
        shelf = content.shelf
        if not shelf.limited:
            return _UNLIMITED
        if shelf.min_values:
            kinds = distinct(shelf.market.row_type[content.rows])
            largest: Amounts = shelf.capacity[kinds].max(axis=0)
            return largest
        first: Amounts = shelf.capacity[shelf.market.row_type[content.best]]
        return first

    def join(self, pod: int, ask: Ask, known: Bin, move: Move) -> None:
        """Put *pod* into a bin by *move*."""
        index = known.content.shelf.index
        if known.content.shelf.limited:
            self.budgets[index] -= move.committed - known.committed
        known.content, known.committed = move.content, move.committed
        known.members.append(pod)
        known.asks = (*known.asks, ask)
        self.roster.changed(known)
        self._count(ask, move.content, move.domains)

    def _count(self, ask: Ask, content: Content, domains: Domains, times: int = 1) -> None:
        if ask.counted:
            counting = [item for item in ask.counted if self.contents.counts(content, item)]
            self.topology.placed_in_bin(ask, dict(domains), counting, times)

    # New nodes.

    def openings(self, ask: Ask) -> list[Move]:
        """Return the best way to open a new bin on each shelf of the heaviest weight that can.

        Pods that ask for no accelerator get accelerated and bare-metal types only where no pool of
        any weight has another.
        """
        if self._needs_company(ask):
            return []
        if ask.accelerated:
            return self._heaviest(ask, exotic=True)
        return self._heaviest(ask, exotic=False) or self._heaviest(ask, exotic=True)

    def _heaviest(self, ask: Ask, *, exotic: bool) -> list[Move]:
        found: list[Move] = []
        for shelf in self.problem.shelves:
            if found and shelf.pool.weight < found[0].content.shelf.pool.weight:
                break
            move = self._opening(ask, shelf, exotic=exotic)
            if move is not None:
                found.append(move)
        return found

    def _needs_company(self, ask: Ask) -> bool:
        """Return whether a pod may only join a node that holds others already."""
        items = self.problem.tallies.items
        counts = self.topology.counts
        return any(
            any(items[tally].hosted for tally in near.tallies)
            and not (near.matches_itself and not any(counts.total[tally] for tally in near.tallies))
            for near in ask.near
        )

    def _opening(self, ask: Ask, shelf: Shelf, *, exotic: bool) -> Move | None:
        rows = self.problem.rows(ask, shelf)
        if not rows.any() or (self.budgets[shelf.index] < 0).any():
            return None
        allowed = shelf.rows if exotic else shelf.rows & ~self.contents.exotic
        for reservation in self.problem.reservations.items:
            if self.slots[reservation.id] > 0 and (rows & reservation.rows).any():
                move = self._start(ask, shelf, allowed & reservation.rows)
                if move is not None:
                    return replace(move, reservation=reservation.id)
        move = self._start(ask, shelf, shelf.rows & ~self.problem.reservations.held)
        if move is None or exotic or move.content.plain or shelf.min_values:
            return move
        return None

    def _start(self, ask: Ask, shelf: Shelf, rows: Mask) -> Move | None:
        empty = self.contents.empty(shelf, rows)
        if empty is None:
            return None
        return self._best(ask, empty, np.zeros(len(shelf.limited), np.int64))

    def open(self, pod: int, ask: Ask, move: Move) -> Bin:
        """Put *pod* into a new bin by *move*."""
        made = Bin(len(self.bins), move.content, [pod], (ask,), move.reservation, move.committed)
        self.bins.append(made)
        if move.content.shelf.limited:
            self.budgets[move.content.shelf.index] -= move.committed
        if move.reservation is not None:
            self.slots[move.reservation] -= 1
        self._count(ask, move.content, move.domains)
        return made

    def is_repeatable(self, ask: Ask) -> bool:
        """Return whether a bin of nothing but pods of *ask* leaves the next one as it was itself.

        It does where no domain is counted, no reservation runs out and no limit is used up.
        """
        return (
            not ask.keys
            and not ask.near
            and not self.problem.reservations.items
            and not any(
                shelf.limited and self.problem.rows(ask, shelf).any()
                for shelf in self.problem.shelves
            )
        )

    def repeat(self, model: Bin, settled: Mapping[int, Domains], pods: Iterable[list[int]]) -> None:
        """Open a bin like *model* for each of *pods*, whose asks are the model's, in its order.

        *settled* gives, by index, the domains of the model's asks. No reservation is touched, and
        that the limits have room for all of the bins has been seen to.
        """
        asks, content, first = model.asks, model.content, len(self.bins)
        self.bins.extend(
            Bin(index, content, mine, asks, None, model.committed)
            for index, mine in enumerate(pods, first)
        )
        times = len(self.bins) - first
        if content.shelf.limited:
            self.budgets[content.shelf.index] -= model.committed * times
        for ask, count in Counter(asks).items():
            self._count(ask, content, settled[ask.index], times * count)
