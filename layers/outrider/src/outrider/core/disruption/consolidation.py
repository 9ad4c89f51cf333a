"""Consolidation: sets of nodes whose pods fit elsewhere, or on cheaper new nodes, go.

One search over what to remove and what to add, by the planner's own answer on "the cluster without
these nodes":

1. nodes whose pods fit on the others go, one after the other, the ones that free most money for
   least disruption first (n -> 0, F139);
2. one plan houses all pods that may move afresh, which says what each of them is worth
   (`worths`). Nodes that cost more than the pods on them are worth are replaced together by what
   is cheaper (n -> m: any number of new nodes may come out; Karpenter allows one, F143);
3. single nodes are replaced by what is cheaper, several smaller ones included (1 -> m), part of
   their pods going to room that is free elsewhere.

Every command is judged by `worth`. Budgets for Underutilized, consolidationPolicy, consolidateAfter
and everything that holds a node's pods are obeyed, and pods that were moved twice today rest
(`moves`); static pools are left alone; empty nodes are emptiness's. Time-boxed: when the pass's
time is up, what was found so far is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from outrider.apis.nodepool import WHEN_EMPTY
from outrider.core.disruption import moves, worth
from outrider.core.disruption.candidates import Candidate
from outrider.core.disruption.result import Blocked, Code, Command, Proposal, Reason
from outrider.core.disruption.scene import Relocation, Scene, budget_spent, homeless
from outrider.core.disruption.worths import worths

MOST_AT_ONCE = 100
"""So many nodes are replaced together at most."""
FEW = 20
"""So few nodes are each asked about one by one, whatever the estimate says."""
MOST_SINGLES = 100
"""So many single nodes are planned for in a pass; the most promising first."""
ASKED = frozenset({Code.NOT_CHEAPER, Code.BELOW_THRESHOLD, Code.PODS_UNSCHEDULABLE})
"""What only a plan can say, and says of a node before others' pods come to it."""
TRIES = 12
"""So many sets are planned for in a pass that turn out not to pay."""


