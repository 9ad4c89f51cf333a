"""compare: a cluster as it is against our plan for the same pods, and what each constraint costs.

Every pod that runs on a node of a NodePool of ours is planned anew, as if those nodes had never
been bought: the same pods, the same constraints, the same catalogue, whoever launched the nodes.
Pods that cannot be planned (their NodePool is gone, or a volume is not among the objects) keep
their node, which then stands on both sides; so do nodes of paused NodePools. Nodes of nobody's
NodePool, and those of pools of fixed size, are part of the landscape. What waits for a node costs
nothing yet and is left out.

Between the two prices lies what consolidation can reach by moving running pods one pass after the
other (`core.disruption`): budgets, do-not-disrupt and PodDisruptionBudgets keep it above the plan.

A family's cost is the plan's price less the price of the plan with the family lifted. The plan is
also a plan of the lifted case, so the cost is never negative; neither price is proven least, and
the families do not add up: of two that forbid the same thing, each alone costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.catalog import overlays
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.cost import Prices
from outrider.core.disruption.outcome import expected_nodes
from outrider.core.protection import movable
from outrider.core.report.lifting import FAMILIES, Case, differs
from outrider.core.report.lines import Line, as_is, as_planned, matched
from outrider.core.resources import Resources, total
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import FIRST_FIT, Policy
from outrider.core.scheduling.result import Plan

Expired = Callable[[], bool]
_ROUNDS_BY_NODE = 3
"""So often single nodes are left out; then whole NodePools, so that it ends."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What one family of constraints costs an hour; None where time ran out before it was known."""

    family: str
    says: str
    said_by: int  # pods, NodePools and DaemonSets
    price_per_hour: float | None  # of the plan without it
    costs_per_hour: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The cluster as it is, our plan for it, and what makes the difference."""

    price_per_hour: float
    planned_price_per_hour: float
    first_fit_price_per_hour: float | None
    lower_bound_per_hour: float | None
    nodes: tuple[Line, ...]
    planned: tuple[Line, ...]
    costs: tuple[Cost, ...]
    use: Mapping[str, tuple[float, float]]  # share asked for, as it is and as planned
    pods: int
    placed_elsewhere: int  # pods that the plan puts on nodes that nobody has to buy
    waiting: int
    notes: tuple[str, ...]

    @property
    def saving_per_hour(self) -> float:
        """Return what the plan saves an hour; below 0 it would cost more."""
        return self.price_per_hour - self.planned_price_per_hour


def compare(
    state: ClusterState,
    catalog: Catalog,
    policy: Policy,
    now: datetime,
    expired: Expired = lambda: False,
) -> Comparison:
    """Return *state* against our plan for it; families that *expired* leaves no time for are named
    without a cost.
    """
    prices = Prices(overlays.priced(catalog, overlays.read(state.overlays)))
    nodes = _ours(state)
    case, made, kept = _replanned(state, nodes, catalog, policy, expired)
    chosen = [node for node in nodes if node.name not in kept]
    stays = prices.total(node for node in nodes if node.name in kept)
    rooms: dict[str, Resources] = {
        node.name: node.allocatable for node in expected_nodes(made.launches, catalog, state, now)
    }
    same_nodes, same_launches = matched(chosen, made.launches)
    homes = {pod.key: node.name for node in chosen for pod in state.pods_on(node.name)}
    bound = made.lower_bound_per_hour
    return Comparison(
        price_per_hour=prices.total(nodes),
        planned_price_per_hour=made.price_per_hour + stays,
        first_fit_price_per_hour=_first_fit(case, made, catalog, stays),
        lower_bound_per_hour=None if bound is None else bound + stays,
        nodes=as_is(state, nodes, made, prices.of, same_nodes, kept),
        planned=as_planned(made, homes, rooms, same_launches),
        costs=_costs(case, made.price_per_hour, stays, catalog, expired),
        use=_use(state, chosen, made, rooms),
        pods=len(case.pods),
        placed_elsewhere=len(made.placements),
        waiting=sum(not pod.node_name for pod in pending(state, now)),
        notes=_notes(state, nodes, prices),
    )


def _ours(state: ClusterState) -> tuple[Node, ...]:
    pools = {pool.name for pool in state.nodepools if pool.ours and not pool.static}
    found = (node for node in state.nodes if node.node_pool in pools)
    return tuple(sorted(found, key=lambda node: node.name))


def _replanned(
    state: ClusterState, nodes: Sequence[Node], catalog: Catalog, policy: Policy, expired: Expired
) -> tuple[Case, Plan, dict[str, str]]:
    """Return the case, its plan, and which nodes had to be kept because pods found no place."""
    paused = {pool.name for pool in state.nodepools if pool.paused}
    kept = {node.name: "its NodePool is paused" for node in nodes if node.node_pool in paused}
    for round_number in range(len(nodes) + 1):
        chosen = [node for node in nodes if node.name not in kept]
        case = Case(state.without(*(node.name for node in chosen)), _pods_of(state, chosen), policy)
        made = plan(case.state, case.pods, catalog, policy, expired=expired)
        if not made.rejections:
            break
        for rejection in made.rejections:
            pod = state.pod(rejection.pod)
            node = state.node(pod.node_name) if pod else None
            if node is not None:
                why = f"{rejection.pod}: {rejection.reasons[0].message}"
                kept.setdefault(node.name, why)
                if round_number >= _ROUNDS_BY_NODE:
                    for other in chosen:
                        if other.node_pool == node.node_pool:
                            kept.setdefault(other.name, why)
    return case, _renamed(made, {node.name for node in state.nodes}), kept


def _renamed(made: Plan, taken: set[str]) -> Plan:
    """Return *made* with launches whose names no node has: both are told side by side."""
    launches = []
    for launch in made.launches:
        number, name = 1, launch.name
        while name in taken:
            name, number = f"{launch.node_pool}-{number}", number + 1
        taken.add(name)
        launches.append(replace(launch, name=name))
    return replace(made, launches=tuple(launches))


def _pods_of(state: ClusterState, nodes: Iterable[Node]) -> tuple[Pod, ...]:
    return tuple(
        replace(pod, node_name="", nominated_node_name="")
        for node in nodes
        for pod in state.pods_on(node.name)
        if movable(pod)
    )


def _first_fit(case: Case, made: Plan, catalog: Catalog, stays: float) -> float | None:
    """Return what first fit would pay for the same pods; None where it leaves some out."""
    policy = replace(case.policy, strategy=FIRST_FIT, prove=False)
    answer = plan(case.state, case.pods, catalog, policy)
    if len(answer.rejections) > len(made.rejections):
        return None
    return answer.price_per_hour + stays


def _costs(
    case: Case, price: float, stays: float, catalog: Catalog, expired: Expired
) -> tuple[Cost, ...]:
    """Return what each family that somebody uses costs, the dearest first."""
    found = []
    for family in FAMILIES.values():
        lifted = family.lift(case)
        said_by = differs(case, lifted)
        if not said_by:
            continue
        if expired():
            found.append(Cost(family.name, family.says, said_by, None, None))
            continue
        policy = replace(lifted.policy, prove=False)
        answer = plan(lifted.state, lifted.pods, catalog, policy, expired=expired)
        without = price if answer.rejections else min(price, answer.price_per_hour)
        found.append(Cost(family.name, family.says, said_by, without + stays, price - without))
    return tuple(sorted(found, key=lambda cost: (-(cost.costs_per_hour or 0.0), cost.family)))


def _use(
    state: ClusterState, nodes: Sequence[Node], made: Plan, rooms: Mapping[str, Resources]
) -> dict[str, tuple[float, float]]:
    """Return which share of all nodes' room is asked for: as they are, and as planned."""
    asked = total(pod.requests for node in nodes for pod in state.pods_on(node.name))
    room = total(node.allocatable for node in nodes)
    asked_then = total(launch.requests for launch in made.launches)
    room_then = total(rooms.values())
    counted = [
        name for name in room if name in ("cpu", "memory") or name.endswith(("gpu", "neuron"))
    ]
    return {
        name: (
            asked.get(name, 0) / room[name],
            asked_then.get(name, 0) / room_then[name] if room_then.get(name) else 0.0,
        )
        for name in sorted(counted)
        if room[name] > 0
    }


def _notes(state: ClusterState, nodes: Sequence[Node], prices: Prices) -> tuple[str, ...]:
    """Return what a reader has to know before believing the figures."""
    notes = []
    unknown = [node.name for node in nodes if prices.of(node) is None]
    if unknown:
        notes.append(
            f"{len(unknown)} nodes have no price in the catalogue and count as free as they are:"
            f" {_some(unknown)}"
        )
    known = {(daemon.namespace, daemon.name) for daemon in state.daemonsets}
    missing = {
        f"{pod.namespace}/{owner.name}"
        for node in nodes
        for pod in state.pods_on(node.name)
        for owner in pod.owners
        if owner.kind == "DaemonSet" and (pod.namespace, owner.name) not in known
    }
    if missing:
        notes.append(
            f"{len(missing)} DaemonSets run but are not among the objects, so that planned nodes"
            f" keep no room for them: {_some(sorted(missing))}"
        )
    return tuple(notes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
