"""What a command leaves behind: the cluster after it, its launches turned into nodes.

A launch becomes a node of its first choice, with the capacity that its EC2NodeClass gives it, ready
and initialised, as `outrider disrupt --until-done` needs it to go on. Refuses to judge a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.core.catalog.capacity import derive
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption import moves
from outrider.core.disruption.result import Command
from outrider.core.protection import movable
from outrider.core.resources import allocatable
from outrider.core.scheduling.result import Launch


def after(
    state: ClusterState, commands: Sequence[Command], catalog: Catalog, now: datetime
) -> ClusterState:
    """Return *state* once *commands* are carried out and every pod runs where it was expected; one
    that is expected nowhere waits.
    """
    if not commands:
        return state
    gone = [name for command in commands for name in command.nodes]
    launches = [launch for command in commands for launch in command.launches]
    target = {item.pod: item.node for command in commands for item in command.placements}
    target |= {pod: launch.name for launch in launches for pod in launch.pods}
    marked = moves.notes(state, commands, now)
    rest = state.without(*gone)
    staying = tuple(
        replace(node, annotations={**node.annotations, labels.MOVED: marked[node.name]})
        if node.name in marked
        else node
        for node in rest.nodes
    )
    moved = [
        replace(pod, node_name=target[pod.key], started=now)
        if pod.key in target
        else replace(pod, node_name="", started=None, ready=False, phase="Pending")
        for name in gone
        for pod in state.pods_on(name)
        if movable(pod)
    ]
    coming = expected_nodes(launches, catalog, rest, now)
    return replace(rest, nodes=(*staying, *coming), pods=(*rest.pods, *moved), _index={})


def expected_nodes(
    launches: Iterable[Launch], catalog: Catalog, state: ClusterState, now: datetime
) -> tuple[Node, ...]:
    """Return the nodes that *launches* become if EC2 gives the first choice of each."""
    facts = ClusterFacts.of(state)
    return tuple(_node(launch, catalog, state, facts, now) for launch in launches)


def _node(
    launch: Launch, catalog: Catalog, state: ClusterState, facts: ClusterFacts, now: datetime
) -> Node:
    choice = launch.choices[0]
    kind = catalog.get(choice.instance_type)
    if kind is not None:
        kind = derive(kind, state.nodeclass(launch.node_class), facts)
    capacity = dict(kind.capacity) if kind else {}
    if choice.instance_type in launch.max_pods:
        capacity["pods"] = launch.max_pods[choice.instance_type]
    return Node(
        name=launch.name,
        labels={
            **(kind.requirements.labels() if kind else {}),
            **launch.labels,
            labels.NODEPOOL: launch.node_pool,
            labels.INSTANCE_TYPE: choice.instance_type,
            labels.ZONE: choice.zone,
            labels.CAPACITY_TYPE: choice.capacity_type,
            labels.HOSTNAME: launch.name,
            labels.REGISTERED: "true",
            labels.INITIALIZED: "true",
            **(
                {labels.CAPACITY_RESERVATION_ID: choice.reservation_id}
                if choice.reservation_id
                else {}
            ),
            **({labels.ZONE_ID: choice.zone_id} if choice.zone_id else {}),
        },
        annotations=launch.annotations,
        taints=launch.taints,
        capacity=capacity,
        allocatable=allocatable(capacity, kind.overhead) if kind else {},
        ready=True,
        created=now,
    )
