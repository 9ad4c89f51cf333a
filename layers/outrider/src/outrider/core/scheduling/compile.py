"""From a cluster and a catalogue to a planning problem.

Decides what takes part: which NodePools may be used (ours, ready, not paused, not being deleted,
not static: rule 7), what their limits leave (rule 8), which nodes are places, which running pods
count for spread and affinity. Refuses to place anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from outrider.apis.labels import GPU_SHARING, HOSTNAME, NODEPOOL, PAUSED
from outrider.apis.placement import PREFER_NO_SCHEDULE, Constraints
from outrider.apis.pod import Pod
from outrider.apis.quantity import Resources
from outrider.core.catalog import overlays
from outrider.core.catalog.capacity import derive
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.instancetype import Catalog, InstanceType
from outrider.core.clusterstate import ClusterState
from outrider.core.promises import planned_pods
from outrider.core.resources import allocatable
from outrider.core.scheduling import daemons as daemon_sets
from outrider.core.scheduling.demand import Demands, PodClass
from outrider.core.scheduling.devices import Allotment
from outrider.core.scheduling.nodes import PlaceTable, places
from outrider.core.scheduling.policy import IGNORE, Policy
from outrider.core.scheduling.preferences import without_wishes
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.reservations import reservations
from outrider.core.scheduling.result import Code, Reason
from outrider.core.scheduling.shelf import Axis, Shelf, shelf
from outrider.core.scheduling.supply import Market, market
from outrider.core.scheduling.tally import Counts, Namespaces, NodeFilter, Tallies, fresh
from outrider.core.scheduling.terms import NODE_NAME
from outrider.core.scheduling.volumes import Volumes
from outrider.core.taints import blocking, tolerates

if TYPE_CHECKING:
    from outrider.apis.node import Node
    from outrider.apis.nodeclass import EC2NodeClass
    from outrider.apis.nodepool import NodePool


@dataclass(frozen=True, slots=True)
class Compiled:
    """A problem, and the NodePools that take no part in it, each with its reason."""

    problem: Problem
    unusable: Mapping[str, Reason]


def compiled(
    state: ClusterState,
    pods: Sequence[Pod],
    catalog: Catalog,
    policy: Policy,
    gangs: Mapping[str, str],
    devices: Allotment | None = None,
) -> Compiled:
    """Return the problem of planning *pods*, whose *gangs* are by pod key.

    With *devices*, the pods of this allotment are meant: their claims are requests.
    """
    devices = devices or Allotment(tuple(pods))
    pods = devices.pods
    bound = [pod for pod in state.pods if pod.node_name and not pod.finished]
    moving = frozenset(pod.key for pod in pods) if bound else frozenset()
    running = [pod for pod in bound if pod.key not in moving]
    daemons = daemon_sets.daemons(state.daemonsets, running)
    axis = _axis(pods, daemons)
    facts = ClusterFacts.of(state)
    stated = overlays.read(state.overlays) if state.overlays else ()
    goods = market(overlays.priced(catalog, stated))
    pools, unusable = usable(state)
    shelves = _shelves(state, pools, goods, axis, facts, daemons, stated, devices)
    _bounded(shelves, axis, policy.most_pods_per_node)
    volumes = Volumes(state)
    pods = volumes.together(pods)
    of_types = {kind.name: kind for kind in catalog.instance_types}
    found = places(state, daemons, volumes, moving, _held_by_types(state, of_types, facts))
    for place in found:
        if place.name in devices.of_places:
            place.allocatable = {**place.allocatable, **devices.of_places[place.name]}
    table = PlaceTable.of(found, axis)
    promised = _nominated(state, pods, table)
    pods = _decided(pods, promised)
    tallies = Tallies()
    demands = Demands(
        axis=axis,
        tallies=tallies,
        namespaces=Namespaces.of(
            state.namespaces, sorted({pod.namespace for pod in (*running, *pods)})
        ),
        volumes=volumes,
        ignore_preferences=policy.preference_policy == IGNORE,
        soft_taints=_soft_taints(pools, table),
    )
    held = [(pod, demands.holders(pod)) for pod in running if pod.constraints.anti_affinity]
    classes = demands.classes(pods, gangs, devices.problems)
    problem = Problem(
        pods=tuple(pods),
        classes=_by_pod(classes, len(pods)),
        shelves=shelves,
        table=table,
        market=goods,
        axis=axis,
        tallies=tallies,
        start=fresh(tallies, table.size),
        reservations=reservations(goods),
        policy=policy,
        nominated=promised,
        devices=devices,
    )
    _count(state, problem, running, held)
    return Compiled(problem, unusable)


def usable(state: ClusterState) -> tuple[list[NodePool], dict[str, Reason]]:
    """Return the NodePools that may launch, heaviest first, and why the others of ours may not."""
    pools = []
    unusable = {}
    for pool in state.nodepools:
        if not pool.ours:
            continue
        reason = _why_not(state, pool)
        if reason is None:
            pools.append(pool)
        else:
            unusable[pool.name] = reason
    pools.sort(key=lambda pool: pool.name)
    pools.sort(key=lambda pool: -pool.weight)
    return pools, unusable


def _why_not(state: ClusterState, pool: NodePool) -> Reason | None:
    if pool.metadata.deletion_timestamp is not None:
        return Reason(pool.name, "is being deleted", Code.NODEPOOL_NOT_READY)
    if pool.static:
        message = "keeps a fixed number of nodes (spec.replicas)"
        return Reason(pool.name, message, Code.STATIC_POOL)
    for message in (
        _unready("", pool),
        _unready("EC2NodeClass ", state.nodeclass(pool.node_class)),
    ):
        if message:
            return Reason(pool.name, message, Code.NODEPOOL_NOT_READY)
    return None


def _unready(kind: str, item: NodePool | EC2NodeClass | None) -> str:
    """Return why a NodePool or its node class may not launch; a class unknown here is ready."""
    if item is None:
        return ""
    what = f"{kind}{item.name} is" if kind else "is"
    if item.metadata.deletion_timestamp is not None:
        return f"{what} being deleted"
    if item.paused:
        return f"{what} paused ({PAUSED})"
    if item.status.is_false("Ready"):
        ready = item.status.condition("Ready")
        return f"{what} not ready" + (f": {ready.message}" if ready and ready.message else "")
    return ""


def _bounded(shelves: Iterable[Shelf], axis: Axis, most: int | None) -> None:
    """Let no new node of *shelves* hold more pods than *most*, its DaemonSets' aside."""
    if most is not None:
        place = axis.names.index("pods")
        for each in shelves:
            each.room[:, place] = np.minimum(each.room[:, place], most)


