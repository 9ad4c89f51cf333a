"""The cluster that a plan is judged against: what is there, who waits, who could be served.

The middle of the judge in `feasible`: which pods a plan has to name (rule 1 of the command line's
contract and its definition of pending), which nodes and NodeClaims are places and what they have
left (rules 8 and 10), and which NodePools could serve a pod (rule 4). Imports nothing of the
planner's. Refuses to know the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from tests.support import crowd, fits
from tests.support.fits import HOSTNAME, ZONE, Json, Machine, Storage, key_of, number
from tests.support.goods import NODEPOOL, Goods

_DISRUPTED = "karpenter.sh/disrupted"


class Cluster:
    """The documents, by kind."""

    def __init__(self, documents: list[Json], catalogue: Json) -> None:
        self.documents = documents
        self.pods = {key_of(item): item for item in self.of("Pod")}
        self.nodes = self.of("Node")
        self.claims = self.of("NodeClaim")
        self.goods = Goods(
            pools={item["metadata"]["name"]: item for item in self.of("NodePool")},
            types={item["name"]: item for item in catalogue["instanceTypes"]},
            classes={item["metadata"]["name"]: item for item in self.of("EC2NodeClass")},
            overlays=self.of("NodeOverlay"),
            daemons=self.of("DaemonSet"),
            owned=lambda daemon: [pod for pod in self.pods.values() if _owned(pod, daemon)],
        )
        self.storage = Storage(
            claims={key_of(item): item for item in self.of("PersistentVolumeClaim")},
            volumes={item["metadata"]["name"]: item for item in self.of("PersistentVolume")},
            classes={item["metadata"]["name"]: item for item in self.of("StorageClass")},
        )
        self.crowd = crowd.Crowd(
            namespaces={
                item["metadata"]["name"]: item["metadata"].get("labels") or {}
                for item in self.of("Namespace")
            },
            could_be=self._could_be,
            launchable=lambda pod: bool(self._serving(pod)),
        )
        self._known: dict[object, Any] = {}

    def of(self, kind: str) -> list[Json]:
        """Return the documents of a kind."""
        return [item for item in self.documents if item["kind"] == kind]

    def pending(self) -> set[str]:
        """Return the pods that a plan has to name: those that wait, those that must leave."""
        leaving = {node["metadata"]["name"] for node in self.nodes if self._leaving(node)}
        return {
            key
            for key, pod in self.pods.items()
            if (
                self._must_leave(pod)
                if pod["spec"].get("nodeName") in leaving
                else not pod["spec"].get("nodeName") and self._waits(pod)
            )
        }

    def _waits(self, pod: Json) -> bool:
        nominated = (pod.get("status") or {}).get("nominatedNodeName")
        ours = {
            item["metadata"]["name"]
            for item in (*self.nodes, *self.claims)
            if "outrider.dev/decision"
            in {
                **(item["metadata"].get("labels") or {}),
                **(item["metadata"].get("annotations") or {}),
            }
        }
        return not (
            pod["status"].get("phase") in {"Succeeded", "Failed"}
            or "deletionTimestamp" in pod["metadata"]
            or pod["spec"].get("schedulingGates")
            or _owners(pod) & {"DaemonSet", "Node"}
            or (nominated and nominated not in ours)
        )

    def _must_leave(self, pod: Json) -> bool:
        held = [
            budget
            for budget in self.of("PodDisruptionBudget")
            if budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
            and fits.matches(budget["spec"].get("selector"), pod["metadata"].get("labels") or {})
        ]
        shut = [item for item in held if not (item.get("status") or {}).get("disruptionsAllowed")]
        annotations = pod["metadata"].get("annotations") or {}
        return not (
            _owners(pod) & {"DaemonSet", "Node"}
            or pod["status"].get("phase") in {"Succeeded", "Failed"}
            or "deletionTimestamp" in pod["metadata"]
            or annotations.get("karpenter.sh/do-not-disrupt") == "true"
            or len(held) > 1
            or shut
        )

    def runs(self, key: str) -> bool:
        """Return whether the pod *key* is on a node, and neither over nor ending."""
        pod = self.pods[key]
        over = pod["status"].get("phase") in {"Succeeded", "Failed"}
        return (
            bool(pod["spec"].get("nodeName"))
            and not over
            and ("deletionTimestamp" not in pod["metadata"])
        )

    def gangs(self) -> dict[str, list[str]]:
        """Return the members of every gang, by `namespace/name`."""
        found: dict[str, list[str]] = {}
        for key, pod in self.pods.items():
            name = mark(pod, "outrider.dev/gang")
            if name:
                found.setdefault(f"{pod['metadata']['namespace']}/{name}", []).append(key)
        return found

    def left(self, pool: Json) -> dict[str, Fraction]:
        """Return what the limits of *pool* leave beside the machines that are there."""
        name = pool["metadata"]["name"]
        machines: dict[str, dict[str, Any]] = {}
        for node in self.nodes:
            if node["metadata"]["labels"].get(NODEPOOL) == name:
                identity = node["spec"].get("providerID") or node["metadata"]["name"]
                machines[identity] = dict(node["status"]["capacity"])
        for claim in self.claims:
            if claim["metadata"]["labels"].get(NODEPOOL) == name:
                status = claim.get("status") or {}
                identity = status.get("providerID") or status.get("nodeName")
                known = machines.setdefault(identity or f"claim {claim['metadata']['name']}", {})
                for resource, value in (status.get("capacity") or {}).items():
                    if not number(known.get(resource, 0)):
                        known[resource] = value
        return {
            resource: number(limit)
            - sum(
                (
                    Fraction(1) if resource == "nodes" else number(held.get(resource, 0))
                    for held in machines.values()
                ),
                Fraction(0),
            )
            for resource, limit in (pool["spec"].get("limits") or {}).items()
        }

    def _leaving(self, node: Json) -> bool:
        claim = self._claim_of(node)
        return (
            "deletionTimestamp" in node["metadata"]
            or (claim is not None and "deletionTimestamp" in claim["metadata"])
            or any(taint["key"] == _DISRUPTED for taint in node["spec"].get("taints", ()))
        )

    def _claim_of(self, node: Json) -> Json | None:
        for claim in self.claims:
            status = claim.get("status") or {}
            same_id = status.get("providerID") and (
                status["providerID"] == node["spec"].get("providerID")
            )
            if same_id or status.get("nodeName") == node["metadata"]["name"]:
                return claim
        return None

    def existing(self) -> list[Machine]:
        """Return the nodes that exist or are on their way, with the pods that stay on them."""
        known: list[Machine] | None = self._known.get("existing")
        if known is None:
            pending = self.pending()
            known = [self._node(node) for node in self.nodes]
            for machine in known:
                machine.pods = [
                    pod
                    for key, pod in self.pods.items()
                    if pod["spec"].get("nodeName") == machine.name
                    and key not in pending
                    and pod["status"].get("phase") not in {"Succeeded", "Failed"}
                ]
            joined = [self._claim_of(node) for node in self.nodes]
            known += [
                _on_its_way(claim)
                for claim in self.claims
                if claim not in joined and "deletionTimestamp" not in claim["metadata"]
            ]
            self._known["existing"] = known
        return known

    def _node(self, node: Json) -> Machine:
        name, labels = node["metadata"]["name"], dict(node["metadata"]["labels"])
        claim = self._claim_of(node)
        ours = NODEPOOL in labels or claim is not None
        taints = list(node["spec"].get("taints", ()))
        room = {key: number(value) for key, value in node["status"]["allocatable"].items()}
        if node["spec"].get("unschedulable"):
            taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
        if ours and labels.get("karpenter.sh/initialized") != "true":
            pool = self.goods.pools.get(labels.get(NODEPOOL, ""))
            source = claim["spec"] if claim else pool["spec"]["template"]["spec"] if pool else {}
            startup = [(it["key"], it["effect"]) for it in source.get("startupTaints", ())]
            taints = [
                taint
                for taint in taints
                if not fits.ephemeral(taint) and (taint["key"], taint["effect"]) not in startup
            ]
            promised = (claim.get("status") or {}) if claim else {}
            for key, value in (
                promised.get("allocatable") or promised.get("capacity") or {}
            ).items():
                if not room.get(key):
                    room[key] = number(value)
        labels.setdefault(HOSTNAME, name)
        slots = {
            driver["name"]: driver["allocatable"]["count"]
            for item in self.of("CSINode")
            if item["metadata"]["name"] == name
            for driver in item["spec"]["drivers"]
            if driver.get("allocatable")
        }
        return Machine(
            name, labels, taints, room, exists=True, leaving=self._leaving(node), slots=slots
        )

    def unfit(self, machine: Machine, pods: Sequence[Json]) -> Iterator[str]:
        """Yield why *pods* cannot all run on *machine*, neighbours elsewhere aside."""
        yield from self._crowded(machine, pods)
        for pod in pods:
            spec = pod["spec"]
            if not fits.selects(spec, machine.labels, machine.name):
                yield f"{key_of(pod)} does not select {machine.name}"
            if not fits.tolerated(spec.get("tolerations", ()), machine.taints):
                yield f"{key_of(pod)} does not tolerate {machine.name}"
            if not self.storage.reach(pod, machine):
                yield f"the volumes of {key_of(pod)} do not reach {machine.name}"

    def _crowded(self, machine: Machine, pods: Sequence[Json]) -> Iterator[str]:
        """Yield what *machine* has too little of, DaemonSets that are still to come included."""
        everybody = [*machine.pods, *pods]
        asked = Counter(self.goods.overhead(machine))
        for pod in everybody:
            asked.update(fits.requests(pod["spec"]))
        wanted = {name for pod in pods for name in fits.requests(pod["spec"])}
        for name, value in asked.items():
            if value > machine.room.get(name, 0) and (name in wanted or not machine.exists):
                yield f"{machine.name} {machine.labels.get(ZONE)}: {name} {value} asked"
        templates = [item["spec"]["template"]["spec"] for item in self.goods.owed(machine)]
        there = [*(pod["spec"] for pod in machine.pods), *templates]
        if fits.clash([pod["spec"] for pod in pods], there):
            yield f"{machine.name} has a host port twice"
        attached = self.storage.attached(everybody)
        for driver in self.storage.attached(pods):
            if attached[driver] > machine.slots.get(driver, 10**6):
                yield f"{machine.name} has {attached[driver]} volumes of {driver}"

    def _serving(self, pod: Json) -> list[Json]:
        """Return the NodePools that could make a node for *pod*, size aside."""
        known = self._known.get(key_of(pod))
        if known is None:
            known = [
                pool
                for pool in self.goods.usable()
                if fits.tolerated(
                    pod["spec"].get("tolerations", ()),
                    pool["spec"]["template"]["spec"].get("taints", []),
                )
                and any(
                    fits.selects(pod["spec"], machine.labels) and self.storage.reach(pod, machine)
                    for option in self.goods.options(pool)
                    for machine in self.goods.all_machines(pool, option)
                )
            ]
            self._known[key_of(pod)] = known
        found: list[Json] = known
        return found

    def _could_be(self, pod: Json, line: Json) -> frozenset[str]:
        """Return the domains that NodePools able to serve *pod* could make."""
        identity = (key_of(pod), str(line))
        known = self._known.get(identity)
        if known is None:
            known = frozenset(
                machine.labels[line["topologyKey"]]
                for pool in self._serving(pod)
                for option in self.goods.options(pool)
                for machine in self.goods.all_machines(pool, option)
                if line["topologyKey"] in machine.labels and crowd.eligible(pod, line, machine)
            )
            self._known[identity] = known
        found: frozenset[str] = known
        return found


def _on_its_way(claim: Json) -> Machine:
    status = claim.get("status") or {}
    labels = dict(claim["metadata"]["labels"])
    for line in claim["spec"].get("requirements", ()):
        if line["operator"] == "In" and len(line["values"]) == 1:
            labels.setdefault(line["key"], line["values"][0])
    room = status.get("allocatable") or status.get("capacity") or {}
    name = status.get("nodeName") or claim["metadata"]["name"]
    labels.setdefault(HOSTNAME, name)
    return Machine(
        name=name,
        labels=labels,
        taints=[it for it in claim["spec"].get("taints", ()) if not fits.ephemeral(it)],
        room={key: number(value) for key, value in room.items()},
        exists=True,
    )


def _owned(pod: Json, daemon: Json) -> bool:
    return pod["metadata"]["namespace"] == daemon["metadata"]["namespace"] and any(
        owner["kind"] == "DaemonSet" and owner["name"] == daemon["metadata"]["name"]
        for owner in pod["metadata"].get("ownerReferences", ())
    )


def _owners(pod: Json) -> set[str]:
    return {owner["kind"] for owner in pod["metadata"].get("ownerReferences", ())}


def mark(pod: Json, key: str) -> str:
    """Return a label or an annotation of *pod*, "" where it has none."""
    about = pod["metadata"]
    found = (about.get("labels") or {}).get(key) or (about.get("annotations") or {}).get(key)
    return str(found or "")
