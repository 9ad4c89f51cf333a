"""When a node that has joined is opened, and whose room on it is held.

kube-scheduler does not know the plan. A node that opens alone draws pods that were planned for
nodes still booting, and a nomination does not always keep them out: the scheduler forgets it when
its pod fails a cycle (a spread waits for another zone's node, a GPU is not registered yet). So the
nodes of one decision whose pods could take each other's room, those of one NodePool, are opened
together, small ones first, once all of them are Ready and have their devices; when one has been
Ready for `HOLD`, they wait no longer for those that are not. That is as long as "open five seconds
after Ready" allows, and about as long as a batch of machines takes to boot. A node that is not
Ready is opened after `UNREADY_FOR` all the same, in case what makes it Ready does not tolerate the
taint. Karpenter opens every node at once and lets the pods fall where they may (F124).

Each node that opens wakes every pod that waits, another NodePool's as well: most fail, and what
they were promised is forgotten. So at one look one NodePool opens, and those that may wait no
longer; by the next look, when the next one's room is held, the scheduler has come to rest.

For as long as pods find their places (`SETTLING` after the node serves), those that lost their
nomination get it back. Refuses to know how anything is written, and the clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.nodeclaim import INITIALIZED, REGISTERED, NodeClaim
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.lifecycle import release_order
from outrider.core.promises import planned_pods

HOLD = timedelta(seconds=4.5)
UNREADY_FOR = timedelta(seconds=20)
SETTLING = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A NodeClaim whose Node has appeared and is not open yet."""

    claim: NodeClaim
    node: Node


def opened(
    arrivals: Iterable[Arrival], state: ClusterState, now: datetime
) -> tuple[tuple[Arrival, ...], ...]:
    """Return the *arrivals* that are opened *now*: one NodePool's that are all there, and those
    that have waited for long; NodePool by NodePool, and in each of them small ones first.
    """
    due: dict[str, Arrival] = {}
    whole: list[list[Arrival]] = []
    for (decision, pool), group in _by_decision_and_pool(arrivals).items():
        able = [one for one in group if _is_able(one)]
        waited = [one for one in group if _has_waited(one.node, now)]
        due |= {one.node.name: one for one in waited}
        if any(one.node.ready for one in waited):
            due |= {one.node.name: one for one in able}
        elif able and {one.claim.name for one in able} >= _expected(decision, pool, state):
            whole.append(able)
    if whole:
        longest = min(whole, key=lambda group: min(_ready_since(one.node, now) for one in group))
        due |= {one.node.name: one for one in longest}
    order = release_order({name: one.node.allocatable for name, one in due.items()})
    pools: dict[str, list[Arrival]] = {}
    for name in order:
        pools.setdefault(due[name].claim.node_pool, []).append(due[name])
    return tuple(map(tuple, pools.values()))


def settling(claims: Iterable[NodeClaim], state: ClusterState, now: datetime) -> dict[str, str]:
    """Return pod -> node for the pods of *claims* whose nodes are open and still filling."""
    homes: dict[str, str] = {}
    for claim in sorted(claims, key=lambda one: one.name):
        node = state.node_of(claim)
        if node is None or not claim.status.is_true(REGISTERED) or not _fills(claim, now):
            continue
        homes |= dict.fromkeys(planned_pods(claim.metadata.annotations), node.name)
    return homes


def nominations(homes: Mapping[str, str], waiting: Iterable[Pod]) -> dict[str, str]:
    """Return pod -> node for those of the *waiting* pods whose room is to be held now.

    *homes* says where they were planned. A pod that is nominated already keeps what it has.
    """
    return {
        pod.key: homes[pod.key]
        for pod in waiting
        if pod.key in homes and not pod.nominated_node_name
    }


def with_siblings(names: Collection[str], state: ClusterState) -> set[str]:
    """Return the claims of *names* and those of the same decisions: some of them open together."""
    decisions = {_decision(one) for one in state.nodeclaims if one.name in names} - {""}
    return {*names} | {one.name for one in state.nodeclaims if _decision(one) in decisions}


def near(claims: Iterable[NodeClaim], state: ClusterState, filling: Collection[str]) -> set[str]:
    """Return the *claims* for which seconds count: their node is about to open, or *filling*."""
    found = set()
    for claim in claims:
        node = state.node_of(claim)
        if node is not None and (not claim.status.is_true(REGISTERED) or node.name in filling):
            found.add(claim.name)
    return found


def _by_decision_and_pool(arrivals: Iterable[Arrival]) -> dict[tuple[str, str], list[Arrival]]:
    groups: dict[tuple[str, str], list[Arrival]] = {}
    for one in arrivals:
        groups.setdefault((_decision(one.claim), one.claim.node_pool), []).append(one)
    return groups


def _expected(decision: str, pool: str, state: ClusterState) -> set[str]:
    """Return the NodeClaims of a decision that are on their way to a NodePool."""
    return {
        claim.name
        for claim in state.nodeclaims
        if decision
        and (_decision(claim), claim.node_pool) == (decision, pool)
        and not claim.status.is_true(REGISTERED)
        and claim.metadata.deletion_timestamp is None
    }


def _is_able(one: Arrival) -> bool:
    """Return whether pods can start on the node: it is Ready, and its devices are registered."""
    requests, there = one.claim.spec.resources.requests, one.node.allocatable
    return one.node.ready and all(
        there.get(name) for name, amount in requests.items() if "/" in name and amount
    )


def _has_waited(node: Node, now: datetime) -> bool:
    if not node.ready:
        return node.created is not None and now - node.created >= UNREADY_FOR
    return now - _ready_since(node, now) >= HOLD


def _ready_since(node: Node, otherwise: datetime) -> datetime:
    stated = (one.since for one in node.conditions if one.type == "Ready" and one.since)
    return next(stated, node.created or otherwise)


def _fills(claim: NodeClaim, now: datetime) -> bool:
    """Return whether pods may still be on their way to *claim*'s node."""
    condition = claim.status.condition(INITIALIZED)
    if condition is None or condition.status != "True":
        return True
    since = condition.last_transition_time
    return since is not None and now - since < SETTLING


def _decision(claim: NodeClaim) -> str:
    return claim.metadata.annotations.get(labels.DECISION, "")