def _axis(pods: Sequence[Pod], daemons: Iterable[daemon_sets.Daemon]) -> Axis:
    names = {"cpu", "memory", "pods"}
    for requests in {id(pod.requests): pod.requests for pod in pods}.values():
        names.update(requests)
    for daemon in daemons:
        names.update(daemon.requests)
    return Axis(tuple(sorted(names)))


def _shelves(
    state: ClusterState,
    pools: Sequence[NodePool],
    goods: Market,
    axis: Axis,
    facts: ClusterFacts,
    daemons: tuple[daemon_sets.Daemon, ...],
    stated: tuple[overlays.Overlay, ...],
    devices: Allotment,
) -> tuple[Shelf, ...]:
    used = usage(state)
    return tuple(
        shelf(
            index,
            pool,
            state.nodeclass(pool.node_class),
            goods,
            axis,
            facts,
            daemons,
            used=used.get(pool.name, {}),
            overlays=stated,
            devices_of=_devices_of(state.nodeclass(pool.node_class), devices),
        )
        for index, pool in enumerate(pools)
    )


def _devices_of(node_class: EC2NodeClass | None, devices: Allotment) -> Mapping[str, Resources]:
    """Return, by type, the devices that claims find on nodes of *node_class*.

    Where the class says how the device plugin shares its GPUs, the plugin has them and no driver.
    """
    plugged = node_class is not None and GPU_SHARING in node_class.metadata.annotations
    return {} if plugged else devices.of_types


def usage(state: ClusterState) -> dict[str, dict[str, int]]:
    """Return what the machines of each NodePool have, `nodes` included, each machine once."""
    machines: dict[str, dict[str, Mapping[str, int]]] = {}
    for node in state.nodes:
        pool = node.labels.get(NODEPOOL)
        if pool:
            machines.setdefault(pool, {})[node.provider_id or node.name] = node.capacity
    for claim in state.nodeclaims:
        pool = claim.metadata.labels.get(NODEPOOL)
        if not pool:
            continue
        its_node = state.node_of(claim)
        key = claim.status.provider_id or claim.status.node_name or f"claim {claim.name}"
        if its_node is not None:
            key = its_node.provider_id or its_node.name
        known = machines.setdefault(pool, {})
        stated: Mapping[str, int] = claim.status.capacity or claim.spec.resources.requests
        have = known.get(key, {})
        known[key] = {
            name: have.get(name) or stated.get(name, 0) for name in sorted({*have, *stated})
        }
    totals: dict[str, dict[str, int]] = {}
    for pool, held in machines.items():
        total = totals.setdefault(pool, {"nodes": len(held)})
        for capacity in held.values():
            for name, value in capacity.items():
                total[name] = total.get(name, 0) + value
    return totals


