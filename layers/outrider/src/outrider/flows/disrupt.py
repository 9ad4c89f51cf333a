"""Voluntary disruption: decide, let it stand for a while, decide again, and only then act.

Two looks fifteen seconds apart (F138): a command is carried out when on fresh state its nodes may
still go for the same reason, and what they launch then still pays. Between the looks nobody holds
the lease, and an interruption that comes in ends the pass at once: nothing here is urgent.

A command is carried out replacements first: candidates are tainted, the replacements launched, and
each node's drain starts with their names; it evicts nobody before they are up, and puts the node
back if one of them does not come (`flows.drain`). What cannot be launched is rolled back here. A
pass that is killed half-way leaves a taint without a drain (the sweep takes it off) or a node
without pods (the next pass finds it empty).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.placement import NO_SCHEDULE
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption import moves
from outrider.core.disruption.cost import Prices
from outrider.core.disruption.decide import confirm, decide
from outrider.core.disruption.result import Command, Decision, Reason
from outrider.core.disruption.scene import Policy
from outrider.core.records import Lease, Reaction
from outrider.core.scheduling.result import Plan
from outrider.core.stateversion import VERSION
from outrider.errors import ClusterError, Gone
from outrider.flows import launch, lease, mode, podevents, report
from outrider.flows import standing as standing_wishes
from outrider.flows.decisions import decision_id, publish
from outrider.flows.planning import (
    catalog_now,
    homeless,
    patience,
    policy_of,
    report_invalid,
)
from outrider.flows.ports import World

SECOND_LOOK_SECONDS = 15.0
PATIENCE_SECONDS = 5.0
DONE: Mapping[str, Any] = {"commands": 0}
TELL_AGAIN = timedelta(minutes=30)


def disrupt(event: Mapping[str, Any], world: World) -> dict[str, Any]:
    """Decide and carry out one pass; *event* is only the tick."""
    del event
    try:
        standing = mode.acting(world)
        if not standing.disrupts:
            report.daily(world, standing)
        first = _look(world, standing)
        if first is None or not (first.decision.commands or first.surplus):
            return dict(DONE)
        if not standing.disrupts:
            _say_what_would_be(first.decision, world)
            return dict(DONE)
        world.clock.sleep(SECOND_LOOK_SECONDS)
        return {"commands": _act(first, world)}
    finally:
        world.bus.flush()


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look found: a decision, and what pools of fixed size have too much of."""

    decision: Decision
    surplus: frozenset[str]


def _look(world: World, standing: mode.Standing) -> _Look | None:
    """Return what a pass would do, and report it; None while somebody more urgent plans."""
    with lease.planning(world, wait_seconds=PATIENCE_SECONDS) as held:
        if held is None or world.ledger.flagged(lease.WAITING, world.clock.now()):
            return None
        state = world.cluster.state()
        report_invalid(world, state)
        if standing.disrupts:
            state = podevents.note(state, world)
        standing_wishes.remember(world, state)
        decision = _decide(state, world)
        _report(decision, state, world)
        return _Look(decision, standing_wishes.too_many(state, world.clock.now()))


def _act(first: _Look, world: World) -> int:
    """Carry out what a second look confirms; return how many commands that were."""
    with lease.planning(world, wait_seconds=PATIENCE_SECONDS) as held:
        if held is None:
            return 0
        state = podevents.note(world.cluster.state(), world)
        now = world.clock.now()
        catalog, until = catalog_now(world, now), patience(world)
        still = (
            *confirm(first.decision.commands, state, catalog, _policy(world), now, until),
            *standing_wishes.surplus(state, first.surplus, now),
        )
        standing_wishes.drop_claims(world, state, first.surplus)
        done = 0
        for number, command in enumerate(still):
            if world.ledger.flagged(lease.WAITING, world.clock.now()):
                world.telemetry.log("an interruption waits: the rest of the pass is left")
                break
            decision = decision_id(world.settings.cluster, "disrupt", held.token, number)
            done += _carry_out(command, decision, state, held, world)
        return done


def _decide(state: ClusterState, world: World) -> Decision:
    now = world.clock.now()
    return decide(state, catalog_now(world, now), _policy(world), now, expired=patience(world))


def _policy(world: World) -> Policy:
    settings = world.settings
    return Policy(
        plan=policy_of(world),
        minimum_saving=settings.minimum_saving,
        moves_a_day=settings.moves_a_day,
    )


