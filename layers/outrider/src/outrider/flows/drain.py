"""A drain, step by step: what the state machine calls, each step short, repeatable and resumable.

    cordon -> await (until the replacements are up, or must not be waited for) -> round* ->
    terminate* -> finish

The state machine keeps time and carries what a step returns to the next one; everything else is
read anew each time: the node, its pods, and the ledger's row of the reaction, in which a later
signal may have brought the deadline forward or called the whole thing off. A step that is killed
is called again; nothing is done twice that matters: evictions name the pod's uid, and every message
about the node is owed before the deed and struck off once sent, so that the next step sends what a
step that died could not.

Calling off: a voluntary drain, or one without a deadline, whose replacement does not come up, and a
scheduled change that AWS closes. Nothing was evicted for it then; the node gets its pods back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.nodeclaim import INITIALIZED
from outrider.apis.placement import NO_SCHEDULE
from outrider.core import stateversion
from outrider.core.clusterstate import ClusterState
from outrider.core.eviction import Departure, Drain, Round, must_begin, next_round
from outrider.core.protection import drainable
from outrider.core.records import Reaction
from outrider.errors import Blocked, ClusterError, Gone
from outrider.flows import decisions
from outrider.flows.decisions import LISTED, publish_once
from outrider.flows.lease import LEAVING
from outrider.flows.ports import World

Answer = dict[str, Any]

PLANNING_SPAN = timedelta(seconds=30)  # how long a drain believes that somebody plans for it
LEAVING_SPAN = timedelta(minutes=2)
DELETED = "Deleted"  # somebody deleted the Node or its NodeClaim (flows.lifecycle)
LONG = timedelta(days=1)
FRESH = timedelta(seconds=15)  # so long is what is owed its writer's to send
EVICTED = "evicted"
NOTICE = timedelta(seconds=30)  # a shorter one leaves no time that a drain could overrun
GONE = frozenset({"terminated"})
ENDING = frozenset({"shutting-down", "terminated"})
JOIN_POLL_SECONDS = 2
CALM_JOIN_POLL_SECONDS = 5
TERMINATE_POLL_SECONDS = 3


class Standing(StrEnum):
    """How the replacements of a node stand."""

    UP = "up"
    COMING = "coming"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Task:
    """One drain, as the state machine carries it, brought up to date from the ledger."""

    decision: str
    node: str
    claim: str
    instance_id: str
    reason: str
    begun: datetime
    deadline: datetime | None
    replacements: tuple[str, ...]
    number: int
    row: Reaction | None

    @property
    def cancelled(self) -> bool:
        """Return whether the drain was called off."""
        return self.row is not None and self.row.cancelled

    @property
    def about(self) -> str:
        """Return what the drain's messages are owed about."""
        return self.instance_id or self.node

    @property
    def names(self) -> dict[str, Any]:
        """Return the objects' names, for what is published."""
        return {
            "node": self.node,
            "nodeClaim": self.claim,
            "instanceId": self.instance_id,
            "reason": self.reason,
        }


def step(event: Mapping[str, Any], world: World) -> Answer:
    """Run the step that *event* names and return what changed."""
    stateversion.check(event.get("version"), f"the drain of {event['node'] or event['claim']}")
    task = _task(event, world)
    try:
        if task.node == event["node"]:
            return _STEPS[event["step"]](task, world)
        _keep_off(task, world)  # it joined after the drain had begun
        return {**_STEPS[event["step"]](task, world), "node": task.node}
    finally:
        decisions.flush(world)


def cordon(task: Task, world: World) -> Answer:
    """Keep new pods and load balancers off the node, at once.

    A successor begins here as well. The row of a drain that takes days is written again then, so
    that it outlives the drain; a fresh one is still being written by whoever began it.
    """
    row = task.row
    if row is not None and not row.ended and row.at and world.clock.now() - row.at > LONG:
        world.ledger.update_reaction(row)
    if not task.cancelled and task.node:
        _keep_off(task, world)
    unplanned = task.row is not None and not task.row.planned
    if unplanned or task.reason == DELETED:  # nobody planned for its pods: the reconcile does
        world.ledger.flag(LEAVING, world.clock.now() + LEAVING_SPAN)
    return {"begun": duration.stamp(task.begun)}


def wait_for_replacements(task: Task, world: World) -> Answer:
    """Say whether to begin evicting, or how long to wait for the replacements to be up."""
    if task.cancelled:
        return {"ready": True, "wait": 0}
    now = world.clock.now()
    state = world.cluster.node_state(task.node, task.replacements)
    standing = _replacements(task, state, now)
    if standing is Standing.LOST and task.deadline is None:
        _call_off(task, world, "its replacement did not come up")
        return {"ready": True, "wait": 0}
    if standing is not Standing.COMING:
        return {"ready": True, "wait": 0}
    if task.deadline is not None and _cannot_wait(task, state, now):
        return {"ready": True, "wait": 0}
    hurried = task.deadline is not None
    return {"ready": False, "wait": JOIN_POLL_SECONDS if hurried else CALM_JOIN_POLL_SECONDS}


