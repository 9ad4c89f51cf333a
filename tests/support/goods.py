"""What may be bought: NodePools over a catalogue, option by option, from raw manifests.

The market side of the judge in `feasible`: which offerings a NodePool may list, which labels a node
of each will carry, what its DaemonSets take, what a list must and must not hold (rules 3, 9, 11 and
13 of the command line's contract). Imports nothing of the planner's. Refuses to know pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any

from tests.support.fits import (
    HOSTNAME,
    ZONE,
    Json,
    Machine,
    ephemeral,
    line_holds,
    number,
    requests,
    runs,
    slots_of,
    tolerated,
)

CAPACITY_TYPE = "karpenter.sh/capacity-type"
NODEPOOL = "karpenter.sh/nodepool"
NODECLASS = "karpenter.k8s.aws/ec2nodeclass"
TYPE = "node.kubernetes.io/instance-type"
ZONE_ID = "topology.k8s.aws/zone-id"
FRACTION = "outrider.dev/gpu-fraction"
DEVICES = ("nvidia.com/gpu", "aws.amazon.com/neuron", "amd.com/gpu", "habana.ai/gaudi")
NAMING_A_SHARE = (
    TYPE,
    FRACTION,
    "karpenter.k8s.aws/instance-family",
    "karpenter.k8s.aws/instance-gpu-memory",
)


@dataclass(frozen=True)
class Option:
    """One way to buy one type."""

    kind: Json
    offering: Json
    price: float

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Return what tells options apart."""
        item = self.offering
        reservation = item.get("reservationId") or ""
        return self.kind["name"], item["zone"], item["capacityType"], reservation


def accelerated(kind: Json) -> bool:
    """Return whether CPU pods should stay off a type."""
    return any(number(kind["capacity"].get(name, 0)) for name in DEVICES) or (
        ".metal" in kind["name"]
    )


