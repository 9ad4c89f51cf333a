"""Emptiness: nodes on which nothing needs another place go, without a replacement.

Static pods, DaemonSet pods, finished and leaving pods do not count (F135). Every consolidation
policy allows it; consolidateAfter and the budgets for Empty hold it back. All empty nodes go in
one command; one that room is kept free on goes by itself, if the others have that room (F29).
"""

from __future__ import annotations

from collections.abc import Sequence

from outrider.apis import duration
from outrider.core.disruption.candidates import Candidate
from outrider.core.disruption.result import Blocked, Code, Command, Proposal, Reason
from outrider.core.disruption.scene import Scene, budget_spent


def propose(scene: Scene) -> Proposal:
    """Return one command for the empty nodes that may go now."""
    going: list[Candidate] = []
    roomy: list[Candidate] = []
    blocked: list[Blocked] = []
    for candidate in scene.candidates:
        if not candidate.empty:
            continue
        refusal = candidate.held or _refusal(candidate, scene)
        if refusal is None and scene.keeps_room(candidate):
            roomy.append(candidate)
            continue
        if refusal is None and scene.allowance.left(candidate.pool.name, Reason.EMPTY) <= sum(
            1 for other in going if other.pool.name == candidate.pool.name
        ):
            refusal = budget_spent(candidate, Reason.EMPTY)
        if refusal is None:
            going.append(candidate)
        else:
            blocked.append(refusal)
    commands = [scene.accept(_command(scene, going))] if going else []
    for candidate in roomy:
        refusal = _needed(scene, candidate)
        if refusal is None:
            commands.append(scene.accept(_command(scene, [candidate])))
        else:
            blocked.append(refusal)
    return Proposal(tuple(commands), tuple(blocked))


def _command(scene: Scene, going: Sequence[Candidate]) -> Command:
    return Command(
        reason=Reason.EMPTY,
        nodes=tuple(candidate.name for candidate in going),
        savings_per_hour=scene.price(going),
        why="nothing runs there that needs a place",
    )


def _needed(scene: Scene, candidate: Candidate) -> Blocked | None:
    """Return why an empty node stays for the room that is kept free on it."""
    if scene.allowance.left(candidate.pool.name, Reason.EMPTY) < 1:
        return budget_spent(candidate, Reason.EMPTY)
    found = scene.relocate([candidate], avoid=scene.unsettled, launching=False)
    if not found.left:
        return None
    message = f"room is kept free on it for {found.left[0]}"
    return Blocked(candidate.name, Code.PODS_UNSCHEDULABLE, message)


def _refusal(candidate: Candidate, scene: Scene) -> Blocked | None:
    if candidate.pool.static:
        message = f"NodePool {candidate.pool.name} keeps a fixed number of nodes"
        return Blocked(candidate.name, Code.STATIC_POOL, message)
    if candidate.settled(scene.now):
        return None
    after = candidate.pool.spec.disruption.consolidate_after
    what = "is Never" if duration.nillable(after) is None else f"({after}) has not passed"
    return Blocked(candidate.name, Code.CONSOLIDATE_AFTER, f"consolidateAfter {what}")
