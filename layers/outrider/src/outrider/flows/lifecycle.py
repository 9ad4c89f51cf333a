"""Nodes on their way in, and whatever is left lying about: one look at all of it, then what is due.

Three things call: a launch's join watch (every five seconds until its nodes serve), an instance
that begins to run (which sees to it that there is a watch), and the minute tick, which is the
safety net and also collects what nobody stands for. The verdicts are `core.lifecycle`'s; how nodes
are opened that have joined is `flows.joining`'s.

Refuses to plan: pods of a node that leaves are the provisioner's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.node import Node
from outrider.apis.nodeclaim import INITIALIZED, NodeClaim
from outrider.core import joining
from outrider.core.clusterstate import ClusterState
from outrider.core.joining import Arrival
from outrider.core.launch import nodeclaim
from outrider.core.lifecycle import Due, Limits, Stage, Verdict, judge, orphans, release_order
from outrider.core.promises import planned_pods
from outrider.core.records import Instance, Reaction
from outrider.core.stateversion import VERSION
from outrider.errors import ClusterError, Gone, NotFound, OutriderError
from outrider.flows import adoption, claims, decisions, errands, mode, pools, sweep
from outrider.flows import joining as arrivals
from outrider.flows.decisions import decision_id, publish
from outrider.flows.ports import World

JOIN_LOOK_SECONDS = 5
UNFINISHED = timedelta(seconds=60)  # younger errands are somebody's who is still at it
TEMPLATE_AGE = timedelta(days=7)
HALF_AN_HOUR = timedelta(minutes=30)
DRAIN_ENDED = "Step Functions Execution Status Change"
MOST_SUCCESSORS = 5
ENDS = frozenset({Due.GIVE_UP, Due.DRAIN, Due.TERMINATE, Due.CLEAR})

Answer = dict[str, Any]


def lifecycle(event: Mapping[str, Any], world: World) -> Answer:
    """Judge what *event* points at: joining NodeClaims of a watch, or everything at a tick."""
    try:
        if "Records" in event:
            return _watched(event["Records"], world)
        if event.get("detail-type") == DRAIN_ENDED:
            _resume_drain(event.get("detail") or {}, world)
            return {}
        if event.get("source") == "aws.ec2":
            return _instance_runs(event, world)
        return _sweep(world)
    finally:
        decisions.flush(world)


# --- who calls ------------------------------------------------------------------------------------


def _watched(records: Iterable[Mapping[str, Any]], world: World) -> Answer:
    """Look at the NodeClaims that join messages name; look again while they are on their way."""
    wanted: set[str] = set()
    for record in records:
        wanted |= _claims_in(str(record.get("body", "")))
    if wanted:
        state = world.cluster.machines()
        ending = mode.acting(world).launches
        verdicts = _attend(world, state, joining.with_siblings(wanted, state), ending=ending)
        mine = [claim for claim in state.nodeclaims if claim.name in wanted]
        near = joining.near(mine, state, arrivals.hold(world, mine, state))
        still = {verdict.claim for verdict in verdicts if verdict.joining} & wanted
        _watch(world, sorted(still | near), soon=bool(near))
    return {"batchItemFailures": []}


def _instance_runs(event: Mapping[str, Any], world: World) -> Answer:
    """An instance of ours begins to run: its NodeClaim is watched from now on.

    Its node needs seconds yet, so there is nothing to see, and a hundred launches would be a
    hundred looks at everything; messages of one queue become one look.
    """
    instance_id = str((event.get("detail") or {}).get("instance-id", ""))
    known = world.ledger.ours([instance_id]) if instance_id else {}
    names = sorted({str(row["claim"]) for row in known.values()})
    _watch(world, names)
    return {"ours": bool(names)}


def _watch(world: World, names: Sequence[str], *, soon: bool = False) -> None:
    """Look at the claims of *names* at the next full five seconds, when every other watch looks as
    well; *soon*, as quickly as the queue hands messages on, where a node opens or fills.
    """
    past = int(world.clock.now().timestamp()) % JOIN_LOOK_SECONDS
    world.workflows.watch_join(names, 0 if soon else JOIN_LOOK_SECONDS - past)


def _sweep(world: World) -> Answer:
    """The minute tick: unfinished errands, every NodeClaim, orphans, NodePools' status."""
    state = world.cluster.machines()
    _report_catalog_age(world)
    if not mode.acting(world).launches:
        pools.report(world, state)
        return {"acting": False}
    _finish_errands(world, state)
    instances = world.cloud.instances()
    adoption.adopt(world, state, instances)
    verdicts = _attend(world, state, None, instances)
    opening = joining.near(state.nodeclaims, state, set())
    if opening:  # one NodePool opens at a look, and whoever watched them may have died
        _watch(world, sorted(opening), soon=True)
    _collect(world, state, instances)
    pools.report(world, state)
    slot = int(world.clock.now().timestamp() // HALF_AN_HOUR.total_seconds())
    if world.ledger.once(f"templates/{slot}", world.clock.now() + HALF_AN_HOUR):
        world.cloud.sweep_templates(TEMPLATE_AGE)
    sweep.sweep(world)
    return {"acting": True, "joining": sum(verdict.joining for verdict in verdicts)}


def _claims_in(body: str) -> set[str]:
    try:
        document = json.loads(body)
    except ValueError:
        return set()
    claims = document.get("claims") if isinstance(document, dict) else None
    return {str(name) for name in claims} if isinstance(claims, list) else set()


# --- what is due ----------------------------------------------------------------------------------


def _attend(
    world: World,
    state: ClusterState,
    wanted: set[str] | None,
    known: Iterable[Instance] = (),
    *,
    ending: bool = True,
) -> list[Verdict]:
    """Judge the *wanted* NodeClaims (all where None) and do what is due for each.

    Instances that are not *known* yet are looked up by id: their tags may be late. Unless *ending*,
    nodes are only let in: whoever else is live in the cluster ends what has to end.
    """
    now = world.clock.now()
    judged = [one for one in state.nodeclaims if wanted is None or one.name in wanted]
    instances = {one.id: one for one in known}
    ids = [
        one.instance_id
        for one in judged
        if one.status.provider_id and one.instance_id not in instances
    ]
    if ids:
        instances |= {one.id: one for one in world.cloud.instances(ids)}
    settings = world.settings
    limits = Limits(
        timedelta(seconds=settings.launch_timeout_seconds),
        timedelta(seconds=settings.registration_timeout_seconds),
        timedelta(seconds=settings.initialization_timeout_seconds),
    )
    verdicts = {
        one.name: judge(
            one,
            state.node_of(one),
            instances.get(one.instance_id),
            now,
            limits,
            pool_exists=state.nodepool(one.node_pool) is not None,
        )
        for one in judged
        if _ours(one)
    }
    late = sum(
        one.stage is Stage.INITIALIZING and one.due is Due.GIVE_UP for one in verdicts.values()
    )
    world.telemetry.count("ClaimsNotInitialized", late)
    arrived = [
        Arrival(one, node)
        for one in judged
        if one.name in verdicts
        and verdicts[one.name].due is Due.REGISTER
        and (node := state.node_of(one)) is not None
    ]
    arrivals.receive(world, arrived, state, instances)
    for name in _order(judged, verdicts, state):
        claim = state.nodeclaim(name)
        if claim is None or (verdicts[name].due in ENDS and not ending):
            continue
        try:
            _do(world, verdicts[name], claim, state, instances.get(claim.instance_id))
        except Gone:
            world.telemetry.log("gone meanwhile", claim=name)
        except ClusterError as error:
            world.telemetry.log("tried again later", claim=name, problem=str(error))
    return list(verdicts.values())


def _ours(claim: NodeClaim) -> bool:
    return claim.spec.node_class_ref.group == labels.NODECLASS_GROUP


def _order(
    claims: Iterable[NodeClaim], verdicts: Mapping[str, Verdict], state: ClusterState
) -> list[str]:
    rooms = {}
    for claim in claims:
        if claim.name in verdicts and verdicts[claim.name].due is not Due.NOTHING:
            node = state.node_of(claim)
            rooms[claim.name] = node.allocatable if node else {}
    return list(release_order(rooms))


def _do(
    world: World,
    verdict: Verdict,
    claim: NodeClaim,
    state: ClusterState,
    instance: Instance | None,
) -> None:
    node = state.node_of(claim)
    world.telemetry.log(
        "nodeclaim", claim=claim.name, stage=verdict.stage, due=verdict.due, reason=verdict.reason
    )
    if verdict.due is Due.INITIALIZE and node is not None:
        _initialize(world, claim, node)
    elif verdict.due is Due.GIVE_UP:
        _give_up(world, verdict, claim, node, instance)
    elif verdict.due is Due.DRAIN and node is not None:
        _drain(world, claim, node, verdict.reason)
    elif verdict.due is Due.TERMINATE:
        _terminate(world, claim, verdict.reason)
    elif verdict.due is Due.CLEAR:
        _clear(world, claim, node, verdict.reason)


def _initialize(world: World, claim: NodeClaim, node: Node) -> None:
    world.cluster.patch_node(node.name, {"metadata": {"labels": {labels.INITIALIZED: "true"}}})
    claims.set_conditions(
        world,
        claim,
        {INITIALIZED: (True, INITIALIZED, ""), nodeclaim.READY: (True, nodeclaim.READY, "")},
        {},
    )
    seconds = (world.clock.now() - claims.launched_at(claim, world.clock.now())).total_seconds()
    world.telemetry.count("NodeInitializedSeconds", seconds, NodePool=claim.node_pool)
    claims.publish(world, "NodeInitialized", claim, node, seconds=seconds)


def _give_up(
    world: World,
    verdict: Verdict,
    claim: NodeClaim,
    node: Node | None,
    instance: Instance | None,
) -> None:
    """Delete a NodeClaim that did not come up in time; what it has is taken down at once."""
    world.cluster.event(claims.involved(claim), "Disrupted", verdict.reason, warning=True)
    errands.report_failure(
        world,
        claims.decision_of(claim),
        claim.node_pool,
        (claim.name,),
        verdict.reason,
        {claim.name: planned_pods(claim.metadata.annotations)},
    )
    world.cluster.delete_nodeclaim(claim.name)
    if node is not None and instance is not None:
        _drain(world, claim, node, verdict.reason)
    else:
        _terminate(world, claim, verdict.reason)


def _drain(world: World, claim: NodeClaim, node: Node, reason: str) -> None:
    """Start the drain of a node that was deleted, unless one runs for it."""
    deadline = _deadline(claim, node, world.clock.now())
    decision = decision_id(world.settings.cluster, "leave", claim.instance_id)
    row = Reaction(
        instance_id=claim.instance_id,
        reason="Deleted",
        decision=decision,
        deadline=deadline,
        node=node.name,
        node_pool=claim.node_pool,
        planned=True,
        at=world.clock.now(),
    )
    if not world.ledger.react(row):
        return
    until = int(deadline.timestamp()) if deadline else 0
    execution = world.workflows.start(
        "drain",
        f"{decision}-{claim.instance_id}-{until}",
        {
            "version": VERSION,
            "cluster": world.settings.cluster,
            "decision": decision,
            "node": node.name,
            "claim": claim.name,
            "instanceId": claim.instance_id,
            "reason": "Deleted",
            "deadline": duration.stamp(deadline) if deadline else None,
            "replacements": [],
            "round": 0,
            "successor": 0,
        },
    )
    world.ledger.update_reaction(replace(row, execution=execution))
    world.telemetry.log("drain started", claim=claim.name, node=node.name, reason=reason)


def _terminate(world: World, claim: NodeClaim, reason: str) -> None:
    if claim.status.provider_id:
        world.cloud.terminate([claim.instance_id])
    _let_go(world, claim, reason)


def _clear(world: World, claim: NodeClaim, node: Node | None, reason: str) -> None:
    """Remove what is left of a node whose instance is gone, unless its drain is at it."""
    row = world.ledger.reaction(claim.instance_id) if claim.status.provider_id else None
    running = row is not None and not row.ended and not row.cancelled
    if running and row is not None and row.at and world.clock.now() - row.at < HALF_AN_HOUR:
        return
    if node is not None:
        world.cluster.delete_node(node.name)
    _let_go(world, claim, reason)


def _let_go(world: World, claim: NodeClaim, reason: str) -> None:
    errands.drop_claim(world, claim.name)
    if claim.status.provider_id:
        world.ledger.forget_instance(claim.instance_id)
        world.telemetry.count("NodesTerminated", Reason="NotServing")
        claims.publish(world, "NodeTerminated", claim, None, reason=reason)


# --- what nobody stands for -----------------------------------------------------------------------


def _finish_errands(world: World, state: ClusterState) -> None:
    try:
        catalog = world.ledger.catalog()
    except NotFound:
        return
    errands.recover(world, state, catalog, older_than=UNFINISHED)


def _collect(world: World, state: ClusterState, instances: Iterable[Instance]) -> None:
    """Terminate instances and delete Nodes that no NodeClaim stands for."""
    now = world.clock.now()
    promised = [
        intent.decision
        for intent in world.ledger.intents(since=now - errands.TOO_OLD, unfinished=True)
        if intent.state == "intended"
    ]
    for orphan in orphans(state, instances, now, promised=promised):
        world.telemetry.log(
            "orphan", instance=orphan.instance_id, node=orphan.node, reason=orphan.reason
        )
        if orphan.instance_id:
            world.cloud.terminate([orphan.instance_id])
            world.ledger.forget_instance(orphan.instance_id)
            world.telemetry.count("InstancesOrphaned")
        if orphan.node:
            world.cluster.delete_node(orphan.node)
        publish(
            world,
            "NodeTerminated",
            decision_id(world.settings.cluster, "orphan", orphan.instance_id or orphan.node),
            node=orphan.node,
            instanceId=orphan.instance_id,
            reason=orphan.reason,
        )


def _resume_drain(detail: Mapping[str, Any], world: World) -> None:
    """A drain's execution broke off: start a successor, unless its work is done.

    After a few in a row it is the sweep's, which tries again every few minutes.
    """
    given = _input_of(detail)
    instance_id = given.get("instanceId")
    row = world.ledger.reaction(str(instance_id)) if instance_id else None
    if row is None or row.ended or row.cancelled:
        return
    successor = int(given.get("successor") or 0) + 1
    if successor > MOST_SUCCESSORS:
        world.telemetry.log("drain left to the sweep", instance=instance_id, successors=successor)
        world.ledger.update_reaction(replace(row, execution=""))
        return
    name = f"{detail.get('name', instance_id)}"[:70]
    world.workflows.start("drain", f"{name}-s{successor}", {**given, "successor": successor})


def _input_of(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an execution was started with; empty where it does not say."""
    try:
        given = json.loads(str(detail.get("input") or "{}"))
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def _report_catalog_age(world: World) -> None:
    try:
        as_of = world.ledger.catalog().as_of
    except OutriderError:
        return
    if as_of is not None:
        age = (world.clock.now() - as_of).total_seconds()
        world.telemetry.count("CatalogAgeSeconds", max(0.0, age))


# --- small things ---------------------------------------------------------------------------------


def _deadline(claim: NodeClaim, node: Node, now: datetime) -> datetime | None:
    grace = claim.spec.termination_grace_period
    if grace is None:
        return None
    return (claim.metadata.deletion_timestamp or node.deleted or now) + duration.parse(grace)
