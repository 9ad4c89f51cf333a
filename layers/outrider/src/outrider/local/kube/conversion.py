"""One object, several versions: Events in core/v1 and events.k8s.io/v1, and CRDs without a webhook.

Objects are stored in the storage version (for Events core/v1) and converted as they go in and out.
Matches Kubernetes: Events rename fields, custom objects change only their apiVersion (strategy
None).
"""

from __future__ import annotations

from outrider.local.kube.objects import Obj
from outrider.local.kube.resources import Resource

EVENTS_V1 = "events.k8s.io/v1"
_CORE_TO_EVENTS = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENTS_TO_CORE = {new: old for old, new in _CORE_TO_EVENTS.items()}


def to_served(obj: Obj, resource: Resource) -> Obj:
    """Return a stored *obj* as *resource* serves it."""
    if obj.get("apiVersion") == resource.api_version:
        return obj
    if resource.storage == "events":
        obj = {_CORE_TO_EVENTS.get(name, name): value for name, value in obj.items()}
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}


def to_stored(obj: Obj, resource: Resource, storage_version: Resource) -> Obj:
    """Return *obj*, sent as *resource*, in the version that is stored."""
    if resource.api_version == storage_version.api_version:
        return obj
    if resource.storage == "events":
        obj = {_EVENTS_TO_CORE.get(name, name): value for name, value in obj.items()}
    return {**obj, "apiVersion": storage_version.api_version}
