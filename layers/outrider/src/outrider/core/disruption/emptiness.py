"""Emptiness: nodes on which nothing needs another place go, without a replacement.

Static pods, DaemonSet pods, finished and leaving pods do not count (F135). Every consolidation
policy allows it; consolidateAfter and the budgets for Empty hold it back. All empty nodes go in
one command.
"""

from __future__ import annotations

from outrider.apis import duration
from outrider.core.disruption.candidates import Candidate
from outrider.core.disruption.result import Blocked, Code, Command, Proposal, Reason
from outrider.core.disruption.scene import Scene, budget_spent


def propose(scene: Scene) -> Proposal:
    """Return one command for the empty nodes that may go now."""
    going: list[Candidate] = []
    blocked: list[Blocked] = []
    for candidate in scene.candidates:
        if not candidate.empty:
            continue
        refusal = candidate.held or _refusal(candidate, scene)
        if refusal is None and scene.allowance.left(candidate.pool.name, Reason.EMPTY) <= sum(
            1 for other in going if other.pool.name == candidate.pool.name
        ):
            refusal = budget_spent(candidate, Reason.EMPTY)
        if refusal is None:
            going.append(candidate)
        else:
            blocked.append(refusal)
    if not going:
        return Proposal(blocked=tuple(blocked))
    command = Command(
        reason=Reason.EMPTY,
        nodes=tuple(candidate.name for candidate in going),
        savings_per_hour=scene.price(going),
        why="nothing runs there that needs a place",
    )
    return Proposal((scene.accept(command),), tuple(blocked))


def _refusal(candidate: Candidate, scene: Scene) -> Blocked | None:
    if candidate.pool.static:
        message = f"NodePool {candidate.pool.name} keeps a fixed number of nodes"
        return Blocked(candidate.name, Code.STATIC_POOL, message)
    if candidate.settled(scene.now):
        return None
    after = candidate.pool.spec.disruption.consolidate_after
    what = "is Never" if duration.nillable(after) is None else f"({after}) has not passed"
    return Blocked(candidate.name, Code.CONSOLIDATE_AFTER, f"consolidateAfter {what}")
