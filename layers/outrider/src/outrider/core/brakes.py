"""Brakes on launching: what holds a NodePool's or the whole stack's launches back, and until when.

Four of them: a pause (`outrider.dev/paused`), launches a minute, dollars an hour, and nodes that do
not register. The first is the planner's; the other three are judged before each CreateFleet, for
the NodePool by its annotations, for the stack by its parameters. Where three nodes of a pool are
five minutes late and none that was launched since has registered, launching more of the same only
costs money: one node at a time is tried from then on, until one registers or half an hour is over.
Each brake says how to release it. Refuses to count what was launched, and to tell anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf

from outrider.apis import labels
from outrider.apis.nodeclaim import NodeClaim
from outrider.apis.nodepool import NodePool
from outrider.core.clusterstate import ClusterState
from outrider.core.launch import nodeclaim

LATE = timedelta(minutes=5)
TOO_MANY = 3
TRIAL = timedelta(minutes=30)


class Brake(StrEnum):
    """The brakes, as metrics and events call them."""

    PAUSED = "Paused"
    LAUNCHES = "LaunchesPerMinute"
    DOLLARS = "DollarsPerHour"
    UNREGISTERED = "Unregistered"


@dataclass(frozen=True, slots=True)
class Hold:
    """A brake that holds: what it says, and how it is released."""

    brake: Brake
    reason: str
    release: str

    @property
    def message(self) -> str:
        """Return both in a sentence each."""
        return f"{self.reason}. To release: {self.release}"


def paused(pool: NodePool, state: ClusterState) -> Hold | None:
    """Return the pause of a NodePool or its node class, if there is one."""
    node_class = state.nodeclass(pool.node_class)
    for what, name, on in (
        ("nodepool", pool.name, pool.paused),
        ("ec2nodeclass", pool.node_class, node_class is not None and node_class.paused),
    ):
        if on:
            release = f"kubectl annotate {what} {name} {labels.PAUSED}-"
            return Hold(Brake.PAUSED, f"{what} {name} is paused", release)
    return None


def launches_allowed(pool: NodePool) -> int | None:
    """Return how many launches a minute *pool*'s own brake allows; None where it has none."""
    limit = _limit(pool.metadata.annotations, labels.MAX_LAUNCHES)
    return None if limit is None else int(limit)


def counts_dollars(pool: NodePool) -> bool:
    """Return whether *pool* has a brake of its own on cost."""
    return _limit(pool.metadata.annotations, labels.MAX_DOLLARS) is not None


def by_launches(pool: NodePool, recent: int, wanted: int) -> Hold | None:
    """Return the pool's own brake on launches, *recent* being those of the last minute."""
    limit = launches_allowed(pool)
    if limit is None or recent + wanted <= limit:
        return None
    return Hold(
        Brake.LAUNCHES,
        f"{recent} launches within a minute and {wanted} more are over the {limit} of"
        f" NodePool {pool.name}",
        f"wait a minute, or raise its annotation {labels.MAX_LAUNCHES}",
    )


def by_dollars(pool: NodePool, after: float) -> Hold | None:
    """Return the pool's own brake on cost, *after* being what it would cost an hour."""
    limit = _limit(pool.metadata.annotations, labels.MAX_DOLLARS)
    if limit is None or after <= limit:
        return None
    return Hold(
        Brake.DOLLARS,
        f"NodePool {pool.name} would cost ${after:.2f} an hour, over its ${limit:g}",
        f"let nodes go, or raise its annotation {labels.MAX_DOLLARS}",
    )


def of_stack(launches: int | None, dollars: float | None, after: float) -> Hold:
    """Return which of the stack's brakes holds, *after* being what would run an hour."""
    if dollars is not None and after > dollars:
        return Hold(
            Brake.DOLLARS,
            f"the cluster would cost ${after:.2f} an hour, over MaxDollarsPerHour {dollars:g}",
            "let nodes go, or deploy with a higher MaxDollarsPerHour",
        )
    return Hold(
        Brake.LAUNCHES,
        f"MaxLaunchesPerMinute {launches} is used up",
        "wait a minute, or deploy with a higher MaxLaunchesPerMinute",
    )


def late(pool: str, state: ClusterState, now: datetime) -> tuple[str, ...]:
    """Return the NodeClaims of *pool* that do not register; nothing where a younger one has."""
    claims = [one for one in state.nodeclaims if one.node_pool == pool and _created(one)]
    waiting = [one for one in claims if _in_flight(one) and now - _launched(one) > LATE]
    if len(waiting) < TOO_MANY:
        return ()
    since = min(map(_launched, waiting))
    if any(_registered(one) and _launched(one) >= since for one in claims):
        return ()
    return tuple(sorted(one.name for one in waiting))


def has_registered(pool: str, state: ClusterState, since: datetime) -> bool:
    """Return whether a node of *pool* that was launched after *since* has registered."""
    return any(
        one.node_pool == pool and _created(one) and _registered(one) and _launched(one) > since
        for one in state.nodeclaims
    )


def on_trial(pool: str, state: ClusterState, wanted: int) -> Hold | None:
    """Return why a pool whose nodes did not register launches nothing now: it may try one."""
    joining = sum(one.node_pool == pool and _in_flight(one) for one in state.nodeclaims)
    if wanted == 1 and not joining:
        return None
    return Hold(
        Brake.UNREGISTERED,
        f"nodes of NodePool {pool} are launched and do not register",
        "`outrider doctor` looks for the cause; one node at a time is tried, and launches go on"
        " once one registers, or after half an hour",
    )


def _limit(annotations: Mapping[str, str], key: str) -> float | None:
    try:
        found = float(annotations[key])
    except (KeyError, ValueError):
        return None
    return found if 0 <= found < inf else None


def _created(claim: NodeClaim) -> bool:
    return claim.metadata.creation_timestamp is not None


def _launched(claim: NodeClaim) -> datetime:
    at = claim.metadata.creation_timestamp
    if at is None:
        raise ValueError(f"NodeClaim {claim.name} has no creationTimestamp")
    return at


def _registered(claim: NodeClaim) -> bool:
    return claim.status.is_true(nodeclaim.REGISTERED)


def _in_flight(claim: NodeClaim) -> bool:
    return claim.metadata.deletion_timestamp is None and not _registered(claim)
