"""A NodePool's shelf: the rows of the market that it may launch, and what a node of each holds.

Decides, for one NodePool: whether it may be used at all, which rows its requirements, its node
class and its default capacity types leave, what is left of each type once the DaemonSets that
apply there have their share, and how much of its limits is used up. Matches Karpenter's rules F4,
F7, F22, F71 and cli.md's rules 3, 8. Refuses to know the pods that come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from outrider.apis.labels import (
    CAPACITY_RESERVATION_ID,
    CAPACITY_TYPE,
    GPU_FRACTION,
    INSTANCE_TYPE,
    NODECLASS_LABEL,
    NODEPOOL,
    ON_DEMAND,
    RESERVED,
    ZONE,
)
from outrider.apis.quantity import Resources
from outrider.core.catalog.capacity import derive
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.instancetype import InstanceType
from outrider.core.catalog.overlays import Overlay, devices
from outrider.core.requirements import Requirement, Requirements
from outrider.core.resources import huge_pages
from outrider.core.scheduling.daemons import Daemon
from outrider.core.scheduling.supply import Amounts, Codes, Market, Mask, numbered, state

if TYPE_CHECKING:
    from outrider.apis.nodeclass import EC2NodeClass
    from outrider.apis.nodepool import NodePool

NAMES_A_SLIVER = frozenset(
    {
        INSTANCE_TYPE,
        GPU_FRACTION,
        "karpenter.k8s.aws/instance-family",
        "karpenter.k8s.aws/instance-gpu-memory",
    }
)
"""Requirements on these keys opt in to types whose GPU is a share of one."""


@dataclass(eq=False)
class Shelf:
    """One usable NodePool over one market.

    `base` are the rows the pool may have at all, `rows` those of them that can be bought now and
    hold their daemons. A shape is a type with one set of daemons: `room` is by shape.
    """

    index: int
    pool: NodePool
    node_class: EC2NodeClass | None
    market: Market
    requirements: Requirements
    base: Mask
    rows: Mask
    types: tuple[InstanceType | None, ...]
    shape: Codes  # row -> shape
    room: Amounts  # [shape, resource]
    overhead: Amounts  # [shape, resource]
    capacity: Amounts  # [type, limit], limits in the order of `limited`
    limited: tuple[str, ...]
    budget: Amounts  # what the limits leave, [limit]; nodes last where limited
    daemons: tuple[Daemon, ...]
    daemon_codes: Codes  # row -> set of daemons
    daemon_sets: tuple[tuple[int, ...], ...]  # code -> daemons
    volume_slots: Amounts  # type -> EBS volumes, or a very large number
    _allowed: dict[Requirement, Mask] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the pool's name."""
        return self.pool.name

    @cached_property
    def min_values(self) -> tuple[tuple[str, int], ...]:
        """Return the keys that must keep several values, and how many."""
        return tuple(
            (key, item.min_values)
            for key, item in sorted(self.requirements.items())
            if item.min_values is not None
        )

    def allow(self, requirement: Requirement) -> Mask:
        """Return the rows whose nodes can meet *requirement*."""
        known = self._allowed.get(requirement)
        if known is None:
            known = self._evaluate(requirement)
            self._allowed[requirement] = known
        return known

    def _evaluate(self, requirement: Requirement) -> Mask:
        key = requirement.key
        own = self.requirements.get(key)
        column = self.market.column(key)
        if column is None:
            offered = own if own is not None else state(key, None)
            return np.full(self.market.size, offered.intersects(requirement))
        if own is None:
            return column.where(lambda item: item.intersects(requirement))
        asked = own.intersect(requirement)
        return column.where(lambda item: item.intersects(asked))

    def floating(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Return those of *keys* that the row alone does not settle: a claim has to."""
        return tuple(sorted(key for key in keys if self._floats(key)))

    def _floats(self, key: str) -> bool:
        column = self.market.column(key)
        if column is None:
            own = self.requirements.get(key)
            return own is not None and own.single is None
        return any(item.single is None and not item.absent for item in column.states)


def requirements_of(pool: NodePool) -> Requirements:
    """Return what every node of *pool* is, or may be: template labels and requirements."""
    template = pool.spec.template
    found = Requirements.of(template.spec.requirements).intersect(
        Requirements.from_labels(
            {
                **template.metadata.labels,
                NODEPOOL: pool.name,
                NODECLASS_LABEL: template.spec.node_class_ref.name,
            }
        )
    )
    if CAPACITY_TYPE not in found:
        found = found.only(CAPACITY_TYPE, (ON_DEMAND, RESERVED))
    return found


def base_rows(market: Market, requirements: Requirements, node_class: EC2NodeClass | None) -> Mask:
    """Return the rows that a pool with *requirements* and *node_class* may have."""
    mask = np.ones(market.size, bool)
    for key in requirements:
        column = market.column(key)
        if column is not None:
            own = requirements[key]
            mask &= column.where(lambda item, own=own: item.intersects(own))  # type: ignore[misc]
    if node_class is not None:
        mask &= _class_rows(market, node_class)
    return mask


def _class_rows(market: Market, node_class: EC2NodeClass) -> Mask:
    mask = np.ones(market.size, bool)
    status = node_class.status
    zones = frozenset(subnet.zone for subnet in status.subnets)
    if zones:
        mask &= _where(market, Requirement(ZONE, zones))
    images = [Requirements.of(image.requirements) for image in status.amis]
    if images:
        suits = np.zeros(market.size, bool)
        for image in images:
            fits = np.ones(market.size, bool)
            for requirement in image.values():
                fits &= _where(market, requirement)
            suits |= fits
        mask &= suits
    if status.conditions:
        reservations = frozenset(item.id for item in status.capacity_reservations)
        known = Requirement(CAPACITY_RESERVATION_ID, reservations, absent=True)
        mask &= _where(market, known)
    return mask


def _where(market: Market, requirement: Requirement) -> Mask:
    column = market.column(requirement.key)
    if column is None:
        return np.full(market.size, requirement.absent)
    return column.where(lambda item: item.intersects(requirement))


DEVICES = "devices.outrider.dev/"
"""Prefix of resources that only the planner knows: devices of dynamic resource allocation."""
TAKES_SLICES = f"{DEVICES}slice"
"""Asked for (none of it) by pods whose device claims are content with a share of a GPU."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The resources that anybody asks for, in a fixed order."""

    names: tuple[str, ...]

    def vector(self, amounts: Resources) -> Amounts:
        """Return *amounts* along the axis."""
        return np.array([min(amounts.get(name, 0), LARGEST) for name in self.names], np.int64)

    def amounts(self, vector: Amounts) -> dict[str, int]:
        """Return a vector as amounts, zeros and what only the planner knows left out."""
        return {
            name: int(value)
            for name, value in zip(self.names, vector, strict=True)
            if value and not name.startswith(DEVICES)
        }


LARGEST = 2**52
"""Amounts are cut here, so that sums of many stay exact in int64 and in float64."""

UNLIMITED = 2**52


_NO_DEVICES: Mapping[str, Resources] = {}


def shelf(
    index: int,
    pool: NodePool,
    node_class: EC2NodeClass | None,
    market: Market,
    axis: Axis,
    facts: ClusterFacts,
    daemons: tuple[Daemon, ...],
    *,
    used: Mapping[str, int],
    overlays: Sequence[Overlay] = (),
    devices_of: Mapping[str, Resources] = _NO_DEVICES,
) -> Shelf:
    """Return the shelf of *pool*; *used* is what its nodes have, `nodes` included.

    *devices_of* gives, by type, what a node of it has of the resources that stand for devices.
    """
    requirements = requirements_of(pool)
    base = base_rows(market, requirements, node_class)
    goods = _goods(market, base, node_class, facts, overlays)
    types = goods.types
    applicable = tuple(daemon for daemon in daemons if daemon.accepts(pool.taints))
    limits = pool.spec.limits
    limited = tuple(sorted(limits))
    built = Shelf(
        index=index,
        pool=pool,
        node_class=node_class,
        market=market,
        requirements=requirements,
        base=base,
        rows=base,
        types=types,
        shape=market.row_type,
        room=np.zeros((0, 0), np.int64),
        overhead=np.zeros((0, 0), np.int64),
        capacity=_capacity(types, limited),
        limited=limited,
        budget=np.array([limits[name] - used.get(name, 0) for name in limited], np.int64),
        daemons=applicable,
        daemon_codes=np.zeros(market.size, np.int32),
        daemon_sets=((),),
        volume_slots=goods.slots,
    )
    _shapes(built, axis, goods, devices_of)
    return built


@dataclass(frozen=True, slots=True)
class _Goods:
    """The types of one market that one pool may launch, by type: None where it may not."""

    types: tuple[InstanceType | None, ...]
    slots: Amounts  # EBS volumes beside the node's own, or a very large number
    _rooms: dict[tuple[str, ...], Amounts] = field(default_factory=dict)

    def allocatable(self, axis: Axis, devices_of: Mapping[str, Resources]) -> Amounts:
        """Return what a node of each type holds along *axis*, daemons included."""
        if devices_of:
            return _allocatable(self.types, axis, devices_of)
        known = self._rooms.get(axis.names)
        if known is None:
            if len(self._rooms) >= _KEPT:
                self._rooms.clear()
            known = self._rooms[axis.names] = _allocatable(self.types, axis, devices_of)
        return known


@dataclass(frozen=True, slots=True)
class _Derivations:
    """What is derived already of one market for one node class: types, and the goods of pools."""

    types: dict[int, InstanceType] = field(default_factory=dict)
    goods: dict[bytes, _Goods] = field(default_factory=dict)


def _goods(
    market: Market,
    base: Mask,
    node_class: EC2NodeClass | None,
    facts: ClusterFacts,
    overlays: Sequence[Overlay],
) -> _Goods:
    giving = tuple(overlay for overlay in overlays if overlay.capacity)
    derivations = _derivations(market, node_class, facts, giving)
    wanted = np.zeros(len(market.types), bool)
    wanted[market.row_type[base]] = True
    key = wanted.tobytes()
    known = derivations.goods.get(key)
    if known is None:
        if len(derivations.goods) >= _KEPT:
            derivations.goods.clear()
        types = tuple(
            _derived(index, kind, node_class, facts, giving, derivations.types) if is_ours else None
            for index, (kind, is_ours) in enumerate(zip(market.types, wanted.tolist(), strict=True))
        )
        slots = np.array([_slots(kind, node_class) for kind in types], np.int64)
        known = derivations.goods[key] = _Goods(types, slots)
    return known


def _derived(
    index: int,
    kind: InstanceType,
    node_class: EC2NodeClass | None,
    facts: ClusterFacts,
    giving: tuple[Overlay, ...],
    known: dict[int, InstanceType],
) -> InstanceType:
    """Return *kind* as *node_class* and overlays make it, and note it in *known*."""
    if index not in known:
        plain = derive(kind, node_class, facts)
        extra = devices(kind, giving) if giving else {}
        capacity = {**plain.capacity, **extra}
        known[index] = replace(plain, capacity=capacity) if extra else plain
    return known[index]


_KEPT = 8
"""So many markets and node classes, and so many pools and axes of each, are remembered."""
_derived_for: dict[tuple[int, int], tuple[object, _Derivations]] = {}


def _derivations(
    market: Market,
    node_class: EC2NodeClass | None,
    facts: ClusterFacts,
    giving: tuple[Overlay, ...],
) -> _Derivations:
    """Return what is derived already of *market* for one node class, to be filled up.

    A process that stays warm, and disruption, make many plans of the same market.
    """
    place = (id(market), id(node_class))
    known = _derived_for.get(place)
    if known is not None:
        made_for, found = known
        if made_for == (_Same(market), _Same(node_class), facts, giving):
            return found
    for oldest in tuple(_derived_for)[: max(0, len(_derived_for) - _KEPT + 1)]:
        _derived_for.pop(oldest, None)
    fresh = _Derivations()
    _derived_for[place] = ((_Same(market), _Same(node_class), facts, giving), fresh)
    return fresh


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """Equality by identity, and a hold on the object so that its identity stays its own."""

    item: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.item is self.item

    def __hash__(self) -> int:
        return id(self.item)


def _capacity(types: tuple[InstanceType | None, ...], limited: tuple[str, ...]) -> Amounts:
    table = np.zeros((len(types), len(limited)), np.int64)
    for index, kind in enumerate(types if limited else ()):
        if kind is not None:
            table[index] = [
                1 if name == "nodes" else min(kind.capacity.get(name, 0), LARGEST)
                for name in limited
            ]
    return table


def _slots(kind: InstanceType | None, node_class: EC2NodeClass | None) -> int:
    """Return how many EBS volumes a node takes beside its own block devices."""
    if kind is None:
        return 0
    for name in ("attachable-volumes-csi-ebs.csi.aws.com", "attachable-volumes-aws-ebs"):
        if name in kind.capacity:
            return kind.capacity[name]
    if kind.ec2 is None or not kind.ec2.ebs_max_volumes:
        return UNLIMITED
    own = len(node_class.spec.block_device_mappings) if node_class is not None else 0
    if not own:
        own = 2 if node_class is not None and node_class.spec.family == "Bottlerocket" else 1
    return max(kind.ec2.ebs_max_volumes - own, 0)


def _shapes(shelf: Shelf, axis: Axis, goods: _Goods, devices_of: Mapping[str, Resources]) -> None:
    """Fill in what a node of each type holds once its daemons have their share."""
    market = shelf.market
    shelf.daemon_codes, shelf.daemon_sets = _daemon_sets(shelf)
    overheads = np.array(
        [
            sum((axis.vector(shelf.daemons[place].requests) for place in places), axis.vector({}))
            for places in shelf.daemon_sets
        ],
        np.int64,
    )
    sets = len(shelf.daemon_sets)
    pairs = market.row_type.astype(np.int64) * sets + shelf.daemon_codes
    shapes, shape = numbered(pairs)
    allocatable = goods.allocatable(axis, devices_of)
    shelf.overhead = overheads[shapes % sets]
    # By columns: whether a row has room is asked a resource at a time, three times as fast so.
    shelf.room = np.asfortranarray(allocatable[shapes // sets] - shelf.overhead)
    shelf.shape = shape.astype(np.int32)
    holds = np.logical_and.reduce(shelf.room >= 0, axis=1)
    shelf.rows = shelf.base & market.open & holds[shelf.shape]


def _daemon_sets(shelf: Shelf) -> tuple[Codes, tuple[tuple[int, ...], ...]]:
    """Return a code for each row and the daemons that each code stands for."""
    size = shelf.market.size
    codes = np.zeros(size, np.int64)
    sets: tuple[tuple[int, ...], ...] = ((),)
    for place, daemon in enumerate(shelf.daemons):
        runs = daemon.rule.where(size, shelf.allow)
        pairs, codes = numbered(codes * 2 + runs)
        sets = tuple(
            (*sets[pair // 2], place) if pair % 2 else sets[pair // 2] for pair in pairs.tolist()
        )
    return codes.astype(np.int32), sets or ((),)


def _allocatable(
    types: tuple[InstanceType | None, ...], axis: Axis, devices_of: Mapping[str, Resources]
) -> Amounts:
    names, nothing = axis.names, [-1] * len(axis.names)
    table = []
    for kind in types:
        if kind is None:
            table.append(nothing)
            continue
        capacity, overhead = kind.capacity, kind.overhead
        if kind.name in devices_of:
            capacity = {**capacity, **devices_of[kind.name]}
        if pages := huge_pages(capacity):
            overhead = {**overhead, "memory": overhead.get("memory", 0) + pages}
        table.append(
            [
                min(capacity[name], LARGEST) - overhead.get(name, 0) if name in capacity else 0
                for name in names
            ]
        )
    return np.array(table, np.int64).reshape(len(types), len(names))


def names_a_sliver(requirements: Iterable[str]) -> bool:
    """Return whether one of the keys opts in to a share of a GPU."""
    return not NAMES_A_SLIVER.isdisjoint(requirements)
