"""Node: labels, taints, room and conditions of one machine in the cluster.

A slim record projected from the API's JSON. Refuses to know its pods and its NodeClaim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from outrider.apis import meta, placement
from outrider.apis.fields import Json, boolean, mapping, objects, string, time
from outrider.apis.labels import INITIALIZED, NODEPOOL, REGISTERED, normalised
from outrider.apis.placement import Taint
from outrider.apis.quantity import Resources, resources

__all__ = ["Node", "NodeCondition", "Taint", "parse"]


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """One condition of a node."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One Node; `labels` carry today's names (beta names are translated)."""

    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    provider_id: str = ""
    allocatable: Resources = field(default_factory=dict)
    capacity: Resources = field(default_factory=dict)
    unschedulable: bool = False
    ready: bool = False
    conditions: tuple[NodeCondition, ...] = ()
    created: datetime | None = None
    deleted: datetime | None = None
    images: tuple[str, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def node_pool(self) -> str:
        """Return the name of the NodePool the node belongs to, or ""."""
        return self.labels.get(NODEPOOL, "")

    @property
    def registered(self) -> bool:
        """Return whether the node is marked registered."""
        return self.labels.get(REGISTERED) == "true"

    @property
    def initialized(self) -> bool:
        """Return whether the node is marked initialised."""
        return self.labels.get(INITIALIZED) == "true"

    @property
    def instance_id(self) -> str:
        """Return the EC2 instance id in the provider id, or ""."""
        return self.provider_id.rpartition("/")[2] if self.provider_id.startswith("aws:") else ""


def parse(document: Json) -> Node:
    """Return the Node in *document*."""
    identity = meta.parse(document)
    spec = mapping(document, "spec")
    status = mapping(document, "status")
    conditions = tuple(_condition(item) for item in objects(status, "conditions", "status"))
    capacity = resources(status.get("capacity"), "status.capacity")
    allocatable = resources(status.get("allocatable"), "status.allocatable")
    return Node(
        name=identity.name,
        uid=identity.uid,
        labels=normalised(identity.labels),
        annotations=identity.annotations,
        taints=placement.taints(spec, "taints", "spec"),
        provider_id=string(spec, "providerID", "spec"),
        allocatable=allocatable or capacity,
        capacity=capacity or allocatable,
        unschedulable=boolean(spec, "unschedulable", "spec"),
        ready=any(item.type == "Ready" and item.status == "True" for item in conditions),
        conditions=conditions,
        created=identity.creation_timestamp,
        deleted=identity.deletion_timestamp,
        images=_images(status),
        finalizers=identity.finalizers,
    )


def _condition(item: Json) -> NodeCondition:
    path = "status.conditions"
    return NodeCondition(
        type=string(item, "type", path),
        status=string(item, "status", path),
        reason=string(item, "reason", path),
        message=string(item, "message", path),
        since=time(item, "lastTransitionTime", path),
    )


def _images(status: Json) -> tuple[str, ...]:
    return tuple(
        str(name)
        for item in objects(status, "images", "status")
        for name in item.get("names") or ()
    )
