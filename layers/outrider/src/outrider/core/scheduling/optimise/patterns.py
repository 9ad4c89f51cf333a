"""The packing kernel at work on pods: kinds and types as arrays, patterns back as bins.

Decides in which rounds the kernel packs: pods go to the heaviest NodePools that can still serve
them (rule 2), and what their limits leave out goes to the next ones in another round. `gather`
says who is equal, `goods` what can be bought, `units` what a node holds only so often, `realise`
opens the bins. Refuses to pack and to place what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outrider.apis.storage import EBS_DRIVER
from outrider.core.packing.effort import Effort
from outrider.core.packing.pack import pack
from outrider.core.packing.problem import Packing
from outrider.core.packing.problem import Problem as Packable
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.optimise.alike import Classes
from outrider.core.scheduling.optimise.gather import Gatherer
from outrider.core.scheduling.optimise.goods import Floats, Goods, bounded, goods, usual
from outrider.core.scheduling.optimise.realise import Kind, Realisation
from outrider.core.scheduling.optimise.units import units
from outrider.core.scheduling.run import Bin, Move, Run
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Mask

_ASKED = 64
"""So many bins are asked whether they take a pod that no pattern took."""


@dataclass(eq=False)
class Patterns:
    """Packs what it can of the waiting pods into *run*.

    `bound` is what the kernel proves of its own problem, where that one is the whole problem;
    `broken` says that pods who were given a zone have no place, so that those who were given
    theirs in view of them may stand wrong.
    """

    run: Run
    careful: bool = False  # leave pods to greedy that another's hostname spread counts
    zonal: bool = True  # settle pods on zones whose neighbours there matter
    bound: float | None = None
    broken: bool = False

    def fill(self, asks: Mapping[int, Ask], expired: Callable[[], bool]) -> None:
        """Pack the pods of *asks*, which are in the queue's order and without a place."""
        waiting = dict(asks)
        for _ in range(len({shelf.pool.weight for shelf in self.run.problem.shelves})):
            opened = len(self.run.bins)
            kinds = self._round(waiting, expired)
            self.broken = self.broken or any(kind.pods and kind.domains for kind in kinds)
            for known in self.run.bins[opened:]:
                for pod in known.members:
                    del waiting[pod]
            if not waiting or len(self.run.bins) == opened or expired():
                break

    def _round(self, asks: Mapping[int, Ask], expired: Callable[[], bool]) -> list[Kind]:
        """Pack once; return the kinds, which keep the pods that have no place."""
        gatherer = Gatherer(self.run, self.careful, self.zonal)
        kinds = gatherer.gathered(asks)
        if not kinds:
            return kinds
        problem = self.run.problem
        tables = gatherer.tables(kinds)
        found = goods(problem, tables, [shelf.rows for shelf in problem.shelves])
        if not found.types:
            return kinds
        effort = Effort.thorough() if problem.policy.thorough else None
        asked, caps = self._asked(kinds)
        classes = Classes.of(asked, found.compatible)
        pods = [len(kind.pods) for kind in kinds]
        packing = pack(self._packable(classes, asked, caps, found, pods), expired, effort)
        if self._is_everything(asks, kinds, packing):
            self.bound = packing.bound
        realisation = Realisation(self.run, kinds, found.types)
        for pattern in classes.shared_out(packing.patterns, pods):
            realisation.realise(pattern)
        for kind in kinds:
            if kind.domains and not kind.followers:
                self._settle(kind, gatherer.shelves(kind.ask))
        return kinds

    def _settle(self, kind: Kind, shelves: Sequence[Shelf]) -> None:
        """Give the pods of *kind* that no pattern took a place where others count on them."""
        run, ask = self.run, kind.ask
        while kind.pods:
            moves = [
                (move, known)
                for known in (run.bins[index] for index in run.candidates(ask)[:_ASKED].tolist())
                if run.topology.refuses(ask, known.content) is None
                and (move := run.settled_move(ask, known.content, kind.domains, known)) is not None
            ]
            if moves:
                move, known = min(moves, key=lambda item: _rise(*item))
                run.join(kind.pods.popleft(), ask, known, move)
                continue
            opened = [
                move
                for shelf in shelves
                if (empty := run.contents.empty(shelf, self._for_sale(shelf))) is not None
                and (move := run.settled_move(ask, empty, kind.domains, None)) is not None
            ]
            if not opened:
                return
            run.open(kind.pods.popleft(), ask, min(opened, key=lambda move: move.content.price))

    def _for_sale(self, shelf: Shelf) -> Mask:
        return shelf.rows & ~self.run.problem.reservations.held

    def _is_everything(
        self, asks: Mapping[int, Ask], kinds: Sequence[Kind], packing: Packing
    ) -> bool:
        """Return whether the kernel's problem is a relaxation of the whole, and its bound one."""
        problem = self.run.problem
        return (
            not packing.left
            and not problem.table.size
            and not problem.reservations.items
            and len(asks) == len(problem.pods) == sum(len(kind.pods) for kind in kinds)
            and len({shelf.pool.weight for shelf in problem.shelves}) == 1
            and not any(kind.ask.tied or kind.ask.ports for kind in kinds)
            and not any(shelf.min_values for shelf in problem.shelves)
            and not (
                any(shelf.limited for shelf in problem.shelves)
                and any(len(problem.classes[kind.pods[0]].asks) > 1 for kind in kinds)
            )
        )

    def _asked(self, kinds: Sequence[Kind]) -> tuple[Floats, Floats]:
        """Return what a pod of each kind asks for, units last, and how many units a node has."""
        of_kinds = [kind.party for kind in kinds]
        asks = list(dict.fromkeys(ask for party in of_kinds for ask in party))
        place = {id(ask): index for index, ask in enumerate(asks)}
        taken = units(self.run.problem, asks, strict=True)
        single = np.array(
            [
                [*ask.request, ask.volumes.count(EBS_DRIVER), *taken.requests[index]]
                for index, ask in enumerate(asks)
            ],
            np.float64,
        )
        asked = np.array(
            [single[[place[id(ask)] for ask in party]].sum(axis=0) for party in of_kinds]
        )
        return asked, np.asarray(taken.caps, np.float64)

    def _packable(
        self, classes: Classes, asked: Floats, caps: Floats, found: Goods, pods: Sequence[int]
    ) -> Packable:
        problem = self.run.problem
        usage, limits = bounded(self.run, found.types)
        found = replace(found, compatible=found.compatible[classes.first])
        return Packable.of(
            requests=asked[classes.first],
            demand=np.array([sum(pods[kind] for kind in kinds) for kinds in classes.kinds]),
            allocatable=np.hstack([found.room, np.tile(caps, (len(found.types), 1))]),
            price=usual(problem, found),
            list_price=found.price(problem),
            compatible=found.compatible,
            usage=usage,
            limits=limits,
            cost_per_node=problem.policy.node_cost_per_hour,
        )


def _rise(move: Move, known: Bin) -> tuple[float, int]:
    return move.content.price - known.content.price, known.index