def evict(task: Task, world: World) -> Answer:
    """Run one Round of evictions and say when the next one is due."""
    number = task.number + 1
    if task.cancelled:
        return {"done": True, "wait": 0, "round": number}
    now = world.clock.now()
    state = world.cluster.node_state(task.node, task.replacements)
    _make_good(task, state, world, older_than=FRESH)
    replaced = _replacements(task, state, now) is not Standing.COMING
    drain = Drain(task.node, task.begun, task.deadline, task.number, replaced)
    decided = next_round(state, drain, now)
    for departure in decided.departures:
        _send_off(departure, task, world)
    _report(task, decided, state, world)
    return {"done": decided.done, "wait": decided.wait_seconds, "round": number}


def terminate(task: Task, world: World) -> Answer:
    """Terminate the instance; done once EC2 says that it is gone."""
    if task.cancelled or not task.instance_id:
        return {"done": True, "wait": 0}
    if task.claim:
        world.cluster.delete_nodeclaim(task.claim)
    found = {instance.id: instance for instance in world.cloud.instances([task.instance_id])}
    instance = found.get(task.instance_id)
    if instance is None or instance.state in GONE:
        return {"done": True, "wait": 0}
    if instance.state not in ENDING:
        # From here on its state changes are our own doing: no signal about it is news.
        world.ledger.forget_instance(task.instance_id)
        world.cloud.terminate([task.instance_id])
        world.telemetry.log("terminating", **task.names)
    return {"done": False, "wait": TERMINATE_POLL_SECONDS}


def finish(task: Task, world: World) -> Answer:
    """Delete the Node and the NodeClaim and say that it is done; or put the node back."""
    _make_good(task, world.cluster.node_state(task.node), world)
    if task.cancelled:
        _put_back(task, world)
    else:
        if task.node:
            world.cluster.delete_node(task.node)
        if task.claim:
            world.cluster.delete_nodeclaim(task.claim)
            world.cluster.release_nodeclaim(task.claim)
        world.ledger.forget_instance(task.instance_id)
        if _tell_once(task, world, "terminated", "NodeTerminated"):
            world.telemetry.count("NodesTerminated", Reason=task.reason)
    if task.row is not None:
        world.ledger.update_reaction(replace(task.row, ended=True))
    return {}


_STEPS: Mapping[str, Callable[[Task, World], Answer]] = {
    "cordon": cordon,
    "await": wait_for_replacements,
    "round": evict,
    "terminate": terminate,
    "finish": finish,
}


def _task(event: Mapping[str, Any], world: World) -> Task:
    now = world.clock.now()
    instance_id = event["instanceId"]
    row = world.ledger.reaction(instance_id) if instance_id else None
    deadlines = [duration.instant(event["deadline"])] if event.get("deadline") else []
    if row is not None and row.deadline is not None and not row.ended:
        deadlines.append(row.deadline)
    replacements = (*event.get("replacements", ()), *(row.replacements if row else ()))
    return Task(
        decision=row.decision if row is not None and not row.ended else event["decision"],
        node=event["node"] or _joined(event["claim"], world),
        claim=event["claim"],
        instance_id=instance_id,
        reason=event["reason"],
        begun=duration.instant(event["begun"]) if event.get("begun") else now,
        deadline=min(deadlines, default=None),
        replacements=tuple(dict.fromkeys(replacements)),
        number=int(event.get("round", 0)),
        row=row,
    )


def _joined(claim: str, world: World) -> str:
    """Return the node of *claim*, which had none when its drain began; "" while there is none."""
    found = world.cluster.machines().nodeclaim(claim) if claim else None
    return found.status.node_name if found is not None else ""


def _keep_off(task: Task, world: World) -> None:
    try:
        world.cluster.taint(task.node, labels.DISRUPTED_TAINT, NO_SCHEDULE, present=True)
        _set_label(world, task.node, labels.EXCLUDE_FROM_LOAD_BALANCERS, "karpenter")
    except Gone:
        world.telemetry.log("the node is gone already", node=task.node)
    else:
        _say(task, world, "Disrupted", f"Draining: {task.reason}")


def _replacements(task: Task, state: ClusterState, now: datetime) -> Standing:
    """Return how the replacements stand; none at all stand well."""
    row = task.row
    if row is not None and not row.planned and row.at and now - row.at < PLANNING_SPAN:
        return Standing.COMING
    claims = [state.nodeclaim(name) for name in task.replacements]
    if any(claim is None or claim.metadata.deletion_timestamp for claim in claims):
        return Standing.LOST
    if all(claim is not None and claim.status.is_true(INITIALIZED) for claim in claims):
        return Standing.UP
    return Standing.COMING


def _cannot_wait(task: Task, state: ClusterState, now: datetime) -> bool:
    deadline = task.deadline
    return deadline is not None and (now >= deadline or must_begin(state, task.node, deadline, now))


