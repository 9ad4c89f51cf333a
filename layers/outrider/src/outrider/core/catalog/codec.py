"""The catalogue as JSON, in and out: the shape of `--catalog FILE` and of the ledger.

An entry names a type, its labels as requirements, either `capacity` (and `overhead`) or `ec2`, from
which both are derived per node class, and its offerings. What is implied need not be written: the
type's own label, amd64 and linux, 110 pods. An optional `devices` states what DRA drivers publish
on a node of the type, each line so many equal devices (driver, count, attributes and capacity as a
ResourceSlice has them, and the names of what is unknown). An entry that is wrong is refused with
its name and the field, nothing is guessed. A price of 0 or none at all means that the offering
cannot be bought, except for a reservation, which is paid for.

Refuses to know where the bytes lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from outrider.apis import duration, fields, labels, quantity
from outrider.apis.devices import Attribute, DeviceGroup, Version, parse_device
from outrider.apis.placement import check_values
from outrider.core.catalog.describe import ARCHITECTURES, card, shared
from outrider.core.catalog.instancetype import (
    Catalog,
    Ec2Facts,
    Gpu,
    InstanceType,
    Offering,
)
from outrider.core.catalog.maxpods import FALLBACK
from outrider.core.requirements import Requirements
from outrider.core.resources import total
from outrider.errors import InvalidManifest

Json = Mapping[str, Any]

CAPACITY_TYPES = frozenset({labels.SPOT, labels.ON_DEMAND, labels.RESERVED})
_OVERHEADS = ("kubeReserved", "systemReserved", "evictionThreshold")
_DEFAULTS = ((labels.ARCH, "amd64"), (labels.OS, "linux"))

_EC2_NUMBERS = {
    "neuronDevices": "neuron_devices",
    "neuronCores": "neuron_cores",
    "gaudiDevices": "gaudi_devices",
    "nvmeGB": "nvme_gb",
    "ebsMaxVolumes": "ebs_max_volumes",
    "maxEfa": "max_efa",
    "podEni": "pod_eni",
    "clockMHz": "clock_mhz",
    "networkMbps": "network_mbps",
    "ebsMbps": "ebs_mbps",
}
_EC2_TEXTS = {
    "accelerator": "accelerator",
    "cpuManufacturer": "cpu_manufacturer",
    "hypervisor": "hypervisor",
}
_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"})
_EC2_FLAGS = {
    "bareMetal": "bare_metal",
    "trunking": "trunking",
    "encryptionInTransit": "encryption_in_transit",
}
_EC2_FIELDS = {
    "vcpu": "vcpu",
    "memoryMiB": "memory_mib",
    "ipv4PerEni": "ipv4_per_eni",
    "arch": "arch",
    **_EC2_NUMBERS,
    **_EC2_TEXTS,
    **_EC2_FLAGS,
}


def load(content: bytes | str, where: str = "") -> Catalog:
    """Return the catalogue in *content*; *where* names the source in errors."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidManifest(f"is not JSON: {error}", where=where) from error
    try:
        return read(document)
    except InvalidManifest as error:
        raise error.of(where=where) from None


def read(document: object) -> Catalog:
    """Return the catalogue of a parsed *document*."""
    if not isinstance(document, Mapping):
        raise InvalidManifest("must be an object", thing="catalogue")
    if not isinstance(document.get("instanceTypes"), list):
        raise InvalidManifest("must be a list", path="instanceTypes", thing="catalogue")
    kinds: dict[str, InstanceType] = {}
    for index, entry in enumerate(document["instanceTypes"]):
        if not isinstance(entry, Mapping):
            raise InvalidManifest(
                "must be an object", path=f"instanceTypes[{index}]", thing="catalogue"
            )
        name = entry.get("name")
        thing = f"instance type {name}" if isinstance(name, str) and name else "catalogue"
        try:
            kind = _kind(entry, index)
        except InvalidManifest as error:
            raise error.of(thing=thing) from None
        if kinds.setdefault(kind.name, kind) != kind:
            raise InvalidManifest("is listed twice with different content", thing=thing)
    as_of = fields.time(document, "asOf")
    return Catalog(tuple(kinds.values()), version=str(document.get("version", "")), as_of=as_of)


