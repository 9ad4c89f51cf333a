"""Carry out one launch errand, from wherever the last try left it.

create the NodeClaims -> ensure the templates -> CreateFleet (its client token makes a repeat return
the first try's instances) -> note the ids -> tell the NodeClaims -> drop those that got nothing ->
settle. The intent stays `intended` until the last step, so a kill anywhere leaves work that this
same function finishes. Capacity errors become marks; what AWS refuses outright fails the errand
with its reason.

Refuses to plan again: `flows.launch` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from outrider.apis import labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.catalog.capacity import derive
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.instancetype import Catalog, InstanceType
from outrider.core.clusterstate import ClusterState
from outrider.core.launch import errand as errands
from outrider.core.launch import failure, nodeclaim
from outrider.core.launch.errand import Errand
from outrider.core.launch.fleet import Subnet
from outrider.core.records import FleetError, FleetResult, Instance, Intent
from outrider.core.seeding import State
from outrider.errors import CloudError, NotFound, Throttled
from outrider.flows.decisions import LISTED, publish
from outrider.flows.ports import World

TOO_OLD = timedelta(minutes=10)
ROUNDED = timedelta(seconds=1)  # the API server's timestamps are whole seconds
TEMPLATE_GONE = "InvalidLaunchTemplateName.NotFoundException"
SNAPSHOT_GONE = "InvalidSnapshot.NotFound"
JOIN_LOOK_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an errand came to: instances by claim, claims without, and why."""

    errand: Errand
    instances: Mapping[str, Instance]
    unserved: tuple[str, ...]
    errors: tuple[FleetError, ...] = ()
    marks: tuple[failure.Mark, ...] = ()
    lost_seed: bool = False

    @property
    def marked(self) -> bool:
        """Return whether the next plan will choose otherwise: a pool or a seed is out."""
        return bool(self.marks) or self.lost_seed


def perform(world: World, intent: Intent, state: ClusterState, catalog: Catalog) -> Outcome:
    """Carry out the errand of *intent*; do what is left of it where it was begun before."""
    work = Errand.read(intent.request)
    world.cluster.create_nodeclaims(work.manifests)
    result = _known(world, intent) if intent.instances else None
    if result is None:
        result = _buy(world, work)
    given = errands.assigned(work, result)
    intent = replace(intent, instances={claim: one.id for claim, one in given.items()})
    world.ledger.settle(intent)

    marks = _marks(world, work, result.errors, state)
    _tell_claims(world, work, given, kinds(work, given, state, catalog))
    extra = errands.surplus(work, result)
    if extra:
        world.cloud.terminate(extra)
    unserved = tuple(claim for claim in work.claims if claim not in given)
    for claim in unserved:
        drop_claim(world, claim)
    if given:
        world.workflows.watch_join(tuple(given), JOIN_LOOK_SECONDS)
    _report(world, work, given, unserved, result.errors)
    lost_seed = any(error.code == SNAPSHOT_GONE for error in result.errors)
    world.ledger.settle(replace(intent, state="launched" if given else "failed"))
    return Outcome(work, given, unserved, result.errors, marks, lost_seed)


def recover(
    world: World, state: ClusterState, catalog: Catalog, *, older_than: timedelta = timedelta(0)
) -> tuple[Outcome, ...]:
    """Finish every errand that somebody began and did not end.

    One that is older than ten minutes is not asked of EC2 again: its pods have long been planned
    anew. Its NodeClaims go, and instances that it may have launched fall to the sweep.
    """
    now = world.clock.now()
    outcomes = []
    for intent in world.ledger.intents(since=now - timedelta(days=1), unfinished=True):
        age = now - (intent.at or now)
        if intent.state != "intended" or age < older_than:
            continue
        if age > TOO_OLD and not intent.instances:
            _abandon(world, intent)
            continue
        world.telemetry.log("taken up again", intent=intent.client_token, claims=intent.claims)
        outcomes.append(perform(world, intent, state, catalog))
    return tuple(outcomes)


def outpaced(world: World, state: ClusterState, since: datetime) -> bool:
    """Return whether an errand of an earlier holder of the lease, which was *since* ours, has ended
    unseen: after *state* was read, with NodeClaims that a plan made on it does not know.

    Nobody else begins an errand while the lease is ours, but one that was begun before may be
    carried to its end by somebody who lost the lease on the way.
    """
    known = {claim.name for claim in state.nodeclaims}
    unseen = {
        claim
        for intent in world.ledger.intents(since=world.clock.now() - TOO_OLD)
        if intent.state == "launched" and intent.at is not None and intent.at < since
        for claim in intent.instances
        if claim not in known
    }
    # Most of these were seen, and have gone since, or are of nodes that the plan is to replace.
    first = since - ROUNDED
    return bool(unseen) and any(
        claim.name in unseen and (claim.metadata.creation_timestamp or first) >= first
        for claim in world.cluster.machines().nodeclaims
    )


def drop_claim(world: World, claim: str) -> None:
    """Delete a NodeClaim that has no instance and never will."""
    world.cluster.delete_nodeclaim(claim)
    world.cluster.release_nodeclaim(claim)


def undo(world: World, outcome: Outcome, reason: str) -> None:
    """Take back what an errand launched."""
    world.cloud.terminate(tuple(instance.id for instance in outcome.instances.values()))
    for claim, instance in outcome.instances.items():
        drop_claim(world, claim)
        world.ledger.forget_instance(instance.id)
        publish(
            world,
            "NodeTerminated",
            outcome.errand.decision,
            nodeClaim=claim,
            instanceId=instance.id,
            reason=reason,
        )


