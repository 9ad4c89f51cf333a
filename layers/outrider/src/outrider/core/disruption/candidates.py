"""Who may go, and for everybody else the one reason why not.

A candidate is an initialised node of a valid, unpaused NodePool of ours that nobody deletes and no
pod is nominated to. What its pods hold it by (do-not-disrupt, PodDisruptionBudgets) is noted, not
judged: drift and expiry may go through it where terminationGracePeriod says so, consolidation may
not. Matches Karpenter's candidate rules (F134, F135, F148). Refuses to know prices and budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from outrider.apis import duration
from outrider.apis.node import Node
from outrider.apis.nodeclaim import INITIALIZED, NodeClaim
from outrider.apis.nodepool import NodePool
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.budgets import is_leaving
from outrider.core.disruption.result import Blocked, Code
from outrider.core.promises import planned_pods
from outrider.core.protection import (
    Budgets,
    drainable,
    forbids_disruption,
    movable,
    node_forbids_disruption,
)


@dataclass(frozen=True)
class Candidate:
    """One node that may be disrupted; `held` is what its pods, or it itself, hold against it."""

    node: Node
    pool: NodePool
    claim: NodeClaim | None
    pods: tuple[Pod, ...]
    held: Blocked | None
    quiet_since: datetime | None

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.node.name

    @property
    def empty(self) -> bool:
        """Return whether nothing on the node needs another place."""
        return not self.pods

    @property
    def grace_period(self) -> timedelta | None:
        """Return the claim's terminationGracePeriod."""
        text = self.claim.spec.termination_grace_period if self.claim else None
        return duration.parse(text) if text else None

    @property
    def never_settles(self) -> bool:
        """Return whether the pool's consolidateAfter is Never."""
        return duration.nillable(self.pool.spec.disruption.consolidate_after) is None

    def settled(self, now: datetime) -> bool:
        """Return whether the pool's consolidateAfter has passed since the last pod came or went."""
        after = duration.nillable(self.pool.spec.disruption.consolidate_after)
        if after is None:
            return False
        if self.quiet_since is None:
            return True
        return (
            now - min(self.quiet_since, now) >= after
        )  # a clock ahead of ours is no event to come


def candidates(
    state: ClusterState, now: datetime
) -> tuple[tuple[Candidate, ...], tuple[Blocked, ...]]:
    """Return the nodes that may go, by name, and why the others of ours may not."""
    nominated = _awaited(state)
    budgets = Budgets(state.pdbs)
    found: list[Candidate] = []
    blocked: list[Blocked] = []
    for node in sorted(state.nodes, key=lambda node: node.name):
        pool = state.nodepool(node.node_pool) if node.node_pool else None
        if not node.node_pool or (pool is not None and not pool.ours):
            continue
        refusal = _refusal(node, pool, state, nominated)
        if refusal is not None or pool is None:
            blocked.append(refusal or _no_pool(node))
            continue
        found.append(_candidate(node, pool, state, budgets, now))
    return tuple(found), tuple(blocked)


def _awaited(state: ClusterState) -> set[str]:
    """Return the nodes and NodeClaims that pods are on their way to.

    A pod is nominated to one, or its NodeClaim was launched for pods that still wait, or that run
    on a node which is being drained: an empty replacement is not an empty node.
    """
    awaited = {
        pod.nominated_node_name
        for pod in state.pods
        if pod.nominated_node_name and not pod.node_name
    }
    leaving = {node.name for node in state.nodes if is_leaving(state, node)}
    for claim in state.nodeclaims:
        for key in planned_pods(claim.metadata.annotations):
            pod = state.pod(key)
            if pod is not None and (not pod.node_name or pod.node_name in leaving):
                awaited.add(claim.name)
                break
    return awaited


def _refusal(
    node: Node, pool: NodePool | None, state: ClusterState, nominated: set[str]
) -> Blocked | None:
    """Return why no method may take *node*, whatever runs on it."""
    if is_leaving(state, node):
        return Blocked(node.name, Code.DELETING, "it is being disrupted or deleted already")
    if pool is None:
        return _no_pool(node)
    claim = state.claim_of(node)
    coming = node.name in nominated or (claim is not None and claim.name in nominated)
    node_class = state.nodeclass(pool.node_class)
    paused = pool.paused or (node_class is not None and node_class.paused)
    deleted = pool.metadata.deletion_timestamp is not None
    reasons = (
        (deleted, Code.INVALID_NODEPOOL, f"NodePool {pool.name} is being deleted"),
        (paused, Code.PAUSED, f"NodePool {pool.name} or its class is paused"),
        (not node.initialized, Code.NOT_INITIALIZED, "it is not initialised yet"),
        (coming, Code.NOMINATED, "a pod is on its way to it"),
    )
    return next((Blocked(node.name, code, why) for holds, code, why in reasons if holds), None)


def _no_pool(node: Node) -> Blocked:
    return Blocked(
        node.name, Code.INVALID_NODEPOOL, f"NodePool {node.node_pool} is missing or invalid"
    )


def _candidate(
    node: Node, pool: NodePool, state: ClusterState, budgets: Budgets, now: datetime
) -> Candidate:
    pods = state.pods_on(node.name)
    claim = state.claim_of(node)
    return Candidate(
        node=node,
        pool=pool,
        claim=claim,
        pods=tuple(pod for pod in pods if _needs_a_place(pod)),
        held=_held(node, pods, budgets, now),
        quiet_since=_quiet_since(node, claim, pods),
    )


def _needs_a_place(pod: Pod) -> bool:
    """Return whether *pod* counts when a node is called empty (F135).

    A StatefulSet's pod that is on its way out comes back under the same name, so it counts.
    """
    owner = pod.controller
    returning = pod.deleted is not None and owner is not None and owner.kind == "StatefulSet"
    return movable(pod) or (returning and not pod.finished)


def _held(node: Node, pods: Sequence[Pod], budgets: Budgets, now: datetime) -> Blocked | None:
    if node_forbids_disruption(node):
        return Blocked(node.name, Code.DO_NOT_DISRUPT, "the node has karpenter.sh/do-not-disrupt")
    for pod in pods:
        if forbids_disruption(pod, now):
            return Blocked(
                node.name,
                Code.DO_NOT_DISRUPT,
                f"pod {pod.key} has karpenter.sh/do-not-disrupt",
            )
    for pod in pods:
        if pod.deleted is None and drainable(pod, now):
            holding = budgets.holding(pod)
            if holding:
                return Blocked(node.name, Code.POD_DISRUPTION_BUDGET, holding)
    return None


def _quiet_since(node: Node, claim: NodeClaim | None, pods: Sequence[Pod]) -> datetime | None:
    """Return when a pod last came to the node or left it, as far as that is written anywhere."""
    if claim is not None and claim.status.last_pod_event_time is not None:
        return claim.status.last_pod_event_time
    started = [pod.started or pod.created for pod in pods if not pod.from_daemon]
    known = [at for at in started if at is not None]
    if known:
        return max(known)
    initialized = claim.status.condition(INITIALIZED) if claim else None
    if initialized is not None and initialized.last_transition_time is not None:
        return initialized.last_transition_time
    return node.created