def _carry_out(
    command: Command, decision: str, state: ClusterState, held: Lease, world: World
) -> bool:
    """Taint, launch, start the drains; return whether the command is under way."""
    _taint(command.nodes, world, present=True)
    replacements: tuple[str, ...] = ()
    if command.launches:
        made = Plan((), command.launches, (), "cost", "disruption")
        without = state.without(*command.nodes)
        launched = launch.launch(
            world,
            made,
            without,
            held,
            decision,
            pods=homeless(state, command.nodes),
            attempts=1 if command.reason is Reason.UNDERUTILIZED else launch.ATTEMPTS,
        )
        replacements = tuple(sorted(launched.claims))
        if launched.unserved or launched.yielded or not replacements:
            _roll_back(command, decision, world)
            return False
    for name in command.nodes:
        _start_drain(name, command, decision, replacements, state, world)
    _remember_moves(command, state, world)
    world.telemetry.count("DisruptionsDecided", Reason=command.reason)
    world.telemetry.count("SavingsPerHour", command.savings_per_hour)
    publish(
        world,
        "DisruptionDecided",
        decision,
        reason=command.reason,
        why=command.why,
        nodes=list(command.nodes),
        replacements=list(replacements),
        savingsPerHour=command.savings_per_hour,
    )
    return True


def _remember_moves(command: Command, state: ClusterState, world: World) -> None:
    """Mark the nodes that take the pods of *command*, so that these come to rest."""
    for name, text in moves.notes(state, [command], world.clock.now()).items():
        try:
            world.cluster.patch_node(name, {"metadata": {"annotations": {labels.MOVED: text}}})
        except Gone:
            world.telemetry.log("the node is gone already", node=name)


def _start_drain(
    name: str,
    command: Command,
    decision: str,
    replacements: tuple[str, ...],
    state: ClusterState,
    world: World,
) -> None:
    """Record that *name* goes and start its drain, unless it is being drained already."""
    node, claim = state.node(name), state.claim_of(name)
    if node is None:
        return
    row = Reaction(
        instance_id=node.instance_id or name,
        reason=command.reason,
        decision=decision,
        deadline=command.deadline,
        replacements=replacements,
        node=name,
        node_pool=node.node_pool,
        planned=True,
        at=world.clock.now(),
    )
    if not world.ledger.react(row):
        return
    execution = world.workflows.start(
        "drain",
        f"{decision}-{row.instance_id}-0",
        {
            "version": VERSION,
            "cluster": world.settings.cluster,
            "decision": decision,
            "node": name,
            "claim": claim.name if claim else "",
            "instanceId": node.instance_id,
            "reason": command.reason,
            "deadline": duration.stamp(command.deadline) if command.deadline else None,
            "replacements": list(replacements),
            "round": 0,
            "successor": 0,
        },
    )
    world.ledger.update_reaction(replace(row, execution=execution))
    _event(world, name, "DisruptionTerminating", f"{command.reason}: {command.why}")


def _roll_back(command: Command, decision: str, world: World) -> None:
    """Undo a command whose replacements cannot be launched: nothing was evicted for it."""
    _taint(command.nodes, world, present=False)
    world.telemetry.count("DisruptionsRolledBack")
    publish(
        world,
        "DisruptionRolledBack",
        decision,
        reason=command.reason,
        nodes=list(command.nodes),
        why="its replacements could not be launched",
    )


def _taint(nodes: Iterable[str], world: World, *, present: bool) -> None:
    for name in nodes:
        try:
            world.cluster.taint(name, labels.DISRUPTED_TAINT, NO_SCHEDULE, present=present)
        except Gone:
            world.telemetry.log("the node is gone already", node=name)


def _report(decision: Decision, state: ClusterState, world: World) -> None:
    """Count what nodes cost and what blocks them, and say the latter on each node now and then."""
    prices = Prices(world.ledger.catalog())
    for pool in state.nodepools:
        if pool.ours:
            nodes = [node for node in state.nodes if node.node_pool == pool.name]
            world.telemetry.count("PricePerHour", prices.total(nodes), NodePool=pool.name)
    for blocked in decision.blocked:
        world.telemetry.count("DisruptionBlocked", Code=blocked.code)
    slot = int(world.clock.now().timestamp() // TELL_AGAIN.total_seconds())
    if decision.blocked and world.ledger.once(f"blocked/{slot}", world.clock.now() + TELL_AGAIN):
        for blocked in decision.blocked[:100]:
            _event(world, blocked.node, "DisruptionBlocked", f"{blocked.code}: {blocked.message}")


def _say_what_would_be(decision: Decision, world: World) -> None:
    for command in decision.commands:
        world.telemetry.log(
            "would disrupt",
            cause=command.reason,
            nodes=list(command.nodes),
            savings=command.savings_per_hour,
        )


def _event(world: World, node: str, reason: str, message: str) -> None:
    """Write an Event on a node; one that cannot be written stops nothing."""
    involved = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node}
    try:
        world.cluster.event(involved, reason, message)
    except ClusterError as error:
        world.telemetry.log("event not written", problem=str(error))
