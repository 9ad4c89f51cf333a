"""What a disruption method sees: the cluster as this pass has made it, and what budgets are left.

Methods run one after the other, each on the cluster that the commands before it leave behind, so
that the commands of one pass can be carried out together: a node that takes pods in a pass is not
taken itself, and no pod moves twice. `relocate` answers the one question that every method asks:
if these nodes went, where would their pods go? It is the planner's own answer, on "the cluster
without these nodes", from a cluster that is compiled once a pass (`core.scheduling.whatif`).

A pod that would end on a node that is not up yet has no place that can be relied on (F147,
statement 116); pods that wait already, and room that is to be kept free, take their places first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import count

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.core import headroom, staticpools
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption import moves
from outrider.core.disruption.budgets import Allowance, problem
from outrider.core.disruption.candidates import Candidate, candidates
from outrider.core.disruption.cost import Prices, disruption_cost, ratio
from outrider.core.disruption.outcome import after, expected_nodes
from outrider.core.disruption.result import Blocked, Code, Command
from outrider.core.protection import movable
from outrider.core.scheduling.gang import gangs
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import DEFAULT
from outrider.core.scheduling.policy import Policy as PlanPolicy
from outrider.core.scheduling.result import Launch, Placement, Plan
from outrider.core.scheduling.whatif import WhatIf


@dataclass(frozen=True, slots=True)
class Policy:
    """How to plan; what a replacement must save, as a share; how often a day pods may be moved."""

    plan: PlanPolicy = DEFAULT
    minimum_saving: float = 0.05
    moves_a_day: int = 2


@dataclass(frozen=True, slots=True)
class Relocation:
    """Where the pods of some nodes would go; `lost` says why that cannot be relied on, `left` which
    pods have no place at all.
    """

    nodes: tuple[str, ...]
    placements: tuple[Placement, ...] = ()
    launches: tuple[Launch, ...] = ()
    left: tuple[str, ...] = ()
    lost: str = ""


@dataclass
class Scene:
    """One pass, as far as it has come."""

    state: ClusterState
    catalog: Catalog
    policy: Policy
    now: datetime
    allowance: Allowance
    prices: Prices
    expired: Callable[[], bool]
    pools: Mapping[str, tuple[float, float]]  # price and disruption cost of each pool's candidates
    unsettled: frozenset[str]  # nodes inside their consolidateAfter: they take no moved pods (F146)
    _left: dict[str, Candidate]
    _taking: dict[str, Blocked] = field(default_factory=dict)
    _accepted: list[Command] = field(default_factory=list)
    _standing: tuple[int, ClusterState] | None = None
    _focus: frozenset[str] | None = None

    @classmethod
    def open(
        cls,
        state: ClusterState,
        catalog: Catalog,
        policy: Policy,
        now: datetime,
        expired: Callable[[], bool],
    ) -> tuple[Scene, tuple[Blocked, ...]]:
        """Return the scene at the beginning of a pass, and the nodes that nobody may take."""
        free, blocked = candidates(state, now)
        prices = Prices(catalog)
        scene = cls(
            state=state,
            catalog=catalog,
            policy=replace(policy, plan=replace(policy.plan, prove=False)),  # nobody asks
            now=now,
            allowance=Allowance(state, now),
            prices=prices,
            expired=expired,
            pools=_pools(free, prices),
            unsettled=frozenset(
                item.name for item in free if not (item.settled(now) or item.never_settles)
            ),
            _left={item.name: item for item in free},
        )
        return scene, blocked

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Return the nodes that may still go, by name."""
        if self._focus is None:
            return tuple(self._left.values())
        return tuple(item for item in self._left.values() if item.name in self._focus)

    @contextmanager
    def only(self, names: Collection[str]) -> Iterator[None]:
        """Let a method see no other candidates than those called *names*."""
        self._focus = frozenset(names)
        try:
            yield
        finally:
            self._focus = None

    @property
    def taking(self) -> Mapping[str, Blocked]:
        """Return the nodes that take pods in this pass, and so stay."""
        return self._taking

    def candidate(self, name: str) -> Candidate | None:
        """Return the candidate called *name*, None where it is gone or takes pods."""
        return self._left.get(name)

    def relocate(
        self,
        chosen: Sequence[Candidate],
        *,
        avoid: Collection[str] = (),
        launching: bool = True,
    ) -> Relocation:
        """Return where the pods of the *chosen* nodes would go; nodes to *avoid* take none.

        Without *launching* only nodes that exist take any.
        """
        names = tuple(candidate.name for candidate in chosen)
        if any(pod.key in self._gang_members for item in chosen for pod in item.pods):
            return self._afresh(chosen, avoid, launching=launching)
        answer = self._cluster.without(
            names, avoid=avoid, launching=launching, expired=self.expired
        )
        moved = {pod.key for candidate in chosen for pod in candidate.pods}
        made = Plan(answer.placements, answer.launches, (), self.policy.plan.strategy, "")
        placements = tuple(item for item in answer.placements if item.pod in moved)
        return Relocation(
            nodes=names,
            placements=placements,
            launches=headroom.without_placeholders(made).launches,
            left=answer.left,
            lost=self._unreliable(answer.left, placements),
        )

    def replacement(self, candidate: Candidate) -> Relocation:
        """Return the machine that keeps the pool of *candidate* at its size while it goes (F20)."""
        state, pool = self._now_standing(), candidate.pool
        if staticpools.room(state, pool) < 1:
            lost = f"limits.nodes of NodePool {pool.name} leaves no room for its replacement"
            return Relocation((candidate.name,), lost=lost)
        made = staticpools.launches(
            state, pool, 1, self.catalog, self.policy.plan, self.now, self.expired
        )
        lost = "" if made else f"NodePool {pool.name} has no instance type to replace it by"
        return Relocation((candidate.name,), launches=made, lost=lost)

    def keeps_room(self, candidate: Candidate) -> bool:
        """Return whether room that is to be kept free is counted on *candidate*."""
        if not headroom.is_wanted(self.state):
            return False
        pods = self._cluster.pods_on(candidate.name)
        return any(headroom.is_placeholder(pod.key) for pod in pods)

    def accept(self, command: Command) -> Command:
        """Go on as if *command* were carried out; return it with launch names of its own."""
        named = replace(
            command, launches=tuple(self._named(item, command) for item in command.launches)
        )
        for name in named.nodes:
            self.allowance.spend(self._left.pop(name).pool.name)
        for placement in named.placements:
            self._left.pop(placement.node, None)
            self._taking.setdefault(placement.node, _takes_pods(placement.node))
        if "_cluster" in self.__dict__:
            coming = expected_nodes(named.launches, self.catalog, self.state, self.now)
            self._cluster.remove(named.nodes, named.placements, coming)
        self._accepted.append(named)
        return named

    def price(self, chosen: Iterable[Candidate]) -> float:
        """Return what the *chosen* nodes cost an hour together."""
        return self.prices.total(candidate.node for candidate in chosen)

    @cached_property
    def _cluster(self) -> WhatIf:
        """Compile the cluster as the commands so far leave it."""
        state = self._now_standing()
        moving = tuple(pod for name in self._left for pod in state.pods_on(name) if movable(pod))
        return WhatIf(
            state,
            moving,
            (*pending(state, self.now), *headroom.placeholders(state)),
            self.catalog,
            self.policy.plan,
            preference=self._preference(),
        )

    def _preference(self) -> dict[str, int]:
        """Return in which order nodes take pods: those that nobody would take away first."""
        ordered = sorted(
            self._left.values(),
            key=lambda item: (ratio(self.prices.of(item.node) or 0.0, item.pods), item.name),
        )
        return {candidate.name: place for place, candidate in enumerate(ordered, 1)}

    @cached_property
    def _gang_members(self) -> frozenset[str]:
        pods = [pod for candidate in self._left.values() for pod in candidate.pods]
        return frozenset(key for gang in gangs(self.state, pods).values() for key in gang.members)

    def _afresh(
        self, chosen: Sequence[Candidate], avoid: Collection[str], *, launching: bool
    ) -> Relocation:
        """Return the same as `relocate`, from a plan that keeps gangs whole."""
        names = tuple(candidate.name for candidate in chosen)
        moved = tuple(
            replace(pod, node_name="", nominated_node_name="")
            for candidate in chosen
            for pod in candidate.pods
            if movable(pod)
        )
        keys = {pod.key for pod in moved}
        after_them = _closed(self._now_standing().without(*names), frozenset(avoid))
        waiting = (*pending(after_them, self.now), *headroom.placeholders(after_them))
        made = plan(
            after_them,
            (*moved, *waiting),
            self.catalog,
            self.policy.plan,
            self.now,
            expired=self.expired,
        )
        made = headroom.without_placeholders(made)
        used = tuple(launch for launch in made.launches if keys & set(launch.pods))
        left = tuple(item.pod for item in made.rejections if item.pod in keys)
        placements = tuple(item for item in made.placements if item.pod in keys)
        lost = self._unreliable(left, placements)
        if any(not set(launch.pods) <= keys for launch in used):
            lost = lost or "its pods would share a new node with pods that wait already"
        if not launching:
            left = (*left, *(pod for launch in used for pod in launch.pods))
            used = ()
        return Relocation(names, placements, used, left, lost)

    def _now_standing(self) -> ClusterState:
        """Return the cluster as the commands so far leave it; what they launch takes no more."""
        if self._standing is not None and self._standing[0] == len(self._accepted):
            return self._standing[1]
        state = after(self.state, self._accepted, self.catalog, self.now)
        coming = {launch.name for command in self._accepted for launch in command.launches}
        state = _closed(state, frozenset(coming))
        self._standing = (len(self._accepted), state)
        return state

    def _unreliable(self, left: Sequence[str], placements: Sequence[Placement]) -> str:
        """Return why the places found cannot be relied on, or ""."""
        real = [key for key in left if not headroom.is_placeholder(key)]
        if real:
            return f"pod {real[0]} would have no place"
        for placement in placements:
            node = self.state.node(placement.node)
            if node is None or not (node.initialized or not node.node_pool):
                return f"pod {placement.pod} would need {placement.node}, which is not up yet"
        return ""

    def _named(self, launch: Launch, command: Command) -> Launch:
        """Return *launch* under a name that no node and no other launch of the pass has; it
        remembers whom *command* moves to it.
        """
        numbers = (f"{launch.node_pool}-{number}" for number in count(1))
        name = next(name for name in numbers if name not in self._names)
        self._names.add(name)
        note = moves.launch_note(self.state, command, launch.pods, self.now)
        annotations = {**launch.annotations, labels.MOVED: note} if note else launch.annotations
        return replace(launch, name=name, annotations=annotations)

    @cached_property
    def _names(self) -> set[str]:
        return {node.name for node in self.state.nodes}


