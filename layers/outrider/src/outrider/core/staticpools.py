"""NodePools of fixed size (`spec.replicas`): what they lack, what they have too much of.

Decides as Karpenter's static controllers do (F20): NodeClaims that are not being deleted count, a
machine that leaves does not; what is missing is launched as far as limits.nodes goes, whatever pods
there are; what is too much goes in this order: claims without an instance, empty nodes, then by
do-not-disrupt (the unprotected first), the annotation `karpenter.sh/deprovisioning-priority` (the
higher first) and the cost of moving the pods times the share of its lifetime that a node has left.

Refuses to act, and to know pods that wait: no pod opens a node of such a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from outrider.apis import duration, labels
from outrider.apis.nodepool import NODES
from outrider.apis.placement import Constraints, Toleration
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.budgets import is_leaving
from outrider.core.disruption.cost import eviction_cost
from outrider.core.protection import forbids_disruption, movable
from outrider.core.scheduling.plan import plan
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.result import Launch

if TYPE_CHECKING:
    from outrider.apis.node import Node
    from outrider.apis.nodeclaim import NodeClaim
    from outrider.apis.nodepool import NodePool

PRIORITY = "karpenter.sh/deprovisioning-priority"
UNLIMITED = 2**31


@dataclass(frozen=True, slots=True)
class Surplus:
    """What a pool has too much of: NodeClaims that no instance stands for yet, and nodes."""

    pool: str
    size: int
    claims: tuple[str, ...]
    nodes: tuple[str, ...]


def pools(state: ClusterState) -> tuple[NodePool, ...]:
    """Return the pools of fixed size that may act, by name."""
    found = (
        pool
        for pool in state.nodepools
        if pool.ours
        and pool.static
        and not pool.paused
        and pool.metadata.deletion_timestamp is None
    )
    return tuple(sorted(found, key=lambda pool: pool.name))


def room(state: ClusterState, pool: NodePool) -> int:
    """Return how many more machines limits.nodes lets *pool* have, leaving ones included."""
    claims = {claim.name for claim in _claims(state, pool)}
    nodes = [node for node in _nodes(state, pool) if state.claim_of(node) is None]
    limit = pool.spec.limits.get(NODES)
    return UNLIMITED if limit is None else max(0, limit - len(claims) - len(nodes))


def missing(state: ClusterState, pool: NodePool) -> int:
    """Return how many machines *pool* is to launch."""
    lacking = (pool.spec.replicas or 0) - len(_standing(state, pool))
    return max(0, min(lacking, room(state, pool)))


def launches(
    state: ClusterState,
    pool: NodePool,
    count: int,
    catalog: Catalog,
    policy: Policy,
    now: datetime,
    expired: Callable[[], bool] = lambda: False,
) -> tuple[Launch, ...]:
    """Return *count* launches for *pool*, with every type that it may have; none where it has
    none.
    """
    spec = pool.spec.model_copy(update={"replicas": None, "limits": {}})
    alone = replace(
        state,
        nodepools=(replace(pool, spec=spec),),
        nodes=(),
        nodeclaims=(),
        pods=(),
        _index={},
    )
    constraints = _belonging(pool)
    probe = Pod("static", f"{pool.name}~0", requests={"pods": 1}, constraints=constraints)
    made = plan(alone, (probe,), catalog, policy, now, expired)
    return tuple(
        replace(launch, pods=(), name=f"{pool.name}-{number}")
        for launch in made.launches[:1]
        for number in range(1, count + 1)
    )


def surplus(state: ClusterState, now: datetime) -> tuple[Surplus, ...]:
    """Return what the pools of fixed size have too much of."""
    found = []
    for pool in pools(state):
        standing = _standing(state, pool)
        too_many = len(standing) - (pool.spec.replicas or 0)
        if too_many <= 0:
            continue
        going = sorted(standing, key=lambda one: _order(state, pool, one, now))[:too_many]
        found.append(
            Surplus(
                pool.name,
                pool.spec.replicas or 0,
                claims=tuple(one.claim.name for one in going if one.claim and one.node is None),
                nodes=tuple(one.node.name for one in going if one.node is not None),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Machine:
    """A NodeClaim with its Node, or one of the two."""

    claim: NodeClaim | None
    node: Node | None

    @property
    def name(self) -> str:
        """Return the Node's name, or the NodeClaim's."""
        return self.node.name if self.node is not None else self.claim.name if self.claim else ""


def _standing(state: ClusterState, pool: NodePool) -> list[_Machine]:
    """Return the machines of *pool* that are there or on their way, and not on their way out."""
    found = []
    for claim in _claims(state, pool):
        node = state.node_of(claim)
        leaving = claim.metadata.deletion_timestamp is not None
        if not leaving and (node is None or not is_leaving(state, node)):
            found.append(_Machine(claim, node))
    found.extend(
        _Machine(None, node)
        for node in _nodes(state, pool)
        if state.claim_of(node) is None and not is_leaving(state, node)
    )
    return found


def _claims(state: ClusterState, pool: NodePool) -> list[NodeClaim]:
    return [claim for claim in state.nodeclaims if claim.node_pool == pool.name]


def _nodes(state: ClusterState, pool: NodePool) -> list[Node]:
    return [node for node in state.nodes if node.node_pool == pool.name]


def _order(
    state: ClusterState, pool: NodePool, one: _Machine, now: datetime
) -> tuple[int, bool, int, float, str]:
    """Return a key that sorts machines by who goes first."""
    if one.node is None:
        resolved = one.claim is not None and bool(one.claim.status.provider_id)
        return int(resolved), False, -_priority(one.claim), 0.0, one.name
    pods = state.pods_on(one.node.name)
    protected = any(forbids_disruption(pod, now) for pod in pods)
    moved = [pod for pod in pods if movable(pod)]
    if not moved and not protected:
        return 1, False, 0, 0.0, one.name
    cost = sum(eviction_cost(pod) for pod in moved) * _lifetime_left(pool, one.claim, now)
    return 2, protected, -_priority(one.claim), cost, one.name


def _priority(claim: NodeClaim | None) -> int:
    text = claim.metadata.annotations.get(PRIORITY, "") if claim else ""
    return int(text) if text.lstrip("-").isdigit() else 0


def _lifetime_left(pool: NodePool, claim: NodeClaim | None, now: datetime) -> float:
    """Return the share of its expireAfter that a machine still has."""
    span = duration.nillable(
        claim.spec.expire_after if claim else pool.spec.template.spec.expire_after
    )
    born = claim.metadata.creation_timestamp if claim else None
    if span is None or born is None or not span.total_seconds():
        return 1.0
    return min(1.0, max(0.0, 1.0 - (now - born) / span))


def _belonging(pool: NodePool) -> Constraints:
    """Return what lets a pod run on nodes of *pool* and on no others."""
    return Constraints(
        node_selector=((labels.NODEPOOL, pool.name),),
        tolerations=tuple(
            Toleration(taint.key, "Equal", taint.value, taint.effect)
            for taint in (*pool.taints, *pool.startup_taints)
        ),
    )
