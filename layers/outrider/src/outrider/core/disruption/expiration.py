"""Expiration: nodes older than their NodeClaim's expireAfter go, after their replacement is up.

Karpenter deletes an expired node outright (F151); here budgets without reasons, do-not-disrupt and
PodDisruptionBudgets are honoured, the last two until expiry plus terminationGracePeriod, without
one for ever. The oldest expiry comes first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from outrider.apis import duration
from outrider.core.disruption.candidates import Candidate
from outrider.core.disruption.result import Blocked, Command, Proposal, Reason
from outrider.core.disruption.scene import Scene, budget_spent, homeless

NOTICE = timedelta(seconds=30)  # what a pod's grace gets on top when the period is over already


def propose(scene: Scene) -> Proposal:
    """Return one command for each expired node that may go now."""
    expired = [
        (expiry, candidate)
        for candidate in scene.candidates
        if (expiry := _expiry(candidate)) is not None and expiry <= scene.now
    ]
    commands: list[Command] = []
    blocked: list[Blocked] = []
    for expiry, candidate in sorted(expired, key=lambda pair: (pair[0], pair[1].name)):
        proposed = _propose(scene, candidate, expiry)
        if isinstance(proposed, Blocked):
            blocked.append(proposed)
        else:
            commands.append(scene.accept(proposed))
    return Proposal(tuple(commands), tuple(blocked))


def _propose(scene: Scene, candidate: Candidate, expiry: datetime) -> Command | Blocked:
    period = candidate.grace_period
    forced = period is not None and scene.now >= expiry + period
    if candidate.held is not None and not forced:
        return candidate.held
    if scene.allowance.left(candidate.pool.name, Reason.EXPIRED) < 1:
        return budget_spent(candidate, Reason.EXPIRED)
    found = scene.replacement(candidate) if candidate.pool.static else scene.relocate([candidate])
    if found.lost and not forced:
        return homeless(candidate, found.lost)
    longest = max((pod.grace_seconds for pod in candidate.pods), default=0)
    soonest = scene.now + timedelta(seconds=longest) + NOTICE
    return Command(
        reason=Reason.EXPIRED,
        nodes=(candidate.name,),
        launches=found.launches,
        placements=found.placements,
        savings_per_hour=scene.price([candidate])
        - sum(launch.price_per_hour for launch in found.launches),
        why=f"it expired at {expiry:%Y-%m-%d %H:%M} UTC",
        deadline=max(expiry + period, soonest) if period is not None else None,
    )


def _expiry(candidate: Candidate) -> datetime | None:
    claim = candidate.claim
    if claim is None or claim.metadata.creation_timestamp is None:
        return None
    span = duration.nillable(claim.spec.expire_after)
    return claim.metadata.creation_timestamp + span if span is not None else None
