"""A node is about to be taken away: its replacement first, then its pods, then the rest.

    read the messages -> whose instances are these -> (under the lease) react -> mark, record,
    start the drains -> plan as if the nodes were gone -> launch -> tell the drains who replaces
    them

Most Spot events in an account are other clusters' nodes: ids are looked up in the ledger, all at
once, before the cluster is read. What cannot be read, is foreign or repeats what runs is counted
by reason and acknowledged; what fails comes again, alone.

A wave of warnings is many invocations and one lease: each starts its drains without it, and the one
that plans next plans for all.

The drain starts before the plan is made, because the deadline does not wait for a planner: the
node is cordoned while the plan is being made, and the drain's own deadline holds if this function
dies here. One row a node in the ledger makes it repeatable: who finds a row that is planned is a
repeat, who finds one that is not takes the work up. A later signal may bring a running drain's
deadline forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from outrider.apis import duration
from outrider.apis.pod import Pod
from outrider.apis.signals import (
    BlockExpiry,
    Rebalance,
    ReservationInterruption,
    Signal,
    SpotInterruption,
    StateChange,
    Unknown,
)
from outrider.apis.signals import parse as parse_signal
from outrider.core.clusterstate import ClusterState
from outrider.core.interruption import Action, NodeReaction, Policy, Pool, react
from outrider.core.records import Lease, Reaction
from outrider.core.scheduling.plan import pending, plan
from outrider.core.stateversion import VERSION
from outrider.errors import ClusterError, Gone, OutriderError
from outrider.flows import decisions, launch, lease, mode
from outrider.flows.decisions import decision_id, publish_once
from outrider.flows.planning import catalog_now, homeless, patience, policy_of, report_invalid
from outrider.flows.ports import World

PATIENCE_SECONDS = 8.0
LOOKS = 2
COOLDOWN = timedelta(minutes=10)
HURRIED = (SpotInterruption, ReservationInterruption, StateChange)
WARNED = {
    "SpotInterruption": "SpotInterrupted",
    "ReservationInterruption": "CapacityReservationInstanceInterrupted",
    "Rebalance": "SpotRebalanceRecommendation",
    "StateChange": "InstanceTerminating",
    "InstanceImpaired": "InstanceUnhealthy",
}

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One signal and the queue message that brought it, if one did."""

    signal: Signal
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A node whose reaction is this invocation's to carry out."""

    reaction: NodeReaction
    row: Reaction


def interrupt(event: Mapping[str, Any], world: World) -> Answer:
    """Answer the signals in *event*; say which messages of a batch must come again."""
    arrivals = _arrivals(event)
    try:
        concern = _concerning_us(arrivals, world)
        failed = handle([arrival.signal for arrival in concern], world) if concern else ()
    finally:
        decisions.flush(world)
    again = [
        {"itemIdentifier": arrival.message_id}
        for arrival in arrivals
        if arrival.message_id and set(arrival.signal.instance_ids) & set(failed)
    ]
    return {"batchItemFailures": again}


def handle(signals: Sequence[Signal], world: World) -> tuple[str, ...]:
    """React to *signals* about our instances; return the instances that must be tried again.

    Where another planner holds the lease, what has a deadline does not wait for it: the drains
    start at once, and whoever plans first plans for all that were recorded by then.
    """
    hurried = all(isinstance(signal, HURRIED) for signal in signals)
    with lease.urgent(world, wait_seconds=0.0 if hurried else PATIENCE_SECONDS) as held:
        taken, failed, state = _record(signals, world)
        if taken and (held is not None or not hurried):
            _replace(taken, state, held, world)
            return failed
    if not taken:
        return failed
    with lease.urgent(world, wait_seconds=PATIENCE_SECONDS) as held:
        left = [one for one in taken if not _is_planned(one, world)]
        if left:
            _replace(left, world.cluster.state(), held, world)
    return failed


def _record(
    signals: Sequence[Signal], world: World
) -> tuple[list[Taken], tuple[str, ...], ClusterState]:
    """Do all that needs no plan; return whose pods need one, and the instances that failed."""
    state = world.cluster.state()
    report_invalid(world, state)
    standing = mode.acting(world)
    reactions = _reactions(signals, state, world)
    if not standing.launches:
        for reaction in reactions:
            world.telemetry.log("would react", why=standing.reason, **_said(reaction))
        return [], (), state
    taken, failed = _act(reactions, state, world)
    return taken, failed, state


