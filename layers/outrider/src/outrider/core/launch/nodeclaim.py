"""NodeClaims as Karpenter's users know them: the manifest before a launch, the status after it.

A NodeClaim is created before CreateFleet and carries what a later invocation needs: its decision,
the hashes that drift compares, the pods that it was planned for. Its name comes from the decision
and its place in it, so that a repeated invocation finds the one it made before. The finalizer keeps
an instance from being stranded by `kubectl delete`.

Refuses to know when a condition becomes true (`core.lifecycle`) and how objects are written.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from outrider.apis import duration, labels, nodeclass, nodepool, quantity
from outrider.apis.nodeclass import EC2NodeClass
from outrider.apis.nodepool import NodePool
from outrider.apis.placement import Taint
from outrider.core.catalog.instancetype import InstanceType
from outrider.core.launch import launchedinto
from outrider.core.launch.fleet import Order
from outrider.core.records import Instance
from outrider.core.resources import allocatable
from outrider.core.scheduling.result import Launch
from outrider.core.scheduling.supply import region_of

API_VERSION = "karpenter.sh/v1"
LAUNCHED = "Launched"
REGISTERED = "Registered"
INITIALIZED = "Initialized"
READY = "Ready"

_NAME_ROOM = 63 - 9


def name(node_pool: str, decision: str, place: int | str) -> str:
    """Return the NodeClaim name for the launch at *place* of a decision."""
    digest = hashlib.sha256(f"{decision}/{node_pool}/{place}".encode()).digest()
    suffix = base64.b32encode(digest[:5]).decode().lower()
    return f"{node_pool[:_NAME_ROOM].rstrip('-.')}-{suffix}"


def manifest(
    order: Order, decision: str, node_pool: NodePool | None, node_class: EC2NodeClass | None
) -> dict[str, Any]:
    """Return the NodeClaim to create for *order*."""
    launch = order.launch
    annotations = {
        **launch.annotations,
        labels.DECISION: decision,
        labels.PODS: pods_text(launch.pods),
    }
    metadata: dict[str, Any] = {
        "name": order.claim,
        "labels": {
            **launch.labels,
            labels.NODEPOOL: launch.node_pool,
            labels.NODECLASS_LABEL: launch.node_class,
        },
        "annotations": annotations,
        "finalizers": [labels.TERMINATION_FINALIZER],
    }
    if node_pool is not None:
        annotations[labels.NODEPOOL_HASH] = node_pool.hash
        annotations[labels.NODEPOOL_HASH_VERSION] = nodepool.HASH_VERSION
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": "NodePool",
                "name": node_pool.metadata.name,
                "uid": node_pool.metadata.uid,
                "blockOwnerDeletion": True,
            }
        ]
    if node_class is not None:
        annotations[labels.NODECLASS_HASH] = node_class.hash
        annotations[labels.NODECLASS_HASH_VERSION] = nodeclass.HASH_VERSION
        annotations |= launchedinto.selected(node_class)
    return {
        "apiVersion": API_VERSION,
        "kind": "NodeClaim",
        "metadata": metadata,
        "spec": _spec(launch),
    }


def launched_labels(instance: Instance, kind: InstanceType | None) -> dict[str, str]:
    """Return the labels that a NodeClaim gains once EC2 has chosen *instance* of *kind*."""
    known = dict(kind.requirements.labels()) if kind else {}
    known |= {
        labels.INSTANCE_TYPE: instance.instance_type,
        labels.ZONE: instance.zone,
        labels.REGION: region_of(instance.zone),
        labels.CAPACITY_TYPE: instance.capacity_type,
    }
    offering = next(
        (
            offering
            for offering in (kind.offerings if kind else ())
            if offering.zone == instance.zone and offering.zone_id
        ),
        None,
    )
    if offering is not None:
        known[labels.ZONE_ID] = offering.zone_id
    if instance.reservation_id:
        known[labels.CAPACITY_RESERVATION_ID] = instance.reservation_id
    return known


def launched_status(
    instance: Instance, kind: InstanceType | None, max_pods: int | None, now: datetime
) -> dict[str, Any]:
    """Return the status that a NodeClaim gains with its instance."""
    status: dict[str, Any] = {
        "providerID": instance.provider_id,
        "imageID": instance.image_id,
        "conditions": conditions(
            (
                condition(LAUNCHED, holds=True, reason=LAUNCHED, now=now),
                condition(
                    REGISTERED,
                    holds=None,
                    reason="NodeNotFound",
                    now=now,
                    message="the Node has not registered yet",
                ),
                condition(
                    INITIALIZED,
                    holds=None,
                    reason="NodeNotFound",
                    now=now,
                    message="the Node has not registered yet",
                ),
                condition(READY, holds=None, reason="UnhealthyDependents", now=now),
            )
        ),
    }
    if kind is not None and kind.capacity:
        capacity = dict(kind.capacity)
        if max_pods is not None:
            capacity["pods"] = max_pods
        status["capacity"] = quantity.listing(capacity)
        status["allocatable"] = quantity.listing(allocatable(capacity, kind.overhead))
    return status


def condition(
    kind: str, *, holds: bool | None, reason: str, now: datetime, message: str = ""
) -> dict[str, Any]:
    """Return one status condition; *holds* None is Unknown."""
    return {
        "type": kind,
        "status": {True: "True", False: "False", None: "Unknown"}[holds],
        "reason": reason,
        "message": message,
        "lastTransitionTime": duration.stamp(now),
    }


def conditions(
    fresh: Iterable[Mapping[str, Any]], old: Iterable[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return *old* conditions with *fresh* ones put in; one that did not change keeps its time."""
    result = {str(entry["type"]): dict(entry) for entry in old}
    for entry in fresh:
        before = result.get(str(entry["type"]))
        result[str(entry["type"])] = dict(entry)
        if before and before["status"] == entry["status"] and "lastTransitionTime" in before:
            result[str(entry["type"])]["lastTransitionTime"] = before["lastTransitionTime"]
    return [result[name] for name in sorted(result)]


def pods_text(pods: Iterable[str]) -> str:
    """Return planned *pods* as the annotation that lifecycle reads back."""
    return ",".join(sorted(pods))


def _spec(launch: Launch) -> dict[str, Any]:
    requirements = [dict(entry) for entry in launch.requirements.to_json()]
    named = {entry["key"] for entry in requirements}
    implied = {
        labels.INSTANCE_TYPE: launch.instance_types,
        labels.CAPACITY_TYPE: tuple(dict.fromkeys(c.capacity_type for c in launch.choices)),
        labels.ZONE: tuple(dict.fromkeys(c.zone for c in launch.choices)),
    }
    requirements += [
        {"key": key, "operator": "In", "values": sorted(values)}
        for key, values in implied.items()
        if key not in named
    ]
    spec: dict[str, Any] = {
        "requirements": requirements,
        "resources": {"requests": quantity.listing(launch.requests)},
        "nodeClassRef": {
            "group": labels.NODECLASS_GROUP,
            "kind": "EC2NodeClass",
            "name": launch.node_class,
        },
        "expireAfter": launch.expire_after or "720h",
    }
    if launch.taints:
        spec["taints"] = [taint_json(taint) for taint in launch.taints]
    if launch.startup_taints:
        spec["startupTaints"] = [taint_json(taint) for taint in launch.startup_taints]
    if launch.termination_grace_period:
        spec["terminationGracePeriod"] = launch.termination_grace_period
    return spec


def taint_json(taint: Taint) -> dict[str, str]:
    """Return *taint* as the API has it."""
    entry = {"key": taint.key, "effect": taint.effect}
    return entry | ({"value": taint.value} if taint.value else {})