class _Search:
    """One pass of consolidation over a scene: what was accepted, and why the rest was not."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.commands: list[Command] = []
        self.blocked: dict[str, Blocked] = {}
        self._value: dict[str, float] = {}

    def run(self) -> None:
        """Search in the three steps that the module names."""
        self.remove()
        estimate = self.estimate()
        self.replace_several(estimate)
        self.replace_single(estimate)

    def remove(self) -> None:
        """Take the nodes whose pods fit on the others."""
        for candidate in self.free():
            if self.scene.candidate(candidate.name) is None or self.scene.expired():
                continue
            if not self._within_budget(candidate):
                continue
            found = self.scene.relocate([candidate], avoid=self.scene.unsettled, launching=False)
            if found.left:
                why = "its pods do not fit on other nodes"
                self.blocked[candidate.name] = Blocked(candidate.name, Code.NOT_CHEAPER, why)
                continue
            self._take(self.judged([candidate], found))

    def estimate(self) -> dict[str, float]:
        """Return by node what it costs beyond what its pods are worth, by one fresh plan of all."""
        free = self.free()
        if not free or self.scene.expired():
            return {}
        found = self.scene.relocate(free, avoid=self.scene.unsettled)
        pods = [pod for candidate in free for pod in candidate.pods]
        value = worths(pods, found.launches)
        left = frozenset(found.left)
        excess = {}
        for candidate in free:
            price = self.scene.price([candidate])
            if any(pod.key in left for pod in candidate.pods):
                excess[candidate.name] = 0.0
            else:
                excess[candidate.name] = price - sum(
                    value.get(pod.key, 0.0) for pod in candidate.pods
                )
        self._value = value
        return excess

    def replace_several(self, excess: dict[str, float]) -> None:
        """Replace nodes that cost more than their pods are worth, as many together as pay."""
        paying = [
            candidate
            for candidate in self._ranked(excess)
            if excess[candidate.name] >= self._least(candidate) * self.scene.price([candidate])
        ]
        size, tries = MOST_AT_ONCE, TRIES
        while len(paying) > 1 and tries and not self.scene.expired():
            chosen = self.affordable(paying)[:size]
            if len(chosen) < 2:
                break
            names = {candidate.name for candidate in chosen}
            rest = [candidate for candidate in paying if candidate.name not in names]
            avoid = self.scene.unsettled | {candidate.name for candidate in rest}
            proposed = self.judged(chosen, self.scene.relocate(chosen, avoid=avoid))
            if isinstance(proposed, Command):
                self._take(proposed)
                paying = rest
            else:
                tries -= 1
                size = len(chosen) // 2

    def replace_single(self, excess: dict[str, float]) -> None:
        """Take the single nodes that something cheaper replaces."""
        ranked = self._ranked(excess)
        planned = 0
        for candidate in ranked:
            if self.scene.candidate(candidate.name) is None or self.scene.expired():
                continue
            if not self._within_budget(candidate):
                continue
            if len(ranked) > FEW:
                hoped = self._hoped(candidate)
                if hoped is not None:
                    self.blocked[candidate.name] = hoped
                    continue
            if planned == MOST_SINGLES:
                break
            planned += 1
            found = self.scene.relocate([candidate], avoid=self.scene.unsettled)
            self._take(self.judged([candidate], found))

    def _hoped(self, candidate: Candidate) -> Blocked | None:
        """Return why *candidate* cannot be hoped to pay: its pods that fit nowhere else cost more.

        Part of its pods may fit on other nodes: what the others are worth is what counts.
        """
        price = self.scene.price([candidate])
        found = self.scene.relocate([candidate], avoid=self.scene.unsettled, launching=False)
        needed = sum(self._value.get(key, 0.0) for key in found.left)
        if price - needed >= self._least(candidate) * price:
            return None
        code = Code.NOT_CHEAPER if price - needed <= worth.PENNY else Code.BELOW_THRESHOLD
        message = f"its pods are worth {needed:.4f} an hour elsewhere, it costs {price:.4f}"
        return Blocked(candidate.name, code, message)

    def _least(self, candidate: Candidate) -> float:
        """Return which share of its price replacing *candidate* has to save: more where pods on it
        have been moved before.
        """
        moved = moves.most(candidate.node, candidate.pods, self.scene.now)
        return min(0.5, self.scene.policy.minimum_saving * (1 + moves.HEAVIER * moved))

    def judged(self, chosen: Sequence[Candidate], found: Relocation) -> Command | Blocked:
        """Return the command that *found* is, or why it is none."""
        scene = self.scene
        if found.lost:
            return homeless(chosen[0], found.lost)
        if found.left:
            return homeless(chosen[0], f"the room for {found.left[0]} would have no place")
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

    def _take(self, proposed: Command | Blocked) -> None:
        if isinstance(proposed, Blocked):
            self.blocked[proposed.node] = proposed
            return
        self.commands.append(self.scene.accept(proposed))
        for name in proposed.nodes:
            self.blocked.pop(name, None)

    def free(self) -> list[Candidate]:
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
            key=lambda item: (
                -(scene.prices.of(item.node) or 0.0) / self._disruption(item),
                item.name,
            ),
        )

    def _disruption(self, candidate: Candidate) -> float:
        return moves.cost(candidate.node, candidate.pods, self.scene.now)

    def _ranked(self, excess: dict[str, float]) -> list[Candidate]:
        """Return the nodes still free, those first whose excess is most for what it disrupts."""
        return sorted(
            (candidate for candidate in self.free() if candidate.name in excess),
            key=lambda item: (-excess[item.name] / self._disruption(item), item.name),
        )

    def _within_budget(self, candidate: Candidate) -> bool:
        if self.scene.allowance.left(candidate.pool.name, Reason.UNDERUTILIZED) > 0:
            return True
        self.blocked[candidate.name] = budget_spent(candidate, Reason.UNDERUTILIZED)
        return False

    def affordable(self, ordered: Iterable[Candidate]) -> list[Candidate]:
        """Return the longest part of *ordered* that the budgets allow together."""
        left: dict[str, int] = {}
        result = []
        for candidate in ordered:
            pool = candidate.pool.name
            if pool not in left:
                left[pool] = self.scene.allowance.left(pool, Reason.UNDERUTILIZED)
            if left[pool] > 0:
                left[pool] -= 1
                result.append(candidate)
        return result


def confirm(scene: Scene, nodes: Sequence[str], *, launching: bool) -> Command | None:
    """Return the command that takes those of *nodes* which may still go, if it still pays."""
    search = _Search(scene)
    names = set(nodes)
    chosen = search.affordable(item for item in search.free() if item.name in names)
    if not chosen:
        return None
    found = scene.relocate(chosen, avoid=scene.unsettled, launching=launching)
    proposed = search.judged(chosen, found)
    if found.left or isinstance(proposed, Blocked):
        return None
    return scene.accept(proposed)


def propose(scene: Scene) -> Proposal:
    """Return the commands that make the cluster cheaper."""
    search = _Search(scene)
    search.run()
    remaining = {candidate.name for candidate in scene.candidates}
    blocked = [
        found
        for name, found in sorted(search.blocked.items())
        if name in remaining or (name in scene.taking and found.code not in ASKED)
    ]
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
        what = (
            "is Never" if candidate.never_settles else f"({wish.consolidate_after}) has not passed"
        )
        return Blocked(candidate.name, Code.CONSOLIDATE_AFTER, f"consolidateAfter {what}")
    moved = moves.most(candidate.node, candidate.pods, scene.now)
    if moved >= scene.policy.moves_a_day:
        message = f"a pod on it was moved {moved} times within a day"
        return Blocked(candidate.name, Code.BUDGET, message)
    if scene.prices.of(candidate.node) is None:
        return Blocked(candidate.name, Code.NO_PRICE, "the catalogue has no price for it")
    return None


def _deadline(scene: Scene, chosen: Sequence[Candidate]) -> datetime | None:
    periods = [period for candidate in chosen if (period := candidate.grace_period) is not None]
    return scene.now + min(periods) if periods else None


def _why(removed: int, launched: int) -> str:
    if not launched:
        return "its pods fit on other nodes"
    return f"{removed} -> {launched}: the same pods on cheaper nodes"
