"""What a signal means for our nodes: leave alone, cordon, or replace and drain by a deadline.

`react` is the only door: a signal, the cluster and the policy in, one `NodeReaction` a node out,
each with its reason; those that are to be ignored say why. The rules, and where they differ from
Karpenter (statements 121 to 127) and from the node termination handler:

- A Spot or reservation warning has a deadline and shuts its capacity pool. The replacement comes
  first. Older than five minutes, or from a clock that runs ahead, it is not believed.
- A rebalance recommendation is acted on (they only record it), as the NodePool's annotation says,
  within the budgets that name no reason, one node at a time at least. One that the budgets have no
  room for, or that comes within ten minutes of a move that was called off, waits its turn.
- A scheduled change of AWS Health is drained with its start as the deadline, and a closed one calls
  the drain off (they drain at once and know no closing).
- An instance that is stopping, stopped, shutting down or terminated has no time left at all; old
  news of it is not believed against a Node that serves.
- A capacity block ends when EC2 begins to terminate, half an hour before its end date.
- An impaired instance is forced out; scheduled maintenance without a date is drained in peace.

Refuses to know what runs already for a node (the ledger does), how a replacement is chosen, and the
clock: *now* is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.nodepool import NodePool
from outrider.apis.signals import (
    BlockExpiry,
    InstanceImpaired,
    Rebalance,
    ReservationInterruption,
    ScheduledChange,
    Signal,
    SpotInterruption,
    StateChange,
    Unknown,
)
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.budgets import Allowance

Pool = tuple[str, str, str]
"""A capacity pool: instance type, zone, capacity type."""

GOING = frozenset({"stopping", "stopped", "shutting-down", "terminated"})


class Action(StrEnum):
    """What to do with a node."""

    IGNORE = "Ignore"
    DEFER = "Defer"
    CORDON = "Cordon"
    DRAIN = "Drain"
    CANCEL = "Cancel"


class Rebalancing(StrEnum):
    """A NodePool's answer to rebalance recommendations (`outrider.dev/rebalance`)."""

    REPLACE_THEN_DRAIN = "replace-then-drain"
    CORDON = "cordon"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Policy:
    """How far a signal is believed, and where."""

    region: str = ""
    account: str = ""
    stale_after: timedelta = timedelta(minutes=5)
    ahead: timedelta = timedelta(minutes=5)
    least_notice: timedelta = timedelta(minutes=2)  # a shorter one is no appointment


