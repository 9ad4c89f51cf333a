"""From a plan to instances: requests, errands, and again for what the market did not give.

Under the planning lease each CreateFleet request becomes an intent in the ledger (fenced) and is
carried out (`flows.errands`). Pools without capacity are marked, and the pods that are left are
planned again on the marked catalogue in the same invocation: Spot, the next types, on-demand, until
placed or nothing is left. A waiting interruption is let in between two fleet calls. What an earlier
invocation began and did not end is finished first.

Brakes hold launches back (`flows.brakes`); the minute tick tries again.
Refuses to decide what to launch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from outrider.apis import duration, labels
from outrider.apis import manifest as manifests
from outrider.apis.nodeclaim import NodeClaim
from outrider.apis.nodeclass import EC2NodeClass
from outrider.apis.pod import Pod
from outrider.core.brakes import Hold
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.launch import errand as errands_of
from outrider.core.launch import failure, fleet, nodeclaim
from outrider.core.launch.fleet import FleetRequest, Order, Refused, Requests, Subnet, Surroundings
from outrider.core.launch.spend import running_per_hour
from outrider.core.promises import planned_pods
from outrider.core.records import Intent, Lease
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.result import Plan
from outrider.errors import ClusterError, Gone
from outrider.flows import brakes, errands, lease
from outrider.flows.errands import Outcome
from outrider.flows.planning import catalog_now, patience, policy_of
from outrider.flows.ports import World

ATTEMPTS = 8
EVENTS_A_PASS = 100

Mark = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Launched:
    """What came of a plan: NodeClaims with their pods, pods without, and whether somebody waits."""

    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unserved: tuple[str, ...] = ()
    yielded: bool = False


@dataclass(slots=True)
class _Pass:
    """One plan being carried out."""

    decision: str
    attempt: int
    outcomes: list[Outcome] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    shut: set[Mark] = field(default_factory=set)
    spent: dict[str, float] = field(default_factory=dict)  # by NodePool
    marked: bool = False
    yielded: bool = False


def launch(
    world: World,
    made: Plan,
    state: ClusterState,
    held: Lease,
    decision: str,
    *,
    pods: Sequence[Pod] = (),
    avoided: Mapping[Mark, datetime] | None = None,
    attempts: int = ATTEMPTS,
) -> Launched:
    """Launch what *made* says, planning again for what there is no capacity for.

    *pods* are those that the plan was made for (by default the pending ones of *state*), *avoided*
    the pools that it must not buy from whatever the ledger says, *attempts* how often to plan: a
    replacement that must be cheaper than what it replaces is not planned again.
    """
    earlier = errands.recover(world, state, world.ledger.catalog())
    if earlier or errands.outpaced(world, state, lease.taken_at(held)):
        # Nodes came or claims went since the plan was made: it has to be made again.
        return Launched(yielded=True)

    claims: dict[str, tuple[str, ...]] = {}
    for attempt in range(attempts):
        done = _carry_out(world, made, state, held, _Pass(decision, attempt))
        state = state.with_nodeclaims(_in_flight(world, done.outcomes, state))
        _tell_pods(world, made, done, state)
        for outcome in done.outcomes:
            claims |= {claim: outcome.errand.pods[claim] for claim in outcome.instances}
        if done.yielded or not done.unserved or not done.marked:
            break
        now = world.clock.now()
        catalog = catalog_now(world, now).without(avoided or {})
        wanted = tuple(pods) or pending(state, now)
        made = plan(state, wanted, catalog, policy_of(world), now, expired=patience(world))
        if not made.launches:
            break
    return Launched(claims, tuple(done.unserved), done.yielded)


def _carry_out(world: World, made: Plan, state: ClusterState, held: Lease, current: _Pass) -> _Pass:
    _note_placements(world, made, state)
    orders = {
        claim: Order(claim, wanted)
        for place, wanted in enumerate(made.launches)
        for claim in [
            nodeclaim.name(wanted.node_pool, current.decision, f"{current.attempt}/{place}")
        ]
    }
    if not orders:
        return current
    asked = _requests(world, orders, state, current)
    _report_refused(world, asked.refused, current)
    running = _running(world, state)
    for request in asked.requests:
        world.ledger.renew(held, lease.LEASE_SECONDS)
        if current.yielded or _interruption_waits(world):
            current.yielded = True
            current.unserved += request.claims
        elif _is_shut(request, current):  # what an earlier request of this plan has shown
            current.marked = True
            current.unserved += request.claims
        elif (hold := _held(world, request, running, state, current)) is None:
            running += request.price_per_hour
            _one(world, request, [orders[claim] for claim in request.claims], state, held, current)
        else:
            _hold_back(world, request, current, hold)
    _undo_broken_gangs(world, orders, current)
    return current


def _requests(
    world: World, orders: Mapping[str, Order], state: ClusterState, current: _Pass
) -> Requests:
    names = {order.launch.node_class for order in orders.values()}
    classes = {name: found for name in names if (found := state.nodeclass(name)) is not None}
    pools = {order.launch.node_pool for order in orders.values()}
    catalog = world.ledger.catalog()
    wanted = {choice for order in orders.values() for choice in order.launch.instance_types}
    around = Surroundings(
        cluster=world.cloud.cluster(),
        stack=world.settings.stack,
        decision=current.decision,
        node_classes=classes,
        subnets=_subnets(world, classes),
        types={kind.name: kind for kind in catalog.instance_types if kind.name in wanted},
        seeds=world.ledger.seeds(),
        images=_images(orders, state),
        attempt=current.attempt,
        at_once=brakes.at_once(world, filter(None, map(state.nodepool, sorted(pools)))),
    )
    return fleet.requests(orders.values(), around)


def _subnets(world: World, classes: Mapping[str, EC2NodeClass]) -> dict[str, tuple[Subnet, ...]]:
    """Return the subnets of each class with their free addresses, marked ones left out."""
    listed = {name: [one.id for one in found.status.subnets] for name, found in classes.items()}
    shut = failure.shut_subnets(world.ledger.unavailable(world.clock.now()))
    wanted = sorted({one for ids in listed.values() for one in ids} - shut)
    known = {subnet.id: subnet for subnet in world.cloud.subnets(wanted)}
    return {name: tuple(known[one] for one in ids if one in known) for name, ids in listed.items()}


def _images(orders: Mapping[str, Order], state: ClusterState) -> dict[str, tuple[str, ...]]:
    keys = {pod for order in orders.values() for pod in order.launch.pods}
    found = ((key, state.pod(key)) for key in keys)
    return {key: pod.images for key, pod in found if pod is not None}


def _one(
    world: World,
    request: FleetRequest,
    orders: Sequence[Order],
    state: ClusterState,
    held: Lease,
    current: _Pass,
) -> None:
    """Write the intent of one request and carry it out."""
    pool, node_class = state.nodepool(request.node_pool), state.nodeclass(request.node_class)
    documents = [nodeclaim.manifest(order, current.decision, pool, node_class) for order in orders]
    work = errands_of.errand(request, orders, documents, current.decision)
    intent = Intent(
        decision=current.decision,
        client_token=request.client_token,
        node_pool=request.node_pool,
        claims=request.claims,
        request=work.to_json(),
        at=world.clock.now(),
    )
    standing = world.ledger.intend(intent, held)
    outcome = errands.perform(world, standing, state, world.ledger.catalog())
    current.outcomes.append(outcome)
    current.unserved += outcome.unserved
    current.marked = current.marked or outcome.marked
    current.shut |= set(outcome.marks)


def _is_shut(request: FleetRequest, current: _Pass) -> bool:
    """Return whether every pool of *request* is known to be empty by now."""
    kind = request.capacity_type
    return all(
        any(
            (name, zone, kind) in current.shut
            for name in (pool.instance_type, "*")
            for zone in (pool.zone, "*")
        )
        for pool in request.pools
    )


def _interruption_waits(world: World) -> bool:
    """Return whether an interruption waits for the lease that we hold."""
    if world.settings.function == "interrupt":
        return False
    return world.ledger.flagged(lease.WAITING, world.clock.now())


def _running(world: World, state: ClusterState) -> float:
    if world.settings.max_dollars_per_hour is None:
        return 0.0
    return running_per_hour(state, world.ledger.catalog())


def _held(
    world: World, request: FleetRequest, running: float, state: ClusterState, current: _Pass
) -> Hold | None:
    """Return the brake that holds *request* back; count what goes on its NodePool's account."""
    before = current.spent.get(request.node_pool, 0.0)
    hold = brakes.holding(world, request, state, running=running, just_spent=before)
    if hold is None:
        current.spent[request.node_pool] = before + request.price_per_hour
    return hold


