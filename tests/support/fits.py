"""One pod and one node: labels, taints, room, ports and volumes, as the documentation has them.

The lower half of the judge in `feasible`: what kube-scheduler's NodeAffinity, TaintToleration,
NodeResourcesFit, NodePorts, VolumeZone and NodeVolumeLimits plugins say of raw manifests. Imports
nothing of the planner's. Refuses to know other nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Json = Mapping[str, Any]
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
EBS = "ebs.csi.aws.com"
_EBS_SLOTS = ("attachable-volumes-csi-ebs.csi.aws.com", "attachable-volumes-aws-ebs")
_UNITS: dict[str, Fraction | int] = {
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
_BETA = {
    "failure-domain.beta.kubernetes.io/zone": ZONE,
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
    "topology.ebs.csi.aws.com/zone": ZONE,
}
_BLOCKING = ("NoSchedule", "NoExecute")
_DAEMONS_TOLERATE = tuple(
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists"}
    for key in (
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    )
)


def number(text: Any) -> Fraction:
    """Return a quantity as a number."""
    body = str(text)
    digits = body.rstrip("mkMGTKi")
    return Fraction(digits) * _UNITS[body[len(digits) :]]


def key_of(item: Json) -> str:
    """Return `namespace/name`."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


@dataclass
class Machine:
    """One node, existing or planned with one of its offerings."""

    name: str
    labels: dict[str, str]
    taints: Sequence[Json]
    room: dict[str, Fraction]
    pods: list[Json] = field(default_factory=list)
    exists: bool = False
    leaving: bool = False
    slots: dict[str, int] = field(default_factory=dict)


# Labels.


def line_holds(line: Json, labels: Json) -> bool:
    """Return whether one line of a node selector term, or of requirements, holds."""
    key = str(line["key"])
    value, values = labels.get(_BETA.get(key, key)), line.get("values", ())
    bounded = value is not None and str(value).lstrip("-").isdigit()
    verdicts: dict[str, Callable[[], bool]] = {
        "In": lambda: value in values,
        "NotIn": lambda: value not in values,
        "Exists": lambda: value is not None,
        "DoesNotExist": lambda: value is None,
        "Gt": lambda: bounded and int(str(value)) > int(values[0]),
        "Lt": lambda: bounded and int(str(value)) < int(values[0]),
        "Gte": lambda: bounded and int(str(value)) >= int(values[0]),
        "Lte": lambda: bounded and int(str(value)) <= int(values[0]),
    }
    return verdicts[line["operator"]]()


def term_holds(term: Json, labels: Json, name: str = "") -> bool:
    """Return whether a node selector term holds on the node called *name*; an empty one never."""
    lines, fields = term.get("matchExpressions", ()), term.get("matchFields", ())
    return bool(lines or fields) and (
        all(line_holds(line, labels) for line in lines)
        and all(line_holds(line, {"metadata.name": name}) for line in fields)
    )


def selects(spec: Json, labels: Json, name: str = "") -> bool:
    """Return whether nodeSelector and required node affinity admit a node."""
    asked = (spec.get("nodeSelector") or {}).items()
    if any(labels.get(_BETA.get(key, key)) != value for key, value in asked):
        return False
    nodes = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(
        term_holds(term, labels, name) for term in required["nodeSelectorTerms"]
    )


def matches(selector: Json | None, labels: Json) -> bool:
    """Return whether a label selector matches; none matches nothing, an empty one everything."""
    if selector is None:
        return False
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(line_holds(line, labels) for line in selector.get("matchExpressions") or ())


# Taints.


def tolerates(toleration: Json, taint: Json) -> bool:
    """Return whether one toleration covers a taint."""
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    mine, theirs = toleration.get("value", ""), taint.get("value", "")
    return bool(toleration.get("key") == taint["key"] and mine == theirs)


def tolerated(tolerations: Iterable[Json], taints: Iterable[Json]) -> bool:
    """Return whether every taint that keeps pods off is tolerated."""
    accepted = list(tolerations)
    return all(
        taint["effect"] not in _BLOCKING or any(tolerates(item, taint) for item in accepted)
        for taint in taints
    )


def ephemeral(taint: Json) -> bool:
    """Return whether a taint goes by itself while a node joins."""
    return (taint["key"], taint["effect"]) in {
        ("node.kubernetes.io/not-ready", "NoSchedule"),
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule"),
        ("karpenter.sh/unregistered", "NoExecute"),
    } or taint["key"].startswith("readiness.k8s.io/")


def runs(daemon: Json, machine: Machine) -> bool:
    """Return whether the DaemonSet *daemon* puts a pod on *machine*."""
    spec = daemon["spec"]["template"]["spec"]
    accepted = [*spec.get("tolerations", ()), *_DAEMONS_TOLERATE]
    lasting = [taint for taint in machine.taints if not ephemeral(taint)]
    return selects(spec, machine.labels, machine.name) and tolerated(accepted, lasting)


# Room.


def _asked(container: Json) -> dict[str, Fraction]:
    resources = container.get("resources") or {}
    stated = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: number(value) for name, value in stated.items()}


def requests(spec: Json) -> dict[str, Fraction]:
    """Return what a pod asks of a node: KEP-753's sum, pod-level resources, overhead, one pod."""
    total: Counter[str] = Counter()
    sidecars: Counter[str] = Counter()
    peak: dict[str, Fraction] = {}
    for container in spec.get("initContainers", ()):
        asked = _asked(container)
        if container.get("restartPolicy") == "Always":
            sidecars.update(asked)
            asked = {}
        for name in {*asked, *sidecars}:
            now = asked.get(name, Fraction(0)) + Fraction(sidecars[name])
            peak[name] = max(peak.get(name, Fraction(0)), now)
    total.update(sidecars)
    for container in spec["containers"]:
        total.update(_asked(container))
    found = {
        name: max(Fraction(total[name]), peak.get(name, Fraction(0))) for name in {*total, *peak}
    }
    found.update(_asked(spec))
    for name, value in (spec.get("overhead") or {}).items():
        found[name] = found.get(name, Fraction(0)) + number(value)
    found["pods"] = Fraction(1)
    return {name: value for name, value in found.items() if value}