def _send_off(departure: Departure, task: Task, world: World) -> None:
    """Ask for one pod, or delete it, and tell of it once."""
    debt = decisions.owe(
        world,
        task.about,
        f"{task.decision}/{EVICTED}/{departure.uid or departure.pod}",
        "PodEvicted",
        task.decision,
        **task.names,
        pod=departure.pod,
        podUid=departure.uid,
        how="deleted" if departure.forced else "evicted",
        graceSeconds=departure.grace_seconds,
    )
    try:
        if departure.forced:
            world.cluster.delete_pod(departure.pod, departure.uid, departure.grace_seconds or 1)
        else:
            world.cluster.evict(departure.pod, departure.uid)
    except Blocked as error:
        if debt is not None:
            world.ledger.waive(debt)
        world.telemetry.log("held by a budget", pod=departure.pod, problem=str(error))
        return
    if debt is None:
        return
    decisions.send(world, debt)
    world.telemetry.count("PodsForced" if departure.forced else "PodsEvicted")
    if departure.grace_lost_seconds:
        world.telemetry.count("GraceLostSeconds", departure.grace_lost_seconds)
    namespace, _, name = departure.pod.partition("/")
    involved = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": namespace,
        "name": name,
        "uid": departure.uid,
    }
    _tell(world, involved, "Evicted", f"Evicted: {task.reason}, {departure.reason}")


def _make_good(
    task: Task, state: ClusterState, world: World, *, older_than: timedelta = timedelta(0)
) -> None:
    """Send what was owed about the node by functions that died before they could.

    Of an eviction nobody knows whether it came to pass but the cluster: a pod that is still there
    and not on its way out was not evicted. What is fresh is still its writer's.
    """
    now = world.clock.now()
    staying = {pod.uid for pod in state.pods_on(task.node) if pod.deleted is None}
    for debt in world.ledger.owed(task.about):
        evicted = debt.message["type"] == "PodEvicted"
        if now - debt.at < older_than:
            continue
        if evicted and debt.message["detail"].get("podUid") in staying:
            continue
        decisions.send(world, debt)
        if evicted:
            forced = debt.message["detail"].get("how") == "deleted"
            world.telemetry.count("PodsForced" if forced else "PodsEvicted")


def _report(task: Task, decided: Round, state: ClusterState, world: World) -> None:
    now = world.clock.now()
    world.telemetry.log(
        "round",
        **task.names,
        number=task.number,
        said=decided.reason,
        departures=len(decided.departures),
        held={held.pod: held.reason for held in decided.held[:10]},
    )
    if not decided.done:
        return
    left = [pod.key for pod in state.pods_on(task.node) if drainable(pod, now)]
    noticed = task.row.at if task.row and task.row.at else task.begun
    if not _tell_once(task, world, "drained", "NodeDrained", podsLeft=left[:LISTED]):
        return
    if left and task.deadline is not None and task.deadline - noticed > NOTICE:
        world.telemetry.count("DrainPastDeadline")
    if decided.departures:  # past the deadline: they go with the instance
        world.telemetry.count("PodsKilled", len(decided.departures))
    world.telemetry.count("NoticeToDrainedSeconds", (now - noticed).total_seconds())


def _call_off(task: Task, world: World, why: str) -> None:
    world.telemetry.log("drain called off", **task.names, why=why)
    row = task.row or Reaction(task.instance_id, task.reason, task.decision, task.deadline)
    world.ledger.update_reaction(replace(row, cancelled=True))


def _put_back(task: Task, world: World) -> None:
    """Let pods and load balancers come to the node again."""
    if task.node:
        try:
            world.cluster.taint(task.node, labels.DISRUPTED_TAINT, NO_SCHEDULE, present=False)
            _set_label(world, task.node, labels.EXCLUDE_FROM_LOAD_BALANCERS, None)
        except Gone:
            return
    why = "its drain was called off"
    told = {"nodes": [task.node], "why": why}
    if _tell_once(task, world, "put-back", "DisruptionRolledBack", **told):
        world.telemetry.count("DisruptionsRolledBack")
        _say(task, world, "DisruptionRolledBack", "The node stays: its drain was called off")


def _set_label(world: World, node: str, key: str, value: str | None) -> None:
    world.cluster.patch_node(node, {"metadata": {"labels": {key: value}}})


def _tell_once(task: Task, world: World, what: str, detail_type: str, **details: Any) -> bool:
    """Publish what the drain has come to, once; return whether this was the first time."""
    key = f"{task.decision}/{what}"
    return publish_once(world, task.about, key, detail_type, task.decision, **task.names, **details)


def _say(task: Task, world: World, reason: str, message: str) -> None:
    involved = {"apiVersion": "v1", "kind": "Node", "name": task.node, "uid": task.node}
    _tell(world, involved, reason, message)


def _tell(world: World, involved: Mapping[str, Any], reason: str, message: str) -> None:
    """Write a Kubernetes Event; one that cannot be written holds no drain up."""
    try:
        world.cluster.event(involved, reason, message)
    except ClusterError as error:
        world.telemetry.log("event not written", problem=str(error))
