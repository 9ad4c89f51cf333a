"""Drift: nodes that are no longer what their NodePool and EC2NodeClass ask for.

The reasons, in the order in which one is named (F130): the NodePool's hash, the node class's hash
(Karpenter's from annotations, our own computed: a missing one, or one of another version, is no
drift), requirements that the node's labels no longer meet, an AMI, security groups, a subnet, a
capacity reservation or a placement group that the class no longer selects (what a node was launched
into is written on its NodeClaim). A type that has left the catalogue is no drift here: a catalogue
that lost entries must not empty a cluster. Empty drifted nodes go first, together;
then the oldest drift, one node a pass, its replacement first (F132). With terminationGracePeriod a
drifted node goes although its pods hold it (F12).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from outrider.apis import labels
from outrider.apis.nodeclaim import DRIFTED, NodeClaim
from outrider.apis.nodeclass import EC2NodeClass
from outrider.apis.nodepool import NodePool
from outrider.core.disruption.candidates import Candidate
from outrider.core.disruption.result import Blocked, Command, Proposal, Reason
from outrider.core.disruption.scene import Scene, budget_spent, homeless
from outrider.core.launch.launchedinto import placement_group
from outrider.core.requirements import Requirements

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def propose(scene: Scene) -> Proposal:
    """Return the commands for drifted nodes: the empty ones, and the longest drifted other one."""
    drifted = [
        (candidate, why) for candidate in scene.candidates if (why := reason(candidate, scene))
    ]
    drifted.sort(key=lambda pair: (not pair[0].empty, _since(pair[0]), pair[0].name))
    commands: list[Command] = []
    blocked: list[Blocked] = []
    busy = False
    for candidate, why in drifted:
        proposed = _propose(scene, candidate, why, busy=busy)
        if isinstance(proposed, Blocked):
            blocked.append(proposed)
        else:
            busy = busy or not candidate.empty
            commands.append(scene.accept(proposed))
    return Proposal(tuple(commands), tuple(blocked))


def reason(candidate: Candidate, scene: Scene) -> str:
    """Return why the node of *candidate* has drifted, or ""."""
    claim = candidate.claim
    if claim is None:
        return ""
    node_class = scene.state.nodeclass(candidate.pool.node_class)
    return (
        _pool_drift(candidate.pool, claim)
        or (_class_drift(node_class, claim) if node_class else "")
        or _requirements_drift(candidate)
        or (_outside_drift(node_class, claim, candidate) if node_class else "")
    )


def _propose(scene: Scene, candidate: Candidate, why: str, *, busy: bool) -> Command | Blocked:
    period = candidate.grace_period
    if candidate.held is not None and period is None:
        return candidate.held
    if scene.allowance.left(candidate.pool.name, Reason.DRIFTED) < 1:
        return budget_spent(candidate, Reason.DRIFTED)
    if busy and not candidate.empty:
        return budget_spent(candidate, "a second drifted node with pods in one pass")
    found = scene.replacement(candidate) if candidate.pool.static else scene.relocate([candidate])
    if found.lost:
        return homeless(candidate, found.lost)
    return Command(
        reason=Reason.DRIFTED,
        nodes=(candidate.name,),
        launches=found.launches,
        placements=found.placements,
        savings_per_hour=scene.price([candidate])
        - sum(launch.price_per_hour for launch in found.launches),
        why=why,
        deadline=scene.now + period if period is not None else None,
    )


def _since(candidate: Candidate) -> datetime:
    """Return since when the node has drifted, as far as that is written; its age stands in."""
    claim = candidate.claim
    condition = claim.status.condition(DRIFTED) if claim else None
    if condition is not None and condition.status == "True" and condition.last_transition_time:
        return condition.last_transition_time
    return (claim.metadata.creation_timestamp if claim else None) or LONG_AGO


def _pool_drift(pool: NodePool, claim: NodeClaim) -> str:
    keys = labels.NODEPOOL_HASH, labels.NODEPOOL_HASH_VERSION
    changed = _changed(pool, claim.metadata.annotations, *keys)
    return f"NodePoolDrifted: the template of NodePool {pool.name} has changed" if changed else ""


def _class_drift(node_class: EC2NodeClass, claim: NodeClaim) -> str:
    name = node_class.metadata.name
    keys = labels.NODECLASS_HASH, labels.NODECLASS_HASH_VERSION
    changed = _changed(node_class, claim.metadata.annotations, *keys)
    return f"NodeClassDrift: EC2NodeClass {name} has changed" if changed else ""


def _changed(
    wanted: NodePool | EC2NodeClass, had: Mapping[str, str], key: str, version: str
) -> bool:
    """Return whether *wanted* has another hash, of the same version, than a claim *had*.

    The hash of *wanted* is the one in its annotations, which Karpenter writes; a claim of ours
    carries our own version, and is compared with what *wanted* hashes to now.
    """
    shown = wanted.metadata.annotations
    if had.get(version) == wanted.hash_version and shown.get(version) != wanted.hash_version:
        shown = {key: wanted.hash, version: wanted.hash_version}
    hashes, versions = (shown.get(key), had.get(key)), (shown.get(version), had.get(version))
    return None not in hashes and versions[0] == versions[1] and hashes[0] != hashes[1]


def _requirements_drift(candidate: Candidate) -> str:
    wanted = Requirements.of(candidate.pool.spec.template.spec.requirements)
    claimed = candidate.claim.metadata.labels if candidate.claim else {}
    known = {**claimed, **candidate.node.labels}
    for key in sorted(wanted):
        if not wanted[key].has(known.get(key)):
            return f"RequirementsDrifted: the node does not meet {wanted[key]}"
    return ""


def _outside_drift(node_class: EC2NodeClass, claim: NodeClaim, candidate: Candidate) -> str:
    """Return which of the things that *node_class* selects the node no longer has, or ""."""
    return (
        _image_drift(node_class, claim)
        or _group_drift(node_class, claim)
        or _subnet_drift(node_class, claim)
        or _reservation_drift(node_class, candidate)
        or _placement_drift(node_class, claim)
    )


def _image_drift(node_class: EC2NodeClass, claim: NodeClaim) -> str:
    image, known = claim.status.image_id, {ami.id for ami in node_class.status.amis}
    if not image or not known or image in known:
        return ""
    return f"AMIDrift: {image} is not among the images of EC2NodeClass {node_class.metadata.name}"


def _group_drift(node_class: EC2NodeClass, claim: NodeClaim) -> str:
    had = set(filter(None, claim.metadata.annotations.get(labels.SECURITY_GROUPS, "").split(",")))
    wanted = {group.id for group in node_class.status.security_groups}
    if not had or not wanted or had == wanted:
        return ""
    changed = ", ".join(sorted(had ^ wanted))
    return f"SecurityGroupDrift: EC2NodeClass {node_class.name} selects other groups ({changed})"


def _subnet_drift(node_class: EC2NodeClass, claim: NodeClaim) -> str:
    had = claim.metadata.annotations.get(labels.SUBNET, "")
    known = {subnet.id for subnet in node_class.status.subnets}
    if not had or not known or had in known:
        return ""
    return f"SubnetDrift: {had} is not among the subnets of EC2NodeClass {node_class.name}"


def _placement_drift(node_class: EC2NodeClass, claim: NodeClaim) -> str:
    had = claim.metadata.annotations.get(labels.PLACEMENT_GROUP)
    wanted = placement_group(node_class)
    if had is None or had == wanted:
        return ""
    now, then = wanted or "none", had or "none"
    return f"PlacementGroupDrift: EC2NodeClass {node_class.name} selects {now}, it is in {then}"


def _reservation_drift(node_class: EC2NodeClass, candidate: Candidate) -> str:
    used = candidate.node.labels.get(labels.CAPACITY_RESERVATION_ID)
    bought = candidate.node.labels.get(labels.CAPACITY_TYPE)
    known = {reservation.id for reservation in node_class.status.capacity_reservations}
    if not used or bought != labels.RESERVED or not known or used in known:
        return ""
    return f"CapacityReservationDrift: {used} is no longer selected"