def ports(spec: Json) -> Iterator[tuple[str, int, str]]:
    """Yield protocol, port and address of every host port."""
    for container in spec["containers"]:
        for port in container.get("ports", ()):
            if port.get("hostPort"):
                address = port.get("hostIP") or "0.0.0.0"
                yield port.get("protocol", "TCP"), port["hostPort"], address


def clash(new: Iterable[Json], there: Iterable[Json]) -> bool:
    """Return whether a *new* pod wants a host port that another new one has, or one that is
    *there*."""
    taken = [port for spec in there for port in ports(spec)]
    for spec in new:
        mine = list(ports(spec))
        if any(_same_port(port, other) for port in mine for other in taken):
            return True
        taken.extend(mine)
    return False


def _same_port(left: tuple[str, int, str], right: tuple[str, int, str]) -> bool:
    """Return whether two host ports are one: 0.0.0.0 is every address."""
    return left[:2] == right[:2] and (left[2] == right[2] or "0.0.0.0" in {left[2], right[2]})


def slots_of(kind: Json) -> dict[str, int]:
    """Return how many volumes a new node of a type attaches, by driver."""
    stated = [kind["capacity"][name] for name in _EBS_SLOTS if name in kind["capacity"]]
    return {EBS: int(stated[0])} if stated else {}


# Volumes.


@dataclass(frozen=True)
class Storage:
    """Claims, volumes and classes of a cluster."""

    claims: Mapping[str, Json]
    volumes: Mapping[str, Json]
    classes: Mapping[str, Json]

    def broken(self, pod: Json) -> bool:
        """Return whether the pod can run nowhere: a claim of its is missing, lost or unbound."""
        return any(self._broken(claim) for _, claim in self._claims(pod))

    def _claims(self, pod: Json) -> Iterator[tuple[str, Json | None]]:
        for item in pod["spec"].get("volumes", ()):
            if "persistentVolumeClaim" in item:
                name = (
                    f"{pod['metadata']['namespace']}/{item['persistentVolumeClaim']['claimName']}"
                )
                yield name, self.claims.get(name)
            elif "ephemeral" in item:
                name = f"{key_of(pod)}-{item['name']}"
                template = item["ephemeral"]["volumeClaimTemplate"]["spec"]
                yield name, self.claims.get(name, {"metadata": {}, "spec": template})

    def _broken(self, claim: Json | None) -> bool:
        if claim is None or (claim.get("status") or {}).get("phase") == "Lost":
            return True
        if "deletionTimestamp" in claim["metadata"]:
            return True
        if claim["spec"].get("volumeName"):
            return claim["spec"]["volumeName"] not in self.volumes
        storage = self._class(claim)
        return storage is None or storage.get("volumeBindingMode", "Immediate") == "Immediate"

    def _class(self, claim: Json) -> Json | None:
        name = claim["spec"].get("storageClassName")
        if name is not None:
            return self.classes.get(name)
        mark = "storageclass.kubernetes.io/is-default-class"
        marked = [
            item
            for item in self.classes.values()
            if (item["metadata"].get("annotations") or {}).get(mark) == "true"
        ]
        return marked[0] if marked else None

    def reach(self, pod: Json, machine: Machine) -> bool:
        """Return whether every volume of *pod* can be attached where *machine* is."""
        return all(self._reaches(claim, machine) for _, claim in self._claims(pod))

    def _reaches(self, claim: Json | None, machine: Machine) -> bool:
        if claim is None or self._broken(claim):
            return False
        name = claim["spec"].get("volumeName")
        if not name:
            storage = self._class(claim) or {}
            topologies = storage.get("allowedTopologies")
            return not topologies or any(
                all(
                    line_holds({**line, "operator": "In"}, machine.labels)
                    for line in topology["matchLabelExpressions"]
                )
                for topology in topologies
            )
        spec = self.volumes[name]["spec"]
        terms = (spec.get("nodeAffinity") or {}).get("required")
        if not terms:
            return True
        local = "local" in spec or "hostPath" in spec
        labels = machine.labels
        for term in terms["nodeSelectorTerms"]:
            lines = [
                line
                for line in term.get("matchExpressions", ())
                if machine.exists or not local or line["key"] != HOSTNAME
            ]
            if all(line_holds(line, labels) for line in lines):
                return True
        return False

    def unbound(self, pod: Json) -> set[str]:
        """Return the claims of *pod* whose volume is made where the first pod goes."""
        return {
            name
            for name, claim in self._claims(pod)
            if claim is not None and not claim["spec"].get("volumeName")
        }

    def attached(self, pods: Iterable[Json]) -> Counter[str]:
        """Return how many volumes of each driver *pods* attach to their node together."""
        found: set[tuple[str, str]] = set()
        for pod in pods:
            for name, claim in self._claims(pod):
                if claim is not None:
                    found.add((self._driver(claim), name))
        return Counter(driver for driver, _ in found if driver)

    def _driver(self, claim: Json) -> str:
        volume = self.volumes.get(claim["spec"].get("volumeName") or "")
        if volume is not None:
            return str((volume["spec"].get("csi") or {}).get("driver", ""))
        driver = str((self._class(claim) or {}).get("provisioner", ""))
        return EBS if driver == "kubernetes.io/aws-ebs" else driver
