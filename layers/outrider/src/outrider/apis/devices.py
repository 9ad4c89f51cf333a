"""Dynamic resource allocation: claims, classes and slices of devices (resource.k8s.io/v1).

Slim records; CEL expressions stay text. Refuses to allocate: `core.scheduling.devices` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outrider.apis import meta
from outrider.apis.fields import Json, integer, join, mapping, objects, one_of, string, strings
from outrider.errors import InvalidManifest

EXACT_COUNT, ALL = "ExactCount", "All"


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One request of a claim: *count* devices of a class that every selector accepts."""

    name: str
    device_class: str
    selectors: tuple[str, ...] = ()
    count: int = 1
    mode: str = EXACT_COUNT
    admin_access: bool = False


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    """What a claim asks: each entry is a list of alternatives, the first that can be had wins."""

    requests: tuple[tuple[DeviceRequest, ...], ...] = ()
    match_attributes: tuple[tuple[tuple[str, ...], str], ...] = ()
    other_constraints: bool = False


@dataclass(frozen=True, slots=True)
class ResourceClaim:
    """One ResourceClaim; `allocated` is (driver, pool, device) and, where known, its node."""

    namespace: str
    name: str
    spec: ClaimSpec
    allocated: tuple[tuple[str, str, str], ...] = ()
    is_allocated: bool = False
    node_terms: Json | None = None
    reserved_for: tuple[str, ...] = ()  # pod uids


@dataclass(frozen=True, slots=True)
class ResourceClaimTemplate:
    """One ResourceClaimTemplate."""

    namespace: str
    name: str
    spec: ClaimSpec


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """One DeviceClass."""

    name: str
    selectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """One device: attributes and capacities as the driver publishes them."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    capacity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceSlice:
    """One slice of a driver's devices, on a node or for all nodes."""

    name: str
    driver: str
    pool: str
    node: str
    all_nodes: bool
    devices: tuple[Device, ...]


def parse_claim(document: Json) -> ResourceClaim:
    """Return the ResourceClaim in *document*."""
    identity = meta.parse(document, namespaced=True)
    status = mapping(document, "status")
    allocation = mapping(status, "allocation", "status")
    results = objects(mapping(allocation, "devices", "status"), "results", "status.allocation")
    return ResourceClaim(
        namespace=identity.namespace,
        name=identity.name,
        spec=_claim(mapping(document, "spec"), "spec"),
        allocated=tuple(
            (
                string(item, "driver", "status.allocation"),
                string(item, "pool", "status.allocation"),
                string(item, "device", "status.allocation"),
            )
            for item in results
        ),
        is_allocated=bool(allocation),
        node_terms=allocation.get("nodeSelector"),
        reserved_for=tuple(
            string(item, "uid", "status.reservedFor")
            for item in objects(status, "reservedFor", "status")
        ),
    )


def parse_template(document: Json) -> ResourceClaimTemplate:
    """Return the ResourceClaimTemplate in *document*."""
    identity = meta.parse(document, namespaced=True)
    spec = mapping(mapping(document, "spec"), "spec", "spec")
    return ResourceClaimTemplate(identity.namespace, identity.name, _claim(spec, "spec.spec"))


def _claim(spec: Json, path: str) -> ClaimSpec:
    devices = mapping(spec, "devices", path)
    where = join(path, "devices")
    constraints = objects(devices, "constraints", where)
    return ClaimSpec(
        requests=tuple(
            _alternatives(item, f"{where}.requests[{index}]")
            for index, item in enumerate(objects(devices, "requests", where))
        ),
        match_attributes=tuple(
            (strings(item, "requests", where), string(item, "matchAttribute", where))
            for item in constraints
            if item.get("matchAttribute")
        ),
        other_constraints=any(not item.get("matchAttribute") for item in constraints),
    )


def _alternatives(item: Json, path: str) -> tuple[DeviceRequest, ...]:
    name = string(item, "name", path)
    if item.get("firstAvailable"):
        return tuple(
            _request(choice, f"{name}/{string(choice, 'name', path)}", path)
            for choice in objects(item, "firstAvailable", path)
        )
    return (_request(mapping(item, "exactly", path) or item, name, path),)


def _request(item: Json, name: str, path: str) -> DeviceRequest:
    device_class = string(item, "deviceClassName", path)
    if not device_class:
        raise InvalidManifest("is required", path=join(path, "deviceClassName"))
    return DeviceRequest(
        name=name,
        device_class=device_class,
        selectors=_selectors(item, path),
        count=integer(item, "count", path, default=1, least=1),
        mode=one_of(item, "allocationMode", frozenset({EXACT_COUNT, ALL}), path, EXACT_COUNT),
        admin_access=item.get("adminAccess") is True,
    )


def _selectors(item: Json, path: str) -> tuple[str, ...]:
    return tuple(
        string(mapping(line, "cel", path), "expression", join(path, "selectors.cel"))
        for line in objects(item, "selectors", path)
    )


def parse_class(document: Json) -> DeviceClass:
    """Return the DeviceClass in *document*."""
    return DeviceClass(meta.parse(document).name, _selectors(mapping(document, "spec"), "spec"))


def parse_slice(document: Json) -> ResourceSlice:
    """Return the ResourceSlice in *document*."""
    spec = mapping(document, "spec")
    return ResourceSlice(
        name=meta.parse(document).name,
        driver=string(spec, "driver", "spec"),
        pool=string(mapping(spec, "pool", "spec"), "name", "spec.pool"),
        node=string(spec, "nodeName", "spec"),
        all_nodes=spec.get("allNodes") is True,
        devices=tuple(
            _device(item, f"spec.devices[{index}]")
            for index, item in enumerate(objects(spec, "devices", "spec"))
        ),
    )


def _device(item: Json, path: str) -> Device:
    body = mapping(item, "basic", path) or item
    attributes = {
        name: next(iter(value.values()), None) if isinstance(value, Mapping) else value
        for name, value in mapping(body, "attributes", path).items()
    }
    capacity = {
        name: str(value.get("value", "0")) if isinstance(value, Mapping) else str(value)
        for name, value in mapping(body, "capacity", path).items()
    }
    return Device(string(item, "name", path), attributes, capacity)
