"""A judge of device claims, written from the Kubernetes documentation and from nothing of ours.

`unallocated(documents, catalogue, plan)` says, in words, which node of a plan could not serve the
claims of its pods: for every instance type on a launch's list, and for every node that exists,
devices are given out by trying everything, as the API's documentation describes an allocation (all
requests of all claims or none, exact counts or all devices, selectors of class and request,
constraints, taints; devices in use are not given twice, administrators look without taking). It
reads the manifests as they are; it is slow and small on purpose.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import Any

import celpy
from celpy import celtypes

Json = Mapping[str, Any]
_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


@dataclass
class Device:
    """One device of a node."""

    driver: str
    name: str
    attributes: Json
    capacity: Json
    taints: Sequence[Json] = ()
    used: bool = False


@dataclass
class Stock:
    """The devices of one node, and the claims it must serve."""

    devices: list[Device]
    claims: list[Json] = field(default_factory=list)


def unallocated(documents: Iterable[Json], catalogue: Json, plan: Json) -> Iterator[str]:
    """Yield every node, or type of a launch, that cannot serve the claims of its pods."""
    world = _World(list(documents), catalogue)
    for launch in plan["launches"]:
        for name in launch["instanceTypes"]:
            yield from world.judged(launch["name"], launch["pods"], world.of_type(name))
    by_node: dict[str, list[str]] = {}
    for item in plan["placements"]:
        by_node.setdefault(item["node"], []).append(item["pod"])
    for name, pods in by_node.items():
        yield from world.judged(name, pods, world.of_node(name))
    yield from world.apart(plan)


class _World:
    def __init__(self, documents: list[Json], catalogue: Json) -> None:
        self.documents = documents
        self.types = {item["name"]: item for item in catalogue["instanceTypes"]}
        self.pods = {_key(item): item for item in self.of_kind("Pod")}
        self.classes = {item["metadata"]["name"]: item for item in self.of_kind("DeviceClass")}
        self.claims = {_key(item): item for item in self.of_kind("ResourceClaim")}
        self.templates = {_key(item): item for item in self.of_kind("ResourceClaimTemplate")}

    def of_kind(self, kind: str) -> list[Json]:
        return [item for item in self.documents if item["kind"] == kind]

    def of_type(self, name: str) -> list[Device]:
        return [
            Device(line["driver"], f"{place}-{number}", line["attributes"], _plain(line))
            for place, line in enumerate(self.types[name].get("devices", ()))
            for number in range(line.get("count", 1))
        ]

    def of_node(self, name: str) -> list[Device]:
        pools: dict[tuple[str, str], list[Json]] = {}
        for item in self.of_kind("ResourceSlice"):
            spec = item["spec"]
            if spec.get("nodeName") == name:
                pools.setdefault((spec["driver"], spec["pool"]["name"]), []).append(spec)
        taken = {
            (result["driver"], result["pool"], result["device"])
            for claim in self.claims.values()
            for result in _allocation(claim).get("devices", {}).get("results", ())
            if not result.get("adminAccess")
        }
        found = []
        for (driver, pool), specs in pools.items():
            newest = max(spec["pool"]["generation"] for spec in specs)
            current = [spec for spec in specs if spec["pool"]["generation"] == newest]
            if len(current) != current[0]["pool"]["resourceSliceCount"]:
                continue
            found += [
                Device(
                    driver,
                    device["name"],
                    device["attributes"],
                    _plain(device),
                    device.get("taints", ()),
                    (driver, pool, device["name"]) in taken,
                )
                for spec in current
                for device in spec["devices"]
            ]
        return found

    def judged(self, name: str, pods: Sequence[str], devices: list[Device]) -> Iterator[str]:
        claims: dict[str, Json] = {}
        for key in pods:
            pod = self.pods[key]
            for item in pod["spec"].get("resourceClaims", ()):
                if "resourceClaimTemplateName" in item:
                    template = f"{pod['metadata']['namespace']}/{item['resourceClaimTemplateName']}"
                    claims[f"{key}/{item['name']}"] = self.templates[template]["spec"]["spec"]
                    continue
                claim = f"{pod['metadata']['namespace']}/{item['resourceClaimName']}"
                allocation = _allocation(self.claims[claim])
                if not allocation:
                    claims[claim] = self.claims[claim]["spec"]
                elif name not in _nodes(allocation):
                    yield f"{key} is on {name}, where {claim} is not allocated"
        if not self._served(list(claims.values()), devices):
            kinds = [device.attributes for device in devices]
            yield f"{name} cannot serve the claims of {', '.join(pods)} with {kinds}"

    def apart(self, plan: Json) -> Iterator[str]:
        """Yield claims that pods on several nodes share."""
        homes: dict[str, set[str]] = {}
        where = {key: launch["name"] for launch in plan["launches"] for key in launch["pods"]}
        where |= {item["pod"]: item["node"] for item in plan["placements"]}
        for key, home in where.items():
            pod = self.pods[key]
            for item in pod["spec"].get("resourceClaims", ()):
                if "resourceClaimName" in item:
                    homes.setdefault(item["resourceClaimName"], set()).add(home)
        for claim, nodes in homes.items():
            if len(nodes) > 1:
                yield f"{claim} is used on {sorted(nodes)}"

    def _served(self, claims: list[Json], devices: list[Device]) -> bool:
        """Return whether all *claims* can be had at once, whatever it takes to find out."""
        if not claims:
            return True
        devices_of = claims[0]["devices"]
        return self._requests(devices_of["requests"], devices_of, [], devices, claims[1:])

    def _requests(
        self,
        requests: Sequence[Json],
        claim: Json,
        given: list[tuple[str, list[Device]]],
        devices: list[Device],
        rest: list[Json],
    ) -> bool:
        if not requests:
            return self._agree(claim, given) and self._served(rest, devices)
        first = requests[0]
        options = first.get("firstAvailable") or [first["exactly"]]
        for option in options:
            name = f"{first['name']}/{option['name']}" if "name" in option else first["name"]
            for chosen in self._choices(option, devices):
                looks_only = option.get("adminAccess", False)
                for device in chosen:
                    device.used = device.used or not looks_only
                done = self._requests(
                    requests[1:], claim, [*given, (name, list(chosen))], devices, rest
                )
                if not looks_only:
                    for device in chosen:
                        device.used = False
                if done:
                    return True
        return False

    def _choices(self, option: Json, devices: list[Device]) -> Iterator[tuple[Device, ...]]:
        matching = [device for device in devices if self._selected(option, device)]
        free = [
            device
            for device in matching
            if (option.get("adminAccess") or not device.used) and _tolerated(option, device)
        ]
        if option.get("allocationMode") == "All":
            if matching and free == matching:
                yield tuple(matching)
            return
        yield from combinations(free, option.get("count", 1))

    def _selected(self, option: Json, device: Device) -> bool:
        spec = self.classes[option["deviceClassName"]]["spec"]
        return all(
            _holds(line["cel"]["expression"], device)
            for line in (*spec.get("selectors", ()), *option.get("selectors", ()))
        )

    def _agree(self, claim: Json, given: list[tuple[str, list[Device]]]) -> bool:
        for constraint in claim.get("constraints", ()):
            names = constraint.get("requests") or ()
            values = [
                _attribute(device, constraint["matchAttribute"])
                for name, devices in given
                if not names or name in names or name.partition("/")[0] in names
                for device in devices
            ]
            if None in values or any(value != values[0] for value in values):
                return False
        return True


def _key(item: Json) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _plain(device: Json) -> dict[str, str]:
    return {name: item["value"] for name, item in device.get("capacity", {}).items()}


def _allocation(claim: Json) -> Json:
    found: Json = claim.get("status", {}).get("allocation", {})
    return found


def _nodes(allocation: Json) -> list[str]:
    terms = allocation["nodeSelector"]["nodeSelectorTerms"]
    return [name for term in terms for line in term["matchFields"] for name in line["values"]]


def _attribute(device: Device, name: str) -> Any:
    domain, _, identity = name.partition("/")
    return device.attributes.get(name) or (
        device.attributes.get(identity) if domain == device.driver else None
    )


def _tolerated(option: Json, device: Device) -> bool:
    return all(
        taint["effect"] == "None"
        or any(
            line.get("key") in {None, taint["key"]}
            and line.get("effect") in {None, taint["effect"]}
            and (line.get("operator") == "Exists" or line.get("value", "") == taint.get("value"))
            for line in option.get("tolerations", ())
        )
        for taint in device.taints
    )


class _Amount:
    def __init__(self, text: str) -> None:
        digits = text.rstrip("KMGTik")
        self.value = Fraction(digits) * _UNITS[text[len(digits) :]]


_DEPTH = sys.getrecursionlimit()
_ENVIRONMENT = celpy.Environment()
sys.setrecursionlimit(_DEPTH)  # the library raises it for the whole process


@cache
def _program(expression: str) -> Any:
    compared = {
        "quantity": lambda text: _Amount(str(text)),
        "compareTo": lambda one, two: celtypes.IntType(
            (one.value > two.value) - (one.value < two.value)
        ),
    }
    return _ENVIRONMENT.program(_ENVIRONMENT.compile(expression), functions=compared)


def _holds(expression: str, device: Device) -> bool:
    values = {name: next(iter(item.values())) for name, item in device.attributes.items()}
    shown = celpy.json_to_cel({"driver": device.driver, "attributes": {device.driver: values}})
    amounts = {celtypes.StringType(name): _Amount(text) for name, text in device.capacity.items()}
    shown[celtypes.StringType("capacity")] = celtypes.MapType(
        {celtypes.StringType(device.driver): celtypes.MapType(amounts)}
    )
    return bool(_program(expression).evaluate({"device": shown}))