@dataclass(frozen=True, slots=True)
class NodeReaction:
    """What to do about one node; `node` is "" while the instance has not joined."""

    instance_id: str
    action: Action
    kind: str
    reason: str
    code: str = ""  # of one that is ignored or waits: one word to count it by
    node: str = ""
    claim: str = ""
    node_pool: str = ""
    deadline: datetime | None = None
    shut: tuple[Pool, ...] = ()
    avoid: tuple[Pool, ...] = ()
    noticed: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an instance is in the cluster."""

    instance_id: str
    node: str = ""
    claim: str = ""
    node_pool: str = ""
    pool: Pool | None = None
    ready: bool = False
    rebalancing: Rebalancing = Rebalancing.REPLACE_THEN_DRAIN


def react(
    signal: Signal,
    state: ClusterState,
    policy: Policy,
    now: datetime,
    *,
    moving: Iterable[str] = (),
    cooling: Collection[str] = (),
) -> tuple[NodeReaction, ...]:
    """Return what *signal* asks for, one entry a node of ours.

    *moving* are nodes on their way out, *cooling* the instances whose last move was called off a
    moment ago. An instance that the cluster does not know is ignored as such; the caller has
    checked whose it is.
    """
    judge = _JUDGES.get(type(signal))
    if judge is None:
        return ()
    places = _places(signal, state)
    elsewhere = _elsewhere(signal, policy)
    if elsewhere is not None:
        return tuple(elsewhere(place) for place in places)
    reactions = judge(signal, places, policy, now)
    if isinstance(signal, Rebalance):
        return _within_budget(_cooled(reactions, cooling), Allowance(state, now, moving))
    return reactions


def rebalancing(pool: NodePool | None) -> Rebalancing:
    """Return how *pool* wants recommendations to be answered; what nobody knows is the default."""
    wish = pool.metadata.annotations.get(labels.REBALANCE) if pool else None
    known = {one.value: one for one in Rebalancing}
    return known.get(wish or "", Rebalancing.REPLACE_THEN_DRAIN)


def _spot(
    signal: SpotInterruption | ReservationInterruption,
    places: tuple[_Place, ...],
    policy: Policy,
    now: datetime,
) -> tuple[NodeReaction, ...]:
    doubt = _doubt(signal, policy, now)
    what = "EC2 takes" if isinstance(signal, SpotInterruption) else "its reservation's owner takes"
    return tuple(
        doubt(place)
        if doubt
        else NodeReaction(
            place.instance_id,
            Action.DRAIN,
            signal.kind,
            f"{what} the instance back at {signal.deadline:%H:%M:%S} UTC",
            node=place.node,
            claim=place.claim,
            node_pool=place.node_pool,
            deadline=signal.deadline,
            shut=(place.pool,) if place.pool else (),
            noticed=signal.time,
        )
        for place in places
    )


def _rebalance(
    signal: Rebalance, places: tuple[_Place, ...], policy: Policy, now: datetime
) -> tuple[NodeReaction, ...]:
    doubt = _doubt(signal, policy, now)
    return tuple(doubt(place) if doubt else _rebalanced(signal, place) for place in places)


def _rebalanced(signal: Rebalance, place: _Place) -> NodeReaction:
    if place.rebalancing is Rebalancing.IGNORE:
        return _ignored(signal, place, "PolicyIgnores", "its NodePool ignores recommendations")
    cordon = place.rebalancing is Rebalancing.CORDON
    return NodeReaction(
        place.instance_id,
        Action.CORDON if cordon else Action.DRAIN,
        signal.kind,
        "EC2 sees an elevated risk that the instance is interrupted",
        node=place.node,
        claim=place.claim,
        node_pool=place.node_pool,
        avoid=(place.pool,) if place.pool else (),
        noticed=signal.time,
    )


def _cooled(
    reactions: tuple[NodeReaction, ...], cooling: Collection[str]
) -> tuple[NodeReaction, ...]:
    """Return *reactions*, those that come too soon after the last one deferred."""
    why = "its last move was called off a moment ago"
    return tuple(
        _deferred(one, "Cooldown", why)
        if one.action is Action.DRAIN and one.instance_id in cooling
        else one
        for one in reactions
    )


def _within_budget(
    reactions: tuple[NodeReaction, ...], allowance: Allowance
) -> tuple[NodeReaction, ...]:
    """Return *reactions*, those deferred that the pools' budgets do not leave room for."""
    result = []
    for reaction in reactions:
        pool = reaction.node_pool
        if reaction.action is not Action.DRAIN:
            result.append(reaction)
        elif allowance.left(pool, None) or not allowance.moving(pool):
            allowance.spend(pool)
            result.append(reaction)
        else:
            why = f"NodePool {pool} has as many nodes on the move as its budgets allow"
            result.append(_deferred(reaction, "Budget", why))
    return tuple(result)


def _deferred(reaction: NodeReaction, code: str, reason: str) -> NodeReaction:
    return replace(reaction, action=Action.DEFER, code=code, reason=reason)


def _state_change(
    signal: StateChange, places: tuple[_Place, ...], policy: Policy, now: datetime
) -> tuple[NodeReaction, ...]:
    said = f"the instance is {signal.detail.state}"
    if signal.detail.state not in GOING:
        return tuple(_ignored(signal, place, "NotGoing", said) for place in places)
    # Of an instance whose Node serves, an old message is no news: the sweep knows better.
    doubt = _doubt(signal, policy, now)
    return tuple(
        doubt(place) if doubt and place.ready else _leave(signal, place, said, deadline=now)
        for place in places
    )


def _scheduled(
    signal: ScheduledChange, places: tuple[_Place, ...], policy: Policy, now: datetime
) -> tuple[NodeReaction, ...]:
    detail = signal.detail
    if not signal.concerns_instances:
        return tuple(
            _ignored(signal, place, "NotInstances", f"{detail.service} {detail.category}")
            for place in places
        )
    if policy.region and signal.impacted_region not in ("", policy.region):
        return tuple(
            _ignored(signal, place, "OtherRegion", signal.impacted_region) for place in places
        )
    if signal.called_off:
        return tuple(
            NodeReaction(
                place.instance_id,
                Action.CANCEL,
                signal.kind,
                f"{detail.code or 'the scheduled change'} is closed",
                node=place.node,
                claim=place.claim,
                node_pool=place.node_pool,
            )
            for place in places
        )
    if detail.ends is not None and detail.ends <= now:
        over = f"{detail.code or 'the scheduled change'} was over at {detail.ends}"
        return tuple(_ignored(signal, place, "Over", over) for place in places)
    starts = detail.starts
    deadline = starts if starts and starts - now > policy.least_notice else None
    when = f"at {starts:%Y-%m-%d %H:%M} UTC" if starts else "soon"
    return tuple(
        _leave(signal, place, f"{detail.code or 'a scheduled change'} begins {when}", deadline)
        for place in places
    )


def _block(
    signal: BlockExpiry, places: tuple[_Place, ...], policy: Policy, now: datetime
) -> tuple[NodeReaction, ...]:
    deadline = max(signal.deadline, now)
    reason = f"capacity block {signal.detail.capacity_reservation_id} ends"
    doubt = _doubt(signal, policy, now)
    return tuple(
        doubt(place) if doubt and place.ready else _leave(signal, place, reason, deadline)
        for place in places
    )


