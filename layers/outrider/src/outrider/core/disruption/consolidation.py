"""Consolidation: sets of nodes whose pods fit elsewhere, or on cheaper new nodes, go.

One search over what to remove and what to add, by the planner's own answer on "the cluster without
these nodes":

1. nodes whose pods fit on the others go, one after the other, the ones that free most money for
least
   disruption first (n -> 0, F139);
2. several nodes at once are replaced by fewer or cheaper ones (n -> m): prefixes of the same order,
   as Karpenter does (F143), except that any number of new nodes may come out;
3. single nodes are replaced by what is cheaper, several smaller ones included (1 -> m), which
   Karpenter cannot do.

Every command is judged by `worth`. Budgets for Underutilized, consolidationPolicy, consolidateAfter
and everything that holds a node's pods are obeyed; static pools are left alone; empty nodes are
emptiness's. Time-boxed: when the pass's time is up, what was found so far is carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from outrider.apis import duration
from outrider.apis.nodepool import WHEN_EMPTY
from outrider.core.disruption import worth
from outrider.core.disruption.candidates import Candidate
from outrider.core.disruption.cost import ratio
from outrider.core.disruption.result import Blocked, Code, Command, Proposal, Reason
from outrider.core.disruption.scene import Scene, budget_spent, homeless

MOST_AT_ONCE = 100
REPLACING_ROUNDS = 3


class _Search:
    """One pass of consolidation over a scene: what was accepted, and why the rest was not."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.commands: list[Command] = []
        self.blocked: dict[str, Blocked] = {}
        self.unsettled = tuple(
            candidate.name
            for candidate in scene.candidates
            if not candidate.settled(scene.now) and not _never(candidate)
        )

    def run(self) -> None:
        """Search in the three steps that the module names."""
        self.remove()
        for _ in range(REPLACING_ROUNDS):
            if not self.replace_several():
                break
        self.replace_single()

    def remove(self) -> None:
        """Take the nodes whose pods fit on the others."""
        for candidate in self._free():
            current = self._current(candidate)
            if self.scene.expired() or current is None:
                continue
            if not self._within_budget(current):
                continue
            proposed = self._propose([current], launching=False)
            if isinstance(proposed, Command):
                self._accept(proposed)
            else:
                self.blocked[current.name] = proposed

    def replace_several(self) -> bool:
        """Take the best prefix of several nodes that cheaper new ones replace; say whether any."""
        ordered = self._affordable(self._free())[:MOST_AT_ONCE]
        best: Command | None = None
        low, high = 2, len(ordered)
        while low <= high and not self.scene.expired():
            middle = (low + high) // 2
            proposed = self._propose(ordered[:middle])
            if isinstance(proposed, Command):
                best = proposed if best is None or _better(proposed, best) else best
                low = middle + 1
            else:
                high = middle - 1
        if best is None:
            return False
        self._accept(best)
        return True

    def replace_single(self) -> None:
        """Take the single nodes that something cheaper replaces."""
        for candidate in self._free():
            current = self._current(candidate)
            if self.scene.expired() or current is None or not self._within_budget(current):
                continue
            proposed = self._propose([current])
            if isinstance(proposed, Command):
                self._accept(proposed)
            else:
                self.blocked[current.name] = proposed

    def _propose(self, chosen: Sequence[Candidate], *, launching: bool = True) -> Command | Blocked:
        """Return the command that removes *chosen*, or why there is none."""
        scene = self.scene
        found = scene.relocate(chosen, avoid=self.unsettled)
        if found.lost:
            return homeless(chosen[0], found.lost)
        if found.launches and not launching:
            return Blocked(chosen[0].name, Code.NOT_CHEAPER, "its pods do not fit on other nodes")
        launches = worth.judge(scene, chosen, found)
        if isinstance(launches, Blocked):
            return launches
        return Command(
            reason=Reason.UNDERUTILIZED,
            nodes=found.nodes,
            launches=launches,
            placements=found.placements,
            savings_per_hour=scene.price(chosen)
            - sum(launch.price_per_hour for launch in launches),
            why=_why(len(chosen), len(launches)),
            deadline=_deadline(scene, chosen),
        )

    def _accept(self, command: Command) -> None:
        self.scene.accept(command)
        self.commands.append(command)
        for name in command.nodes:
            self.blocked.pop(name, None)

    def _free(self) -> list[Candidate]:
        """Return the nodes that consolidation may take, the most rewarding first."""
        scene = self.scene
        free = []
        for candidate in scene.candidates:
            if candidate.empty:
                continue
            refusal = candidate.held or _refusal(candidate, scene)
            if refusal is None:
                free.append(candidate)
            else:
                self.blocked[candidate.name] = refusal
        return sorted(
            free,
            key=lambda item: (-ratio(scene.prices.of(item.node) or 0.0, item.pods), item.name),
        )

    def _current(self, candidate: Candidate) -> Candidate | None:
        """Return *candidate* as the pass has left it; None where it is gone."""
        return next((item for item in self.scene.candidates if item.name == candidate.name), None)

    def _within_budget(self, candidate: Candidate) -> bool:
        if self.scene.allowance.left(candidate.pool.name, Reason.UNDERUTILIZED) > 0:
            return True
        self.blocked[candidate.name] = budget_spent(candidate, Reason.UNDERUTILIZED)
        return False

    def _affordable(self, ordered: Sequence[Candidate]) -> list[Candidate]:
        """Return the longest part of *ordered* that the budgets allow together."""
        taken: dict[str, int] = {}
        result = []
        for candidate in ordered:
            pool = candidate.pool.name
            if taken.get(pool, 0) < self.scene.allowance.left(pool, Reason.UNDERUTILIZED):
                taken[pool] = taken.get(pool, 0) + 1
                result.append(candidate)
        return result


