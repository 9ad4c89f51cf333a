"""Nodes that somebody else launched and that are ours to keep from now on: Karpenter's, after it.

A NodeClaim is all that says so: Karpenter's and ours are the same kind, with the same labels,
taints and finalizers, so that nothing in the cluster has to change and no node has to be restarted.
What lacks is in the account: policies let us terminate only instances that carry this stack's tag,
and the ledger knows only instances that were recorded. Both are made good here, once an instance,
at the first minute tick at which outrider may act; beside a live Karpenter nothing is touched.
Instances of another stack or cluster are left alone, whatever a NodeClaim says.

The way back needs nothing: everything that Karpenter looks for is on our nodes from their launch.
"""

from __future__ import annotations

from collections.abc import Iterable

from outrider.apis import labels
from outrider.core.clusterstate import ClusterState
from outrider.core.launch.tags import EKS_CLUSTER
from outrider.core.records import Instance
from outrider.flows.ports import World


def adopt(world: World, state: ClusterState, ours: Iterable[Instance]) -> tuple[str, ...]:
    """Make the instances of NodeClaims *ours* that are nobody's; return the ids of new ones."""
    claims = {
        claim.instance_id: claim
        for claim in state.nodeclaims
        if claim.status.provider_id
        and claim.metadata.deletion_timestamp is None
        and claim.spec.node_class_ref.group == labels.NODECLASS_GROUP
    }
    strange = sorted(claims.keys() - {instance.id for instance in ours})
    if not strange:
        return ()
    found = [
        instance
        for instance in world.cloud.instances(strange)
        if _free(instance, world.settings.cluster)
    ]
    for instance in found:
        claim = claims[instance.id]
        world.cloud.adopt_instance(instance.id)
        decision = claim.metadata.annotations.get(labels.DECISION, "")
        world.ledger.record_instance(instance, claim.name, decision)
        world.telemetry.log("adopted", claim=claim.name, instance=instance.id)
    return tuple(instance.id for instance in found)


def _free(instance: Instance, cluster: str) -> bool:
    """Return whether *instance* is a node of this *cluster* and of no stack of outrider."""
    tags = instance.tags
    return (
        tags.get(EKS_CLUSTER) == cluster
        and labels.NODEPOOL in tags
        and labels.MANAGED_BY not in tags
    )
