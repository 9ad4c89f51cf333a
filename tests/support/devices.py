"""Builders for dynamic resource allocation: classes, claims, templates, slices and devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.builders import Json

API = "resource.k8s.io/v1"
DRIVER = "gpu.example.com"


def device_class(name: str = "gpu", *expressions: str, **spec: Any) -> Json:
    """Return a DeviceClass that every one of *expressions* selects for; by default, a driver."""
    chosen = expressions or (f'device.driver == "{DRIVER}"',)
    return {
        "apiVersion": API,
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": _cel(chosen), **spec},
    }


def _cel(expressions: Sequence[str]) -> list[Json]:
    return [{"cel": {"expression": text}} for text in expressions]


def request(
    name: str = "gpu",
    *expressions: str,
    count: int = 1,
    of: str = "gpu",
    **more: Any,
) -> Json:
    """Return a request for exactly *count* devices of the class *of*."""
    body: Json = {"deviceClassName": of, "count": count, **more}
    if expressions:
        body["selectors"] = _cel(expressions)
    return {"name": name, "exactly": body}


def first_of(name: str, *choices: Json) -> Json:
    """Return a request whose *choices* are alternatives, the first that can be had wins."""
    listed = [{"name": item["name"], **item["exactly"]} for item in choices]
    return {"name": name, "firstAvailable": listed}


def together(attribute: str, *requests: str) -> Json:
    """Return a constraint that devices share the value of *attribute*."""
    return {"requests": list(requests), "matchAttribute": attribute}


def resource_claim(
    name: str = "claim",
    *requests: Json,
    constraints: Sequence[Json] = (),
    allocated: Sequence[str] | None = None,
    node: str = "node",
    pool: str = "pool",
    reserved: Sequence[str] = (),
    admin: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Json:
    """Return a ResourceClaim; *allocated* are its devices on *node*, *reserved* pods' names."""
    document: Json = {
        "apiVersion": API,
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default", **(metadata or {})},
        "spec": _spec(requests, constraints),
    }
    if allocated is not None:
        document["status"] = {
            "allocation": {
                "devices": {
                    "results": [
                        {
                            "request": "gpu",
                            "driver": DRIVER,
                            "pool": pool,
                            "device": item,
                            **({"adminAccess": True} if admin else {}),
                        }
                        for item in allocated
                    ]
                },
                "nodeSelector": {
                    "nodeSelectorTerms": [
                        {
                            "matchFields": [
                                {"key": "metadata.name", "operator": "In", "values": [node]}
                            ]
                        }
                    ]
                },
            },
            "reservedFor": [
                {"resource": "pods", "name": item, "uid": f"uid-default-{item}"}
                for item in reserved
            ],
        }
    return document


def claim_template(name: str, *requests: Json, constraints: Sequence[Json] = ()) -> Json:
    """Return a ResourceClaimTemplate."""
    return {
        "apiVersion": API,
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"spec": _spec(requests, constraints)},
    }


def _spec(requests: Sequence[Json], constraints: Sequence[Json]) -> Json:
    devices: Json = {"requests": list(requests or (request(),))}
    if constraints:
        devices["constraints"] = list(constraints)
    return {"devices": devices}


def claiming(*claims: str, template: str = "") -> Json:
    """Return the part of a pod's spec that uses *claims* by name, or one made from *template*."""
    listed = [{"name": f"c{place}", "resourceClaimName": name} for place, name in enumerate(claims)]
    if template:
        listed.append({"name": "made", "resourceClaimTemplateName": template})
    return {"resourceClaims": listed}


def device(
    name: str = "gpu-0", capacity: Mapping[str, str] | None = None, **attributes: Any
) -> Json:
    """Return one device of a slice; text, whole numbers and booleans are typed as they are."""
    found: Json = {"name": name, "attributes": {key: _typed(v) for key, v in attributes.items()}}
    if capacity:
        found["capacity"] = {key: {"value": value} for key, value in capacity.items()}
    return found


def _typed(value: Any) -> Json:
    if isinstance(value, Mapping):
        return dict(value)
    kind = {bool: "bool", int: "int"}.get(type(value), "string")
    return {kind: value}


def resource_slice(
    name: str = "slice",
    *devices: Json,
    node: str | None = "node",
    pool: str = "pool",
    generation: int = 1,
    of: int = 1,
    **spec: Any,
) -> Json:
    """Return a ResourceSlice, one *of* so many that make the pool."""
    where: Json = {"nodeName": node} if node else {"allNodes": True}
    return {
        "apiVersion": API,
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": DRIVER,
            "pool": {"name": pool, "generation": generation, "resourceSliceCount": of},
            **where,
            "devices": list(devices),
            **spec,
        },
    }


def publishing(
    count: int = 1, capacity: Mapping[str, str] | None = None, **attributes: Any
) -> Json:
    """Return one line of a catalogue entry's `devices`."""
    shown = device("", capacity, **attributes)
    del shown["name"]
    return {"driver": DRIVER, "count": count, **shown}
