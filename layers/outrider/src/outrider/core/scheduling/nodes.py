"""Nodes that exist, or are on their way: the places that cost nothing.

Decides which Nodes and NodeClaims in flight are places, in which order they are tried (initialised
first, then by name), what room they have (pods bound to them and DaemonSet pods still owed taken
off), and which taints count while a node joins (rule 10, F94). Nodes that are leaving or being
deleted are no places; foreign nodes are. Refuses to decide who goes there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from outrider.apis.labels import DISRUPTED_TAINT, HOSTNAME, NODEPOOL
from outrider.apis.node import Node
from outrider.apis.placement import NO_SCHEDULE, Taint
from outrider.apis.pod import HostPort, Pod
from outrider.apis.quantity import Resources
from outrider.core.clusterstate import ClusterState
from outrider.core.requirements import Requirement, Requirements
from outrider.core.scheduling.daemons import Daemon, missing
from outrider.core.scheduling.shelf import Axis
from outrider.core.scheduling.supply import Amounts, Mask
from outrider.core.scheduling.terms import NODE_NAME
from outrider.core.scheduling.volumes import Volumes
from outrider.core.taints import is_ephemeral

if TYPE_CHECKING:
    from outrider.apis.nodeclaim import NodeClaim

_UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "", NO_SCHEDULE)


@dataclass(eq=False)
class Place:
    """One node that exists or is on its way, and what is on it."""

    name: str
    labels: Requirements  # a key with several values left is not settled yet
    taints: tuple[Taint, ...]
    allocatable: Resources
    initialized: bool
    node_pool: str
    ports: tuple[HostPort, ...] = ()
    attached: frozenset[tuple[str, str]] = frozenset()
    volume_limits: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)

    def value(self, key: str) -> str | None:
        """Return the value of a label, None where it is missing or not settled."""
        if key == NODE_NAME:
            return self.name
        found = self.labels.get(key)
        return found.single if found is not None else None


def is_leaving(node: Node, claim: NodeClaim | None) -> bool:
    """Return whether a node is on its way out: deleted, its claim deleted, or disrupted."""
    return (
        node.deleted is not None
        or (claim is not None and claim.metadata.deletion_timestamp is not None)
        or any(taint.key == DISRUPTED_TAINT for taint in node.taints)
    )


def places(
    cluster: ClusterState,
    daemons: tuple[Daemon, ...],
    volumes: Volumes,
    moving: frozenset[str],
    axis_of_types: Mapping[str, Resources],
) -> tuple[Place, ...]:
    """Return every place, in the order in which they are tried.

    Pods whose keys are in *moving* are planned anew and take no room; *axis_of_types* gives what a
    node of an instance type holds, for NodeClaims that do not say.
    """
    limits = {item.name: item.limits for item in cluster.csinodes}
    found = []
    for node in cluster.nodes:
        claim = cluster.claim_of(node)
        if is_leaving(node, claim):
            continue
        pods = [pod for pod in cluster.pods_on(node.name) if pod.key not in moving]
        place = _node(node, claim, cluster)
        _fill(place, pods, daemons, volumes)
        place.volume_limits = limits.get(node.name, {})
        place.attached |= volumes.left_attached(node.name)
        found.append(place)
    for claim in cluster.nodeclaims:
        if claim.metadata.deletion_timestamp is None and cluster.node_of(claim) is None:
            place = _claim(claim, axis_of_types)
            _fill(place, (), daemons, volumes)
            found.append(place)
    return tuple(sorted(found, key=lambda place: (not place.initialized, place.name)))


def _node(node: Node, claim: NodeClaim | None, cluster: ClusterState) -> Place:
    initialized = node.initialized or not (node.node_pool or claim)
    taints = node.taints
    if node.unschedulable and not any(taint.key == _UNSCHEDULABLE.key for taint in taints):
        taints = (*taints, _UNSCHEDULABLE)
    allocatable = dict(node.allocatable)
    labels = {**node.labels}
    labels.setdefault(HOSTNAME, node.name)
    if not initialized:
        startup = _startup(node, claim, cluster)
        taints = tuple(
            taint
            for taint in taints
            if not is_ephemeral(taint) and (taint.key, taint.effect) not in startup
        )
        if claim is not None:
            promised = claim.status.allocatable or claim.status.capacity
            for name, value in promised.items():
                if not allocatable.get(name):
                    allocatable[name] = value
    return Place(
        name=node.name,
        labels=Requirements.from_labels(labels),
        taints=taints,
        allocatable=allocatable,
        initialized=initialized,
        node_pool=node.node_pool,
    )


def _startup(
    node: Node, claim: NodeClaim | None, cluster: ClusterState
) -> frozenset[tuple[str, str]]:
    pool = cluster.nodepool(node.node_pool)
    stated = claim.startup_taints if claim is not None else pool.startup_taints if pool else ()
    return frozenset((taint.key, taint.effect) for taint in stated)


def _claim(claim: NodeClaim, of_types: Mapping[str, Resources]) -> Place:
    labels = Requirements.of(claim.spec.requirements).without_min_values()
    labels = labels.intersect(Requirements.from_labels(claim.metadata.labels))
    kind = labels.get("node.kubernetes.io/instance-type")
    allocatable: Resources = claim.status.allocatable or claim.status.capacity
    if not allocatable and kind is not None and not kind.complement:
        allocatable = _least(of_types, kind.values)
    return Place(
        name=claim.status.node_name or claim.name,
        labels=labels,
        taints=tuple(taint for taint in claim.taints if not is_ephemeral(taint)),
        allocatable=allocatable,
        initialized=False,
        node_pool=claim.metadata.labels.get(NODEPOOL, ""),
    )


def _least(of_types: Mapping[str, Resources], names: Iterable[str]) -> Resources:
    """Return what every one of the types called *names* holds."""
    known = [of_types[name] for name in names if name in of_types]
    if not known:
        return {}
    shared = set(known[0]).intersection(*known)
    return {name: min(item[name] for item in known) for name in sorted(shared)}


def _fill(place: Place, pods: Iterable[Pod], daemons: tuple[Daemon, ...], volumes: Volumes) -> None:
    running = tuple(pods)
    used: dict[str, int] = {}
    ports: list[HostPort] = []
    attached: frozenset[tuple[str, str]] = frozenset()
    for pod in running:
        for name, value in pod.requests.items():
            used[name] = used.get(name, 0) + value
        ports.extend(pod.host_ports)
        if pod.volumes:
            attached |= volumes.attached(pod)
    applicable = [
        daemon
        for daemon in daemons
        if daemon.accepts(place.taints) and daemon.rule.holds(partial(_meets, place))
    ]
    waiting, owed = missing(applicable, running)
    for name, value in owed.items():
        used[name] = used.get(name, 0) + value
    for daemon in waiting:
        ports.extend(daemon.host_ports)
    place.used, place.ports, place.attached = used, tuple(ports), attached


def _meets(place: Place, asked: Requirement) -> bool:
    """Return whether the place's label surely meets *asked*, whatever it settles on."""
    if asked.key == NODE_NAME:
        return asked.has(place.name)
    offered = place.labels.get(asked.key)
    if offered is None:
        return asked.absent
    if offered.complement:
        return False
    return all(asked.has(value) for value in offered.values) and (
        not offered.absent or asked.absent
    )


