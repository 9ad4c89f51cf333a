"""Which nodes are sick for good: conditions that stay bad beyond a tolerance.

Matches Karpenter's node repair (F128): Ready not True for 30 minutes, AcceleratedHardwareReady
False for 10, the other monitored conditions False for 30; nothing is repaired while more than a
fifth of a NodePool (rounded up) is unhealthy, since that is an outage or a bad image, not a bad
machine. Refuses to know how a node is replaced: it names them, and those that are held back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from outrider.apis.node import Node
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.budgets import is_leaving

HALF_AN_HOUR = timedelta(minutes=30)
TOLERATED: dict[str, timedelta] = {
    "Ready": HALF_AN_HOUR,
    "AcceleratedHardwareReady": timedelta(minutes=10),
    "StorageReady": HALF_AN_HOUR,
    "NetworkingReady": HALF_AN_HOUR,
    "KernelReady": HALF_AN_HOUR,
    "ContainerRuntimeReady": HALF_AN_HOUR,
}
MOST_UNHEALTHY = 0.2


@dataclass(frozen=True, slots=True)
class Sick:
    """One node that is to be replaced, and what is wrong with it."""

    node: str
    instance_id: str
    node_pool: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The nodes to replace, and the NodePools in which too many are sick at once."""

    sick: tuple[Sick, ...]
    held_back: tuple[str, ...]


def diagnose(state: ClusterState, now: datetime) -> Diagnosis:
    """Return the nodes of *state* that deserve a replacement at *now*."""
    total: dict[str, int] = defaultdict(int)
    sick: dict[str, list[Sick]] = defaultdict(list)
    for node in state.nodes:
        pool = state.nodepool(node.node_pool) if node.node_pool else None
        if pool is None or not pool.ours or not node.initialized:
            continue
        total[pool.name] += 1
        found = _illness(node, now)
        if found is not None and not is_leaving(state, node):
            sick[pool.name].append(found)
    held_back = sorted(
        name for name, found in sick.items() if len(found) > math.ceil(total[name] * MOST_UNHEALTHY)
    )
    return Diagnosis(_in_order(sick.items(), held_back), tuple(held_back))


def _in_order(
    pools: Iterable[tuple[str, list[Sick]]], held_back: Iterable[str]
) -> tuple[Sick, ...]:
    left_out = frozenset(held_back)
    found = [sick for name, sicks in pools if name not in left_out for sick in sicks]
    return tuple(sorted(found, key=lambda sick: (sick.since, sick.node)))


def _illness(node: Node, now: datetime) -> Sick | None:
    """Return what has been wrong with *node* for too long, the oldest complaint first."""
    found = []
    for condition in node.conditions:
        tolerated = TOLERATED.get(condition.type)
        bad = condition.status == "False" or (
            condition.type == "Ready" and condition.status != "True"
        )
        if tolerated is None or not bad or condition.since is None:
            continue
        if now - condition.since >= tolerated:
            why = f"{condition.type} is {condition.status} since {condition.since:%H:%M:%S} UTC"
            found.append(Sick(node.name, node.instance_id, node.node_pool, why, condition.since))
    return min(found, key=lambda sick: sick.since, default=None)