def restore(content: bytes) -> Catalog:
    """Return the catalogue that `dump` wrote: trusted, and so read several times as fast."""
    document = orjson.loads(content)
    return Catalog(
        tuple(_restored(entry) for entry in document["instanceTypes"]),
        version=str(document.get("version", "")),
        as_of=fields.time(document, "asOf"),
    )


def dump(catalog: Catalog) -> bytes:
    """Return *catalog* as JSON bytes, the same for the same catalogue."""
    document: dict[str, Any] = {"instanceTypes": [_entry(kind) for kind in catalog.instance_types]}
    if catalog.version:
        document["version"] = catalog.version
    if catalog.as_of:
        document["asOf"] = duration.stamp(catalog.as_of)
    return orjson.dumps(document)


def _kind(entry: Json, index: int) -> InstanceType:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidManifest("must be a non-empty string", path=f"instanceTypes[{index}].name")
    ec2 = _ec2(fields.mapping(entry, "ec2")) if "ec2" in entry else None
    if "capacity" not in entry and ec2 is None:
        raise InvalidManifest("is missing, and so is ec2", path="capacity")
    if not isinstance(entry.get("offerings"), list):
        raise InvalidManifest("must be a list", path="offerings")
    capacity: dict[str, int] = {}
    if "capacity" in entry:
        capacity = {"pods": FALLBACK}
        capacity.update(quantity.resources(fields.mapping(entry, "capacity"), "capacity"))
    return InstanceType(
        name=name,
        requirements=_requirements(name, entry, ec2),
        capacity=capacity,
        overhead=_overhead(fields.mapping(entry, "overhead")) if capacity else {},
        offerings=tuple(
            _offering(offering, f"offerings[{place}]")
            for place, offering in enumerate(fields.objects(entry, "offerings"))
        ),
        ec2=ec2,
        devices=_devices(entry),
    )


def _requirements(name: str, entry: Json, ec2: Ec2Facts | None) -> Requirements:
    listed: list[dict[str, Any]] = []
    for place, requirement in enumerate(fields.objects(entry, "requirements")):
        path = f"requirements[{place}]"
        key = fields.string(requirement, "key", path)
        if not key:
            raise InvalidManifest("must be a non-empty string", path=f"{path}.key")
        operator = fields.one_of(requirement, "operator", _OPERATORS, path)
        if not operator:
            raise InvalidManifest("is required", path=f"{path}.operator")
        check_values(operator, fields.strings(requirement, "values", path), f"{path}.values")
        listed.append({**requirement, "key": labels.normalise(key)})
    named = {requirement["key"] for requirement in listed}
    implied = dict(_DEFAULTS)
    if ec2 is not None:
        implied[labels.ARCH] = ec2.arch
    implied[labels.INSTANCE_TYPE] = name
    listed += [
        {"key": key, "operator": "In", "values": [value]}
        for key, value in implied.items()
        if key not in named
    ]
    try:
        return Requirements.of(listed)
    except InvalidManifest as error:
        raise InvalidManifest(error.problem, path=error.path or "requirements") from None


def _devices(entry: Json) -> tuple[DeviceGroup, ...] | None:
    if entry.get("devices") is None:
        return None
    return tuple(
        _device_group(item, f"devices[{place}]")
        for place, item in enumerate(fields.objects(entry, "devices"))
    )


def _device_group(item: Json, path: str) -> DeviceGroup:
    driver = fields.string(item, "driver", path)
    if not driver:
        raise InvalidManifest("must be a non-empty string", path=f"{path}.driver")
    device = parse_device(item, path)
    unknown = frozenset(fields.strings(item, "unknown", path))
    return DeviceGroup(
        driver=driver,
        device=replace(device, name="", unknown=device.unknown | unknown),
        count=fields.integer(item, "count", path, default=1, least=1),
    )


def _overhead(overhead: Json) -> dict[str, int]:
    return total(quantity.resources(overhead.get(name), f"overhead.{name}") for name in _OVERHEADS)