def _hold_back(world: World, request: FleetRequest, current: _Pass, hold: Hold) -> None:
    current.unserved += request.claims
    brakes.tell(world, hold, request.node_pool, len(request.claims))
    errands.report_failure(
        world, current.decision, request.node_pool, request.claims, hold.message, {}
    )


def _report_refused(world: World, refused: Sequence[Refused], current: _Pass) -> None:
    for one in refused:
        current.unserved.append(one.order.claim)
        launch_of = one.order.launch
        errands.report_failure(
            world,
            current.decision,
            launch_of.node_pool,
            (one.order.claim,),
            one.reason,
            {one.order.claim: launch_of.pods},
        )


def _undo_broken_gangs(world: World, orders: Mapping[str, Order], current: _Pass) -> None:
    """A gang runs whole or not at all: take back what was launched for one that is not whole."""
    broken = {orders[claim].launch.gang for claim in current.unserved if claim in orders} - {None}
    for outcome in list(current.outcomes):
        if outcome.errand.gang in broken and outcome.instances:
            errands.undo(world, outcome, f"gang {outcome.errand.gang} could not be launched whole")
            current.outcomes.remove(outcome)
            current.unserved += outcome.instances


def _in_flight(world: World, outcomes: Sequence[Outcome], state: ClusterState) -> list[NodeClaim]:
    """Return the NodeClaims that were launched just now, as the next plan has to see them."""
    now = world.clock.now()
    catalog = world.ledger.catalog() if outcomes else Catalog(())
    found = []
    for outcome in outcomes:
        types = errands.kinds(outcome.errand, outcome.instances, state, catalog)
        for document in outcome.errand.manifests:
            instance = outcome.instances.get(document["metadata"]["name"])
            if instance is None:
                continue
            kind = types.get(instance.instance_type)
            metadata = {**document["metadata"]}
            metadata["labels"] = {
                **metadata["labels"],
                **nodeclaim.launched_labels(instance, kind),
            }
            metadata["creationTimestamp"] = duration.stamp(now)
            status = errands.status_of(outcome.errand, instance, kind, now)
            parsed = manifests.parse({**document, "metadata": metadata, "status": status})
            if isinstance(parsed, NodeClaim):
                found.append(parsed)
    return found


