"""When did a pod last come to a node or leave it? consolidateAfter counts from there (F15).

Karpenter watches every pod; here each pass of disruption compares the pods of a node with those
that the pass before saw (a digest in an annotation of the NodeClaim) and writes
`status.lastPodEventTime` where they differ. That is as exact as the passes are frequent, and only
NodePools whose consolidateAfter is a span pay for it. Refuses to know what is consolidated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from outrider.apis import duration, labels
from outrider.apis.nodeclaim import NodeClaim
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.errors import ClusterError
from outrider.flows.ports import World


def note(state: ClusterState, world: World) -> ClusterState:
    """Return *state* with what this look has learnt, written down for the next one."""
    changed: dict[str, NodeClaim] = {}
    for node in state.nodes:
        pool, claim = state.nodepool(node.node_pool), state.claim_of(node)
        if pool is None or claim is None or not pool.ours:
            continue
        if not duration.nillable(pool.spec.disruption.consolidate_after):
            continue
        seen = _digest(state.pods_on(node.name))
        before = claim.metadata.annotations.get(labels.PODS_SEEN)
        if seen != before:
            changed[claim.name] = _noted(claim, seen, moved=before is not None, world=world)
    if not changed:
        return state
    claims = tuple(changed.get(claim.name, claim) for claim in state.nodeclaims)
    return replace(state, nodeclaims=claims, _index={})


def _noted(claim: NodeClaim, seen: str, *, moved: bool, world: World) -> NodeClaim:
    """Write down what was *seen*, and, where pods *moved* since, that it was now."""
    now = world.clock.now()
    metadata = {"annotations": {labels.PODS_SEEN: seen}}
    try:
        if moved:
            status = {"lastPodEventTime": duration.stamp(now)}
            world.cluster.patch_nodeclaim_status(claim.name, status)
        world.cluster.patch_nodeclaim(claim.name, {"metadata": metadata})
    except ClusterError as error:
        world.telemetry.log("pod events not noted", claim=claim.name, problem=str(error))
    if not moved:
        return claim
    known = claim.status.model_copy(update={"last_pod_event_time": now})
    return replace(claim, status=known)


def _digest(pods: Iterable[Pod]) -> str:
    """Return a short name of the set of *pods*, those of DaemonSets and the node left out."""
    ids = sorted(pod.uid or pod.key for pod in pods if not (pod.from_daemon or pod.from_node))
    return hashlib.sha256("/".join(ids).encode()).hexdigest()[:12]
