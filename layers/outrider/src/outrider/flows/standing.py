"""What is kept although no pod waits for it: NodePools of fixed size, and word of headroom.

Asked by provision after its own work, under the same lease: what a pool of fixed size lacks is
launched. Asked by disrupt: what it has too much of goes, drained in peace. A flag in the ledger
lets provision's cheap look know that there is such work. Refuses to decide how many:
`core.staticpools` does.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from outrider.core import headroom, staticpools
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.result import Command, Reason
from outrider.core.protection import movable
from outrider.core.records import Lease
from outrider.core.scheduling.result import Plan
from outrider.errors import ClusterError
from outrider.flows import launch, lease
from outrider.flows.decisions import decision_id
from outrider.flows.planning import catalog_now, patience, policy_of
from outrider.flows.ports import World

REMEMBERED = timedelta(minutes=10)


def remember(world: World, state: ClusterState) -> None:
    """Let provision look although no pod waits, where *state* asks for that."""
    if headroom.is_wanted(state) or staticpools.pools(state):
        world.ledger.flag(lease.STANDING, world.clock.now() + REMEMBERED)


def keep(world: World, state: ClusterState, held: Lease) -> int:
    """Launch what pools of fixed size lack; return how many NodeClaims that made."""
    now = world.clock.now()
    made = 0
    for number, pool in enumerate(staticpools.pools(state)):
        count = staticpools.missing(state, pool)
        if not count:
            continue
        catalog = catalog_now(world, now)
        wanted = staticpools.launches(
            state, pool, count, catalog, policy_of(world), now, patience(world)
        )
        if not wanted:
            world.telemetry.log("a pool of fixed size has no type to launch", node_pool=pool.name)
            continue
        decision = decision_id(world.settings.cluster, "static", held.token, number)
        answer = launch.launch(
            world,
            Plan((), wanted, (), policy_of(world).strategy, "static"),
            state,
            held,
            decision,
            attempts=1,
        )
        made += len(answer.claims)
        if answer.yielded:
            world.bus.hint(world.settings.cluster)
            break
    return made


def surplus(state: ClusterState, seen: Collection[str], now: datetime) -> tuple[Command, ...]:
    """Return a command for each node that a pool of fixed size has too much of, of those *seen* to
    be so before.
    """
    return tuple(
        Command(
            reason=Reason.UNDERUTILIZED if any(map(movable, state.pods_on(name))) else Reason.EMPTY,
            nodes=(name,),
            why=f"NodePool {one.pool} keeps {one.size} nodes",
        )
        for one in staticpools.surplus(state, now)
        for name in one.nodes
        if name in seen
    )


def too_many(state: ClusterState, now: datetime) -> frozenset[str]:
    """Return the nodes and NodeClaims that pools of fixed size have too much of."""
    found = staticpools.surplus(state, now)
    return frozenset(name for one in found for name in (*one.claims, *one.nodes))


def drop_claims(world: World, state: ClusterState, seen: Collection[str]) -> None:
    """Delete the NodeClaims without a Node that pools have too much of, of those *seen* before."""
    for one in staticpools.surplus(state, world.clock.now()):
        for name in one.claims:
            if name not in seen:
                continue
            try:
                world.cluster.delete_nodeclaim(name)
            except ClusterError as error:
                world.telemetry.log("claim not deleted", claim=name, problem=str(error))
