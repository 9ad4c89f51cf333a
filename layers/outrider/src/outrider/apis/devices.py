"""Dynamic resource allocation: claims, classes and slices of devices (resource.k8s.io/v1).

Slim records; CEL expressions stay text, and what a claim or a device has that is beyond exact
counts is kept as a word that says so: whoever allocates must refuse it, not overlook it. The older
spelling without `exactly` (and with `basic` devices) is read as well. Refuses to allocate:
`core.scheduling.devices` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outrider.apis import meta, quantity
from outrider.apis.fields import (
    Json,
    at,
    integer,
    join,
    mapping,
    objects,
    one_of,
    string,
    strings,
)
from outrider.apis.placement import (
    NO_EXECUTE,
    NO_SCHEDULE,
    NodeTerm,
    Taint,
    Toleration,
    node_terms,
)
from outrider.errors import InvalidManifest

EXACT_COUNT, ALL = "ExactCount", "All"


class Version(str):
    """A semantic version among a device's attributes, which CEL compares as such."""

    __slots__ = ()


Attribute = bool | int | str | Version


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One request of a claim: *count* devices of a class that every selector accepts."""

    name: str
    device_class: str
    selectors: tuple[str, ...] = ()
    count: int = 1
    mode: str = EXACT_COUNT
    admin_access: bool = False
    tolerations: tuple[Toleration, ...] = ()
    beyond: str = ""  # what else it asks for that a count cannot say


@dataclass(frozen=True, slots=True)
class MatchConstraint:
    """All devices of *requests* (of every request where empty) share the value of *attribute*."""

    requests: tuple[str, ...]
    attribute: str


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    """What a claim asks: each entry is a list of alternatives, the first that can be had wins."""

    requests: tuple[tuple[DeviceRequest, ...], ...] = ()
    constraints: tuple[MatchConstraint, ...] = ()
    beyond: str = ""  # a constraint of another kind


@dataclass(frozen=True, slots=True)
class ResourceClaim:
    """One ResourceClaim; `held` are the (driver, pool, device) that it keeps from others.

    `node_terms` is where an allocated claim can be used, None everywhere.
    """

    namespace: str
    name: str
    spec: ClaimSpec
    held: tuple[tuple[str, str, str], ...] = ()
    is_allocated: bool = False
    node_terms: tuple[NodeTerm, ...] | None = None
    reserved_for: tuple[str, ...] = ()  # uids of pods
    is_deleted: bool = False

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ResourceClaimTemplate:
    """One ResourceClaimTemplate."""

    namespace: str
    name: str
    spec: ClaimSpec

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """One DeviceClass; `extended_resource` is a resource name that stands for one of its
    devices."""

    name: str
    selectors: tuple[str, ...] = ()
    extended_resource: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """One device: attributes and capacities as the driver publishes them.

    `unknown` names attributes and capacities that the device has, but whose value cannot be known
    here: before a node exists, or in a form that is not read. `beyond` says why the device is not
    one that is allocated whole, "" where it is.
    """

    name: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    capacity: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    taints: tuple[Taint, ...] = ()
    beyond: str = ""


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """*count* devices of one driver that no selector can tell apart."""

    driver: str
    device: Device
    count: int = 1


@dataclass(frozen=True, slots=True)
class ResourceSlice:
    """One slice of a driver's pool of devices: on a node, or reachable from several."""

    name: str
    driver: str
    pool: str
    node: str
    devices: tuple[Device, ...]
    generation: int = 0
    slices: int = 1  # how many make the pool complete


def parse_claim(document: Json) -> ResourceClaim:
    """Return the ResourceClaim in *document*."""
    identity = meta.parse(document, namespaced=True)
    status = mapping(document, "status")
    allocation = mapping(status, "allocation", "status")
    path = "status.allocation"
    results = objects(mapping(allocation, "devices", path), "results", f"{path}.devices")
    reachable = mapping(allocation, "nodeSelector", path)
    return ResourceClaim(
        namespace=identity.namespace,
        name=identity.name,
        spec=_claim(mapping(document, "spec"), "spec"),
        held=tuple(
            (string(item, "driver", path), string(item, "pool", path), string(item, "device", path))
            for item in results
            if item.get("adminAccess") is not True
        ),
        is_allocated=bool(allocation),
        node_terms=node_terms(reachable, f"{path}.nodeSelector") if reachable else None,
        reserved_for=tuple(
            string(item, "uid", "status.reservedFor")
            for item in objects(status, "reservedFor", "status")
        ),
        is_deleted=identity.deletion_timestamp is not None,
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
    beyond = [item for item in constraints if not item.get("matchAttribute")]
    requests = tuple(
        _alternatives(item, f"{where}.requests[{index}]")
        for index, item in enumerate(objects(devices, "requests", where))
    )
    _check_names(requests, where)
    return ClaimSpec(
        requests=requests,
        constraints=tuple(
            _constraint(item, requests, f"{where}.constraints[{index}]")
            for index, item in enumerate(constraints)
            if item.get("matchAttribute")
        ),
        beyond=_other_constraint(beyond[0]) if beyond else "",
    )


def _check_names(requests: tuple[tuple[DeviceRequest, ...], ...], path: str) -> None:
    seen: set[str] = set()
    for index, options in enumerate(requests):
        for option in options:
            if option.name in seen:
                raise InvalidManifest(
                    f"{option.name!r} is there twice", path=f"{path}.requests[{index}].name"
                )
            seen.add(option.name)


def _constraint(
    item: Json, requests: tuple[tuple[DeviceRequest, ...], ...], path: str
) -> MatchConstraint:
    known = {option.name for options in requests for option in options}
    known |= {name.partition("/")[0] for name in known}
    named = strings(item, "requests", path)
    for name in named:
        if name not in known:
            raise InvalidManifest(f"{name!r} is no request", path=join(path, "requests"))
    return MatchConstraint(named, string(item, "matchAttribute", path))


def _other_constraint(item: Json) -> str:
    kind = next((name for name in sorted(item) if name != "requests"), "")
    return f"a {kind} constraint" if kind else "an empty constraint"


def _alternatives(item: Json, path: str) -> tuple[DeviceRequest, ...]:
    name = string(item, "name", path)
    if item.get("firstAvailable"):
        where = join(path, "firstAvailable")
        return tuple(
            _request(
                choice, f"{name}/{string(choice, 'name', f'{where}[{index}]')}", f"{where}[{index}]"
            )
            for index, choice in enumerate(objects(item, "firstAvailable", path))
        )
    exactly = mapping(item, "exactly", path)
    return (_request(exactly or item, name, join(path, "exactly") if exactly else path),)


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
        tolerations=_tolerations(item, path),
        beyond="a share of a device's capacity" if item.get("capacity") else "",
    )


