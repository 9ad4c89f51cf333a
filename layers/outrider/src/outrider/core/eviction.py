"""One Round of a drain: which pods to ask, which to stop by force, how long to leave them alone.

Decides from the node's pods, the budgets over them and the deadline; a drain is Rounds until no
pod is left. Matches Karpenter's terminator (statements 128 to 134): four tiers (others, daemons,
critical ones, critical daemons), each begun when the one before is gone; static, finished,
tolerating and stuck pods hold nothing; do-not-disrupt and PodDisruptionBudgets hold their pods.

With a deadline it does more. Every pod has a last safe start: deadline - its grace - a margin.
Until then its protection holds; from then on it is deleted, whatever its tier, with its own grace
where that still fits and what is left of the time (never 0) where it does not. So every pod gets a
SIGTERM, also those that Karpenter leaves to die with their Spot instance. Past the deadline, or
where there never was any time, whoever is left is deleted with the instance: their controllers need
not wait until somebody notices.

Refuses to know the API: what a budget forbids here is not even asked for, and what the Eviction API
refuses all the same is asked for again in the next Round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.protection import Budgets, drainable, forbids_disruption, is_critical

MARGIN = timedelta(seconds=10)
LEAST_DRAIN = timedelta(seconds=5)  # a pod may be bound while the taint is on its way
SOON = timedelta(seconds=1.5)  # the next look comes a second later at the earliest
LONGEST_WAIT_SECONDS = 60
GROWTH = 1.25
HURRY = timedelta(minutes=5)
HURRIED_WAIT_SECONDS = 2


class Tier(IntEnum):
    """The order in which pods leave a node."""

    PODS = 0
    DAEMONS = 1
    CRITICAL = 2
    CRITICAL_DAEMONS = 3


class Hold(StrEnum):
    """What a pod that stays for now waits for."""

    DO_NOT_DISRUPT = "DoNotDisrupt"
    BUDGET = "PodDisruptionBudget"
    EARLIER_TIER = "EarlierTier"
    LEAVING = "Leaving"
    REPLACEMENT = "Replacement"


@dataclass(frozen=True, slots=True)
class Departure:
    """One pod to send off: asked through the Eviction API, or deleted by force with a grace."""

    pod: str
    uid: str
    forced: bool
    reason: str
    grace_seconds: int | None = None
    grace_lost_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """One pod that stays for now, and why."""

    pod: str
    hold: Hold
    reason: str


@dataclass(frozen=True, slots=True)
class Round:
    """What to do now, and when to look again; `done` says that the instance may be terminated."""

    reason: str
    done: bool = False
    wait_seconds: int = 0
    departures: tuple[Departure, ...] = ()
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Drain:
    """What a drain knows of itself: since when, until when, the how-manieth Round comes now.

    `replaced` says that the replacements are up, or that nobody waits for any.
    """

    node: str
    begun: datetime
    deadline: datetime | None = None
    number: int = 0
    replaced: bool = True


def next_round(state: ClusterState, drain: Drain, now: datetime) -> Round:
    """Return the Round of *drain* at *now*."""
    pods = sorted(
        (pod for pod in state.pods_on(drain.node) if drainable(pod, now)), key=lambda pod: pod.key
    )
    if drain.deadline is not None and now >= drain.deadline:
        late = tuple(_force(pod, drain.deadline, now) for pod in pods if pod.deleted is None)
        reason = _count(len(pods), "the deadline has passed with {} left")
        return Round(reason, done=True, departures=late)
    if not pods:
        return _empty(state, drain, now)
    forced = tuple(_force(pod, drain.deadline, now) for pod in pods if _is_due(pod, drain, now))
    gone = {departure.pod for departure in forced}
    staying = [pod for pod in pods if pod.key not in gone]
    if drain.replaced:
        asked, held = _ask(staying, Budgets(state.pdbs), now)
    else:
        asked, held = (), tuple(_wait_for_replacement(pod) for pod in staying)
    return Round(
        reason=_count(len(pods), "{} to go"),
        wait_seconds=_wait(drain, staying, now, moving=bool(forced or asked)),
        departures=(*forced, *asked),
        held=held,
    )


def last_safe_start(pod: Pod, deadline: datetime) -> datetime:
    """Return until when *pod* may be left alone without losing any of its grace."""
    return deadline - timedelta(seconds=pod.grace_seconds) - MARGIN


def must_begin(state: ClusterState, node: str, deadline: datetime, now: datetime) -> bool:
    """Return whether some pod on *node* cannot wait for a replacement any longer."""
    return any(
        last_safe_start(pod, deadline) <= now + SOON
        for pod in state.pods_on(node)
        if drainable(pod, now) and pod.deleted is None
    )


def tier(pod: Pod) -> Tier:
    """Return when *pod* leaves, relative to the others."""
    return Tier(pod.from_daemon + 2 * is_critical(pod))


def volumes_attached(state: ClusterState, node: str, now: datetime) -> tuple[str, ...]:
    """Return the volumes that are attached to *node* on behalf of pods that had to leave it.

    Volumes of pods that a drain leaves alone never detach before the instance is gone.
    """
    claims = {
        f"{pod.namespace}/{volume.claim}"
        for pod in state.pods_on(node)
        if not drainable(pod, now)
        for volume in pod.volumes
        if volume.claim
    }
    staying = {claim.volume for claim in state.pvcs if claim.key in claims}
    return tuple(
        sorted(
            attachment.volume
            for attachment in state.volume_attachments
            if attachment.node == node and attachment.volume not in staying
        )
    )


def _empty(state: ClusterState, drain: Drain, now: datetime) -> Round:
    """Return the Round of a node without pods to see off."""
    early = drain.begun + LEAST_DRAIN - now
    if early > timedelta():
        wait = math.ceil(early.total_seconds())
        return Round("a pod may still be on its way to the node", wait_seconds=wait)
    volumes = volumes_attached(state, drain.node, now)
    if volumes:
        reason = _count(len(volumes), "{} to detach", "volume")
        return Round(reason, wait_seconds=_until(drain, now, HURRIED_WAIT_SECONDS))
    return Round("every pod has left", done=True)


def _is_due(pod: Pod, drain: Drain, now: datetime) -> bool:
    return (
        drain.deadline is not None
        and pod.deleted is None
        and last_safe_start(pod, drain.deadline) <= now + SOON
    )


def _force(pod: Pod, deadline: datetime | None, now: datetime) -> Departure:
    left = math.floor((deadline - now).total_seconds()) if deadline else pod.grace_seconds
    grace = max(1, min(pod.grace_seconds, left))
    return Departure(
        pod=pod.key,
        uid=pod.uid,
        forced=True,
        reason=f"its node ends in {max(left, 0)} s and its grace is {pod.grace_seconds} s",
        grace_seconds=grace,
        grace_lost_seconds=max(0, pod.grace_seconds - grace),
    )


def _ask(
    pods: Sequence[Pod], budgets: Budgets, now: datetime
) -> tuple[tuple[Departure, ...], tuple[Held, ...]]:
    """Return whom of *pods* to ask through the Eviction API, and who stays and why."""
    if not pods:
        return (), ()
    first = min(tier(pod) for pod in pods)
    asked: list[Departure] = []
    held: list[Held] = []
    for pod in pods:
        hold = _hold(pod, first, budgets, now)
        if hold is None:
            budgets.spend(pod)
            asked.append(Departure(pod.key, pod.uid, forced=False, reason="its node is drained"))
        else:
            held.append(hold)
    return tuple(asked), tuple(held)


def _hold(pod: Pod, first: Tier, budgets: Budgets, now: datetime) -> Held | None:
    """Return why *pod* is not asked to go in this Round, or None."""
    if pod.deleted is not None:
        return Held(pod.key, Hold.LEAVING, "it is on its way out")
    if tier(pod) > first:
        return Held(pod.key, Hold.EARLIER_TIER, "pods of an earlier tier are still there")
    if forbids_disruption(pod, now):
        return Held(pod.key, Hold.DO_NOT_DISRUPT, f"pod {pod.key} has do-not-disrupt")
    budget = budgets.holding(pod)
    return Held(pod.key, Hold.BUDGET, budget) if budget else None


def _wait_for_replacement(pod: Pod) -> Held:
    if pod.deleted is not None:
        return Held(pod.key, Hold.LEAVING, "it is on its way out")
    return Held(pod.key, Hold.REPLACEMENT, "its new node is not up yet")


def _wait(drain: Drain, staying: Sequence[Pod], now: datetime, *, moving: bool) -> int:
    """Return after how many seconds to look again."""
    patience = min(LONGEST_WAIT_SECONDS, int(GROWTH ** min(drain.number, 40)))
    if moving:
        patience = min(patience, HURRIED_WAIT_SECONDS)
    if drain.deadline is None:
        return max(1, patience)
    due = [last_safe_start(pod, drain.deadline) for pod in staying if pod.deleted is None]
    soonest = math.floor((min(due) - now).total_seconds()) if due else patience
    if drain.deadline - now < HURRY:
        patience = min(patience, HURRIED_WAIT_SECONDS)
    return _until(drain, now, min(patience, soonest))


def _until(drain: Drain, now: datetime, seconds: int) -> int:
    """Return *seconds*, a second at least, and no further than the deadline."""
    if drain.deadline is not None:
        seconds = min(seconds, math.ceil((drain.deadline - now).total_seconds()))
    return max(1, seconds)


def _count(number: int, text: str, noun: str = "pod") -> str:
    return text.format(f"{number} {noun}{'' if number == 1 else 's'}")
