"""Greedy by marginal cost: every pod goes where it adds least to the bill.

Decides for each pod in the queue's order: an existing node if one takes it, which is free; else the
bin or the new node for which the price of the cheapest row rises least, the cost of one more node
included. The bins that hold the same are one question, so the work grows with kinds, not with pods.
Refuses to look ahead: `optimise.best` compares several such runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.run import Bin, Move, Run

_CLOSE = 1e-12
_QUESTIONS = 64
"""So many kinds of bins are asked for each pod, emptiest first: beyond, few are cheaper."""


@dataclass(eq=False)
class Greedy:
    """Places pods into *run*; a new node counts *node_cost* beside its price."""

    run: Run
    node_cost: float

    def place(self, pod: int, ask: Ask) -> bool:
        """Put *pod* where it adds least to the bill; return whether anything took it."""
        if self.run.place_on_node(pod, ask):
            return True
        joined = self._cheapest_join(ask)
        openings = self.run.openings(ask)
        opened = min(openings, key=_opening_order, default=None)
        if joined is not None and (
            opened is None or joined[0] <= opened.content.price + self.node_cost + _CLOSE
        ):
            self.run.join(pod, ask, joined[1], joined[2])
            return True
        if opened is None:
            return False
        self.run.open(pod, ask, opened)
        return True

    def _cheapest_join(self, ask: Ask) -> tuple[float, Bin, Move] | None:
        best: tuple[float, Bin, Move] | None = None
        asked: set[int] = set()
        for index in self.run.candidates(ask).tolist():
            known = self.run.bins[index]
            if id(known.content) in asked:
                continue
            if len(asked) >= _QUESTIONS:
                break
            asked.add(id(known.content))
            move = self.run.into(ask, known)
            if move is None:
                continue
            rise = move.content.price - known.content.price
            if best is None or rise < best[0] - _CLOSE:
                best = (rise, known, move)
            if rise <= _CLOSE:
                break
        return best


def _opening_order(move: Move) -> tuple[tuple[int, float, int], str]:
    return move.order, move.content.shelf.name