def propose(scene: Scene) -> Proposal:
    """Return the commands that make the cluster cheaper."""
    search = _Search(scene)
    search.run()
    remaining = {candidate.name for candidate in scene.candidates}
    blocked = [found for name, found in sorted(search.blocked.items()) if name in remaining]
    return Proposal(tuple(search.commands), tuple(blocked))


def _refusal(candidate: Candidate, scene: Scene) -> Blocked | None:
    """Return why consolidation may not take *candidate*, whatever it would save."""
    pool = candidate.pool
    wish = pool.spec.disruption
    if pool.static:
        message = f"NodePool {pool.name} keeps a fixed number of nodes"
        return Blocked(candidate.name, Code.STATIC_POOL, message)
    if wish.consolidation_policy == WHEN_EMPTY:
        message = f"NodePool {pool.name} consolidates empty nodes only"
        return Blocked(candidate.name, Code.POLICY_FORBIDS, message)
    if not candidate.settled(scene.now):
        what = "is Never" if _never(candidate) else f"({wish.consolidate_after}) has not passed"
        return Blocked(candidate.name, Code.CONSOLIDATE_AFTER, f"consolidateAfter {what}")
    if scene.prices.of(candidate.node) is None:
        return Blocked(candidate.name, Code.NO_PRICE, "the catalogue has no price for it")
    return None


def _never(candidate: Candidate) -> bool:
    return duration.nillable(candidate.pool.spec.disruption.consolidate_after) is None


def _deadline(scene: Scene, chosen: Sequence[Candidate]) -> datetime | None:
    periods = [period for candidate in chosen if (period := candidate.grace_period) is not None]
    return scene.now + min(periods) if periods else None


def _why(removed: int, launched: int) -> str:
    if not launched:
        return "its pods fit on other nodes"
    return f"{removed} -> {launched}: the same pods on cheaper nodes"


def _better(left: Command, right: Command) -> bool:
    """Return whether *left* saves more; at equal savings fewer nodes, then fewer launches."""

    def key(command: Command) -> tuple[float, int, int]:
        return -round(command.savings_per_hour, 9), len(command.nodes), len(command.launches)

    return key(left) < key(right)
