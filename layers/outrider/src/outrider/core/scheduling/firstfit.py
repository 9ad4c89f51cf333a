"""First fit, as Karpenter packs: the baseline, and the net under every other strategy.

Decides for each pod in the queue's order: an existing node if one takes it, else the planned node
with the fewest pods that can still grow to hold it, else a new one in the heaviest pool that can,
with every type that fits left open (F58, F59). Price is looked at only to choose among domains,
among pools of one weight, and at the end among the types left. Refuses to look ahead.
"""

from __future__ import annotations

from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.run import Run


def place(run: Run, pod: int, ask: Ask) -> bool:
    """Put *pod* on the first node that takes it; return whether one did."""
    if run.place_on_node(pod, ask):
        return True
    for index in run.candidates(ask).tolist():
        known = run.bins[index]
        move = run.into(ask, known)
        if move is not None:
            run.join(pod, ask, known, move)
            return True
    openings = run.openings(ask)
    if not openings:
        return False
    best = min(openings, key=lambda move: (move.order, _reversed(move.content.shelf.name)))
    run.open(pod, ask, best)
    return True


def _reversed(name: str) -> tuple[int, ...]:
    """Return a key that sorts names descending: Karpenter's order among equals (F6)."""
    return (*(-ord(letter) for letter in name), 1)
