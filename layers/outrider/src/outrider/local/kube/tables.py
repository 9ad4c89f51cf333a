"""What `kubectl get` prints: objects as rows of a `meta.k8s.io/v1` Table.

Columns of the kinds that people look at, the printer columns of CRDs, name and age for the rest.
Matches the printers of kube-apiserver; ages are on the embedded clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from outrider.local.kube.objects import Obj, is_leaving, is_true, labels_of, read_stamp
from outrider.local.kube.resources import Resource

Cell = Callable[[Obj, datetime], Any]
Column = tuple[str, str, int, Cell]  # name, type, priority, value


def table(
    objects: Iterable[Obj], resource: Resource, now: datetime, include: str, meta: Obj
) -> Obj:
    """Return *objects* as a Table; *include* is Object, Metadata or None."""
    columns = _columns(resource)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [
            {
                "name": name,
                "type": kind,
                "format": "name" if name == "Name" else "",
                "description": name,
                "priority": priority,
            }
            for name, kind, priority, _ in columns
        ],
        "rows": [
            {"cells": [cell(one, now) for *_, cell in columns], **_row_object(one, include)}
            for one in objects
        ],
    }


def _row_object(obj: Obj, include: str) -> Obj:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": obj}
    return {"object": partial(obj)}


def partial(obj: Obj) -> Obj:
    """Return the PartialObjectMetadata of *obj*."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def age(then: str | None, now: datetime) -> str:
    """Return how long ago *then* was, as kubectl writes it."""
    start = read_stamp(then)
    if start is None:
        return "<unknown>"
    seconds = max(int((now - start).total_seconds()), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if days < 2 else f"{days}d"


def _at(obj: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def _field(path: str, missing: Any = "<none>") -> Cell:
    def cell(obj: Obj, _now: datetime) -> Any:
        value = _at(obj, path)
        return missing if value is None or value == "" else value

    return cell


def _age(obj: Obj, now: datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _pod_ready(pod: Obj, _now: datetime) -> str:
    statuses = _at(pod, "status.containerStatuses") or ()
    ready = sum(bool(one.get("ready")) for one in statuses)
    return f"{ready}/{len(pod['spec'].get('containers') or ())}"


def _pod_status(pod: Obj, _now: datetime) -> str:
    if is_leaving(pod):
        return "Terminating"
    status = pod.get("status") or {}
    if status.get("reason"):
        return str(status["reason"])
    for one in status.get("containerStatuses") or ():
        waiting = _at(one, "state.waiting.reason")
        if waiting:
            return str(waiting)
    phase = status.get("phase", "Unknown")
    return "Completed" if phase == "Succeeded" else "Error" if phase == "Failed" else str(phase)


def _restarts(pod: Obj, _now: datetime) -> int:
    return sum(one.get("restartCount", 0) for one in _at(pod, "status.containerStatuses") or ())


def _node_status(node: Obj, _now: datetime) -> str:
    words = ["Ready" if is_true(node, "Ready") else "NotReady"]
    if (node.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: Obj, _now: datetime) -> str:
    prefix = "node-role.kubernetes.io/"
    roles = sorted(name.removeprefix(prefix) for name in labels_of(node) if name.startswith(prefix))
    return ",".join(roles) or "<none>"


def _address(kind: str) -> Cell:
    def cell(node: Obj, _now: datetime) -> str:
        for one in _at(node, "status.addresses") or ():
            if one.get("type") == kind:
                return str(one.get("address"))
        return "<none>"

    return cell


def _of(part: str, whole: str) -> Cell:
    return lambda obj, _now: f"{_at(obj, part) or 0}/{_at(obj, whole) or 0}"


def _last_seen(event: Obj, now: datetime) -> str:
    meta = event["metadata"]
    seen = (
        _at(event, "series.lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("deprecatedLastTimestamp")
    )
    return age(seen or event.get("eventTime") or meta.get("creationTimestamp"), now)


def _event_object(event: Obj, _now: datetime) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def _event_message(event: Obj, _now: datetime) -> str:
    return str(event.get("message") or event.get("note") or "")


_NAME: Column = ("Name", "string", 0, _field("metadata.name"))
_AGE: Column = ("Age", "string", 0, _age)
_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "pods": (
        _NAME,
        ("Ready", "string", 0, _pod_ready),
        ("Status", "string", 0, _pod_status),
        ("Restarts", "integer", 0, _restarts),
        _AGE,
        ("IP", "string", 1, _field("status.podIP")),
        ("Node", "string", 1, _field("spec.nodeName")),
        ("Nominated Node", "string", 1, _field("status.nominatedNodeName")),
        ("Readiness Gates", "string", 1, lambda _pod, _now: "<none>"),
    ),
    "nodes": (
        _NAME,
        ("Status", "string", 0, _node_status),
        ("Roles", "string", 0, _node_roles),
        _AGE,
        ("Version", "string", 0, _field("status.nodeInfo.kubeletVersion", "")),
        ("Internal-IP", "string", 1, _address("InternalIP")),
        ("External-IP", "string", 1, _address("ExternalIP")),
        ("OS-Image", "string", 1, _field("status.nodeInfo.osImage", "<unknown>")),
        ("Kernel-Version", "string", 1, _field("status.nodeInfo.kernelVersion", "<unknown>")),
        (
            "Container-Runtime",
            "string",
            1,
            _field("status.nodeInfo.containerRuntimeVersion", "<unknown>"),
        ),
    ),
    "deployments.apps": (
        _NAME,
        ("Ready", "string", 0, _of("status.readyReplicas", "spec.replicas")),
        ("Up-to-date", "integer", 0, _field("status.updatedReplicas", 0)),
        ("Available", "integer", 0, _field("status.availableReplicas", 0)),
        _AGE,
    ),
    "replicasets.apps": (
        _NAME,
        ("Desired", "integer", 0, _field("spec.replicas", 0)),
        ("Current", "integer", 0, _field("status.replicas", 0)),
        ("Ready", "integer", 0, _field("status.readyReplicas", 0)),
        _AGE,
    ),
    "statefulsets.apps": (
        _NAME,
        ("Ready", "string", 0, _of("status.readyReplicas", "spec.replicas")),
        _AGE,
    ),
    "daemonsets.apps": (
        _NAME,
        ("Desired", "integer", 0, _field("status.desiredNumberScheduled", 0)),
        ("Current", "integer", 0, _field("status.currentNumberScheduled", 0)),
        ("Ready", "integer", 0, _field("status.numberReady", 0)),
        ("Up-to-date", "integer", 0, _field("status.updatedNumberScheduled", 0)),
        ("Available", "integer", 0, _field("status.numberAvailable", 0)),
        _AGE,
    ),
    "jobs.batch": (
        _NAME,
        ("Completions", "string", 0, _of("status.succeeded", "spec.completions")),
        _AGE,
    ),
    "poddisruptionbudgets.policy": (
        _NAME,
        ("Min Available", "string", 0, _field("spec.minAvailable", "N/A")),
        ("Max Unavailable", "string", 0, _field("spec.maxUnavailable", "N/A")),
        ("Allowed Disruptions", "integer", 0, _field("status.disruptionsAllowed", 0)),
        _AGE,
    ),
    "namespaces": (_NAME, ("Status", "string", 0, _field("status.phase")), _AGE),
    "events": (
        ("Last Seen", "string", 0, _last_seen),
        ("Type", "string", 0, _field("type")),
        ("Reason", "string", 0, _field("reason")),
        ("Object", "string", 0, _event_object),
        ("Message", "string", 0, _event_message),
        ("Name", "string", 1, _field("metadata.name")),
    ),
    "persistentvolumeclaims": (
        _NAME,
        ("Status", "string", 0, _field("status.phase")),
        ("Volume", "string", 0, _field("spec.volumeName", "")),
        ("StorageClass", "string", 0, _field("spec.storageClassName", "")),
        _AGE,
    ),
    "persistentvolumes": (
        _NAME,
        ("Capacity", "string", 0, _field("spec.capacity.storage", "")),
        ("Status", "string", 0, _field("status.phase")),
        ("StorageClass", "string", 0, _field("spec.storageClassName", "")),
        _AGE,
    ),
    "leases.coordination.k8s.io": (
        _NAME,
        ("Holder", "string", 0, _field("spec.holderIdentity", "")),
        _AGE,
    ),
    "priorityclasses.scheduling.k8s.io": (
        _NAME,
        ("Value", "integer", 0, _field("value")),
        ("Global-Default", "boolean", 0, _field("globalDefault", missing=False)),
        _AGE,
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (
        _NAME,
        ("Created At", "date", 0, _field("metadata.creationTimestamp")),
    ),
}


def _columns(resource: Resource) -> tuple[Column, ...]:
    if resource.custom is not None and resource.custom.columns:
        return (_NAME, *(_custom_column(one) for one in resource.custom.columns))
    return _COLUMNS.get(resource.storage, (_NAME, _AGE))


def _custom_column(column: Obj) -> Column:
    path = column["jsonPath"]
    kind = column.get("type", "string")

    def cell(obj: Obj, now: datetime) -> Any:
        value = json_path(obj, path)
        return age(value, now) if kind == "date" else value

    return (
        column["name"],
        "string" if kind == "date" else kind,
        int(column.get("priority", 0)),
        cell,
    )


_STEP = re.compile(
    r"""\.(?P<name>(?:[^.\[\\]|\\.)+)|\[(?P<index>-?\d+|\*)\]|\['(?P<quoted>[^']+)'\]"""
    r"""|\[\?\(@\.(?P<key>[\w.]+)\s*==\s*["'](?P<value>[^"']*)["']\)\]"""
)


def json_path(obj: Any, path: str) -> Any:
    """Return what the simple JSONPath of a printer column finds, None where it finds nothing."""
    for step in _STEP.finditer(path):
        if obj is None:
            return None
        obj = _step(obj, step)
    return obj


def _step(obj: Any, step: re.Match[str]) -> Any:
    name = step["name"] or step["quoted"]
    if name is not None:
        return obj.get(name.replace("\\.", ".")) if isinstance(obj, dict) else None
    if not isinstance(obj, list):
        return None
    if step["index"] is not None:
        if step["index"] == "*":
            return obj[0] if obj else None
        place = int(step["index"])
        return obj[place] if -len(obj) <= place < len(obj) else None
    return next((one for one in obj if str(_at(one, step["key"])) == step["value"]), None)
