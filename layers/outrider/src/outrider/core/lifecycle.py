"""From a launched instance to a node that serves, and what to do with those that never get there.

    Launched -> Registered -> Initialized

`judge` looks at one NodeClaim with its Node and instance and says where it stands and what is due:
register (a Node with its provider id has appeared), initialise (Ready, startup and ephemeral taints
gone, every extended resource that was asked for is there), give it up (a stage took longer than its
limit; the last one has none with Karpenter, which waits for ever for a GPU that never shows), let
it leave (somebody deleted it), or clear it away (its instance is gone). `orphans` finds the
reverse: instances and Nodes that no NodeClaim stands for. Every verdict has its reason.

Karpenter's rules are F124 to F127. Refuses to know how anything is written, and the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.nodeclaim import INITIALIZED, LAUNCHED, REGISTERED, NodeClaim
from outrider.apis.placement import Taint
from outrider.core.clusterstate import ClusterState
from outrider.core.records import Instance
from outrider.core.resources import Resources
from outrider.core.taints import is_ephemeral

GRACE = timedelta(seconds=60)  # EC2 shows an instance late, and its tags later


class Stage(StrEnum):
    """Where a NodeClaim stands."""

    LAUNCHING = "launching"
    JOINING = "joining"
    INITIALIZING = "initializing"
    SERVING = "serving"
    LEAVING = "leaving"
    GONE = "gone"


class Due(StrEnum):
    """What is due now."""

    NOTHING = "nothing"
    REGISTER = "register"
    INITIALIZE = "initialize"
    GIVE_UP = "give up"
    DRAIN = "drain"
    TERMINATE = "terminate"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each stage may take."""

    launch: timedelta = timedelta(seconds=300)
    registration: timedelta = timedelta(seconds=900)
    initialization: timedelta = timedelta(seconds=1800)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where one NodeClaim stands, what is due, and why."""

    claim: str
    stage: Stage
    due: Due
    reason: str

    @property
    def joining(self) -> bool:
        """Return whether the node is still on its way to serving."""
        return self.stage in {Stage.LAUNCHING, Stage.JOINING, Stage.INITIALIZING} and (
            self.due is not Due.GIVE_UP
        )


@dataclass(frozen=True, slots=True)
class Orphan:
    """An instance or a Node that nobody stands for; `node` or `instance_id` is empty if absent."""

    reason: str
    instance_id: str = ""
    node: str = ""


def judge(
    claim: NodeClaim,
    node: Node | None,
    instance: Instance | None,
    now: datetime,
    limits: Limits,
    *,
    pool_exists: bool = True,
) -> Verdict:
    """Return where *claim* stands, with its *node* and its *instance* as far as they exist."""

    created = claim.metadata.creation_timestamp or now
    if claim.metadata.deletion_timestamp is not None or (node and node.deleted is not None):
        return Verdict(claim.name, Stage.LEAVING, *_leaving(node, instance))
    if not pool_exists:
        return Verdict(claim.name, Stage.LEAVING, Due.GIVE_UP, "its NodePool is gone")
    if not claim.status.provider_id:
        return _launching(claim, now - created, limits)
    if instance is None and now - _since(claim, LAUNCHED, created) > GRACE:
        return _lost(claim, node)
    return _progress(claim, node, now, limits)


def missing(claim: NodeClaim, node: Node) -> str:
    """Return what *node* lacks to be initialised; "" where nothing is."""
    if not node.ready:
        return "the Node is not Ready"
    startup = {(taint.key, taint.effect) for taint in claim.startup_taints}
    for taint in node.taints:
        if (taint.key, taint.effect) in startup:
            return f"the startup taint {taint.key}:{taint.effect} is still there"
        if is_ephemeral(taint):
            return f"the taint {taint.key}:{taint.effect} is still there"
    for name in sorted(claim.spec.resources.requests):
        if "/" in name and claim.spec.resources.requests[name] and not node.allocatable.get(name):
            return f"the resource {name} is not registered"
    return ""


def taints_to_add(claim: NodeClaim, node: Node) -> tuple[Taint, ...]:
    """Return the NodeClaim's taints that its Node registered without."""
    if node.labels.get(labels.DO_NOT_SYNC_TAINTS) == "true":
        return ()
    there = {(taint.key, taint.effect) for taint in node.taints}
    wanted = (*claim.taints, *claim.startup_taints)
    return tuple(taint for taint in wanted if (taint.key, taint.effect) not in there)


def unregistered(node: Node) -> bool:
    """Return whether *node* still has the taint that only we lift."""
    return any(taint.key == labels.UNREGISTERED_TAINT for taint in node.taints)