def budget_spent(candidate: Candidate, reason: str) -> Blocked:
    """Return that the budgets of *candidate*'s pool leave no room for *reason* now."""
    message = f"the budgets of NodePool {candidate.pool.name} leave no room for {reason}"
    unreadable = problem(candidate.pool)
    if unreadable:
        message = f"{message}: {unreadable}"
    return Blocked(candidate.name, Code.BUDGET, message)


def homeless(candidate: Candidate, why: str) -> Blocked:
    """Return that the pods of *candidate* would have no place."""
    return Blocked(candidate.name, Code.PODS_UNSCHEDULABLE, why)


def _takes_pods(name: str) -> Blocked:
    return Blocked(name, Code.NOMINATED, "it takes pods of other nodes in this pass")


def _pools(free: Iterable[Candidate], prices: Prices) -> dict[str, tuple[float, float]]:
    """Return what the candidates of each pool cost, and cost to disrupt, when the pass begins."""
    found: dict[str, tuple[float, float]] = {}
    for candidate in free:
        price, disruption = found.get(candidate.pool.name, (0.0, 0.0))
        found[candidate.pool.name] = (
            price + (prices.of(candidate.node) or 0.0),
            disruption + disruption_cost(candidate.pods),
        )
    return found


def _closed(state: ClusterState, names: frozenset[str]) -> ClusterState:
    """Return *state* with the nodes called *names* taking no pods."""
    if not names:
        return state
    nodes: tuple[Node, ...] = tuple(
        replace(node, unschedulable=True) if node.name in names else node for node in state.nodes
    )
    return replace(state, nodes=nodes, _index={})