def _is_planned(one: Taken, world: World) -> bool:
    row = world.ledger.reaction(one.row.instance_id)
    return row is not None and row.planned


def _arrivals(event: Mapping[str, Any]) -> tuple[Arrival, ...]:
    """Return what a queue's batch, or a rule's direct call, brings."""
    records = event.get("Records")
    if not isinstance(records, Sequence):
        return (Arrival(parse_signal(event)),)
    return tuple(
        Arrival(parse_signal(str(record.get("body", ""))), str(record.get("messageId", "")))
        for record in records
    )


def _concerning_us(arrivals: Iterable[Arrival], world: World) -> tuple[Arrival, ...]:
    """Return the arrivals that speak of instances of ours; count the others by reason."""
    speaking = []
    for arrival in arrivals:
        signal = arrival.signal
        world.telemetry.count("SignalsReceived", Kind=signal.kind)
        if isinstance(signal, Unknown):
            _ignore(world, signal.reason, problem=signal.problem)
        elif signal.instance_ids or isinstance(signal, BlockExpiry):
            speaking.append(arrival)
        else:
            _ignore(world, "NoInstance", kind=signal.kind)
    ids = [found for arrival in speaking for found in arrival.signal.instance_ids]
    ours = world.ledger.ours(ids) if ids else {}
    concern = []
    for arrival in speaking:
        if isinstance(arrival.signal, BlockExpiry) or set(arrival.signal.instance_ids) & set(ours):
            concern.append(arrival)
        else:
            _ignore(world, "Foreign", kind=arrival.signal.kind)
    return tuple(concern)


def _reactions(
    signals: Iterable[Signal], state: ClusterState, world: World
) -> tuple[NodeReaction, ...]:
    """Return what to do, one reaction a node and the most urgent one of it."""
    now = world.clock.now()
    policy = Policy(region=world.settings.region, account=_account(world))
    running = {row.node: row for row in world.ledger.reactions() if not row.cancelled}
    moving = {name for name in running if name}
    urgent: dict[str, NodeReaction] = {}
    for signal in signals:
        cooling = _cooling(signal, world, now) if isinstance(signal, Rebalance) else ()
        for reaction in react(signal, state, policy, now, moving=moving, cooling=cooling):
            if reaction.node == "" and reaction.claim == "":
                _ignore(world, "UnknownInstance", **_said(reaction))
                continue
            if reaction.action is Action.DEFER:
                world.ledger.defer(reaction.instance_id, now)
            if reaction.action in {Action.IGNORE, Action.DEFER}:
                _ignore(world, reaction.code, **_said(reaction))
                continue
            if reaction.node:
                moving.add(reaction.node)
            known = urgent.get(reaction.instance_id)
            if known is None or _urgency(reaction) < _urgency(known):
                urgent[reaction.instance_id] = reaction
    return tuple(urgent[instance_id] for instance_id in sorted(urgent))


def _account(world: World) -> str:
    """Return the account that this stack is in, as its nodes' roles say; "" where none is named."""
    named = (arn.split(":")[4:5] for arn in world.settings.node_role_arns)
    return next((account for found in named for account in found if account.isdigit()), "")


def _cooling(signal: Rebalance, world: World, now: datetime) -> tuple[str, ...]:
    """Return the instances of *signal* whose last move was called off a moment ago."""
    rows = (world.ledger.reaction(instance_id) for instance_id in signal.instance_ids)
    return tuple(
        row.instance_id
        for row in rows
        if row
        and row.cancelled
        and row.reason == signal.kind
        and row.at
        and now - row.at < COOLDOWN
    )


def _act(
    reactions: Sequence[NodeReaction], state: ClusterState, world: World
) -> tuple[list[Taken], tuple[str, ...]]:
    """Carry out *reactions* but for the plan; return whom to plan for, and who failed."""
    now = world.clock.now()
    shut = sorted({pool for reaction in reactions for pool in reaction.shut})
    if shut:
        world.ledger.mark(shut, now)
    taken: list[Taken] = []
    failed: list[str] = []
    for reaction in reactions:
        try:
            if reaction.action is Action.CANCEL:
                _cancel(reaction, world)
            elif reaction.action is Action.CORDON:
                world.cluster.patch_node(reaction.node, {"spec": {"unschedulable": True}})
                _warn(reaction, state, world)
            elif (row := _take(reaction, now, world)) is not None:
                taken.append(Taken(reaction, row))
                _warn(reaction, state, world)
        except Gone:
            _ignore(world, "NodeGone", **_said(reaction))
        except OutriderError as error:
            world.telemetry.log("reaction failed", problem=str(error), **_said(reaction))
            failed.append(reaction.instance_id)
    return taken, tuple(failed)