def orphans(
    state: ClusterState,
    instances: Iterable[Instance],
    now: datetime,
    *,
    promised: Iterable[str] = (),
) -> tuple[Orphan, ...]:
    """Return instances and Nodes of ours that no NodeClaim stands for.

    *promised* are the decisions whose launches are not settled yet: their instances are waited for.
    """
    known = {claim.instance_id for claim in state.nodeclaims if claim.status.provider_id}
    named = {claim.name for claim in state.nodeclaims}
    expected = set(promised)
    alive: dict[str, Instance] = {}
    found: list[Orphan] = []
    for instance in instances:
        alive[instance.id] = instance
        expires = instance.tags.get(labels.EXPIRES)
        if expires is not None:
            if _past(expires, now):
                found.append(Orphan("a seed builder outlived its time", instance.id))
            continue
        if labels.NODEPOOL not in instance.tags or instance.id in known:
            continue
        waited = now - instance.launched <= GRACE
        claimed = instance.tags.get(labels.NODECLAIM_TAG) in named
        due = instance.tags.get(labels.DECISION) in expected
        if instance.state in {"pending", "running", "stopped", "stopping"} and not (
            waited or due or (claimed and now - instance.launched <= GRACE * 5)
        ):
            found.append(Orphan("no NodeClaim stands for the instance", instance.id))
    for node in state.nodes:
        lone = node.node_pool and node.instance_id and state.claim_of(node) is None
        fresh = node.created is not None and now - node.created <= GRACE
        if lone and not fresh and node.instance_id not in alive and not node.ready:
            found.append(Orphan("neither a NodeClaim nor an instance", node=node.name))
    return tuple(found)


def release_order(nodes: Mapping[str, Resources]) -> tuple[str, ...]:
    """Return node names, small ones first: a large one that is open early draws their pods."""

    def size(name: str) -> tuple[int, int, int, str]:
        room = nodes[name]
        devices = sum(amount for resource, amount in room.items() if "/" in resource)
        return devices, room.get("cpu", 0), room.get("memory", 0), name

    return tuple(sorted(nodes, key=size))


def _leaving(node: Node | None, instance: Instance | None) -> tuple[Due, str]:
    if node is not None and instance is not None:
        return Due.DRAIN, "it was deleted; its pods go first"
    if instance is not None:
        return Due.TERMINATE, "it was deleted before its Node registered"
    return Due.CLEAR, "it was deleted and its instance is gone"


def _launching(claim: NodeClaim, age: timedelta, limits: Limits) -> Verdict:
    if age > limits.launch:
        reason = f"not launched within {_span(limits.launch)}"
        return Verdict(claim.name, Stage.LAUNCHING, Due.GIVE_UP, reason)
    return Verdict(claim.name, Stage.LAUNCHING, Due.NOTHING, "waits for its instance")


def _lost(claim: NodeClaim, node: Node | None) -> Verdict:
    if node is None or not node.ready:
        return Verdict(claim.name, Stage.GONE, Due.CLEAR, "its instance is gone")
    reason = "its Node is Ready though EC2 shows no instance"
    return Verdict(claim.name, Stage.SERVING, Due.NOTHING, reason)


def _progress(claim: NodeClaim, node: Node | None, now: datetime, limits: Limits) -> Verdict:
    if claim.status.is_true(INITIALIZED):
        return Verdict(claim.name, Stage.SERVING, Due.NOTHING, "it serves")
    if node is None:
        return _joining(claim, now, limits)
    if not claim.status.is_true(REGISTERED) or not node.registered or unregistered(node):
        return Verdict(claim.name, Stage.JOINING, Due.REGISTER, "its Node has appeared")
    lacks = missing(claim, node)
    if not lacks:
        return Verdict(claim.name, Stage.INITIALIZING, Due.INITIALIZE, "its Node has all it needs")
    created = claim.metadata.creation_timestamp or now
    if now - _since(claim, REGISTERED, created) > limits.initialization:
        reason = f"not initialised within {_span(limits.initialization)}: {lacks}"
        return Verdict(claim.name, Stage.INITIALIZING, Due.GIVE_UP, reason)
    return Verdict(claim.name, Stage.INITIALIZING, Due.NOTHING, lacks)


def _joining(claim: NodeClaim, now: datetime, limits: Limits) -> Verdict:
    created = claim.metadata.creation_timestamp or now
    if now - _since(claim, LAUNCHED, created) > limits.registration:
        reason = f"not registered within {_span(limits.registration)}"
        return Verdict(claim.name, Stage.JOINING, Due.GIVE_UP, reason)
    return Verdict(claim.name, Stage.JOINING, Due.NOTHING, "waits for its Node")


def _since(claim: NodeClaim, kind: str, otherwise: datetime) -> datetime:
    condition = claim.status.condition(kind)
    if condition is None or condition.status != "True":
        return otherwise
    return condition.last_transition_time or otherwise


def _past(expires: str, now: datetime) -> bool:
    try:
        return datetime.fromisoformat(expires) <= now
    except (ValueError, TypeError):
        return True


def _span(length: timedelta) -> str:
    minutes = length.total_seconds() / 60
    return f"{minutes:g} min"
