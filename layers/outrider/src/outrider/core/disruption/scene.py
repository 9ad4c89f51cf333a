"""What a disruption method sees: the cluster as this pass has made it, and what budgets are left.

Methods run one after the other, each on the cluster that the commands before it leave behind, so
that the commands of one pass can be carried out together. `relocate` answers the one question that
every method asks: if these nodes went, where would their pods go? It is the planner's own answer,
on "the cluster without these nodes".

A pod that would end on a node that is not up yet, or in a launch shared with pods that wait
already, has no place that can be relied on (F147, statement 116); nodes that only just received or
lost a pod take no moved ones (F146).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.budgets import Allowance
from outrider.core.disruption.candidates import Candidate, candidates
from outrider.core.disruption.cost import Prices
from outrider.core.disruption.outcome import expected_nodes
from outrider.core.disruption.result import Blocked, Code, Command
from outrider.core.protection import movable
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import DEFAULT
from outrider.core.scheduling.policy import Policy as PlanPolicy
from outrider.core.scheduling.result import Launch, Placement


@dataclass(frozen=True, slots=True)
class Policy:
    """How to plan, and which share of a set's price its replacement must save."""

    plan: PlanPolicy = DEFAULT
    minimum_saving: float = 0.05


@dataclass(frozen=True, slots=True)
class Relocation:
    """Where the pods of some nodes would go; `lost` says why that cannot be relied on."""

    nodes: tuple[str, ...]
    placements: tuple[Placement, ...]
    launches: tuple[Launch, ...]
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
    candidates: tuple[Candidate, ...]
    waiting: tuple[Pod, ...] = ()

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
        scene = cls(
            state=state,
            catalog=catalog,
            policy=policy,
            now=now,
            allowance=Allowance(state, now),
            prices=Prices(catalog),
            expired=expired,
            candidates=free,
            waiting=pending(state, now),
        )
        return scene, blocked

    def relocate(self, chosen: Sequence[Candidate], *, avoid: Iterable[str] = ()) -> Relocation:
        """Return where the pods of the *chosen* nodes would go; nodes to *avoid* take none."""
        names = tuple(candidate.name for candidate in chosen)
        moved = tuple(
            replace(pod, node_name="", nominated_node_name="")
            for candidate in chosen
            for pod in candidate.pods
            if movable(pod)
        )
        if not moved:
            return Relocation(names, (), ())
        after = _closed(self.state.without(*names), frozenset(avoid))
        made = plan(
            after,
            (*moved, *self.waiting),
            self.catalog,
            self.policy.plan,
            self.now,
            expired=self.expired,
        )
        keys = {pod.key for pod in moved}
        launches = tuple(launch for launch in made.launches if keys & set(launch.pods))
        placements = tuple(item for item in made.placements if item.pod in keys)
        lost = [rejection.pod for rejection in made.rejections if rejection.pod in keys]
        return Relocation(
            names, placements, launches, _unreliable(after, lost, launches, placements, keys)
        )

    def accept(self, command: Command) -> None:
        """Go on as if *command* were carried out."""
        gone = set(command.nodes)
        for candidate in self.candidates:
            if candidate.name in gone:
                self.allowance.spend(candidate.pool.name)
        target = {placement.pod: placement.node for placement in command.placements}
        moved = [
            replace(pod, node_name=target[pod.key])
            for name in command.nodes
            for pod in self.state.pods_on(name)
            if pod.key in target
        ]
        rest = self.state.without(*command.nodes)
        coming = expected_nodes(command.launches, self.catalog, rest, self.now)
        self.state = replace(
            rest,
            pods=(*rest.pods, *moved),
            nodes=(*rest.nodes, *(_full(node, len(rest.nodes)) for node in coming)),
            _index={},
        )
        hosts = set(target.values())
        self.candidates = tuple(
            replace(
                candidate,
                pods=(
                    *candidate.pods,
                    *(pod for pod in moved if pod.node_name == candidate.name),
                ),
            )
            if candidate.name in hosts
            else candidate
            for candidate in self.candidates
            if candidate.name not in gone
        )

    def price(self, chosen: Iterable[Candidate]) -> float:
        """Return what the *chosen* nodes cost an hour together."""
        return self.prices.total(candidate.node for candidate in chosen)


def budget_spent(candidate: Candidate, reason: str) -> Blocked:
    """Return that the budgets of *candidate*'s pool leave no room for *reason* now."""
    message = f"the budgets of NodePool {candidate.pool.name} leave no room for {reason}"
    return Blocked(candidate.name, Code.BUDGET, message)


def homeless(candidate: Candidate, why: str) -> Blocked:
    """Return that the pods of *candidate* would have no place."""
    return Blocked(candidate.name, Code.PODS_UNSCHEDULABLE, why)


def _full(node: Node, number: int) -> Node:
    """Return a node to come under a name of its own.

    It counts against limits and takes nothing more: it was sized for its own pods.
    """
    return replace(node, name=f"{node.name}.{number}", unschedulable=True)


def _closed(state: ClusterState, names: frozenset[str]) -> ClusterState:
    """Return *state* with the nodes called *names* taking no pods."""
    if not names:
        return state
    nodes = tuple(
        replace(node, unschedulable=True) if node.name in names else node for node in state.nodes
    )
    return replace(state, nodes=nodes, _index={})


def _unreliable(
    state: ClusterState,
    lost: Sequence[str],
    launches: Sequence[Launch],
    placements: Sequence[Placement],
    moved: set[str],
) -> str:
    """Return why the places found cannot be relied on, or ""."""
    if lost:
        return f"pod {lost[0]} would have no place"
    for launch in launches:
        if not set(launch.pods) <= moved:
            return "its pods would share a new node with pods that wait already"
    for placement in placements:
        node = state.node(placement.node)
        if node is None or not node.initialized:
            return f"pod {placement.pod} would need {placement.node}, which is not up yet"
    return ""