def _take(reaction: NodeReaction, now: datetime, world: World) -> Reaction | None:
    """Record *reaction* and start its drain; None where that is done already.

    A row that was never planned is taken up again; one with a later deadline is brought forward,
    its replacements kept.
    """
    before = world.ledger.reaction(reaction.instance_id)
    running = before if before is not None and not (before.ended or before.cancelled) else None
    row = Reaction(
        instance_id=reaction.instance_id,
        reason=reaction.kind,
        decision=running.decision
        if running
        else decision_id(world.settings.cluster, reaction.instance_id, reaction.kind, now),
        deadline=reaction.deadline,
        replacements=running.replacements if running else (),
        node=reaction.node,
        node_pool=reaction.node_pool,
        planned=running.planned if running else False,
        at=running.at if running else now,
    )
    if not world.ledger.react(row):
        standing = world.ledger.reaction(reaction.instance_id)
        if standing is None or standing.planned:
            _ignore(world, "Repeat", **_said(reaction))
            return None
        row = standing
    execution = _start_drain(reaction, row, world)
    row = replace(row, execution=execution)
    world.ledger.update_reaction(row)
    _announce(reaction, row, world)
    return None if row.planned else row


def _start_drain(reaction: NodeReaction, row: Reaction, world: World) -> str:
    """Start the drain of *row*; a nearer deadline starts another beside the one that runs.

    Both work from the same row, so the new one only looks more often.
    """
    deadline = duration.stamp(row.deadline) if row.deadline else None
    until = int(row.deadline.timestamp()) if row.deadline else 0
    return world.workflows.start(
        "drain",
        f"{row.decision}-{row.instance_id}-{until}",
        {
            "version": VERSION,
            "cluster": world.settings.cluster,
            "decision": row.decision,
            "node": reaction.node,
            "claim": reaction.claim,
            "instanceId": row.instance_id,
            "reason": row.reason,
            "deadline": deadline,
            "replacements": [],
            "round": 0,
            "successor": 0,
        },
    )


def _replace(taken: Sequence[Taken], state: ClusterState, held: Lease | None, world: World) -> None:
    """Plan as if the nodes of *taken* were gone, launch, and tell the drains who replaces them.

    Nodes that others recorded and had no lease to plan for are planned for as well. Without the
    lease nobody may launch: the pods of leaving nodes are the next reconcile's, which is woken at
    once.
    """
    now = world.clock.now()
    if held is None:
        world.ledger.flag(lease.LEAVING, now + lease.FLAG_SPAN)
        world.bus.hint(world.settings.cluster)
        return
    decision = decision_id(world.settings.cluster, "replace", held.token)
    taken = (*taken, *_others(taken, state, world))
    names = [one.reaction.node or one.reaction.claim for one in taken]
    joining: dict[str, str] = {}
    launched = launch.Launched(yielded=True)
    for _ in range(LOOKS):
        after = state.without(*names)
        pods = (*_homeless(taken, state, now), *pending(after, now))
        avoided = _avoided(taken, now)
        made = plan(
            after,
            pods,
            catalog_now(world, now).without(avoided),
            policy_of(world),
            now,
            expired=patience(world),
        )
        joining = {
            placement.pod: placement.node
            for placement in made.placements
            if after.node(placement.node) is None
        }
        launched = launch.launch(world, made, after, held, decision, pods=pods, avoided=avoided)
        if launched.claims or not launched.yielded:
            break
        state = world.cluster.state()  # what an earlier invocation left undone changed the ground
    if launched.yielded:
        world.bus.hint(world.settings.cluster)
    for one in taken:
        moved = {pod.key for pod in state.pods_on(one.reaction.node)}
        claims = {name for name, pods_of in launched.claims.items() if moved & set(pods_of)}
        claims |= {node for pod, node in joining.items() if pod in moved}
        known = world.ledger.reaction(one.row.instance_id) or one.row  # its drain may be noted now
        row = replace(known, replacements=tuple(sorted(claims)), planned=True)
        _report_replacement(one, row, world)  # owed before the row says that all is done
        world.ledger.update_reaction(row)