def _note_placements(world: World, made: Plan, state: ClusterState) -> None:
    """Let the NodeClaims in flight name the pods that are meant for them now: a pod has one place.

    Their Nodes hold room for exactly these when they join.
    """
    place = {pod: "" for launch in made.launches for pod in launch.pods}
    place |= {placement.pod: placement.node for placement in made.placements}
    for claim in sorted(state.nodeclaims, key=lambda one: one.name):
        if claim.status.is_true(nodeclaim.INITIALIZED):
            continue
        node = state.node_of(claim)
        names = {claim.name, node.name if node else claim.name}
        known = set(planned_pods(claim.metadata.annotations))
        moved = {pod for pod in known if place.get(pod, claim.name) not in names}
        wanted = (known - moved) | {pod for pod, where in place.items() if where in names}
        if wanted != known:
            text = nodeclaim.pods_text(wanted)
            patch = {"metadata": {"annotations": {labels.PODS: text}}}
            with suppress(Gone):
                world.cluster.patch_nodeclaim(claim.name, patch)


def _tell_pods(world: World, made: Plan, done: _Pass, state: ClusterState) -> None:
    """Write an Event on each pod that a node is coming for."""
    del made
    left = EVENTS_A_PASS
    for outcome in done.outcomes:
        for claim in outcome.instances:
            for key in outcome.errand.pods[claim][:left]:
                pod = state.pod(key)
                if pod is not None:
                    _event(world, pod, f"Pod should schedule on: nodeclaim/{claim}")
                    left -= 1


def _event(world: World, pod: Pod, message: str) -> None:
    involved = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
    }
    try:
        world.cluster.event(involved, "Nominated", message)
    except ClusterError as error:
        world.telemetry.log("event not written", pod=pod.key, problem=str(error))