def _tolerations(item: Json, path: str) -> tuple[Toleration, ...]:
    return tuple(
        Toleration(
            key=string(line, "key", f"{path}.tolerations[{index}]"),
            operator=string(line, "operator", f"{path}.tolerations[{index}]") or "Equal",
            value=string(line, "value", f"{path}.tolerations[{index}]"),
            effect=string(line, "effect", f"{path}.tolerations[{index}]"),
        )
        for index, line in enumerate(objects(item, "tolerations", path))
    )


def _selectors(item: Json, path: str) -> tuple[str, ...]:
    return tuple(
        string(mapping(line, "cel", join(path, "selectors")), "expression", f"{path}.selectors.cel")
        for line in objects(item, "selectors", path)
    )


def parse_class(document: Json) -> DeviceClass:
    """Return the DeviceClass in *document*."""
    spec = mapping(document, "spec")
    return DeviceClass(
        name=meta.parse(document).name,
        selectors=_selectors(spec, "spec"),
        extended_resource=string(spec, "extendedResourceName", "spec"),
    )


def parse_slice(document: Json) -> ResourceSlice:
    """Return the ResourceSlice in *document*; one that is not a single node's has no `node`."""
    spec = mapping(document, "spec")
    pool = mapping(spec, "pool", "spec")
    return ResourceSlice(
        name=meta.parse(document).name,
        driver=string(spec, "driver", "spec"),
        pool=string(pool, "name", "spec.pool"),
        node=string(spec, "nodeName", "spec"),
        devices=tuple(
            parse_device(item, f"spec.devices[{index}]")
            for index, item in enumerate(objects(spec, "devices", "spec"))
        ),
        generation=integer(pool, "generation", "spec.pool"),
        slices=integer(pool, "resourceSliceCount", "spec.pool", default=1),
    )


def parse_device(item: Json, path: str) -> Device:
    """Return the device in *item*, which *path* names in errors."""
    body = mapping(item, "basic", path) or item
    read = {
        name: _attribute(value, f"{path}.attributes[{name}]")
        for name, value in mapping(body, "attributes", path).items()
    }
    return Device(
        name=string(item, "name", path),
        attributes={name: value for name, value in read.items() if value is not None},
        capacity={
            name: _capacity(value, f"{path}.capacity[{name}]")
            for name, value in mapping(body, "capacity", path).items()
        },
        unknown=frozenset(name for name, value in read.items() if value is None),
        taints=_taints(body, path),
        beyond=_beyond(body),
    )


def _attribute(value: object, path: str) -> Attribute | None:
    """Return an attribute's value; None where it is of a kind that is not read (lists)."""
    if isinstance(value, (bool, int, str)):
        return value
    if not isinstance(value, Mapping):
        raise InvalidManifest("must be an object", path=path)
    for kind, of_kind in (("bool", bool), ("int", int), ("string", str), ("version", str)):
        if kind in value:
            stated: Any = value[kind]
            if not isinstance(stated, of_kind) or (kind == "int" and isinstance(stated, bool)):
                raise InvalidManifest(f"must be of type {kind}", path=join(path, kind))
            return Version(stated) if kind == "version" else stated
    return None


def _capacity(value: object, path: str) -> str:
    stated = value.get("value") if isinstance(value, Mapping) else value
    if isinstance(stated, bool) or not isinstance(stated, (int, str)):
        raise InvalidManifest("must be a quantity", path=join(path, "value"))
    at(join(path, "value"), quantity.whole, str(stated))
    return str(stated)


def _taints(body: Json, path: str) -> tuple[Taint, ...]:
    """Return the taints that keep a device from being allocated; other effects do not."""
    listed: Iterable[Taint] = (
        Taint(
            key=string(item, "key", f"{path}.taints[{index}]"),
            value=string(item, "value", f"{path}.taints[{index}]"),
            effect=string(item, "effect", f"{path}.taints[{index}]"),
        )
        for index, item in enumerate(objects(body, "taints", path))
    )
    return tuple(taint for taint in listed if taint.effect in {NO_SCHEDULE, NO_EXECUTE})


_BEYOND = {
    "consumesCounters": "it consumes counters that it shares with other devices",
    "allowMultipleAllocations": "several claims may share it",
    "bindingConditions": "it has binding conditions",
}


def _beyond(body: Json) -> str:
    return next((why for name, why in _BEYOND.items() if body.get(name)), "")