def _offering(offering: Json, path: str) -> Offering:
    zone = fields.string(offering, "zone", path)
    if not zone:
        raise InvalidManifest("must be a non-empty string", path=f"{path}.zone")
    capacity_type = fields.string(offering, "capacityType", path)
    if capacity_type not in CAPACITY_TYPES:
        raise InvalidManifest(
            f"{capacity_type!r} is not one of {', '.join(sorted(CAPACITY_TYPES))}",
            path=f"{path}.capacityType",
        )
    price = _number(offering, "pricePerHour", path)
    slots = offering.get("reservationCapacity")
    if slots is not None:
        slots = fields.integer(offering, "reservationCapacity", path)
    available = fields.boolean(offering, "available", path, default=True)
    return Offering(
        zone=zone,
        capacity_type=capacity_type,
        price_per_hour=price,
        available=available,
        zone_id=fields.string(offering, "zoneId", path),
        reservation_id=fields.string(offering, "reservationId", path) or None,
        reservation_capacity=slots,
        reservation_ends=fields.time(offering, "reservationEnds", path),
    )


def _number(source: Json, name: str, path: str) -> float:
    value = source.get(name)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidManifest("must be a number of at least 0", path=f"{path}.{name}")
    return float(value)


def _ec2(source: Json) -> Ec2Facts:
    vcpu = fields.integer(source, "vcpu", "ec2")
    memory = fields.integer(source, "memoryMiB", "ec2")
    if not vcpu or not memory:
        raise InvalidManifest("must be above 0", path="ec2." + ("memoryMiB" if vcpu else "vcpu"))
    arch = fields.string(source, "arch", "ec2", default="amd64")
    arch = ARCHITECTURES.get(arch, arch)
    if arch not in {"amd64", "arm64"}:
        raise InvalidManifest(f"{arch!r} is not one of amd64, arm64", path="ec2.arch")
    values: dict[str, Any] = {
        field: fields.integer(source, key, "ec2") for key, field in _EC2_NUMBERS.items()
    }
    values |= {field: fields.string(source, key, "ec2") for key, field in _EC2_TEXTS.items()}
    values |= {field: fields.boolean(source, key, "ec2") for key, field in _EC2_FLAGS.items()}
    cards = tuple(
        card(
            fields.integer(entry, "enis", f"ec2.networkCards[{place}]"),
            efa=fields.boolean(entry, "efa", f"ec2.networkCards[{place}]"),
        )
        for place, entry in enumerate(fields.objects(source, "networkCards", "ec2"))
    )
    if "maxEfa" not in source:
        values["max_efa"] = sum(entry.efa for entry in cards)
    return Ec2Facts(
        vcpu=vcpu,
        memory_mib=memory,
        network_cards=cards,
        ipv4_per_eni=fields.integer(source, "ipv4PerEni", "ec2"),
        gpus=tuple(
            _gpu(entry, f"ec2.gpus[{place}]")
            for place, entry in enumerate(fields.objects(source, "gpus", "ec2"))
        ),
        arch=arch,
        **values,
    )


def _gpu(source: Json, path: str) -> Gpu:
    count = fields.integer(source, "count", path)
    return Gpu(
        name=fields.string(source, "name", path),
        manufacturer=fields.string(source, "manufacturer", path, default="NVIDIA"),
        count=count,
        logical_count=fields.integer(source, "logicalCount", path, default=count),
        partition_size=_number(source, "partitionSize", path) or 1.0,
        memory_mib=fields.integer(source, "memoryMiB", path),
    )


def _restored(entry: Json) -> InstanceType:
    if "capacity" in entry:
        return _kind(entry, 0)
    requirements = {}
    for requirement in entry["requirements"]:
        values = requirement.get("values", ())
        if requirement["operator"] != "In" or len(values) != 1 or len(requirement) != 3:
            return _kind(entry, 0)
        requirements[requirement["key"]] = shared(requirement["key"], values[0])
    return InstanceType(
        name=entry["name"],
        requirements=Requirements(requirements),
        capacity={},
        overhead={},
        offerings=tuple(_restored_offering(offering) for offering in entry["offerings"]),
        ec2=_restored_ec2(entry["ec2"]),
        devices=_devices(entry),
    )


