"""A judge of plans, written from the Kubernetes documentation and from nothing of the planner's.

`violations(documents, catalogue, plan)` takes the manifests, the catalogue and the plan's JSON,
and returns what is wrong, in words; an empty list is a plan that kube-scheduler will honour. A
planned node is judged on *every* offering of its list, because EC2 may pick any of them. Where a
list leaves a topology domain open, every combination is tried, up to a bound. Pods are then
scheduled one by one, in any order that works, as kube-scheduler would.

It understands what the generators of tests/properties make: it is a judge, not a second planner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, product
from typing import Any

Json = Mapping[str, Any]
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
MOST_COMBINATIONS = 200
_UNITS = {
    "": 1,
    "m": Fraction(1, 1000),
    "k": 1000,
    "M": 10**6,
    "G": 10**9,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def number(text: Any) -> Fraction:
    """Return a quantity as a number."""
    body = str(text)
    digits = body.rstrip("mkMGTKi")
    return Fraction(digits) * _UNITS[body[len(digits) :]]


@dataclass
class Machine:
    """One node, existing or planned with one of its offerings."""

    name: str
    labels: dict[str, str]
    taints: Sequence[Json]
    room: dict[str, Fraction]
    pods: list[Json] = field(default_factory=list)
    exists: bool = False


def violations(documents: Iterable[Json], catalogue: Json, plan: Json) -> list[str]:
    """Return everything that is wrong with *plan*."""
    world = _World(list(documents), catalogue)
    found = [*world.missing(plan), *world.prices(plan), *world.limits(plan), *world.reserved(plan)]
    for launch in plan["launches"]:
        for offering in launch["offerings"]:
            machine = world.machine(launch, offering)
            found += world.unfit(machine, [world.pods[key] for key in launch["pods"]])
    machines = world.existing()
    by_name = {machine.name: machine for machine in machines}
    for machine in machines:
        new = [
            world.pods[item["pod"]] for item in plan["placements"] if item["node"] == machine.name
        ]
        found += world.unfit(machine, new) if new else []
    unknown = {item["node"] for item in plan["placements"]} - set(by_name)
    found += [f"{name} is no node" for name in sorted(unknown)]
    return found or list(world.neighbours(plan))


class _World:
    """The documents, by kind."""

    def __init__(self, documents: list[Json], catalogue: Json) -> None:
        self.documents = documents
        self.types = {item["name"]: item for item in catalogue["instanceTypes"]}
        self.pools = {item["metadata"]["name"]: item for item in self._of("NodePool")}
        self.pods = {_key(item): item for item in self._of("Pod")}
        self.daemons = self._of("DaemonSet")
        self.claims = {_key(item): item for item in self._of("PersistentVolumeClaim")}
        self.volumes = {item["metadata"]["name"]: item for item in self._of("PersistentVolume")}
        self.classes = {item["metadata"]["name"]: item for item in self._of("StorageClass")}

    def _of(self, kind: str) -> list[Json]:
        return [item for item in self.documents if item["kind"] == kind]

    # Whole plans.

    def missing(self, plan: Json) -> Iterator[str]:
        """Yield pending pods that the plan does not name exactly once."""
        named = Counter(
            [item["pod"] for item in plan["placements"]]
            + [key for launch in plan["launches"] for key in launch["pods"]]
            + [item["pod"] for item in plan["unschedulable"]]
        )
        for key, pod in self.pods.items():
            pending = not pod["spec"].get("nodeName")
            if named[key] != int(pending):
                yield f"{key} is named {named[key]} times"

    def prices(self, plan: Json) -> Iterator[str]:
        """Yield launches that are not cheapest first, and a total that does not add up."""
        total = 0.0
        for launch in plan["launches"]:
            prices = [item["pricePerHour"] for item in launch["offerings"]]
            if not prices or prices != sorted(prices) or launch["pricePerHour"] != prices[0]:
                yield f"{launch['name']} is not listed cheapest first"
            total += launch["pricePerHour"]
        if abs(total - plan["summary"]["pricePerHour"]) > 1e-6:
            yield "the total is not the sum of the launches"

    def limits(self, plan: Json) -> Iterator[str]:
        """Yield pools whose limits the largest alternatives of their launches would break."""
        for name, pool in self.pools.items():
            for resource, limit in (pool["spec"].get("limits") or {}).items():
                used = sum(
                    (
                        _amount(node["status"]["capacity"], resource)
                        for node in self._of("Node")
                        if node["metadata"]["labels"].get("karpenter.sh/nodepool") == name
                    ),
                    Fraction(0),
                )
                for launch in plan["launches"]:
                    if launch["nodePool"] == name:
                        used += max(
                            _amount(self.types[kind]["capacity"], resource)
                            for kind in launch["instanceTypes"]
                        )
                launched = any(item["nodePool"] == name for item in plan["launches"])
                if launched and used > number(limit):
                    yield f"{name} breaks its limit of {resource}"

    def reserved(self, plan: Json) -> Iterator[str]:
        """Yield reservations that more launches list than they have instances."""
        counts = {
            offering["reservationId"]: offering["reservationCapacity"]
            for kind in self.types.values()
            for offering in kind["offerings"]
            if offering.get("reservationId")
        }
        used: Counter[str] = Counter()
        for launch in plan["launches"]:
            used.update(
                {item["reservationId"] for item in launch["offerings"] if item.get("reservationId")}
            )
        for name, times in used.items():
            if times > counts[name]:
                yield f"reservation {name} is used {times} times, has {counts[name]}"

    # One machine.

    def machine(self, launch: Json, offering: Json) -> Machine:
        """Return the planned node of *launch* as *offering* would make it."""
        pool = self.pools[launch["nodePool"]]
        kind = self.types[offering["instanceType"]]
        labels = {
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": "linux",
            **{line["key"]: line["values"][0] for line in kind.get("requirements", ())},
            **((pool["spec"]["template"].get("metadata") or {}).get("labels") or {}),
            **launch["labels"],
            "node.kubernetes.io/instance-type": kind["name"],
            ZONE: offering["zone"],
            "karpenter.sh/capacity-type": offering["capacityType"],
            "karpenter.sh/nodepool": launch["nodePool"],
            HOSTNAME: launch["name"],
        }
        room = {name: number(value) for name, value in kind["capacity"].items()}
        for part in (kind.get("overhead") or {}).values():
            for name, value in part.items():
                room[name] = room.get(name, Fraction(0)) - number(value)
        taints = pool["spec"]["template"]["spec"].get("taints", [])
        machine = Machine(launch["name"], labels, taints, room)
        for line in pool["spec"]["template"]["spec"]["requirements"]:
            assert _line_holds(line, labels), f"{launch['name']}: the pool refuses {labels}"
        assert _offered(kind, offering), f"{launch['name']} lists what is not for sale"
        return machine

    def existing(self) -> list[Machine]:
        """Return the nodes that exist, with the pods on them."""
        found = []
        for node in self._of("Node"):
            name = node["metadata"]["name"]
            machine = Machine(
                name=name,
                labels=dict(node["metadata"]["labels"]),
                taints=node["spec"].get("taints", []),
                room={key: number(value) for key, value in node["status"]["allocatable"].items()},
                exists=True,
            )
            machine.pods = [
                pod for pod in self.pods.values() if pod["spec"].get("nodeName") == name
            ]
            found.append(machine)
        return found

    def unfit(self, machine: Machine, pods: Sequence[Json]) -> Iterator[str]:
        """Yield why *pods* cannot all run on *machine*, neighbours elsewhere aside."""
        daemons = [
            item["spec"]["template"]
            for item in self.daemons
            if _selects(item["spec"]["template"]["spec"], machine.labels)
            and _tolerated(item["spec"]["template"]["spec"], machine.taints)
        ]
        everybody = [*machine.pods, *pods, *daemons]
        asked: Counter[str] = Counter()
        for pod in everybody:
            for name, value in _requests(pod["spec"]).items():
                asked[name] += value  # type: ignore[assignment]
        for name, value in asked.items():
            if value > machine.room.get(name, 0):
                yield f"{machine.name} {machine.labels.get(ZONE)}: {name} {value} asked"
        for pod in pods:
            spec = pod["spec"]
            if not _selects(spec, machine.labels):
                yield f"{_key(pod)} does not select {machine.name}"
            if not _tolerated(spec, machine.taints):
                yield f"{_key(pod)} does not tolerate {machine.name}"
            if not self._volumes_reach(pod, machine):
                yield f"the volumes of {_key(pod)} do not reach {machine.name}"
        ports = [port for pod in everybody for port in _ports(pod["spec"])]
        if len(ports) != len(set(ports)):
            yield f"{machine.name} has a host port twice"

    def _volumes_reach(self, pod: Json, machine: Machine) -> bool:
        for item in pod["spec"].get("volumes", ()):
            source = item.get("persistentVolumeClaim")
            if source is None:
                continue
            claim = self.claims.get(f"{pod['metadata']['namespace']}/{source['claimName']}")
            if claim is None:
                return False
            name = claim["spec"].get("volumeName")
            if name:
                terms = (self.volumes[name]["spec"].get("nodeAffinity") or {}).get("required")
                if terms and not any(
                    _term_holds(term, machine.labels) for term in terms["nodeSelectorTerms"]
                ):
                    return False
            else:
                topologies = self.classes[claim["spec"]["storageClassName"]].get(
                    "allowedTopologies"
                )
                if topologies and not any(
                    all(
                        machine.labels.get(line["key"]) in line["values"]
                        for line in topology["matchLabelExpressions"]
                    )
                    for topology in topologies
                ):
                    return False
        return True

    # Neighbours.

    def neighbours(self, plan: Json) -> Iterator[str]:
        """Yield pods that no order of scheduling could place, for some pick of EC2's."""
        keys = self._keys()
        picks = [self._distinct(launch, keys) for launch in plan["launches"]]
        for pick in islice(product(*picks), MOST_COMBINATIONS):
            machines = self.existing() + list(pick)
            homes = {machine.name: machine for machine in machines}
            waiting = [
                (self.pods[item["pod"]], homes[item["node"]]) for item in plan["placements"]
            ] + [
                (self.pods[key], homes[launch["name"]])
                for launch in plan["launches"]
                for key in launch["pods"]
            ]
            stuck = self._in_some_order(waiting, machines)
            if stuck:
                yield f"{stuck} cannot be scheduled where the plan puts it"
                return

    def _in_some_order(self, waiting: list[tuple[Json, Machine]], machines: list[Machine]) -> str:
        """Return a pod that is stuck in every order that is tried, "" where one works."""
        stuck = ""
        before = [list(machine.pods) for machine in machines]
        for rank in (_by_spread, _by_affinity, _by_freedom, _spreads, _apart):
            for machine, pods in zip(machines, before, strict=True):
                machine.pods[:] = pods
            stuck = self._schedule(waiting, machines, rank)
            if not stuck:
                break
        for machine, pods in zip(machines, before, strict=True):
            machine.pods[:] = pods
        return stuck

    def _keys(self) -> set[str]:
        keys = set()
        for pod in self.pods.values():
            keys.update(line["topologyKey"] for line in _spreads(pod))
            keys.update(
                term["topologyKey"]
                for kind in ("podAffinity", "podAntiAffinity")
                for term in _terms(pod, kind)
            )
        return keys

    def _distinct(self, launch: Json, keys: set[str]) -> list[Machine]:
        """Return the launch's machines that differ in a topology key."""
        found: dict[tuple[str | None, ...], Machine] = {}
        for offering in launch["offerings"]:
            machine = self.machine(launch, offering)
            identity = tuple(machine.labels.get(key) for key in sorted(keys))
            found.setdefault(identity, machine)
        return list(found.values())

    def _schedule(
        self,
        waiting: list[tuple[Json, Machine]],
        machines: list[Machine],
        rank: Callable[[Json], object],
    ) -> str:
        """Schedule pods where they belong, those of *rank* first; return one that is stuck."""
        left = sorted(waiting, key=lambda item: (not rank(item[0]), _key(item[0])))
        while left:
            for place, (pod, machine) in enumerate(left):
                if self._admits(pod, machine, machines):
                    machine.pods.append(pod)
                    del left[place]
                    break
            else:
                return _key(left[0][0])
        return ""

    def _admits(self, pod: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        return (
            self._near(pod, machine, machines)
            and self._apart(pod, machine, machines)
            and all(self._even(pod, line, machine, machines) for line in _spreads(pod))
        )

    def _near(self, pod: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        terms = _terms(pod, "podAffinity")
        if not terms:
            return True

        def suits(other: Json) -> bool:
            return all(_term_matches(term, pod, other) for term in terms)

        anywhere = any(suits(other) for each in machines for other in each.pods)
        if not anywhere and suits(pod):
            return all(term["topologyKey"] in machine.labels for term in terms)
        return all(
            any(suits(other) for each in _domain(term, machine, machines) for other in each.pods)
            for term in terms
        )

    def _apart(self, pod: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        for term in _terms(pod, "podAntiAffinity"):
            for each in _domain(term, machine, machines):
                if any(_term_matches(term, pod, other) for other in each.pods):
                    return False
        for each in machines:
            for other in each.pods:
                for term in _terms(other, "podAntiAffinity"):
                    value = each.labels.get(term["topologyKey"])
                    same = value is not None and machine.labels.get(term["topologyKey"]) == value
                    if same and _term_matches(term, other, pod):
                        return False
        return True

    def _even(self, pod: Json, line: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        key = line["topologyKey"]
        if key not in machine.labels:
            return False
        counts: Counter[str] = Counter()
        domains = set()
        for each in machines:
            if key in each.labels and _selects(pod["spec"], each.labels):
                domains.add(each.labels[key])
                counts[each.labels[key]] += sum(
                    _matches(line.get("labelSelector"), other)
                    and other["metadata"]["namespace"] == pod["metadata"]["namespace"]
                    for other in each.pods
                )
        if key != HOSTNAME:
            domains |= self._could_be(pod, key)
        least = min((counts[domain] for domain in domains), default=0)
        if key == HOSTNAME or len(domains) < line.get("minDomains", 1):
            least = 0
        here = counts[machine.labels[key]] + _matches(line.get("labelSelector"), pod)
        return here - least <= line["maxSkew"]

    def _could_be(self, pod: Json, key: str) -> set[str]:
        """Return the domains that NodePools able to serve *pod* could make."""
        found = set()
        for name, pool in self.pools.items():
            template = pool["spec"]["template"]
            if not _tolerated(pod["spec"], template["spec"].get("taints", [])):
                continue
            own = (template.get("metadata") or {}).get("labels") or {}
            for kind in self.types.values():
                for offering in kind["offerings"]:
                    labels = {
                        "kubernetes.io/arch": "amd64",
                        "kubernetes.io/os": "linux",
                        **{line["key"]: line["values"][0] for line in kind.get("requirements", ())},
                        **own,
                        "node.kubernetes.io/instance-type": kind["name"],
                        ZONE: offering["zone"],
                        "karpenter.sh/capacity-type": offering["capacityType"],
                        "karpenter.sh/nodepool": name,
                    }
                    lines = template["spec"]["requirements"]
                    if (
                        offering["available"]
                        and key in labels
                        and all(_line_holds(line, labels) for line in lines)
                        and _selects(pod["spec"], labels)
                    ):
                        found.add(labels[key])
        return found


def _key(item: Json) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _amount(capacity: Json, resource: str) -> Fraction:
    return Fraction(1) if resource == "nodes" else number(capacity.get(resource, 0))


def _offered(kind: Json, offering: Json) -> bool:
    return any(
        item["available"]
        and (item["zone"], item["capacityType"]) == (offering["zone"], offering["capacityType"])
        and item.get("reservationId") == offering.get("reservationId")
        for item in kind["offerings"]
    )


def _requests(spec: Json) -> dict[str, Fraction]:
    found: Counter[str] = Counter({"pods": 1})
    for container in spec["containers"]:
        for name, value in (container["resources"].get("requests") or {}).items():
            found[name] += number(value)  # type: ignore[assignment]
    return {name: Fraction(value) for name, value in found.items() if value}


def _ports(spec: Json) -> Iterator[int]:
    for container in spec["containers"]:
        for port in container.get("ports", ()):
            if port.get("hostPort"):
                yield port["hostPort"]


def _tolerated(spec: Json, taints: Iterable[Json]) -> bool:
    return all(
        taint["effect"] == "PreferNoSchedule"
        or any(
            toleration.get("key") in {None, taint["key"]}
            and toleration.get("effect") in {None, taint["effect"]}
            and (
                toleration.get("operator") == "Exists"
                or toleration.get("value", "") == taint.get("value", "")
            )
            for toleration in spec.get("tolerations", ())
        )
        for taint in taints
    )


def _selects(spec: Json, labels: Json) -> bool:
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    nodes = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(
        _term_holds(term, labels) for term in required["nodeSelectorTerms"]
    )


def _term_holds(term: Json, labels: Json) -> bool:
    lines = term.get("matchExpressions", ())
    return bool(lines) and all(_line_holds(line, labels) for line in lines)


def _line_holds(line: Json, labels: Json) -> bool:
    value, values = labels.get(line["key"]), line.get("values", ())
    bounded = value is not None and value.isdigit()
    return {
        "In": lambda: value in values,
        "NotIn": lambda: value not in values,
        "Exists": lambda: value is not None,
        "DoesNotExist": lambda: value is None,
        "Gt": lambda: bounded and int(str(value)) > int(values[0]),
        "Lt": lambda: bounded and int(str(value)) < int(values[0]),
        "Gte": lambda: bounded and int(str(value)) >= int(values[0]),
        "Lte": lambda: bounded and int(str(value)) <= int(values[0]),
    }[line["operator"]]()


def _spreads(pod: Json) -> list[Json]:
    return [
        line
        for line in pod["spec"].get("topologySpreadConstraints", ())
        if line["whenUnsatisfiable"] == "DoNotSchedule"
    ]


def _terms(pod: Json, kind: str) -> list[Json]:
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    found: list[Json] = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return found


def _apart(pod: Json) -> list[Json]:
    return _terms(pod, "podAntiAffinity")


def _by_spread(pod: Json) -> bool:
    return bool(_spreads(pod) or _terms(pod, "podAffinity") or _terms(pod, "podAntiAffinity"))


def _by_affinity(pod: Json) -> bool:
    return bool(_terms(pod, "podAffinity"))


def _by_freedom(pod: Json) -> bool:
    return not _by_spread(pod)


def _matches(selector: Json | None, pod: Json) -> bool:
    if selector is None:
        return False
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items())


def _term_matches(term: Json, owner: Json, other: Json) -> bool:
    namespaces = term.get("namespaces") or [owner["metadata"]["namespace"]]
    return other["metadata"]["namespace"] in namespaces and _matches(
        term.get("labelSelector"), other
    )


def _domain(term: Json, machine: Machine, machines: Iterable[Machine]) -> list[Machine]:
    value = machine.labels.get(term["topologyKey"])
    return [
        each
        for each in machines
        if value is not None and each.labels.get(term["topologyKey"]) == value
    ]