@dataclass
class Goods:
    """Pools, types, prices and DaemonSets."""

    pools: Mapping[str, Json]
    types: Mapping[str, Json]
    classes: Mapping[str, Json]
    overlays: Sequence[Json]
    daemons: Sequence[Json]
    owned: Callable[[Json], list[Json]]
    _options: dict[str, list[Option]] = field(default_factory=dict)
    _loads: dict[object, dict[str, Fraction]] = field(default_factory=dict)

    # Pools.

    def usable(self) -> list[Json]:
        """Return the pools that may launch."""
        return [pool for pool in self.pools.values() if self._is_usable(pool)]

    def _is_usable(self, pool: Json) -> bool:
        name = pool["spec"]["template"]["spec"]["nodeClassRef"]["name"]
        return all(
            item is None
            or not (
                "deletionTimestamp" in item["metadata"]
                or "replicas" in item["spec"]
                or any(
                    (line["type"], line["status"]) == ("Ready", "False")
                    for line in (item.get("status") or {}).get("conditions", ())
                )
            )
            for item in (pool, self.classes.get(name))
        )

    def lines(self, pool: Json) -> list[Json]:
        """Return what every node of *pool* has to meet."""
        found = list(pool["spec"]["template"]["spec"]["requirements"])
        if not any(line["key"] == CAPACITY_TYPE for line in found):
            kinds = ["on-demand", "reserved"]
            found.append({"key": CAPACITY_TYPE, "operator": "In", "values": kinds})
        return found

    def varied(self, pool: Json) -> dict[str, int]:
        """Return the keys that must keep several values, and how many."""
        return {
            line["key"]: line["minValues"] for line in self.lines(pool) if line.get("minValues")
        }

    # Options.

    def options(self, pool: Json) -> list[Option]:
        """Return every option that *pool* may buy now, pods and limits aside."""
        name = pool["metadata"]["name"]
        if name not in self._options:
            self._options[name] = [
                option
                for kind in self.types.values()
                for offering in kind["offerings"]
                if self._is_open(option := self._option(kind, offering))
                and any(
                    all(line_holds(line, machine.labels) for line in self.lines(pool))
                    for machine in self.all_machines(pool, option)
                )
            ]
        return self._options[name]

    def _is_open(self, option: Option) -> bool:
        if not option.offering["available"]:
            return False
        if option.offering["capacityType"] == "reserved":
            return option.offering.get("reservationCapacity") != 0
        return option.price > 0

    def _option(self, kind: Json, offering: Json) -> Option:
        price = float(offering.get("pricePerHour") or 0)
        if offering["capacityType"] == "reserved":
            return Option(kind, offering, 0.0)
        labels = {**self._stated(kind), TYPE: kind["name"], **_of_offering(offering)}
        for overlay in sorted(
            sorted(self.overlays, key=lambda item: item["metadata"]["name"], reverse=True),
            key=lambda item: -(item["spec"].get("weight") or 0),
        ):
            spec = overlay["spec"]
            if not all(line_holds(line, labels) for line in spec["requirements"]):
                continue
            if "price" in spec:
                return Option(kind, offering, float(spec["price"]))
            if "priceAdjustment" in spec:
                return Option(kind, offering, _adjusted(price, spec["priceAdjustment"]))
        return Option(kind, offering, price)

    def capacity(self, name: str, resource: str) -> Fraction:
        """Return what a type counts for against a limit."""
        if resource == "nodes":
            return Fraction(1)
        return number(self._capacity(self.types[name]).get(resource, 0))

    def _capacity(self, kind: Json) -> dict[str, Any]:
        found = dict(kind["capacity"])
        labels = {**self._stated(kind), TYPE: kind["name"]}
        for overlay in self.overlays:
            spec = overlay["spec"]
            by_offering = {line["key"] for line in spec["requirements"]} & {ZONE, CAPACITY_TYPE}
            if not by_offering and all(line_holds(line, labels) for line in spec["requirements"]):
                found.update(spec.get("capacity") or {})
        return found

    @staticmethod
    def _stated(kind: Json) -> dict[str, str]:
        found = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}
        for line in kind.get("requirements", ()):
            if len(line["values"]) == 1:
                found[line["key"]] = line["values"][0]
        return found

    # Machines.

    def listed(self, launch: Json, offering: Json) -> Option | str:
        """Return the option that *offering* of *launch* is, or what is wrong with it."""
        kind = self.types.get(offering["instanceType"])
        pool = self.pools[launch["nodePool"]]
        if not self._is_usable(pool):
            return f"{launch['name']} is of {launch['nodePool']}, which may not launch"
        wanted = (
            offering["instanceType"],
            offering["zone"],
            offering["capacityType"],
            offering.get("reservationId") or "",
        )
        for option in self.options(pool) if kind is not None else ():
            if option.identity == wanted:
                if abs(option.price - offering["pricePerHour"]) > 1e-9:
                    return f"{launch['name']} lists {wanted} at {offering['pricePerHour']}"
                return option
        return f"{launch['name']} lists {wanted}, which {launch['nodePool']} may not buy"

    def machines(self, launch: Json, option: Option) -> list[Machine]:
        """Return every node that *launch* may become with *option*."""
        pool = self.pools[launch["nodePool"]]
        free: dict[str, list[str]] = {
            key: [
                value
                for value in values
                if all(
                    line_holds(line, {key: value})
                    for line in launch["requirements"]
                    if line["key"] == key
                )
            ]
            for key, values in self._open_labels(option.kind).items()
        }
        return [
            self._machine(pool, option, launch["name"], {**launch["labels"], **choice})
            for choice in _choices(free)
        ]

    def machine(self, pool: Json, option: Option, name: str = "new") -> Machine:
        """Return the node that *option* gives in *pool*, labels left open at their first value."""
        return self._machine(pool, option, name, self._template(pool))

    def all_machines(self, pool: Json, option: Option) -> list[Machine]:
        """Return every node that *option* can give in *pool*, labels left open at every value."""
        own = (pool["spec"]["template"].get("metadata") or {}).get("labels") or {}
        open_labels = dict(self._open_labels(option.kind))
        for line in self.lines(pool):
            key = line["key"]
            if line["operator"] == "In" and key not in own and key not in self._well_known():
                values: list[str] = open_labels.get(key) or line["values"]
                open_labels[key] = [value for value in values if value in line["values"]]
        return [
            self._machine(pool, option, "new", {**self._template(pool), **choice})
            for choice in _choices(open_labels)
        ]

    def is_open(self, key: str) -> bool:
        """Return whether neither the type nor the offering settles label *key*."""
        return key not in self._well_known() or any(
            key in self._open_labels(kind) for kind in self.types.values()
        )

    def _well_known(self) -> set[str]:
        """Return the labels that the catalogue settles."""
        found = {line["key"] for kind in self.types.values() for line in kind["requirements"]}
        return found | {TYPE, ZONE, ZONE_ID, CAPACITY_TYPE, "topology.kubernetes.io/region"}

    @staticmethod
    def _open_labels(kind: Json) -> dict[str, list[str]]:
        return {
            line["key"]: list(line["values"])
            for line in kind.get("requirements", ())
            if line["operator"] == "In" and len(line["values"]) > 1
        }

    def _template(self, pool: Json) -> dict[str, str]:
        found = dict((pool["spec"]["template"].get("metadata") or {}).get("labels") or {})
        for key in {line["key"] for line in self.lines(pool)} - self._well_known() - found.keys():
            lines = [line for line in self.lines(pool) if line["key"] == key]
            stated = [value for line in lines for value in line.get("values", ())]
            absent = all(line["operator"] in {"NotIn", "DoesNotExist"} for line in lines)
            for value in () if absent else (*sorted(stated), *map(str, range(99))):
                if all(line_holds(line, {key: value}) for line in lines):
                    found[key] = value
                    break
        return found

    def _machine(self, pool: Json, option: Option, name: str, labels: Json) -> Machine:
        kind = option.kind
        every = {
            **self._stated(kind),
            **labels,
            TYPE: kind["name"],
            **_of_offering(option.offering),
            NODEPOOL: pool["metadata"]["name"],
            NODECLASS: pool["spec"]["template"]["spec"]["nodeClassRef"]["name"],
            HOSTNAME: name,
        }
        room = {key: number(value) for key, value in self._capacity(kind).items()}
        room.setdefault("pods", Fraction(110))
        for part in (kind.get("overhead") or {}).values():
            for key, value in part.items():
                room[key] = room.get(key, Fraction(0)) - number(value)
        taints = pool["spec"]["template"]["spec"].get("taints", [])
        return Machine(name, every, taints, room, slots=slots_of(kind))

    # DaemonSets.

    def owed(self, machine: Machine) -> list[Json]:
        """Return the DaemonSets that will put a pod on *machine* and have none there yet."""
        return [
            daemon
            for daemon in self.daemons
            if runs(daemon, machine) and not any(pod in machine.pods for pod in self.owned(daemon))
        ]

    def overhead(self, machine: Machine) -> dict[str, Fraction]:
        """Return what those DaemonSets take; a live pod's requests beat the template's."""
        found: Counter[str] = Counter()
        for daemon in self.owed(machine):
            live = [
                pod
                for pod in self.owned(daemon)
                if pod["spec"].get("nodeName")
                and pod["status"].get("phase") not in {"Succeeded", "Failed"}
            ]
            newest = max(
                live,
                key=lambda pod: (
                    pod["metadata"].get("creationTimestamp", ""),
                    pod["metadata"]["name"],
                ),
                default=None,
            )
            template = daemon["spec"]["template"]
            found.update(requests((newest or template)["spec"]))
        return {name: Fraction(value) for name, value in found.items()}

    # Lists.

    def variety(self, launch: Json, options: Sequence[Option], *, strict: bool) -> Iterator[str]:
        """Yield minValues that a list does not keep, labels and taints that the pool states."""
        pool = self.pools[launch["nodePool"]]
        template = pool["spec"]["template"]
        for key, least in self.varied(pool).items():
            values = {
                machine.labels.get(key)
                for option in options
                for machine in self.machines(launch, option)
            }
            if strict and len(values - {None}) < least:
                yield f"{launch['name']} keeps {len(values)} of {least} values of {key}"
        stated = (template.get("metadata") or {}).get("labels") or {}
        if not stated.items() <= launch["labels"].items():
            yield f"{launch['name']} has not the labels of its pool"
        if list(launch["taints"]) != list(template["spec"].get("taints", [])):
            yield f"{launch['name']} has not the taints of its pool"
        for option in options:
            for machine in self.machines(launch, option):
                for line in (*self.lines(pool), *launch["requirements"]):
                    if not line_holds(line, machine.labels):
                        yield f"{option.identity} does not meet {line}"

    def kept(self, suiting: Sequence[Option], pods: Sequence[Json], pool: Json) -> list[Option]:
        """Return those of the *suiting* options that the list should hold (rule 3)."""
        if self.varied(pool):
            return list(suiting)
        asking = any(name in requests(pod["spec"]) for pod in pods for name in DEVICES)
        plain = [option for option in suiting if not accelerated(option.kind)]
        found = plain if plain and not asking else list(suiting)
        if asking and not self._names_a_share(pool, pods):
            found = [option for option in found if FRACTION not in self._stated(option.kind)]
        on_demand = [it.price for it in found if it.offering["capacityType"] == "on-demand"]
        ceiling = min(on_demand, default=float("inf"))
        return [
            option
            for option in found
            if option.offering["capacityType"] != "spot" or option.price <= ceiling
        ]

    def _names_a_share(self, pool: Json, pods: Sequence[Json]) -> bool:
        text = [str(line["key"]) for line in self.lines(pool)]
        text += [str(pod["spec"].get("nodeSelector", "")) for pod in pods]
        text += [str(pod["spec"].get("affinity", "")) for pod in pods]
        return any(key in item for key in NAMING_A_SHARE for item in text)

    def exotic_only(self, pool: Json, options: Sequence[Option]) -> bool:
        """Return whether nothing but accelerated or bare-metal types is left."""
        del pool
        return all(accelerated(option.kind) for option in options)


def _choices(free: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    keys = sorted(free)
    for values in product(*(free[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def _of_offering(offering: Json) -> dict[str, str]:
    zone = offering["zone"]
    found = {ZONE: zone, CAPACITY_TYPE: offering["capacityType"]}
    if offering.get("zoneId"):
        found[ZONE_ID] = offering["zoneId"]
    return found


def _adjusted(price: float, adjustment: str) -> float:
    if price <= 0:
        return price
    amount = Fraction(adjustment.removesuffix("%"))
    exact = Fraction(str(price))
    exact += exact * amount / 100 if adjustment.endswith("%") else amount
    return float(max(exact, Fraction(0)))


__all__ = ["CAPACITY_TYPE", "NODEPOOL", "TYPE", "Goods", "Option", "ephemeral", "tolerated"]