def _impaired(
    signal: InstanceImpaired, places: tuple[_Place, ...], policy: Policy, now: datetime
) -> tuple[NodeReaction, ...]:
    detail = signal.detail
    deadline = now if detail.forced else detail.not_before
    if not detail.forced and deadline is not None and deadline - now <= policy.least_notice:
        deadline = None
    return tuple(_leave(signal, place, detail.what, deadline) for place in places)


_Judge = Callable[[Any, tuple[_Place, ...], Policy, datetime], tuple[NodeReaction, ...]]
_JUDGES: Mapping[type, _Judge] = {
    SpotInterruption: _spot,
    ReservationInterruption: _spot,
    Rebalance: _rebalance,
    StateChange: _state_change,
    ScheduledChange: _scheduled,
    BlockExpiry: _block,
    InstanceImpaired: _impaired,
}


def _leave(
    signal: StateChange | ScheduledChange | BlockExpiry | InstanceImpaired,
    place: _Place,
    reason: str,
    deadline: datetime | None,
) -> NodeReaction:
    return NodeReaction(
        place.instance_id,
        Action.DRAIN,
        signal.kind,
        reason,
        node=place.node,
        claim=place.claim,
        node_pool=place.node_pool,
        deadline=deadline,
        noticed=signal.time,
    )


def _elsewhere(signal: Signal, policy: Policy) -> Callable[[_Place], NodeReaction] | None:
    """Return how to ignore *signal* where it was meant for another account or region.

    AWS Health says which region it means in a field of its own, which `_scheduled` reads.
    """
    if isinstance(signal, ScheduledChange | Unknown):
        return None
    if policy.account and signal.account not in {"", policy.account}:
        return lambda place: _ignored(signal, place, "OtherAccount", signal.account)
    if policy.region and signal.region not in {"", policy.region}:
        return lambda place: _ignored(signal, place, "OtherRegion", signal.region)
    return None


def _doubt(
    signal: SpotInterruption | ReservationInterruption | Rebalance | StateChange | BlockExpiry,
    policy: Policy,
    now: datetime,
) -> Callable[[_Place], NodeReaction] | None:
    """Return how to ignore *signal* where its time makes it unbelievable."""
    age = now - signal.time
    if age > policy.stale_after:
        return lambda place: _ignored(
            signal, place, "Stale", f"it is {age.total_seconds():.0f} s old and the instance runs"
        )
    if -age > policy.ahead:
        return lambda place: _ignored(signal, place, "FromTheFuture", f"it is dated {signal.time}")
    return None


def _ignored(signal: Signal, place: _Place, code: str, reason: str) -> NodeReaction:
    return NodeReaction(
        place.instance_id,
        Action.IGNORE,
        signal.kind,
        reason,
        code=code,
        node=place.node,
        claim=place.claim,
        node_pool=place.node_pool,
    )


def _places(signal: Signal, state: ClusterState) -> tuple[_Place, ...]:
    if isinstance(signal, BlockExpiry):
        return _reserved(signal.detail.capacity_reservation_id, state)
    by_instance = {node.instance_id: node for node in state.nodes if node.instance_id}
    claims = {claim.instance_id: claim for claim in state.nodeclaims if claim.instance_id}
    return tuple(
        _place(instance_id, by_instance.get(instance_id), claims, state)
        for instance_id in signal.instance_ids
    )


def _reserved(reservation: str, state: ClusterState) -> tuple[_Place, ...]:
    """Return the places of the nodes that run in *reservation*."""
    claims = {claim.instance_id: claim for claim in state.nodeclaims if claim.instance_id}
    return tuple(
        _place(node.instance_id, node, claims, state)
        for node in state.nodes
        if node.instance_id
        and node.labels.get(labels.CAPACITY_RESERVATION_ID) == reservation
        and node.node_pool
    )


def _place(
    instance_id: str, node: Node | None, claims: Mapping[str, Any], state: ClusterState
) -> _Place:
    claim = claims.get(instance_id)
    known = (node.labels if node else None) or (claim.metadata.labels if claim else {})
    name = known.get(labels.NODEPOOL, "")
    pool = state.nodepool(name)
    parts = [
        known.get(key, "") for key in (labels.INSTANCE_TYPE, labels.ZONE, labels.CAPACITY_TYPE)
    ]
    return _Place(
        instance_id=instance_id,
        node=node.name if node else "",
        claim=claim.name if claim else "",
        node_pool=name,
        pool=(parts[0], parts[1], parts[2]) if all(parts) else None,
        ready=node is not None and node.ready,
        rebalancing=rebalancing(pool),
    )