@dataclass(eq=False)
class PlaceTable:
    """The places as arrays: room, and masks of requirements over them."""

    places: tuple[Place, ...]
    room: Amounts  # [place, resource]
    _allowed: dict[Requirement, Mask] = field(default_factory=dict)
    _values: dict[str, tuple[str | None, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, places: tuple[Place, ...], axis: Axis) -> PlaceTable:
        """Return *places* as arrays along *axis*."""
        room = np.zeros((len(places), len(axis.names)), np.int64)
        for index, place in enumerate(places):
            room[index] = axis.vector(place.allocatable) - axis.vector(place.used)
        return cls(places, room)

    @property
    def size(self) -> int:
        """Return the number of places."""
        return len(self.places)

    def allow(self, requirement: Requirement) -> Mask:
        """Return the places that meet *requirement*."""
        known = self._allowed.get(requirement)
        if known is None:
            known = np.fromiter(
                (_meets(place, requirement) for place in self.places), bool, self.size
            )
            self._allowed[requirement] = known
        return known

    def values(self, key: str) -> tuple[str | None, ...]:
        """Return the value of a label on each place."""
        known = self._values.get(key)
        if known is None:
            known = tuple(place.value(key) for place in self.places)
            self._values[key] = known
        return known

    def carrying(self, key: str) -> Mask:
        """Return the places on which a label has a settled value."""
        return np.fromiter((value is not None for value in self.values(key)), bool, self.size)
