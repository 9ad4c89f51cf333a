"""What devices there are: on the nodes that exist, and on a node of each type.

Decides which ResourceSlices count, as kube-scheduler's allocator does: of a driver's pool those of
the newest generation, and only if all of them are there and no name occurs twice; which devices an
allocated claim holds (with admin access it holds none). A node in flight that has no slices of a
driver yet will have what its type publishes; so will one that is ready while pods with claims that
it was launched for still wait: drivers start after the kubelet. Refuses to know what anybody asks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider.apis.devices import DeviceGroup, ResourceSlice
from outrider.apis.labels import INSTANCE_TYPE
from outrider.core.catalog.devices import published
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.promises import planned_pods

if TYPE_CHECKING:
    from outrider.apis.node import Node
    from outrider.apis.nodeclaim import NodeClaim

DeviceId = tuple[str, str, str]
"""Driver, pool, device."""


@dataclass(frozen=True, slots=True, eq=False)
class Supply:
    """The devices of one node: in groups, each free or held by a claim.

    `unsure` says why nobody can tell what *all* devices are, "" where one can.
    """

    groups: tuple[DeviceGroup, ...]
    free: tuple[bool, ...]
    unsure: str = ""

    def with_groups(self, groups: Iterable[DeviceGroup]) -> Supply:
        """Return the supply with free *groups* as well."""
        more = tuple(groups)
        if not more:
            return self
        return Supply(self.groups + more, self.free + (True,) * len(more), self.unsure)


NOTHING = Supply((), ())


def of_types(catalog: Catalog) -> dict[str, Supply]:
    """Return, by type, what a node of it will have; types that publish nothing are left out."""
    found = {}
    for kind in catalog.instance_types:
        groups = published(kind)
        if groups:
            found[kind.name] = Supply(groups, (True,) * len(groups))
    return found


def of_nodes(
    state: ClusterState,
    types: Mapping[str, Supply],
    held: Collection[DeviceId],
    waiting: Collection[str],
) -> dict[str, tuple[Supply, ...]]:
    """Return, by the place's name, what nodes and NodeClaims in flight have.

    *held* are devices that are taken, *waiting* the keys of pods with claims that are planned. A
    NodeClaim that may still become one of several types has a supply for each of them.
    """
    slices: dict[str, list[ResourceSlice]] = {}
    for item in state.resource_slices:
        if item.node:
            slices.setdefault(item.node, []).append(item)
    found: dict[str, tuple[Supply, ...]] = {
        node.name: (_on_node(state, node, slices.get(node.name, ()), types, held, waiting),)
        for node in state.nodes
    }
    for claim in state.nodeclaims:
        if state.node_of(claim) is None:
            options = tuple(types.get(name, NOTHING) for name in _may_become(claim))
            found[claim.status.node_name or claim.name] = options or (NOTHING,)
    return found


def anywhere(state: ClusterState) -> tuple[DeviceGroup, ...]:
    """Return the devices that are not one node's own: reachable from several, or from all."""
    return tuple(
        DeviceGroup(item.driver, device)
        for item in state.resource_slices
        if not item.node
        for device in item.devices
    )


def _may_become(claim: NodeClaim) -> tuple[str, ...]:
    settled = claim.metadata.labels.get(INSTANCE_TYPE)
    if settled:
        return (settled,)
    for requirement in claim.spec.requirements:
        if requirement.key == INSTANCE_TYPE and requirement.operator == "In":
            return tuple(sorted(requirement.values))
    return ()


def _on_node(
    state: ClusterState,
    node: Node,
    slices: Iterable[ResourceSlice],
    types: Mapping[str, Supply],
    held: Collection[DeviceId],
    waiting: Collection[str],
) -> Supply:
    listed = tuple(slices)
    supply = _published(listed, held)
    if _owes_devices(state, node, waiting):
        seen = {item.driver for item in listed}
        kind = types.get(node.labels.get(INSTANCE_TYPE, ""), NOTHING)
        supply = supply.with_groups(group for group in kind.groups if group.driver not in seen)
    return supply


def _owes_devices(state: ClusterState, node: Node, waiting: Collection[str]) -> bool:
    claim = state.claim_of(node)
    if not (node.node_pool or claim):
        return False
    if not node.initialized:
        return True
    return claim is not None and any(
        key in waiting for key in planned_pods(claim.metadata.annotations)
    )


def _published(slices: Iterable[ResourceSlice], held: Collection[DeviceId]) -> Supply:
    pools: dict[tuple[str, str], list[ResourceSlice]] = {}
    for item in slices:
        pools.setdefault((item.driver, item.pool), []).append(item)
    groups: list[DeviceGroup] = []
    free: list[bool] = []
    unsure = ""
    for (driver, pool), every in sorted(pools.items()):
        newest = max(item.generation for item in every)
        current = sorted(
            (item for item in every if item.generation == newest), key=lambda item: item.name
        )
        devices = [device for item in current for device in item.devices]
        if len(current) != current[0].slices or len({item.name for item in devices}) < len(devices):
            unsure = f"pool {pool} of {driver} is incomplete"
            continue
        groups += [DeviceGroup(driver, device) for device in devices]
        free += [(driver, pool, device.name) not in held for device in devices]
    return Supply(tuple(groups), tuple(free), unsure)
