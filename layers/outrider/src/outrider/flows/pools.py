"""NodePools' status: whether each can be used, and what it has.

Ready follows from the node class (a pool that does not parse never gets here). What is malformed
but holds back only disruption or headroom, a budget's schedule or a resource list, is said in
ValidationSucceeded, and the pool goes on launching. Resources are those of its Nodes, and of
NodeClaims whose Node is not there yet, each machine once. Written only when something changed.
Refuses to enforce limits: the planner does.
"""

from __future__ import annotations

from typing import Any

from outrider.apis import labels, quantity
from outrider.apis.nodepool import NodePool
from outrider.core import headroom
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption import budgets
from outrider.core.launch import nodeclaim, readiness
from outrider.core.resources import Resources, total
from outrider.errors import ClusterError
from outrider.flows.ports import World

CLASS_READY = "NodeClassReady"
VALIDATION = "ValidationSucceeded"
READY = "Ready"


def report(world: World, state: ClusterState) -> None:
    """Write the status of every NodePool of ours that has changed."""
    used = _used(state)
    for pool in state.nodepools:
        if pool.spec.template.spec.node_class_ref.group != labels.NODECLASS_GROUP:
            continue
        status = _status(world, pool, state, used.get(pool.name, []))
        if _changed(pool, status):
            try:
                world.cluster.patch_status("NodePool", pool.name, status)
            except ClusterError as error:
                world.telemetry.log("status not written", node_pool=pool.name, problem=str(error))


def _used(state: ClusterState) -> dict[str, list[Resources]]:
    """Return what each pool has, one entry a machine."""
    used: dict[str, list[Resources]] = {}
    for node in state.nodes:
        if node.node_pool:
            used.setdefault(node.node_pool, []).append(node.capacity)
    for claim in state.nodeclaims:
        if claim.node_pool and state.node_of(claim) is None:
            used.setdefault(claim.node_pool, []).append(claim.status.capacity)
    return used


def _status(
    world: World, pool: NodePool, state: ClusterState, used: list[Resources]
) -> dict[str, Any]:
    name = pool.spec.template.spec.node_class_ref.name
    node_class = state.nodeclass(name)
    problem = ""
    if node_class is None:
        problem = f"EC2NodeClass {name} does not exist"
    elif not node_class.status.is_true(readiness.READY):
        ready = node_class.status.condition(readiness.READY)
        problem = f"EC2NodeClass {name} is not ready: {ready.message if ready else 'not seen yet'}"
    malformed = budgets.problem(pool) or headroom.problem(pool)
    now = world.clock.now()
    fresh = [
        nodeclaim.condition(
            VALIDATION,
            holds=not malformed,
            reason="Malformed" if malformed else VALIDATION,
            now=now,
            message=malformed,
        ),
        nodeclaim.condition(
            CLASS_READY,
            holds=not problem,
            reason="NodeClassNotReady" if problem else CLASS_READY,
            now=now,
            message=problem,
        ),
        nodeclaim.condition(
            READY,
            holds=not problem,
            reason="UnhealthyDependents" if problem else READY,
            now=now,
            message=problem,
        ),
    ]
    old = [entry.to_json() for entry in pool.status.conditions]
    resources = {**total(used), "nodes": len(used)}
    return {
        "conditions": nodeclaim.conditions(fresh, old),
        "resources": quantity.listing(resources),
        "nodes": len(used),
    }


def _changed(pool: NodePool, status: dict[str, Any]) -> bool:
    before = {one.type: (one.status, one.message) for one in pool.status.conditions}
    after = {one["type"]: (one["status"], one["message"]) for one in status["conditions"]}
    known = quantity.listing(pool.status.resources)
    return before != after or known != status["resources"] or pool.status.nodes != status["nodes"]
