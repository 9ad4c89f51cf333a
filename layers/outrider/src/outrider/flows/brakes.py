"""The brakes at work: asked before each CreateFleet, told to whoever watches when one holds.

A hold is a metric with its brake's name (the alarm LaunchesHeldBack), a Kubernetes Event on the
NodePool and a LaunchFailed decision, and each says how to release it. The minute tick asks again.
Refuses to judge (`core.brakes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from outrider.apis.nodepool import NodePool
from outrider.core import brakes
from outrider.core.brakes import Hold
from outrider.core.clusterstate import ClusterState
from outrider.core.launch.fleet import FleetRequest
from outrider.core.launch.spend import running_per_hour
from outrider.errors import ClusterError
from outrider.flows.ports import World

MINUTE = timedelta(minutes=1)


def holding(
    world: World,
    request: FleetRequest,
    state: ClusterState,
    *,
    running: float,
    just_spent: float = 0.0,
) -> Hold | None:
    """Return the brake that holds *request* back, None where it may go and is counted.

    *running* is what the whole cluster costs an hour before it, *just_spent* what its NodePool
    was given since *state* was read.
    """
    pool = state.nodepool(request.node_pool)
    if pool is not None:
        found = _of_pool(world, pool, request, state, just_spent)
        if found is not None:
            return found
    settings, after = world.settings, running + request.price_per_hour
    if world.ledger.spend(len(request.claims), after, world.clock.now()):
        return None
    return brakes.of_stack(settings.max_launches_per_minute, settings.max_dollars_per_hour, after)


def at_once(world: World, pools: Iterable[NodePool]) -> dict[str, int]:
    """Return how many nodes one request may ask for, of the *pools* that a brake is on.

    A request is let go or held as a whole: one larger than the brake allows would never go.
    """
    now, stack = world.clock.now(), world.settings.max_launches_per_minute
    found = {}
    for pool in pools:
        limits = [one for one in (stack, brakes.launches_allowed(pool)) if one]
        if world.ledger.flagged(_flag(pool.name), now):
            limits.append(1)
        if limits:
            found[pool.name] = min(limits)
    return found


def tell(world: World, hold: Hold, pool: str, launches: int) -> None:
    """Count what a brake holds back, and say on the NodePool how to release it."""
    world.telemetry.count("LaunchesHeldBack", launches, Brake=hold.brake.value)
    world.telemetry.log("held back", node_pool=pool, brake=hold.brake.value, why=hold.message)
    about = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "name": pool}
    try:
        world.cluster.event(about, "LaunchesHeldBack", hold.message, warning=True)
    except ClusterError as error:
        world.telemetry.log("event not written", node_pool=pool, problem=str(error))


def tell_paused(world: World, state: ClusterState, waiting: Sequence[str]) -> None:
    """Say of each paused NodePool that it serves none of the pods that are *waiting* in vain."""
    for pool in state.nodepools:
        hold = brakes.paused(pool, state) if pool.ours and waiting else None
        if hold is not None:
            tell(world, hold, pool.name, 1)


def _of_pool(
    world: World, pool: NodePool, request: FleetRequest, state: ClusterState, just_spent: float
) -> Hold | None:
    now, wanted = world.clock.now(), len(request.claims)
    recent = 0
    if brakes.launches_allowed(pool) is not None:
        recent = sum(
            len(one.claims)
            for one in world.ledger.intents(since=now - MINUTE)
            if one.node_pool == pool.name and one.state != "failed"
        )
    after = 0.0
    if brakes.counts_dollars(pool):
        spent = running_per_hour(state, world.ledger.catalog(), pool.name)
        after = spent + just_spent + request.price_per_hour
    return (
        brakes.by_launches(pool, recent, wanted)
        or brakes.by_dollars(pool, after)
        or _unregistered(world, pool.name, state, wanted)
    )


def _flag(pool: str) -> str:
    return f"unregistered/{pool}"


def _unregistered(world: World, pool: str, state: ClusterState, wanted: int) -> Hold | None:
    now, flag = world.clock.now(), _flag(pool)
    if brakes.late(pool, state, now):
        world.ledger.flag(flag, now + brakes.TRIAL)
    elif not world.ledger.flagged(flag, now):
        return None
    elif brakes.has_registered(pool, state, now - brakes.TRIAL):
        world.ledger.lower(flag)
        return None
    return brakes.on_trial(pool, state, wanted)
