"""What EC2 sells and what node classes select, into the ledger and onto the objects.

On a tick: every EC2NodeClass is resolved and its status written, with conditions that say what to
fix; then offerings, prices and reservations of the zones that the classes reach become the stored
catalogue. A planner that meets a class or a catalogue that nobody has looked at yet does the same
at once (`prepare`), so that a new node class need not wait for the tick.

Refuses to decide which types are good for a pod.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from outrider.apis import labels
from outrider.apis.model import read
from outrider.apis.nodeclass import EC2NodeClass, EC2NodeClassStatus
from outrider.core.clusterstate import ClusterState
from outrider.core.launch import readiness
from outrider.errors import CloudError, ClusterError, LedgerError, NotFound, OutriderError
from outrider.flows import pools
from outrider.flows.ports import World

SEED_LOOK = timedelta(hours=6)


def refresh(event: Mapping[str, Any], world: World) -> dict[str, Any]:
    """Renew node classes' status and the catalogue, whatever *event* said."""
    del event
    state = world.cluster.state()
    classes = tuple(_resolve(world, one) for one in state.nodeclasses)
    state = state.with_nodeclasses(classes)

    stored = _store(world, state)
    _look_for_seeds(world, state)
    world.bus.flush()
    return {"nodeClasses": len(classes), "instanceTypes": stored}


def prepare(world: World, state: ClusterState) -> ClusterState:
    """Return *state* with every node class resolved and a catalogue that reaches their zones."""
    fresh = [_resolve(world, one) for one in state.nodeclasses if not readiness.resolved(one)]
    if fresh:
        state = state.with_nodeclasses(fresh)
        pools.report(world, state)
    try:
        known = world.ledger.catalog()
    except (NotFound, LedgerError):
        _store(world, state)
        return state
    covered = {way.zone for kind in known.instance_types for way in kind.offerings}
    if fresh and not _zones(state.nodeclasses) <= covered:
        _store(world, state)
    return state


def _resolve(world: World, node_class: EC2NodeClass) -> EC2NodeClass:
    """Look a class's selectors up, write its status, and return the class with it."""
    found = world.cloud.resolve(node_class)
    now = world.clock.now()
    status = readiness.status(node_class, found, world.settings.node_role_arns, now)
    try:
        world.cluster.patch_status("EC2NodeClass", node_class.name, status)
    except ClusterError as error:
        world.telemetry.log("status not written", node_class=node_class.name, problem=str(error))
    return replace(node_class, status=read(EC2NodeClassStatus, status, "status"))


def _store(world: World, state: ClusterState) -> int:
    """Store the catalogue of the zones that the classes of *state* reach; return its size."""
    now = world.clock.now()
    held = {
        str(entry["CapacityReservationId"]): entry
        for one in state.nodeclasses
        for entry in _reservations(world, one)
    }
    catalog = world.cloud.catalog_facts(sorted(_zones(state.nodeclasses)), held.values(), now)
    world.ledger.put_catalog(catalog)
    world.telemetry.count("CatalogAgeSeconds", 0)
    world.telemetry.log("catalogue stored", types=len(catalog.instance_types))
    return len(catalog.instance_types)


def _reservations(world: World, node_class: EC2NodeClass) -> Iterable[Mapping[str, Any]]:
    try:
        return world.cloud.reservations(node_class)
    except CloudError as error:
        world.telemetry.log("no reservations", node_class=node_class.name, problem=str(error))
        return ()


def _zones(classes: Iterable[EC2NodeClass]) -> set[str]:
    return {subnet.zone for one in classes for subnet in one.status.subnets}


def _look_for_seeds(world: World, state: ClusterState) -> None:
    """Start the seed machine when pods run another set of images than at the last look."""
    if world.settings.mode == "observe" or not world.settings.seed_machine_arn:
        return
    asking = [
        one for one in state.nodeclasses if one.metadata.annotations.get(labels.SEED) != "off"
    ]
    images = sorted({image for pod in state.pods if pod.node_name for image in pod.images})
    if not asking or not images:
        return
    digest = hashlib.sha256("\n".join(images).encode()).hexdigest()[:16]
    slot = int(world.clock.now().timestamp() // SEED_LOOK.total_seconds())
    if world.ledger.once(f"seed-look/{digest}/{slot}", world.clock.now() + SEED_LOOK):
        try:
            world.workflows.start("seed", f"look-{digest}-{slot}", {"reason": "images in use"})
        except OutriderError as error:
            world.telemetry.log("seeds not looked for", problem=str(error))
