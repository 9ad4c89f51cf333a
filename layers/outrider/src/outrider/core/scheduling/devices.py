"""Dynamic resource allocation: what is wrong with a pod's device claims.

A claim that cannot be judged makes its pod unschedulable, never a guess. Refuses to allocate.
"""

from __future__ import annotations

from collections.abc import Iterable

from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState


def verdicts(state: ClusterState, pods: Iterable[Pod]) -> dict[str, str]:
    """Return, by pod key, why device claims keep a pod from being planned."""
    claims = {f"{item.namespace}/{item.name}": item for item in state.resource_claims}
    templates = {f"{item.namespace}/{item.name}" for item in state.resource_claim_templates}
    found = {}
    for pod in pods:
        for claim in pod.resource_claims:
            if claim.claim and f"{pod.namespace}/{claim.claim}" not in claims:
                found[pod.key] = f"ResourceClaim {claim.claim} does not exist"
            elif not claim.claim and f"{pod.namespace}/{claim.template}" not in templates:
                found[pod.key] = f"ResourceClaimTemplate {claim.template} does not exist"
            else:
                name = claim.claim or claim.template
                found[pod.key] = (
                    f"ResourceClaim {name}: the catalogue publishes no devices of its class"
                )
            break
    return found
