"""Nodes as they are and nodes as planned, side by side, one line each.

A node has its like in the plan when the plan buys one of the same type, zone and capacity type
(else of the same type and capacity type); those pairs are no difference. Of every other node the
line says where its pods go, of every other launch where its pods come from. Refuses to plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.protection import movable
from outrider.core.resources import Resources, total
from outrider.core.scheduling.result import Launch, Plan


class Verdict(StrEnum):
    """What the plan says about a node, or a node about the plan."""

    SAME = "same"  # the plan has its like
    GONE = "gone"  # the plan has nothing like it
    KEPT = "kept"  # it was left out of the comparison, and stays in both
    NEW = "new"  # a launch that nothing is like today


@dataclass(frozen=True, slots=True)
class Line:
    """One node, as it is or as planned; `peers` says where pods go to, or come from, and how many.

    `use` is what share of the node is asked for, by resource; `price_per_hour` is None where the
    catalogue has no price.
    """

    name: str
    node_pool: str
    instance_type: str
    zone: str
    capacity_type: str
    price_per_hour: float | None
    pods: int
    use: Mapping[str, float]
    verdict: Verdict
    peers: tuple[tuple[str, int], ...] = ()
    why: str = ""


def matched(nodes: Sequence[Node], launches: Sequence[Launch]) -> tuple[set[str], set[str]]:
    """Return the names of *nodes* and of *launches* that have their like among the others."""
    same_nodes: set[str] = set()
    same_launches: set[str] = set()
    for parts in (3, 2):
        waiting: dict[Hashable, list[str]] = {}
        for launch in launches:
            if launch.name not in same_launches:
                first = launch.choices[0]
                key = (first.instance_type, first.capacity_type, first.zone)[:parts]
                waiting.setdefault(key, []).append(launch.name)
        for node in nodes:
            key = _kind(node)[:parts]
            if node.name not in same_nodes and waiting.get(key):
                same_launches.add(waiting[key].pop(0))
                same_nodes.add(node.name)
    return same_nodes, same_launches


def as_is(
    state: ClusterState,
    nodes: Iterable[Node],
    made: Plan,
    price: Callable[[Node], float | None],
    same: set[str],
    kept: Mapping[str, str],
) -> tuple[Line, ...]:
    """Return a line for each of *nodes*; *kept* are those left out of the plan, and why."""
    target = _targets(made)

    def verdict(name: str) -> Verdict:
        if name in kept:
            return Verdict.KEPT
        return Verdict.SAME if name in same else Verdict.GONE

    lines = []
    for node in nodes:
        pods = state.pods_on(node.name)
        instance_type, capacity_type, zone = _kind(node)
        goes = Counter(target[pod.key] for pod in pods if pod.key in target)
        lines.append(
            Line(
                node.name,
                node.node_pool,
                instance_type,
                zone,
                capacity_type,
                price(node),
                sum(movable(pod) for pod in pods),
                shares(pods, node.allocatable),
                verdict(node.name),
                tuple(sorted(goes.items())) if node.name not in kept else (),
                kept.get(node.name, ""),
            )
        )
    return tuple(lines)


def as_planned(
    made: Plan, homes: Mapping[str, str], rooms: Mapping[str, Resources], same: set[str]
) -> tuple[Line, ...]:
    """Return a line for each launch of *made*; *homes* says where each pod runs today, *rooms* what
    each launch has to give.
    """
    lines = []
    for launch in made.launches:
        first = launch.choices[0]
        comes = Counter(homes[pod] for pod in launch.pods if pod in homes)
        lines.append(
            Line(
                launch.name,
                launch.node_pool,
                first.instance_type,
                first.zone,
                first.capacity_type,
                first.price_per_hour,
                len(launch.pods),
                _of(launch.requests, rooms.get(launch.name, {})),
                Verdict.SAME if launch.name in same else Verdict.NEW,
                tuple(sorted(comes.items())),
            )
        )
    return tuple(lines)


def shares(pods: Iterable[Pod], room: Resources) -> dict[str, float]:
    """Return what share of *room* the *pods* ask for: cpu, memory, and each device there is."""
    return _of(total(pod.requests for pod in pods), room)


def _of(asked: Resources, room: Resources) -> dict[str, float]:
    counted = [name for name in room if name in ("cpu", "memory") or "/" in name]
    return {
        name: asked.get(name, 0) / room[name]
        for name in sorted(counted)
        if room[name] > 0 and (asked.get(name) or "hugepages" not in name)
    }


def _kind(node: Node) -> tuple[str, str, str]:
    return (
        node.labels.get(labels.INSTANCE_TYPE, ""),
        node.labels.get(labels.CAPACITY_TYPE, ""),
        node.labels.get(labels.ZONE, ""),
    )


def _targets(made: Plan) -> dict[str, str]:
    target = {item.pod: item.node for item in made.placements}
    return target | {pod: launch.name for launch in made.launches for pod in launch.pods}
