"""Bodies in Kubernetes' protobuf envelope, for the kinds that kubectl's own verbs write in it.

Typed Go clients (`kubectl drain`, `create deployment`, `auth can-i`) send protobuf and take
JSON back. The messages that they send are described below by field number; a message or a set
field that is not described is refused as an unsupported media type rather than read in part.
Refuses to write protobuf.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outrider.local.kube.objects import Obj
from outrider.local.kube.status import StatusError, bad_request, unsupported_media_type

MAGIC = b"k8s\x00"

# A field is (name, type): a scalar, a message by name, or [type] for repeated and {type} for a map.
Field = tuple[str, str]
_META = "ObjectMeta"
_MESSAGES: Mapping[str, Mapping[int, Field]] = {
    "ObjectMeta": {
        1: ("name", "string"),
        2: ("generateName", "string"),
        3: ("namespace", "string"),
        5: ("uid", "string"),
        6: ("resourceVersion", "string"),
        11: ("labels", "{string}"),
        12: ("annotations", "{string}"),
    },
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int"),
        2: ("preconditions", "Preconditions"),
        3: ("orphanDependents", "bool"),
        4: ("propagationPolicy", "string"),
        5: ("dryRun", "[string]"),
    },
    "Preconditions": {1: ("uid", "string"), 2: ("resourceVersion", "string")},
    "Eviction": {1: ("metadata", _META), 2: ("deleteOptions", "DeleteOptions")},
    "Binding": {1: ("metadata", _META), 2: ("target", "ObjectReference")},
    "ObjectReference": {
        1: ("kind", "string"),
        2: ("namespace", "string"),
        3: ("name", "string"),
        4: ("uid", "string"),
        5: ("apiVersion", "string"),
    },
    "SelfSubjectAccessReview": {1: ("metadata", _META), 2: ("spec", "AccessSpec")},
    "AccessSpec": {
        1: ("resourceAttributes", "ResourceAttributes"),
        2: ("nonResourceAttributes", "PathAttributes"),
    },
    "ResourceAttributes": {
        1: ("namespace", "string"),
        2: ("verb", "string"),
        3: ("group", "string"),
        4: ("version", "string"),
        5: ("resource", "string"),
        6: ("subresource", "string"),
        7: ("name", "string"),
    },
    "PathAttributes": {1: ("path", "string"), 2: ("verb", "string")},
    "SelfSubjectRulesReview": {1: ("metadata", _META), 2: ("spec", "RulesSpec")},
    "RulesSpec": {1: ("namespace", "string")},
    "SelfSubjectReview": {1: ("metadata", _META)},
    "Scale": {1: ("metadata", _META), 2: ("spec", "ScaleSpec")},
    "ScaleSpec": {1: ("replicas", "int")},
    "Namespace": {1: ("metadata", _META)},
    "ServiceAccount": {1: ("metadata", _META)},
    "ConfigMap": {1: ("metadata", _META), 2: ("data", "{string}")},
    "Secret": {1: ("metadata", _META), 2: ("data", "{bytes}"), 3: ("type", "string")},
    "PriorityClass": {
        1: ("metadata", _META),
        2: ("value", "int"),
        3: ("globalDefault", "bool"),
        4: ("description", "string"),
        5: ("preemptionPolicy", "string"),
    },
    "PodDisruptionBudget": {1: ("metadata", _META), 2: ("spec", "BudgetSpec")},
    "BudgetSpec": {
        1: ("minAvailable", "intstr"),
        2: ("selector", "LabelSelector"),
        3: ("maxUnavailable", "intstr"),
    },
    "LabelSelector": {1: ("matchLabels", "{string}"), 2: ("matchExpressions", "[Requirement]")},
    "Requirement": {1: ("key", "string"), 2: ("operator", "string"), 3: ("values", "[string]")},
    "Deployment": {1: ("metadata", _META), 2: ("spec", "DeploymentSpec")},
    "DeploymentSpec": {
        1: ("replicas", "int"),
        2: ("selector", "LabelSelector"),
        3: ("template", "PodTemplateSpec"),
    },
    "Job": {1: ("metadata", _META), 2: ("spec", "JobSpec")},
    "JobSpec": {
        1: ("parallelism", "int"),
        2: ("completions", "int"),
        3: ("activeDeadlineSeconds", "int"),
        6: ("template", "PodTemplateSpec"),
        7: ("backoffLimit", "int"),
    },
    "PodTemplateSpec": {1: ("metadata", _META), 2: ("spec", "PodSpec")},
    "Pod": {1: ("metadata", _META), 2: ("spec", "PodSpec")},
    "PodSpec": {
        2: ("containers", "[Container]"),
        3: ("restartPolicy", "string"),
        4: ("terminationGracePeriodSeconds", "int"),
        6: ("dnsPolicy", "string"),
        7: ("nodeSelector", "{string}"),
        8: ("serviceAccountName", "string"),
        10: ("nodeName", "string"),
    },
    "Container": {
        1: ("name", "string"),
        2: ("image", "string"),
        3: ("command", "[string]"),
        4: ("args", "[string]"),
        6: ("ports", "[ContainerPort]"),
        7: ("env", "[EnvVar]"),
        8: ("resources", "Resources"),
        14: ("imagePullPolicy", "string"),
    },
    "ContainerPort": {
        1: ("name", "string"),
        2: ("hostPort", "int"),
        3: ("containerPort", "int"),
        4: ("protocol", "string"),
    },
    "EnvVar": {1: ("name", "string"), 2: ("value", "string")},
    "Resources": {1: ("limits", "{Quantity}"), 2: ("requests", "{Quantity}")},
    "Quantity": {1: ("string", "string")},
    "IntOrString": {1: ("type", "int"), 2: ("intVal", "int"), 3: ("strVal", "string")},
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "bytes")},
    "TypeMeta": {1: ("apiVersion", "string"), 2: ("kind", "string")},
}


def decode(body: bytes) -> Obj:
    """Return the object in *body*, or refuse what is not described."""
    if not body.startswith(MAGIC):
        raise bad_request("the protobuf body does not begin with the Kubernetes prefix")
    try:
        envelope = _message(body[len(MAGIC) :], "Unknown")
        kind = (envelope.get("typeMeta") or {}).get("kind", "")
        if kind not in _MESSAGES:
            raise unsupported_media_type(f"{kind or 'this kind'} is read in JSON or YAML only")
        obj = _message(base64.b64decode(envelope.get("raw") or ""), kind)
    except (IndexError, UnicodeDecodeError) as cause:
        raise bad_request("the protobuf body is cut short") from cause
    return {**envelope["typeMeta"], **obj}


def _message(data: bytes, name: str) -> Obj:
    known = _MESSAGES[name]
    result: Obj = {}
    for number, wire, value in _fields(data):
        if number not in known:
            if not _says_nothing(value):
                raise unsupported_media_type(
                    f"field {number} of {name} is read in JSON or YAML only"
                )
            continue
        field, kind = known[number]
        if kind.startswith("["):
            result.setdefault(field, []).append(_value(value, kind[1:-1]))
        elif kind.startswith("{"):
            key, item = _pair(value, kind[1:-1])
            result.setdefault(field, {})[key] = item
        elif value or wire == 0 or kind not in {"string", "bytes"}:
            result[field] = _value(value, kind)
    return result


def _says_nothing(value: Any) -> bool:
    """Tell whether an undescribed field holds zeroes only, as Go writes unset structs."""
    if not value:
        return True
    if isinstance(value, int):
        return False
    try:
        return all(_says_nothing(below) for _, _, below in _fields(value))
    except (IndexError, StatusError):
        return False


def _pair(data: Any, kind: str) -> tuple[str, Any]:
    parts = {number: value for number, _, value in _fields(data)}
    return parts.get(1, b"").decode(), _value(parts.get(2, b""), kind)


def _value(value: Any, kind: str) -> Any:
    scalar = _SCALARS.get(kind)
    return scalar(value) if scalar else _message(value, kind)


def _int_or_string(value: bytes) -> Any:
    either = _message(value, "IntOrString")
    return either.get("strVal", "") if either.get("type") else either.get("intVal", 0)


_SCALARS: Mapping[str, Callable[[Any], Any]] = {
    "string": lambda value: value.decode(),
    "bytes": lambda value: base64.b64encode(value).decode(),
    "bool": bool,
    "int": lambda value: value - (1 << 64) if value >= 1 << 63 else value,
    "intstr": _int_or_string,
    "Quantity": lambda value: _message(value, "Quantity").get("string", "0"),
}


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield (number, wire type, value) of a message."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        match wire:
            case 0:
                value, place = _varint(data, place)
                yield number, wire, value
            case 2:
                size, place = _varint(data, place)
                if place + size > len(data):
                    raise IndexError(place)
                yield number, wire, data[place : place + size]
                place += size
            case _:
                raise unsupported_media_type(f"wire type {wire} is not read")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, place
        shift += 7
