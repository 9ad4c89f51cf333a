"""Pods that wait get a place: look, plan, launch, tell. Whatever the event said, the cluster rules.

A hint and the minute tick are the same to this flow: a cheap look first, then, under the planning
lease, one plan for everything that waits, the pods of leaving nodes included. One poison object
never stops the rest: it is left out and counted. Who gives way to an interruption, or finds the
lease taken, hints to itself.

Hints queue up behind one another, and one whose pass failed would stay in front, unseen, for as
long as a pass may take: three minutes in which every other hint waits as well. So a pass that fails
shows its hints again after some seconds, longer every time, before it says that it failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core import headroom
from outrider.core.clusterstate import ClusterState
from outrider.core.promises import planned_pods
from outrider.core.records import Lease
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.result import Plan, Rejection
from outrider.errors import ClusterError, OutriderError
from outrider.flows import brakes, catalog, launch, lease, mode
from outrider.flows import standing as standing_wishes
from outrider.flows.decisions import LISTED, decision_id, publish
from outrider.flows.planning import catalog_now, patience, policy_of, report_invalid
from outrider.flows.ports import World

PATIENCE_SECONDS = 25.0
RECEIVED = "ApproximateReceiveCount"
AGAIN_SECONDS, LONGEST_SECONDS = 5, 60  # times how often the hint has failed; at most
EVENTS_A_PASS = 100

Answer = dict[str, Any]


def provision(event: Mapping[str, Any], world: World) -> Answer:
    """Plan once for everything that waits, whatever *event* said."""
    world.telemetry.count("ReconcileHeartbeat")
    hints = event.get("Records", ())
    try:
        if _has_work(world):
            _serve_all(world, is_hinted=bool(hints))
    except Exception:
        if hints:
            _show_again(world, hints)
        raise
    return {}


def _serve_all(world: World, *, is_hinted: bool) -> None:
    try:
        with lease.planning(world, wait_seconds=PATIENCE_SECONDS) as held:
            if held is not None:
                _reconcile(world, held)
            elif is_hinted:
                world.bus.hint(world.settings.cluster)
    finally:
        world.bus.flush()


def _show_again(world: World, hints: Iterable[Mapping[str, Any]]) -> None:
    """Let the *hints* of a pass that failed come again soon; if that fails, too, they come late."""
    receipts = [str(one["receiptHandle"]) for one in hints if one.get("receiptHandle")]
    counts = (int((one.get("attributes") or {}).get(RECEIVED, 1)) for one in hints)
    with suppress(OutriderError):
        seconds = min(LONGEST_SECONDS, AGAIN_SECONDS * max(counts, default=1))
        world.workflows.show_again(receipts, seconds)


def _has_work(world: World) -> bool:
    """Look cheaply: does any pod wait, or is a node on its way out?"""
    now = world.clock.now()
    flags = (lease.LEAVING, lease.STANDING)
    if world.cluster.pending() or any(world.ledger.flagged(flag, now) for flag in flags):
        return True
    world.telemetry.count("PendingPods", 0)
    world.telemetry.count("OldestPendingPodSeconds", 0)
    return False


def _reconcile(world: World, held: Lease) -> None:
    standing = mode.acting(world)
    state = world.cluster.state()
    now = world.clock.now()
    report_invalid(world, state)
    if standing.launches:
        state = _without_stale_nominations(world, state)
    pods, spare = pending(state, now), headroom.placeholders(state)
    _report_waiting(world, pods, now)
    if pods or spare:
        state = _serve(world, state, pods, spare, standing, held, now)
    if standing.launches:
        standing_wishes.remember(world, state)
        standing_wishes.keep(world, state, held)


def _serve(
    world: World,
    state: ClusterState,
    pods: tuple[Pod, ...],
    spare: tuple[Pod, ...],
    standing: mode.Standing,
    held: Lease,
    now: datetime,
) -> ClusterState:
    """Plan and launch for *pods* that wait and for room that is to be kept free."""
    state = catalog.prepare(world, state)

    decision = decision_id(world.settings.cluster, "provision", held.token)
    wanted = (*pods, *spare)
    made = plan(
        state, wanted, catalog_now(world, now), policy_of(world), now, expired=patience(world)
    )
    made = headroom.without_placeholders(made)
    if not pods and not made.launches:
        return state

    _record(world, made, decision, standing, now)
    world.bus.flush()  # whoever follows sees the plan before what comes of it
    if standing.launches:
        _nominate(world, made, state)
        launched = launch.launch(world, made, state, held, decision, pods=pods)
        if launched.yielded:
            world.bus.hint(world.settings.cluster)
    else:
        _tell_what_would_be(world, made, state, standing)
    _tell(world, made, state)
    brakes.tell_paused(world, state, [rejection.pod for rejection in made.rejections])
    return state


def _without_stale_nominations(world: World, state: ClusterState) -> ClusterState:
    """Clear nominations to nodes that are no more: since 1.34 the scheduler keeps them for ever."""
    stale = {
        pod.key
        for pod in state.pods
        if pod.nominated_node_name
        and not pod.node_name
        and state.node(pod.nominated_node_name) is None
        and state.nodeclaim(pod.nominated_node_name) is None
    }
    if not stale:
        return state
    for key in sorted(stale):
        world.cluster.nominate(key, None)
    return state.with_pods(
        replace(pod, nominated_node_name="") if pod.key in stale else pod for pod in state.pods
    )


def _report_waiting(world: World, pods: tuple[Pod, ...], now: datetime) -> None:
    waiting = [pod for pod in pods if not pod.node_name]
    ages = [(now - pod.created).total_seconds() for pod in waiting if pod.created]
    world.telemetry.count("PendingPods", len(waiting))
    world.telemetry.count("OldestPendingPodSeconds", max(ages, default=0.0))


def _record(
    world: World, made: Plan, decision: str, standing: mode.Standing, now: datetime
) -> None:
    """Say what was planned: metrics, one line, one message."""
    world.telemetry.count("PlanSeconds", (world.clock.now() - now).total_seconds())
    world.telemetry.count("UnschedulablePods", len(made.rejections))
    bound = made.lower_bound_per_hour
    if bound:
        world.telemetry.count("PlanGap", 100.0 * (made.price_per_hour - bound) / bound)
    world.telemetry.log(
        "plan",
        decision=decision,
        placed=made.placed,
        launches=len(made.launches),
        rejected=len(made.rejections),
        price_per_hour=made.price_per_hour,
        acting=standing.launches,
        why=standing.reason,
    )
    publish(
        world,
        "PlanMade",
        decision,
        pods=made.placed + len(made.rejections),
        placed=made.placed,
        launches=[
            {
                "name": wanted.name,
                "nodePool": wanted.node_pool,
                "pods": list(wanted.pods[:LISTED]),
                "instanceTypes": list(wanted.instance_types[:10]),
                "pricePerHour": wanted.price_per_hour,
            }
            for wanted in made.launches[:LISTED]
        ],
        unschedulable=[rejection.pod for rejection in made.rejections[:LISTED]],
        pricePerHour=made.price_per_hour,
        lowerBoundPerHour=made.lower_bound_per_hour,
        strategy=made.strategy,
        stage=made.stage,
        acting=standing.launches,
    )


def _nominate(world: World, made: Plan, state: ClusterState) -> None:
    """Hold the places on nodes that are still joining for the pods that they are meant for.

    A node that is up needs no word from us: the scheduler sees the room. One that is closed keeps
    its places for the pods that its NodeClaim names; they are nominated when it opens, and would
    be forgotten until then.
    """
    homes: dict[str, str] = {}
    for placement in made.placements:
        node, pod = state.node(placement.node), state.pod(placement.pod)
        if node is None or node.initialized or pod is None or pod.node_name:
            continue
        if pod.nominated_node_name != node.name and not _is_kept(pod, node, state):
            homes[pod.key] = node.name
    for key, problem in world.cluster.nominate_all(homes).items():
        world.telemetry.log("not nominated", pod=key, node=homes[key], problem=problem)


def _is_kept(pod: Pod, node: Node, state: ClusterState) -> bool:
    """Return whether *node* is closed, its NodeClaim keeps a place for *pod*, and nobody else does:
    who is nominated elsewhere when the node opens would keep what it has.
    """
    if pod.nominated_node_name:
        return False
    claim = state.claim_of(node)
    closed = any(taint.key == labels.UNREGISTERED_TAINT for taint in node.taints)
    return closed and claim is not None and pod.key in planned_pods(claim.metadata.annotations)


def _tell(world: World, made: Plan, state: ClusterState) -> None:
    """Write Events on the pods that got a place on a node, and on those that got none."""
    for placement in made.placements[:EVENTS_A_PASS]:
        message = f"Pod should schedule on: node/{placement.node}"
        _event(world, state, placement.pod, "Nominated", message)
    for rejection in made.rejections[:EVENTS_A_PASS]:
        message = _why_not(rejection)
        _event(world, state, rejection.pod, "FailedScheduling", message, warning=True)


def _tell_what_would_be(
    world: World, made: Plan, state: ClusterState, standing: mode.Standing
) -> None:
    """Write an Event on the pods that a node would be launched for, were it not for *standing*."""
    wanted = [(pod, launched) for launched in made.launches for pod in launched.pods]
    for pod, launched in wanted[:EVENTS_A_PASS]:
        message = (
            f"Would launch a node of NodePool {launched.node_pool}"
            f" ({', '.join(launched.instance_types[:3])}), but {standing.reason}"
        )
        _event(world, state, pod, "WouldLaunch", message)


def _event(
    world: World,
    state: ClusterState,
    key: str,
    reason: str,
    message: str,
    *,
    warning: bool = False,
) -> None:
    """Write an Event on one pod; one that cannot be written stops nothing."""
    pod = state.pod(key)
    if pod is None:
        return
    involved = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
    }
    try:
        world.cluster.event(involved, reason, message, warning=warning)
    except ClusterError as error:
        world.telemetry.log("event not written", pod=key, problem=str(error))


def _why_not(rejection: Rejection) -> str:
    """Return why a pod has no place, one NodePool after the other."""
    parts = [
        f"NodePool {reason.node_pool}: {reason.message}" if reason.node_pool else reason.message
        for reason in rejection.reasons
    ]
    return "No place for the pod. " + "; ".join(parts)