def _restored_ec2(source: Json) -> Ec2Facts:
    known: dict[str, Any] = {
        field: source[key] for key, field in _EC2_FIELDS.items() if key in source
    }
    known["network_cards"] = tuple(
        [card(one.get("enis", 0), efa=one.get("efa", False)) for one in source["networkCards"]]
    )
    if "gpus" in source:
        known["gpus"] = tuple([_gpu(one, "ec2.gpus") for one in source["gpus"]])
    return Ec2Facts(**known)


def _restored_offering(offering: Json) -> Offering:
    ends = offering.get("reservationEnds")
    return Offering(
        offering["zone"],
        offering["capacityType"],
        offering["pricePerHour"],
        offering.get("available", True),
        offering.get("zoneId", ""),
        offering.get("reservationId"),
        offering.get("reservationCapacity"),
        duration.instant(ends) if ends else None,
    )


def _entry(kind: InstanceType) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": kind.name, "requirements": kind.requirements.to_json()}
    if kind.capacity:
        entry["capacity"] = quantity.listing(kind.capacity)
        entry["overhead"] = {"kubeReserved": quantity.listing(kind.overhead)}
    if kind.ec2 is not None:
        entry["ec2"] = _ec2_entry(kind.ec2)
    if kind.devices is not None:
        entry["devices"] = [_device_entry(group) for group in kind.devices]
    entry["offerings"] = [_offering_entry(offering) for offering in kind.offerings]
    return entry


def _ec2_entry(ec2: Ec2Facts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "vcpu": ec2.vcpu,
        "memoryMiB": ec2.memory_mib,
        "networkCards": [_dropped({"enis": c.enis, "efa": c.efa}) for c in ec2.network_cards],
        "ipv4PerEni": ec2.ipv4_per_eni,
        "arch": ec2.arch,
        "maxEfa": ec2.max_efa,
    }
    if ec2.gpus:
        entry["gpus"] = [
            {
                "name": gpu.name,
                "manufacturer": gpu.manufacturer,
                "count": gpu.count,
                "logicalCount": gpu.logical_count,
                "partitionSize": gpu.partition_size,
                "memoryMiB": gpu.memory_mib,
            }
            for gpu in ec2.gpus
        ]
    every: Iterable[tuple[str, str]] = (
        *_EC2_NUMBERS.items(),
        *_EC2_TEXTS.items(),
        *_EC2_FLAGS.items(),
    )
    entry |= _dropped({key: getattr(ec2, field) for key, field in every if key != "maxEfa"})
    return entry


def _device_entry(group: DeviceGroup) -> dict[str, Any]:
    device = group.device
    entry: dict[str, Any] = {
        "driver": group.driver,
        "count": group.count,
        "attributes": {name: _stated(value) for name, value in sorted(device.attributes.items())},
        "capacity": {name: {"value": value} for name, value in sorted(device.capacity.items())},
        "unknown": sorted(device.unknown),
        "taints": [
            {"key": taint.key, "value": taint.value, "effect": taint.effect}
            for taint in device.taints
        ],
    }
    return _dropped(entry)


def _stated(value: Attribute) -> dict[str, Attribute]:
    if isinstance(value, bool):
        return {"bool": value}
    if isinstance(value, int):
        return {"int": value}
    return {"version" if isinstance(value, Version) else "string": str(value)}


def _offering_entry(offering: Offering) -> dict[str, Any]:
    ends = offering.reservation_ends
    entry: dict[str, Any] = {
        "zone": offering.zone,
        "capacityType": offering.capacity_type,
        "pricePerHour": offering.price_per_hour,
    }
    if not offering.available:
        entry["available"] = False
    optional = {
        "zoneId": offering.zone_id or None,
        "reservationId": offering.reservation_id,
        "reservationCapacity": offering.reservation_capacity,
        "reservationEnds": duration.stamp(ends) if ends else None,
    }
    entry |= {key: value for key, value in optional.items() if value is not None}
    return entry


def _dropped(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value}