def _others(taken: Iterable[Taken], state: ClusterState, world: World) -> Iterator[Taken]:
    """Yield the nodes with a deadline that others recorded and nobody has planned for yet.

    One whose drain was not started is left to its own message, which comes again and starts it.
    """
    mine = {one.row.instance_id for one in taken}
    for row in world.ledger.reactions():
        waits = row.execution and not (row.planned or row.cancelled) and row.deadline is not None
        claim = state.claim_of(row.node)
        if waits and row.instance_id not in mine and state.node(row.node) is not None:
            reaction = NodeReaction(
                row.instance_id,
                Action.DRAIN,
                row.reason,
                f"{row.reason}, planned together with others",
                node=row.node,
                claim=claim.name if claim else "",
                node_pool=row.node_pool,
                deadline=row.deadline,
                noticed=row.at,
            )
            yield Taken(reaction, row)


def _homeless(taken: Iterable[Taken], state: ClusterState, now: datetime) -> tuple[Pod, ...]:
    """Return the pods that need another place: all of them where a deadline forces them out."""
    doomed = [one.reaction.node for one in taken if one.row.deadline is not None]
    patient = [one.reaction.node for one in taken if one.row.deadline is None]
    return homeless(state, doomed) + homeless(state, patient, held_since=now)


def _avoided(taken: Iterable[Taken], now: datetime) -> Mapping[Pool, datetime]:
    """Return the pools that this plan should not buy from again."""
    return {pool: now for one in taken for pool in (*one.reaction.shut, *one.reaction.avoid)}


def _cancel(reaction: NodeReaction, world: World) -> None:
    """Call off the drain that a scheduled change began."""
    row = world.ledger.reaction(reaction.instance_id)
    if row is None or row.ended or row.reason != reaction.kind:
        _ignore(world, "NothingToCancel", **_said(reaction))
        return
    world.ledger.update_reaction(replace(row, cancelled=True))
    world.telemetry.log("called off", **_said(reaction))


def _announce(reaction: NodeReaction, row: Reaction, world: World) -> None:
    """Publish that a node is interrupted, once for each kind of notice."""
    deadline = duration.stamp(row.deadline) if row.deadline else None
    said = {**_said(reaction), "kind": row.reason, "deadline": deadline}
    key = f"{row.decision}/interrupted/{row.reason}"
    if publish_once(world, row.instance_id, key, "NodeInterrupted", row.decision, **said):
        world.telemetry.count("NodesInterrupted", Reason=row.reason)


def _report_replacement(one: Taken, row: Reaction, world: World) -> None:
    """Publish that the replacement of a node is on its way, once an interruption."""
    if not row.replacements:
        return
    said = {**_said(one.reaction), "kind": row.reason, "replacements": list(row.replacements)}
    key = f"{row.decision}/replaced"
    told = publish_once(world, row.instance_id, key, "ReplacementLaunched", row.decision, **said)
    if told and one.reaction.noticed is not None:
        seconds = (world.clock.now() - one.reaction.noticed).total_seconds()
        world.telemetry.count("NoticeToReplacementSeconds", max(0.0, seconds))


def _warn(reaction: NodeReaction, state: ClusterState, world: World) -> None:
    """Write an Event on the node; one that cannot be written stops nothing."""
    node = state.node(reaction.node) if reaction.node else None
    if node is None:
        return
    involved = {"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.name}
    reason = WARNED.get(reaction.kind, "TerminatingOnInterruption")
    try:
        world.cluster.event(involved, reason, reaction.reason, warning=True)
    except ClusterError as error:
        world.telemetry.log("event not written", problem=str(error))


def _ignore(world: World, why: str, **fields: Any) -> None:
    world.telemetry.count("SignalsIgnored", Reason=why)
    world.telemetry.log("signal ignored", why=why, **fields)


def _said(reaction: NodeReaction) -> dict[str, Any]:
    return {
        "instanceId": reaction.instance_id,
        "node": reaction.node,
        "nodeClaim": reaction.claim,
        "nodePool": reaction.node_pool,
        "kind": reaction.kind,
        "reason": reaction.reason,
    }


def _urgency(reaction: NodeReaction) -> tuple[bool, float]:
    """Return a key by which the reaction with the nearest deadline comes first."""
    if reaction.action is not Action.DRAIN:
        return True, float("inf")
    return False, reaction.deadline.timestamp() if reaction.deadline else float("inf")
