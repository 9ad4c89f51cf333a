"""Disruption budgets: how many nodes of a NodePool may go at once, by schedule and reason.

Karpenter's rules (core pkg/apis/v1/nodepool.go, pkg/controllers/disruption/helpers.go): the base
is the pool's initialised nodes; percentages round up; the smallest active budget holds; a budget
without reasons counts for every reason; one with a schedule is active for its duration after each
firing, in UTC; nodes that are not ready, leaving or marked count as disrupted already. A schedule
that does not parse lets nothing go. Refuses to know which nodes ought to go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from outrider.apis import cron, duration, labels
from outrider.apis.node import Node
from outrider.apis.nodepool import Budget, NodePool
from outrider.core.clusterstate import ClusterState
from outrider.errors import InvalidManifest

UNLIMITED = 2**31 - 1

EMPTY = "Empty"
UNDERUTILIZED = "Underutilized"
DRIFTED = "Drifted"
EXPIRED = "Expired"  # known to no budget: only those without reasons count for it


class Allowance:
    """What the budgets of every pool leave, and what one pass has spent of it."""

    def __init__(self, state: ClusterState, now: datetime, moving: Iterable[str] = ()) -> None:
        self._state = state
        self._now = now
        self._pools = {pool.name: pool for pool in state.nodepools}
        self._nodes: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        marked = frozenset(moving)
        for node in state.nodes:
            if node.node_pool and node.initialized:
                self._nodes[node.node_pool] = self._nodes.get(node.node_pool, 0) + 1
                if node.name in marked or is_leaving(state, node) or not node.ready:
                    self._gone[node.node_pool] = self._gone.get(node.node_pool, 0) + 1

    def left(self, pool: str, reason: str | None) -> int:
        """Return how many more nodes of *pool* may go for *reason* (None: for no stated one)."""
        known = self._pools.get(pool)
        if known is None:
            return 0
        most = allowed(known, self._nodes.get(pool, 0), reason, self._now)
        return max(0, most - self._gone.get(pool, 0))

    def moving(self, pool: str) -> int:
        """Return how many nodes of *pool* are on their way out, or not ready."""
        return self._gone.get(pool, 0)

    def spend(self, pool: str, nodes: int = 1) -> None:
        """Count *nodes* of *pool* as disrupted."""
        self._gone[pool] = self._gone.get(pool, 0) + nodes


def allowed(pool: NodePool, nodes: int, reason: str | None, now: datetime) -> int:
    """Return how many of *nodes* of *pool* may be disrupted at once for *reason*."""
    return min(
        (
            _share(budget.nodes, nodes) if _is_readable(budget) else 0
            for budget in pool.spec.disruption.budgets
            if _concerns(budget, reason) and _is_active(budget, now)
        ),
        default=UNLIMITED,
    )


def problem(pool: NodePool) -> str:
    """Return which budget of *pool* cannot be read, and so lets nothing go, or ""."""
    for number, budget in enumerate(pool.spec.disruption.budgets):
        if not _is_readable(budget):
            return f"spec.disruption.budgets[{number}].schedule {budget.schedule!r} is not readable"
    return ""


def is_leaving(state: ClusterState, node: Node) -> bool:
    """Return whether *node* is being disrupted or deleted already."""
    claim = state.claim_of(node)
    return (
        node.deleted is not None
        or any(taint.key == labels.DISRUPTED_TAINT for taint in node.taints)
        or (claim is not None and claim.metadata.deletion_timestamp is not None)
    )


def _concerns(budget: Budget, reason: str | None) -> bool:
    return budget.reasons is None or reason in budget.reasons


def _share(nodes: int | str, total: int) -> int:
    if isinstance(nodes, str) and nodes.endswith("%"):
        return math.ceil(total * int(nodes[:-1]) / 100)
    return int(nodes)


def _is_readable(budget: Budget) -> bool:
    try:
        cron.parse(budget.schedule or "@daily")
    except InvalidManifest:
        return False
    return True


def _is_active(budget: Budget, now: datetime) -> bool:
    """Return whether *budget* holds at *now*; one that cannot be read always does."""
    if budget.schedule is None or budget.duration is None:
        return True
    try:
        fired = cron.parse(budget.schedule).next(now - duration.parse(budget.duration))
    except InvalidManifest:
        return True
    return fired is not None and fired <= now
