"""Take outrider out of an account and a cluster: take stock, then go through it in order.

The planning lease is taken first and not given back, so that no function launches meanwhile; it
runs out by itself for whoever changes their mind. Nodes are drained by the Eviction API, so that
PodDisruptionBudgets hold; one that is not empty when patience ends stays, whole, and is named. A
second run takes up what a first one left. Refuses to decide what is ours: tags and names do, and
`core.departure` what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from outrider.apis import labels
from outrider.apis.placement import NO_SCHEDULE
from outrider.core.clusterstate import ClusterState
from outrider.core.departure import RELEASE, Belongings, Kind, Machine, Step, steps
from outrider.core.protection import drainable
from outrider.core.records import Instance
from outrider.errors import Blocked, OutriderError
from outrider.flows.ports import World

LEASE_SECONDS = 900.0
LOOK_SECONDS = 5.0
SETTLE_SECONDS = 180.0  # EC2 takes a minute or two to end an instance and what hangs on it
OWNER = "uninstall"


class Estate(Protocol):
    """The account's side of what is left behind."""

    def rules(self) -> tuple[str, ...]:
        """Return the stack's rules that are enabled."""

    def disable(self, rule: str) -> None:
        """Disable a rule."""

    def executions(self) -> tuple[str, ...]:
        """Return the ARNs of the stack's executions that run."""

    def stop(self, execution: str) -> None:
        """Stop an execution."""

    def templates(self) -> tuple[str, ...]:
        """Return the ids of our launch templates."""

    def delete_template(self, template: str) -> None:
        """Delete a launch template; one that is gone is fine."""

    def profiles(self) -> tuple[str, ...]:
        """Return the names of our instance profiles."""

    def delete_profile(self, profile: str) -> None:
        """Empty and delete an instance profile; one that is gone is fine."""

    def release(self, instance_ids: Sequence[str]) -> None:
        """Take our marks off instances, their volumes and their interfaces."""

    def tagged(self) -> tuple[str, ...]:
        """Return the ids of everything that still carries our tags, ended instances left out."""


class Household(Protocol):
    """The cluster's side of what is left behind."""

    def belongings(self) -> tuple[str, ...]:
        """Return `Kind/name` of our webhook, ClusterRoles and ClusterRoleBindings."""

    def discard(self, thing: str) -> None:
        """Delete `Kind/name`; one that is gone is fine."""

    def release(self, kind: str, name: str) -> None:
        """Take our finalizer and our annotations off a Node or a NodeClaim."""


@dataclass(frozen=True, slots=True)
class Left:
    """How it went: what was done, what held its ground and why, what still carries our tags."""

    done: tuple[Step, ...]
    held: Mapping[str, str]
    tagged: tuple[str, ...] = ()


def inventory(world: World, estate: Estate, household: Household) -> Belongings:
    """Return everything of this stack's that CloudFormation does not know."""
    machines = [one for one in world.cloud.instances() if labels.SEED not in one.tags]
    state = world.cluster.machines()
    things = household.belongings()
    return replace(
        _nodes(machines, state),
        rules=estate.rules(),
        executions=estate.executions(),
        webhooks=[one for one in things if "Webhook" in one],
        access=[one for one in things if "Webhook" not in one],
        templates=estate.templates(),
        profiles=estate.profiles(),
        builders=[str(one["id"]) for one in world.cloud.builders({})],
        volumes=[str(one["id"]) for one in world.cloud.seed_volumes({})],
        snapshots=[str(one["id"]) for one in world.cloud.snapshots({})],
    )


def _nodes(instances: Iterable[Instance], state: ClusterState) -> Belongings:
    """Return machines, and NodeClaims and Nodes of ours whose instance is no more."""
    ours = {one.id for one in instances}
    nodes = {node.instance_id: node.name for node in state.nodes if node.instance_id in ours}
    claims = {
        claim.instance_id: claim.name
        for claim in state.nodeclaims
        if claim.status.provider_id and claim.instance_id in ours
    }
    return Belongings(
        machines=[Machine(one, nodes.get(one, ""), claims.get(one, "")) for one in sorted(ours)],
        claims=[
            one.name
            for one in state.nodeclaims
            if labels.DECISION in one.metadata.annotations and one.name not in claims.values()
        ],
        nodes=[
            one.name
            for one in state.nodes
            if labels.DECISION in one.annotations and one.name not in nodes.values()
        ],
    )