def _held_by_types(
    state: ClusterState, of_types: Mapping[str, InstanceType], facts: ClusterFacts
) -> dict[str, Mapping[str, int]]:
    """Return what nodes of the types of NodeClaims in flight hold, where the claims do not say."""
    found: dict[str, Mapping[str, int]] = {}
    for claim in state.nodeclaims:
        if claim.status.allocatable or claim.status.capacity:
            continue
        node_class = state.nodeclass(claim.spec.node_class_ref.name)
        named = {
            value
            for item in claim.spec.requirements
            if item.key == "node.kubernetes.io/instance-type" and item.operator == "In"
            for value in item.values
        }
        named.add(claim.metadata.labels.get("node.kubernetes.io/instance-type", ""))
        for name in sorted(named & of_types.keys()):
            kind = derive(of_types[name], node_class, facts)
            found[name] = allocatable(kind.capacity, kind.overhead)
    return found


def _soft_taints(pools: Iterable[NodePool], table: PlaceTable) -> bool:
    return any(
        taint.effect == PREFER_NO_SCHEDULE
        for taints in (*(pool.taints for pool in pools), *(place.taints for place in table.places))
        for taint in taints
    )


def _by_pod(classes: Iterable[PodClass], count: int) -> tuple[PodClass, ...]:
    found: list[PodClass | None] = [None] * count
    for item in classes:
        for pod in item.pods:
            found[pod] = item
    return tuple(item for item in found if item is not None)


def _decided(pods: Sequence[Pod], promised: Mapping[int, int]) -> tuple[Pod, ...]:
    """Return *pods*, the *promised* ones without wishes: what they wish was weighed when the node
    was chosen for them, and must not lead them away from it now.
    """
    plain: dict[int, Constraints] = {}

    def decided(pod: Pod) -> Pod:
        mine = pod.constraints
        bare = plain.get(id(mine))
        if bare is None:
            bare = plain[id(mine)] = without_wishes(mine)
        return pod if bare == mine else replace(pod, constraints=bare)

    return tuple(decided(pod) if at in promised else pod for at, pod in enumerate(pods))


def _nominated(state: ClusterState, pods: Sequence[Pod], table: PlaceTable) -> dict[int, int]:
    """Return where pods are expected: on the node of their status, or on the NodeClaim in flight
    that was launched for them. Two plans in a row would otherwise trade places between nodes that
    are booting, and the scheduler finds room held twice.
    """
    by_name = {place.name: index for index, place in enumerate(table.places)}
    if not by_name:
        return {}
    promises: dict[str, int] = {}
    for claim in state.nodeclaims:
        node = state.node_of(claim)
        place = by_name.get(node.name if node else claim.name)
        if place is not None and not table.places[place].initialized:
            promises |= dict.fromkeys(planned_pods(claim.metadata.annotations), place)
    promises |= {
        pod.key: by_name[pod.nominated_node_name]
        for pod in pods
        if pod.nominated_node_name in by_name
    }
    return {index: promises[pod.key] for index, pod in enumerate(pods) if pod.key in promises}


def _count(
    state: ClusterState,
    problem: Problem,
    running: Sequence[Pod],
    held: Sequence[tuple[Pod, tuple[int, ...]]],
) -> None:
    """Count the *running* pods, and the anti-affinity terms that they hold."""
    tallies, counts = problem.tallies, problem.start
    if not tallies.items:
        return
    by_name = {place.name: index for index, place in enumerate(problem.table.places)}
    for pod in running:
        if pod.deleted is not None:
            continue
        for tally in tallies.matched(tallies.members(pod.namespace, pod.labels)):
            _count_one(state, problem, counts, tally, pod.node_name, by_name)
    for pod, mine in held:
        for tally in mine:
            _count_one(state, problem, counts, tally, pod.node_name, by_name)


def _count_one(
    state: ClusterState,
    problem: Problem,
    counts: Counts,
    tally: int,
    node_name: str,
    by_name: Mapping[str, int],
) -> None:
    item = problem.tallies.items[tally]
    index = by_name.get(node_name)
    if index is not None:
        if problem.eligible_places(item.nodes)[index]:
            counts.add_on_node(tally, index, problem.table.values(item.key)[index])
        return
    node = state.node(node_name)  # leaving, and no place: its pods that stay still count
    if node is None or not _looks_at(node, item.nodes):
        return
    if item.key == HOSTNAME:
        counts.add_in_bin(tally)  # in a domain that nobody can join
    elif item.key in node.labels:
        counts.add(tally, node.labels[item.key])


def _looks_at(node: Node, nodes: NodeFilter) -> bool:
    """Return whether a spread's two policies include *node*."""
    labels = {HOSTNAME: node.name, **node.labels, NODE_NAME: node.name}
    if nodes.rule is not None and not nodes.rule.holds(
        lambda asked: asked.has(labels.get(asked.key))
    ):
        return False
    return nodes.tolerations is None or tolerates(blocking(node.taints), nodes.tolerations)
