"""What the flows write and say about one NodeClaim: conditions, Events, messages.

Refuses to know when: `core.lifecycle` judges, `flows.lifecycle` and `flows.joining` act.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.nodeclaim import LAUNCHED, NodeClaim
from outrider.core.launch import nodeclaim
from outrider.flows import decisions
from outrider.flows.ports import World


def set_conditions(
    world: World,
    claim: NodeClaim,
    changes: Mapping[str, tuple[bool, str, str]],
    more: Mapping[str, Any],
) -> None:
    """Write *changes* (type -> holds, reason, message) and *more* into the claim's status."""
    now = world.clock.now()
    fresh = [
        nodeclaim.condition(kind, holds=holds, reason=reason, now=now, message=message)
        for kind, (holds, reason, message) in changes.items()
    ]
    old = [one.to_json() for one in claim.status.conditions]
    status = {**more, "conditions": nodeclaim.conditions(fresh, old)}
    world.cluster.patch_nodeclaim_status(claim.name, status)


def launched_at(claim: NodeClaim, otherwise: datetime) -> datetime:
    """Return when the claim's instance was launched."""
    condition = claim.status.condition(LAUNCHED)
    since = condition.last_transition_time if condition else None
    return since or claim.metadata.creation_timestamp or otherwise


def decision_of(claim: NodeClaim) -> str:
    """Return the decision that made the claim."""
    return claim.metadata.annotations.get(labels.DECISION, "")


def involved(claim: NodeClaim) -> dict[str, str]:
    """Return how an Event refers to the claim."""
    return {
        "apiVersion": nodeclaim.API_VERSION,
        "kind": "NodeClaim",
        "name": claim.name,
        "uid": claim.metadata.uid,
    }


def publish(
    world: World, detail_type: str, claim: NodeClaim, node: Node | None, **more: Any
) -> None:
    """Queue the message *detail_type* about the claim and its *node* for our bus."""
    decisions.publish(
        world,
        detail_type,
        decision_of(claim),
        nodeClaim=claim.name,
        nodePool=claim.node_pool,
        node=node.name if node else claim.status.node_name,
        instanceId=claim.instance_id,
        **more,
    )