def _buy(world: World, work: Errand) -> FleetResult:
    for template in work.templates:
        world.cloud.ensure_template(template)
    world.telemetry.count("LaunchesAttempted", len(work.claims))
    try:
        try:
            return world.cloud.create_fleet(work.call)
        except NotFound as error:
            if error.code != TEMPLATE_GONE:
                raise
            for template in work.templates:  # somebody deleted it; the adapter has forgotten it
                world.cloud.ensure_template(template)
            return world.cloud.create_fleet(work.call)
    except Throttled:
        raise  # the intent stands; whoever comes next asks again with the same token
    except CloudError as error:
        if error.code == SNAPSHOT_GONE:
            _forget_seeds(world, work)
        return FleetResult("", (), (FleetError(error.code, str(error), "request"),))


def _known(world: World, intent: Intent) -> FleetResult | None:
    """Return what was launched before; None where EC2 does not show all of it any more."""
    found = world.cloud.instances(tuple(intent.instances.values()))
    return FleetResult("", found, ()) if len(found) == len(intent.instances) else None


def _forget_seeds(world: World, work: Errand) -> None:
    """A snapshot is gone: nobody shall launch with its seed again."""
    wanted = {
        device.get("Ebs", {}).get("SnapshotId")
        for template in work.templates
        for device in template.data.get("BlockDeviceMappings", ())
    }
    for seed in world.ledger.seeds():
        if seed.snapshot_id and seed.snapshot_id in wanted:
            world.ledger.put_seed(
                replace(seed, state=State.FAILED.value, reason="its snapshot is gone")
            )
            publish(
                world,
                "SeedRetired",
                work.decision,
                seed=seed.key,
                snapshot=seed.snapshot_id,
                reason="its snapshot is gone",
            )


def _marks(
    world: World, work: Errand, errors: tuple[FleetError, ...], state: ClusterState
) -> tuple[failure.Mark, ...]:
    node_class = state.nodeclass(work.node_class)
    marks = failure.marks(errors, work.pools, _subnets(node_class))
    if marks:
        world.ledger.mark(marks, world.clock.now())
        world.telemetry.count("InsufficientCapacity", len(marks))
    return marks


def _subnets(node_class: EC2NodeClass | None) -> tuple[Subnet, ...]:
    listed = node_class.status.subnets if node_class else ()
    return tuple(Subnet(one.id, one.zone, one.zone_id) for one in listed)


def kinds(
    work: Errand, given: Mapping[str, Instance], state: ClusterState, catalog: Catalog
) -> Mapping[str, InstanceType]:
    """Return the types of the instances *given*, with capacity as the errand's class has it."""
    node_class = state.nodeclass(work.node_class)
    facts = ClusterFacts.of(state)
    names = {instance.instance_type for instance in given.values()}
    found = ((name, catalog.get(name)) for name in sorted(names))
    return {name: derive(kind, node_class, facts) for name, kind in found if kind is not None}


def _tell_claims(
    world: World,
    work: Errand,
    given: Mapping[str, Instance],
    types: Mapping[str, InstanceType],
) -> None:
    now = world.clock.now()
    world.ledger.record_instances(given, work.decision)
    told = {}
    for claim, instance in given.items():
        kind = types.get(instance.instance_type)
        metadata: dict[str, object] = {"labels": nodeclaim.launched_labels(instance, kind)}
        if instance.subnet_id:
            metadata["annotations"] = {labels.SUBNET: instance.subnet_id}
        told[claim] = {"metadata": metadata}, status_of(work, instance, kind, now)
    world.cluster.tell_nodeclaims(told)


def status_of(
    work: Errand, instance: Instance, kind: InstanceType | None, now: datetime
) -> dict[str, object]:
    """Return the status of the NodeClaim that *instance* of *kind* was launched for."""
    told = work.max_pods.get(instance.instance_type)
    return nodeclaim.launched_status(instance, kind, told, now)


def _report(
    world: World,
    work: Errand,
    given: Mapping[str, Instance],
    unserved: tuple[str, ...],
    errors: tuple[FleetError, ...],
) -> None:
    for claim, instance in given.items():
        publish(
            world,
            "LaunchStarted",
            work.decision,
            nodeClaim=claim,
            nodePool=work.node_pool,
            instanceId=instance.id,
            instanceType=instance.instance_type,
            zone=instance.zone,
            capacityType=instance.capacity_type,
            pods=list(work.pods.get(claim, ()))[:LISTED],
        )
        world.telemetry.log(
            "launched",
            decision=work.decision,
            claim=claim,
            instance=instance.id,
            instance_type=instance.instance_type,
            zone=instance.zone,
            capacity_type=instance.capacity_type,
        )
    if unserved:
        codes = sorted({error.code for error in errors})
        report_failure(world, work.decision, work.node_pool, unserved, ", ".join(codes), work.pods)


def report_failure(
    world: World,
    decision: str,
    node_pool: str,
    claims: tuple[str, ...],
    reason: str,
    pods: Mapping[str, tuple[str, ...]],
) -> None:
    """Say that *claims* were not launched, and why."""
    world.telemetry.count("LaunchesFailed", len(claims))
    world.telemetry.log("not launched", decision=decision, claims=list(claims), reason=reason)
    publish(
        world,
        "LaunchFailed",
        decision,
        nodePool=node_pool,
        nodeClaims=list(claims[:LISTED]),
        pods=[pod for claim in claims for pod in pods.get(claim, ())][:LISTED],
        reason=reason,
    )


def _abandon(world: World, intent: Intent) -> None:
    for claim in intent.claims:
        drop_claim(world, claim)
    world.ledger.settle(replace(intent, state="failed"))
    world.telemetry.log("given up", intent=intent.client_token, claims=intent.claims)
