"""The packing kernel at work on pods: classes and offerings as arrays, patterns back as bins.

Decides which pods the kernel may pack (what a node can hold only so often becomes a resource; a pod
whose neighbours in other zones matter is given its zone first, one by one in the queue's order, as
the counts then stand), which offerings are one type to it, and hands the kernel's patterns to
`realise`. Refuses to pack and to place what is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from outrider.core.packing.pack import pack
from outrider.core.packing.problem import UNBOUNDED
from outrider.core.packing.problem import Problem as Packable
from outrider.core.requirements import Requirement
from outrider.core.scheduling.bins import Domains
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.optimise.realise import Kind, Realisation, Type
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Mask, holding
from outrider.core.scheduling.topology import Topology

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Patterns:
    """Packs what it can of the pods in *order* into *run*; *bound* is proven where all are its."""

    run: Run
    node_cost: float
    careful: bool = False  # leave pods to greedy that another's hostname spread counts
    bound: float | None = None
    _kinds: list[Kind] = field(default_factory=list)

    def fill(self, asks: Mapping[int, Ask], expired: Callable[[], bool]) -> None:
        """Pack the pods of *asks*, which are in the queue's order and without a place."""
        self._kinds = self._gather(asks)
        types = self._types()
        if not self._kinds or not types:
            return
        packing = pack(self._packable(types), expired)
        realisation = Realisation(self.run, self._kinds, types)
        for pattern in packing.patterns:
            realisation.realise(pattern)
        if self._is_everything(asks) and not packing.left:
            self.bound = packing.bound

    def _is_everything(self, asks: Mapping[int, Ask]) -> bool:
        """Return whether the kernel's bound bounds every feasible plan."""
        problem = self.run.problem
        weights = {shelf.pool.weight for shelf in problem.shelves}
        return (
            not problem.table.size
            and len(weights) == 1
            and not problem.reservations.items
            and len(asks) == len(problem.pods)
            and all(not kind.ask.tied for kind in self._kinds)
            and not any(shelf.min_values for shelf in problem.shelves)
        )

    # Pods as kinds.

    def _gather(self, asks: Mapping[int, Ask]) -> list[Kind]:
        problem = self.run.problem
        topology = Topology(problem, self.run.topology.counts.copy())
        found: dict[tuple[int, Domains], Kind] = {}
        for pod, ask in asks.items():
            if not self._is_packable(ask):
                continue
            domains = self._settled(topology, ask)
            if domains is None:
                continue
            if ask.counted:
                topology.placed_in_bin(ask, dict(domains), list(ask.counted))
            kind = found.setdefault((ask.index, domains), Kind(ask, domains, deque()))
            kind.pods.append(pod)
        return list(found.values())

    def _is_packable(self, ask: Ask) -> bool:
        """Return whether the kernel can know all that ties a pod to others on its node.

        Pods that must keep apart from others than their own kind, share a node, a volume or fight
        over a port are left to greedy. A spread over strangers does not matter: its pods come
        first.
        """
        items = self.run.problem.tallies.items
        hosted = {tally for tally in ask.counted if items[tally].hosted}
        apart = {tally for tally in ask.apart if items[tally].hosted}
        strangers = {tally for tally in ask.repelled if items[tally].hosted} - hosted
        near = any(items[tally].hosted for use in ask.near for tally in use.tallies)
        if self.careful:
            limiting = apart | {use.tally for use in ask.spreads if items[use.tally].hosted}
            if not {tally for tally in hosted if not items[tally].owners} <= limiting <= hosted:
                return False
        return (
            not near
            and not strangers
            and apart <= hosted
            and not ask.volumes.shared
            and not ask.ports
        )

    def _settled(self, topology: Topology, ask: Ask) -> Domains | None:
        """Return the domains a pod goes to, the least crowded and cheapest; None if there are
        none."""
        if not ask.keys:
            return ()
        admitted = topology.admitted(ask)
        best: tuple[int, float, Domains] | None = None
        for shelf in self._shelves(ask):
            rows = self._rows(ask, shelf)
            for row in self._cheapest_by_domain(ask, rows):
                domains = tuple(
                    (key, value)
                    for key in ask.keys
                    if (value := self.run.problem.market.value(row, key)) is not None
                )
                if len(domains) < len(ask.keys) or not all(
                    admitted[key].has(value) for key, value in domains
                ):
                    continue
                price = float(self.run.problem.market.price[row])
                offer = (topology.score(ask, domains), price, domains)
                if best is None or offer < best:
                    best = offer
        return None if best is None else best[2]

    def _cheapest_by_domain(self, ask: Ask, rows: Mask) -> list[int]:
        """Return the cheapest of *rows* in each combination of the topology keys."""
        market = self.run.problem.market
        order = np.flatnonzero(rows)
        order = order[np.argsort(market.rank[order], kind="stable")]
        codes = np.zeros(len(order), np.int64)
        for key in ask.keys:
            column = market.column(key)
            if column is not None:
                codes = codes * len(column.states) + column.codes[order]
        _, first = np.unique(codes, return_index=True)
        return [int(row) for row in order[first]]

    def _shelves(self, ask: Ask) -> list[Shelf]:
        """Return the shelves of the heaviest weight that can hold a pod alone (rule 2)."""
        found: list[Shelf] = []
        for shelf in self.run.problem.shelves:
            if found and shelf.pool.weight < found[0].pool.weight:
                break
            if not shelf.min_values and self._rows(ask, shelf).any():
                found.append(shelf)
        return found

    def _rows(self, ask: Ask, shelf: Shelf) -> Mask:
        problem = self.run.problem
        rows = problem.rows(ask, shelf) & ~problem.reservations.held
        return rows & holding(shelf.room, ask.request)[shelf.shape]

    # Rows as types.

    def _types(self) -> list[Type]:
        market, reservations = self.run.problem.market, self.run.problem.reservations
        found: dict[tuple[int, int, bytes, str | None], Type] = {}
        for shelf in self.run.problem.shelves:
            if shelf.min_values:
                continue
            table = self._compatible(shelf)
            packed = np.packbits(table, axis=0)
            useful = np.flatnonzero(np.logical_or.reduce(table, axis=0))
            for row in useful[np.argsort(market.rank[useful], kind="stable")].tolist():
                holds = packed[:, row].tobytes()
                name = market.offerings[row].reservation_id if reservations.held[row] else None
                key = (shelf.index, int(shelf.shape[row]), holds, name)
                if key not in found:
                    supply = UNBOUNDED if name is None else float(self.run.slots.get(name, 0))
                    found[key] = Type(shelf, row, holds, name, supply)
        return list(found.values())

    def _compatible(self, shelf: Shelf) -> NDArray[np.bool_]:
        """Return kinds x rows: which rows of *shelf* a kind may open or join."""
        problem = self.run.problem
        table = np.zeros((len(self._kinds), problem.market.size), bool)
        for place, kind in enumerate(self._kinds):
            if shelf not in self._shelves(kind.ask):
                continue
            rows = problem.rows(kind.ask, shelf)
            for key, value in kind.domains:
                column = problem.market.column(key)
                if column is not None:
                    rows = rows & shelf.allow(Requirement(key, frozenset((value,))))
            table[place] = rows
        return table

    def _packable(self, types: Sequence[Type]) -> Packable:
        problem = self.run.problem
        units, caps = self._units()
        kinds = len(self._kinds)
        requests = np.zeros((kinds, len(problem.axis.names) + 1 + len(caps)))
        for place, kind in enumerate(self._kinds):
            requests[place, : len(problem.axis.names)] = kind.ask.request
            requests[place, len(problem.axis.names)] = kind.ask.volumes.count("ebs.csi.aws.com")
            requests[place, len(problem.axis.names) + 1 :] = units[place]
        room = np.array(
            [
                [
                    *item.shelf.room[item.shelf.shape[item.row]],
                    item.shelf.volume_slots[problem.market.row_type[item.row]],
                    *caps,
                ]
                for item in types
            ],
            np.float64,
        )
        usage, limits = self._limits(types)
        bits = [np.unpackbits(np.frombuffer(item.holds, np.uint8))[:kinds] for item in types]
        return Packable.of(
            requests=requests,
            demand=np.array([len(kind.pods) for kind in self._kinds], np.float64),
            allocatable=room,
            price=problem.market.price[[item.row for item in types]],
            compatible=np.array(bits, bool).T,
            supply=np.array([item.supply for item in types]),
            usage=usage,
            limits=limits,
            cost_per_node=self.node_cost,
        )

    def _units(self) -> tuple[Floats, list[float]]:
        """Return what kinds take of things that a node has so often, and how often it has them."""
        items = self.run.problem.tallies.items
        caps: dict[int, float] = {}
        for kind in self._kinds:
            for use in kind.ask.spreads:
                if items[use.tally].hosted:
                    caps[use.tally] = min(caps.get(use.tally, np.inf), use.max_skew)
            for tally in kind.ask.apart:
                if items[tally].hosted:
                    caps[tally] = 1.0
        names = sorted(caps)
        table = np.zeros((len(self._kinds), len(names)))
        for place, kind in enumerate(self._kinds):
            mine = {use.tally for use in kind.ask.spreads} | set(kind.ask.apart)
            table[place] = [tally in mine and tally in kind.ask.counted for tally in names]
        return table, [caps[tally] for tally in names]

    def _limits(self, types: Sequence[Type]) -> tuple[Floats, Floats]:
        shelves = [shelf for shelf in self.run.problem.shelves if shelf.limited]
        limits = [float(left) for shelf in shelves for left in self.run.budgets[shelf.index]]
        table = np.zeros((len(types), len(limits)))
        market = self.run.problem.market
        start = 0
        for shelf in shelves:
            end = start + len(shelf.limited)
            for place, item in enumerate(types):
                if item.shelf is shelf:
                    table[place, start:end] = shelf.capacity[market.row_type[item.row]]
            start = end
        return table, np.maximum(np.array(limits), 0.0)
