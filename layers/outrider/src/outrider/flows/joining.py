"""Nodes that have joined: made what their NodeClaims say, their room held, opened together.

    dress (labels, taints, owner) -> NodePool by NodePool: nominate its pods until they stay so,
    lift the taints of its nodes at once, nominate again whom the scheduler let go meanwhile

The scheduler wakes at the first node that opens, and a pod whose own node opens a moment later
fails that cycle: its nomination is gone before its node is there. So nodes whose pods compete open
together, their pods are nominated just before, whatever other nodes have opened meanwhile, and who
lost its hold gets it back at once, not at the next look.

`core.joining` says which open now and whose room on an open node is held anew. One claim that
cannot be written is left for the next look and stops no other. Every step can be repeated.

Refuses to know when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from outrider.apis import labels
from outrider.apis.nodeclaim import REGISTERED, NodeClaim
from outrider.core import joining
from outrider.core.clusterstate import ClusterState
from outrider.core.joining import Arrival
from outrider.core.launch import nodeclaim
from outrider.core.lifecycle import taints_to_add
from outrider.core.promises import planned_pods
from outrider.core.records import Instance
from outrider.errors import ClusterError, Gone
from outrider.flows import claims
from outrider.flows.ports import World

TRIES = 5  # to find kube-scheduler at rest; then the node opens all the same


def receive(
    world: World,
    arrivals: Iterable[Arrival],
    state: ClusterState,
    instances: Mapping[str, Instance],
) -> None:
    """Dress the Nodes of *arrivals*, and open those whose time has come."""
    dressed = _each(world, arrivals, lambda one: _dress(world, one))
    pools = joining.opened(dressed, state, world.clock.now())
    lifted: list[Arrival] = []
    for pool in pools:
        homes = _homes(pool)
        _promise(world, homes, tries=TRIES)
        lifted += _lift(world, pool)
        _promise(world, homes, tries=1)
    _each(world, lifted, lambda one: _record(world, one, instances.get(one.claim.instance_id)))


def hold(world: World, wanted: Iterable[NodeClaim], state: ClusterState) -> set[str]:
    """Nominate anew the pods that the scheduler let go; return the nodes that wait for pods."""
    homes = joining.settling(wanted, state, world.clock.now())
    if not homes:
        return set()
    waiting = world.cluster.waiting()
    _nominate(world, joining.nominations(homes, waiting))
    return {homes[pod.key] for pod in waiting if pod.key in homes}


def _dress(world: World, one: Arrival) -> None:
    """Give the Node what its NodeClaim says: labels, annotations, owner, finalizer, taints."""
    claim, node = one.claim, one.node
    wanted = {**claim.metadata.labels, labels.REGISTERED: "true"}
    if labels.TERMINATION_FINALIZER not in node.finalizers or not _has(node.labels, wanted):
        annotations = {
            key: value for key, value in claim.metadata.annotations.items() if key != labels.PODS
        }
        metadata: dict[str, Any] = {
            "labels": wanted,
            "annotations": annotations,
            "finalizers": [labels.TERMINATION_FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": nodeclaim.API_VERSION,
                    "kind": "NodeClaim",
                    "name": claim.name,
                    "uid": claim.metadata.uid,
                    "blockOwnerDeletion": True,
                }
            ],
        }
        world.cluster.patch_node(node.name, {"metadata": metadata})
    for taint in taints_to_add(claim, node):
        world.cluster.taint(node.name, taint.key, taint.effect, present=True, value=taint.value)


def _has(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= found.items()


def _homes(arrivals: Iterable[Arrival]) -> dict[str, str]:
    """Return pod -> node as it was planned."""
    return {
        pod: one.node.name
        for one in arrivals
        for pod in planned_pods(one.claim.metadata.annotations)
    }


def _promise(world: World, homes: Mapping[str, str], *, tries: int) -> None:
    """Hold room until nobody loses it at once: by then whatever woke the scheduler last is over."""
    for _ in range(tries if homes else 0):
        lost = joining.nominations(homes, world.cluster.waiting())
        if not lost:
            return
        _nominate(world, lost)


def _nominate(world: World, homes: Mapping[str, str]) -> None:
    """Hold the room of nodes for the pods that they were planned for."""
    for pod, problem in world.cluster.nominate_all(homes).items():
        world.telemetry.log("not nominated", pod=pod, node=homes[pod], problem=problem)


def _lift(world: World, due: Sequence[Arrival]) -> list[Arrival]:
    """Open the nodes of *due*; return those for which it worked."""
    failed = world.cluster.untaint_all(
        [one.node for one in due], labels.UNREGISTERED_TAINT, "NoExecute"
    )
    for node, problem in failed.items():
        world.telemetry.log("tried again later", node=node, problem=problem)
    return [one for one in due if one.node.name not in failed]


def _record(world: World, one: Arrival, instance: Instance | None) -> None:
    """Say that a node is open: condition, name of its instance, message, metric."""
    claim, node = one.claim, one.node
    claims.set_conditions(
        world, claim, {REGISTERED: (True, REGISTERED, "")}, {"nodeName": node.name}
    )
    if instance is not None and instance.tags.get(labels.NODECLAIM_TAG) != claim.name:
        world.cloud.name_instance(instance.id, claim.name)
    claims.publish(world, "NodeRegistered", claim, node)
    now = world.clock.now()
    if node.ready:
        seconds = (now - claims.launched_at(claim, now)).total_seconds()
        world.telemetry.count("NodeReadySeconds", seconds, NodePool=claim.node_pool)


def _each(
    world: World, arrivals: Iterable[Arrival], deed: Callable[[Arrival], None]
) -> list[Arrival]:
    """Do *deed* for each of *arrivals*; return those for which it worked."""
    done = []
    for one in arrivals:
        with _alone(world, one.claim.name):
            deed(one)
            done.append(one)
    return done


@contextmanager
def _alone(world: World, claim: str) -> Iterator[None]:
    """Let what goes wrong with one *claim* stop no other."""
    try:
        yield
    except Gone:
        world.telemetry.log("gone meanwhile", claim=claim)
    except ClusterError as error:
        world.telemetry.log("tried again later", claim=claim, problem=str(error))
