"""Patterns back as bins: what the packing kernel chose, opened by the same legal moves as any bin.

Decides which waiting pods of a kind a pattern's places are given to. A pattern that a constraint
forbids after all is cut short, and its pods stay for `greedy`; one that comes many times is tried
once and repeated. Refuses to know how the patterns were found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from outrider.core.packing.problem import Pattern
from outrider.core.scheduling.bins import Content, Domains
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.result import Code
from outrider.core.scheduling.run import Bin, Move, Run
from outrider.core.scheduling.shelf import UNLIMITED, Shelf


@dataclass(eq=False)
class Kind:
    """Pods that are equal to the kernel: one ask, settled on the same domains.

    `followers` are those who must be on the node of one of `pods`, each with its ask.
    """

    ask: Ask
    domains: Domains
    pods: deque[int]
    followers: dict[int, tuple[tuple[int, Ask], ...]] = field(default_factory=dict)

    @property
    def party(self) -> tuple[Ask, ...]:
        """Return the asks of one of the pods and of those who follow it."""
        return (self.ask, *(ask for _, ask in next(iter(self.followers.values()), ())))


@dataclass(frozen=True, slots=True)
class Type:
    """Rows that are equal to the kernel: one shelf and shape, the same kinds, the cheapest row."""

    shelf: Shelf
    row: int
    holds: bytes
    reservation: str | None
    supply: float


@dataclass(frozen=True, slots=True)
class Realisation:
    """Opens bins in *run* for patterns over *kinds* and *types*."""

    run: Run
    kinds: Sequence[Kind]
    types: Sequence[Type]

    def realise(self, pattern: Pattern) -> None:
        """Open the bins of *pattern*, each as far as every constraint allows."""
        kind = self.types[pattern.bin_type]
        order = sorted(pattern.counts, key=lambda item: _late(self.kinds[item[0]].ask))
        left = pattern.times
        while left:
            opened = self._open(kind, order)
            if opened is None:
                break
            left -= 1 + self._repeated(kind, order, opened, left - 1)

    def _repeated(
        self, kind: Type, order: Sequence[tuple[int, int]], opened: Bin, most: int
    ) -> int:
        """Open *most* more bins like the one *opened*, or as many as there are pods and limits for,
        where none can turn out otherwise; return how many."""
        wanted = [(self.kinds[place], count) for place, count in order]
        if (
            opened.reservation is not None
            or len(opened.members) != sum(count for _, count in order)
            or len({item.ask.index for item, _ in wanted}) != len(wanted)
            or any(item.followers for item, _ in wanted)
        ):
            return 0
        enough = min(len(item.pods) // count for item, count in wanted)
        times = min(most, enough, self._within_limits(kind, opened, wanted))
        self.run.repeat(
            opened,
            {item.ask.index: item.domains for item, _ in wanted},
            [
                [item.pods.popleft() for item, count in wanted for _ in range(count)]
                for _ in range(times)
            ],
        )
        return times

    def _within_limits(self, kind: Type, opened: Bin, wanted: Sequence[tuple[Kind, int]]) -> int:
        """Return how many more bins like *opened* can be filled, pod by pod, before a limit of the
        NodePool has a say in it."""
        if not kind.shelf.limited:
            return UNLIMITED
        content: Content | Code | None = self._start(kind)
        most = opened.committed
        for item, count in wanted:
            for _ in range(count):
                if not isinstance(content, Content):
                    return 0
                content = self.run.contents.after(content, item.ask, item.domains)
                if isinstance(content, Content):
                    most = np.maximum(most, self.run.commitment(content))
        if content is not opened.content:
            return 0
        spare = self.run.budgets[kind.shelf.index] - most
        if (spare < 0).any():
            return 0
        used = opened.committed > 0
        return int((spare[used] // opened.committed[used]).min(initial=UNLIMITED)) + 1

    def _open(self, kind: Type, order: Sequence[tuple[int, int]]) -> Bin | None:
        opened: Bin | None = None
        for place, count in order:
            wanted = self.kinds[place]
            for _ in range(min(count, len(wanted.pods))):
                move = self._move(kind, wanted, opened)
                if move is None:
                    break
                pod = wanted.pods.popleft()
                if opened is None:
                    opened = self.run.open(pod, wanted.ask, move)
                else:
                    self.run.join(pod, wanted.ask, opened, move)
                self._follow(wanted, pod, opened)
        return opened

    def _follow(self, wanted: Kind, leader: int, opened: Bin) -> None:
        """Put those who must be on the node of *leader* there, as far as they fit."""
        for pod, ask in wanted.followers.get(leader, ()):
            domains = tuple((key, value) for key, value in wanted.domains if key in ask.keys)
            if self.run.topology.refuses(ask, opened.content) is None:
                move = self.run.settled_move(ask, opened.content, domains, opened)
                if move is not None:
                    self.run.join(pod, ask, opened, move)

    def _move(self, kind: Type, wanted: Kind, opened: Bin | None) -> Move | None:
        if opened is not None:
            if self.run.topology.refuses(wanted.ask, opened.content) is not None:
                return None
            return self.run.settled_move(wanted.ask, opened.content, wanted.domains, opened)
        content = self._start(kind)
        if content is None:
            return None
        return self.run.settled_move(
            wanted.ask, content, wanted.domains, None, reservation=kind.reservation
        )

    def _start(self, kind: Type) -> Content | None:
        problem = self.run.problem
        rows = kind.shelf.rows & ~problem.reservations.held
        if kind.reservation is not None:
            if self.run.slots[kind.reservation] <= 0:
                return None
            held = next(item for item in problem.reservations.items if item.id == kind.reservation)
            rows = kind.shelf.rows & held.rows
        return self.run.contents.empty(kind.shelf, rows)


def _late(ask: Ask) -> tuple[bool, bool]:
    """Return the order in a bin: who needs a device first, then who spreads, then the rest."""
    return not ask.accelerated, not ask.spreads