def uninstall(
    world: World,
    estate: Estate,
    household: Household,
    *,
    keep_nodes: bool = False,
    force: bool = False,
    patience: float = 600.0,
) -> Left:
    """Do all of it; *patience* is how long nodes may take to empty, *force* does not wait."""
    world.ledger.acquire(OWNER, LEASE_SECONDS)
    planned = steps(inventory(world, estate, household), keep_nodes=keep_nodes)
    wanted = [one.name for one in planned if one.kind is Kind.NODE and one.deed != RELEASE]
    before = [one for one in planned if one.kind in {Kind.RULE, Kind.EXECUTION, Kind.WEBHOOK}]
    remover = _Remover(world, estate, household)
    for step in before:
        remover.take(step)
    if not force:
        remover.held |= _emptied(world, wanted, patience)
    held = {one.about for one in planned if one.kind is Kind.NODE and one.name in remover.held}
    for step in planned:
        if step in before or step.name in remover.held:
            continue
        if held & {step.name, step.about} and step.kind in {Kind.NODECLAIM, Kind.INSTANCE}:
            continue
        if step.kind is Kind.ACCESS and remover.held:
            continue  # the functions' access goes when nothing is left to do
        remover.take(step)
    done = tuple(one for one in planned if one.name in remover.gone)
    return Left(done, remover.held, _remaining(world, estate, remover.held))


def _remaining(world: World, estate: Estate, held: Mapping[str, str]) -> tuple[str, ...]:
    """Return what still carries our tags, once volumes have followed their instances."""
    end = world.clock.now().timestamp() + SETTLE_SECONDS
    while (left := estate.tagged()) and not held and world.clock.now().timestamp() < end:
        world.clock.sleep(LOOK_SECONDS)
    return left


def _emptied(world: World, nodes: Sequence[str], patience: float) -> dict[str, str]:
    """Drain *nodes* side by side; return those that are not empty in time, and who holds them."""
    for name in nodes:
        world.cluster.taint(name, labels.DISRUPTED_TAINT, NO_SCHEDULE, present=True)
    end = world.clock.now().timestamp() + patience
    left = dict.fromkeys(nodes, "")
    while left:
        left = {name: why for name in left if (why := _evicted(world, name))}
        if not left or world.clock.now().timestamp() >= end:
            break
        world.clock.sleep(LOOK_SECONDS)
    for name in left:  # whatever stays, stays in use
        world.cluster.taint(name, labels.DISRUPTED_TAINT, NO_SCHEDULE, present=False)
    return left


def _evicted(world: World, name: str) -> str:
    """Ask the pods of a node to leave; return who is still there, "" where nobody is."""
    now = world.clock.now()
    staying = []
    for pod in world.cluster.node_state(name).pods_on(name):
        if pod.from_daemon or not drainable(pod, now):
            continue
        why = "is leaving"
        if pod.deleted is None:
            try:
                world.cluster.evict(pod.key, pod.uid)
            except Blocked:
                why = "is held by a PodDisruptionBudget"
        staying.append(f"{pod.key} {why}")
    return "; ".join(sorted(staying)[:3])


class _Remover:
    """Takes one step after the other; what fails is held, and nothing else stops."""

    def __init__(self, world: World, estate: Estate, household: Household) -> None:
        self.held: dict[str, str] = {}
        self.gone: set[str] = set()
        self._world = world
        self._estate = estate
        self._household = household
        self._deeds: Mapping[Kind, Callable[[str], None]] = {
            Kind.RULE: estate.disable,
            Kind.EXECUTION: estate.stop,
            Kind.WEBHOOK: household.discard,
            Kind.INSTANCE: self._terminate,
            Kind.NODE: world.cluster.delete_node,
            Kind.NODECLAIM: self._end_claim,
            Kind.BUILDER: self._terminate,
            Kind.VOLUME: world.cloud.delete_seed_volume,
            Kind.SNAPSHOT: self._end_snapshot,
            Kind.TEMPLATE: estate.delete_template,
            Kind.PROFILE: estate.delete_profile,
            Kind.ACCESS: household.discard,
        }

    def take(self, step: Step) -> None:
        """Take *step*; remember why it could not be taken."""
        deed = self._deeds[step.kind] if step.deed != RELEASE else self._letting_go(step.kind)
        try:
            deed(step.name)
        except OutriderError as error:
            self.held[step.name] = str(error)
        else:
            self.gone.add(step.name)

    def _letting_go(self, kind: Kind) -> Callable[[str], None]:
        if kind is Kind.INSTANCE:
            return self._release
        return partial(self._household.release, "Node" if kind is Kind.NODE else "NodeClaim")

    def _release(self, instance_id: str) -> None:
        self._estate.release([instance_id])
        self._world.ledger.forget_instance(instance_id)

    def _terminate(self, instance_id: str) -> None:
        self._world.cloud.terminate([instance_id])
        self._world.ledger.forget_instance(instance_id)

    def _end_claim(self, name: str) -> None:
        self._world.cluster.delete_nodeclaim(name)
        self._world.cluster.release_nodeclaim(name)

    def _end_snapshot(self, snapshot_id: str) -> None:
        self._world.cloud.end_fast_restores(snapshot_id)
        self._world.cloud.delete_snapshot(snapshot_id)
