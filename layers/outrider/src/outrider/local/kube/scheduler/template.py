"""What the scheduler knows of a pod, compiled once for all pods that are alike.

Pods of one workload differ in name and perhaps an ordinal; everything that placement depends on is
the signature, and pods of one signature share a Template. Refuses to know nodes and other pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from outrider.local.kube.matching import NodeTest, node_affinity, node_term
from outrider.local.kube.objects import Obj, controller_of, labels_of
from outrider.local.kube.quantities import Amounts, pod_requests

_ORDINALS = (
    "batch.kubernetes.io/job-completion-index",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
)
_SPEC = (
    "nodeSelector",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "overhead",
    "resources",
    "priority",
    "preemptionPolicy",
    "resourceClaims",
    "volumes",
    "hostNetwork",
)

Port = tuple[str, str, int]  # protocol, host address, port


@dataclass(frozen=True, slots=True)
class Spread:
    """One topologySpreadConstraint, its selector completed by matchLabelKeys."""

    key: str
    max_skew: int
    min_domains: int
    selector: Obj
    hard: bool
    honour_affinity: bool
    honour_taints: bool


@dataclass(frozen=True, slots=True)
class Term:
    """One pod (anti-)affinity term: which pods, in which namespaces, within which topology."""

    key: str
    selector: Obj
    namespaces: tuple[str, ...]
    namespace_selector: Obj | None
    weight: int = 0

    @property
    def scope(self) -> bytes:
        """Return what tells selections of pods apart."""
        return orjson.dumps(
            (self.selector, sorted(self.namespaces), self.namespace_selector),
            option=orjson.OPT_SORT_KEYS,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """Everything about a pod that placement depends on."""

    signature: bytes
    namespace: str
    labels: Obj
    priority: int
    may_preempt: bool
    requests: Amounts
    ports: frozenset[Port]
    tolerations: tuple[Obj, ...]
    fits: NodeTest | None
    only_nodes: frozenset[str] | None
    preferred_nodes: tuple[tuple[int, NodeTest], ...]
    spreads: tuple[Spread, ...]
    affinity: tuple[Term, ...]
    anti_affinity: tuple[Term, ...]
    preferred: tuple[Term, ...]  # anti-affinity has a negative weight
    claims: tuple[str, ...]
    needs_devices: bool
    images: tuple[str, ...]

    @property
    def depends_on_pods(self) -> bool:
        """Tell whether pods elsewhere can make a node feasible that was not."""
        return bool(self.spreads or self.affinity)


class Templates:
    """The templates of all pods that are known."""

    def __init__(self) -> None:
        self._known: dict[bytes, Template] = {}

    def of(self, pod: Obj) -> Template:
        """Return the Template of *pod*."""
        mark = signature(pod)
        found = self._known.get(mark)
        if found is None:
            if len(self._known) > 20_000:
                self._known.clear()
            found = self._known[mark] = _compile(pod, mark)
        return found


def signature(pod: Obj) -> bytes:
    """Return what two pods have equal when any node that suits one suits the other."""
    spec = pod["spec"]
    labels = labels_of(pod)
    parts: dict[str, Any] = {name: spec[name] for name in _SPEC if name in spec}
    if any(name in labels for name in _ORDINALS):
        text = orjson.dumps((spec.get("affinity"), spec.get("topologySpreadConstraints"))).decode()
        labels = {
            name: value for name, value in labels.items() if name not in _ORDINALS or name in text
        }
    owner = controller_of(pod)
    parts["pod"] = (pod["metadata"]["namespace"], labels, owner["uid"] if owner else None)
    parts["containers"] = [
        (one.get("resources"), one.get("ports"), one.get("image"), one.get("restartPolicy"))
        for field in ("containers", "initContainers")
        for one in spec.get(field) or ()
    ]
    allocated = [
        one.get("allocatedResources")
        for one in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    return orjson.dumps((parts, allocated), option=orjson.OPT_SORT_KEYS)


def _compile(pod: Obj, mark: bytes) -> Template:
    spec = pod["spec"]
    affinity = spec.get("affinity") or {}
    pod_affinity, anti = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    return Template(
        signature=mark,
        namespace=pod["metadata"]["namespace"],
        labels=dict(labels_of(pod)),
        priority=spec.get("priority") or 0,
        may_preempt=spec.get("preemptionPolicy") != "Never",
        requests={name: value for name, value in pod_requests(pod).items() if value},
        ports=frozenset(_ports(spec)),
        tolerations=tuple(spec.get("tolerations") or ()),
        fits=node_affinity(spec),
        only_nodes=_only_nodes(affinity),
        preferred_nodes=tuple(
            (one["weight"], node_term(one["preference"]))
            for one in (affinity.get("nodeAffinity") or {}).get(preferred) or ()
        ),
        spreads=tuple(_spreads(pod)),
        affinity=tuple(_term(one, pod) for one in pod_affinity.get(required) or ()),
        anti_affinity=tuple(_term(one, pod) for one in anti.get(required) or ()),
        preferred=(
            *(
                _term(one["podAffinityTerm"], pod, one["weight"])
                for one in pod_affinity.get(preferred) or ()
            ),
            *(
                _term(one["podAffinityTerm"], pod, -one["weight"])
                for one in anti.get(preferred) or ()
            ),
        ),
        claims=tuple(_claims(pod)),
        needs_devices=bool(spec.get("resourceClaims")),
        images=tuple(sorted({one.get("image", "") for one in spec.get("containers") or ()})),
    )


def _ports(spec: Obj) -> Iterator[Port]:
    for container in spec.get("containers") or ():
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (
                port.get("containerPort") if spec.get("hostNetwork") else None
            )
            if number:
                yield port.get("protocol", "TCP"), port.get("hostIP") or "0.0.0.0", number


def _claims(pod: Obj) -> Iterator[str]:
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def _only_nodes(affinity: Obj) -> frozenset[str] | None:
    """Return the node names that every term of the node affinity pins, as a DaemonSet's pod
    does.
    """
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    names: set[str] = set()
    for term in required.get("nodeSelectorTerms") or ():
        pinned = [
            set(one.get("values") or ())
            for one in term.get("matchFields") or ()
            if one["key"] == "metadata.name" and one["operator"] == "In"
        ]
        if not pinned:
            return None
        names |= set.intersection(*pinned)
    return frozenset(names) if required else None


def _with_label_keys(selector: Obj | None, pod: Obj, keys: Iterable[str], operator: str) -> Obj:
    """Return *selector* narrowed to pods that share (or do not share) this pod's values of
    *keys*.
    """
    merged = dict(selector or {})
    labels = labels_of(pod)
    extra = [
        {"key": key, "operator": operator, "values": [labels[key]]} for key in keys if key in labels
    ]
    if extra:
        merged["matchExpressions"] = [*(merged.get("matchExpressions") or ()), *extra]
    return merged


def _spreads(pod: Obj) -> Iterator[Spread]:
    for one in pod["spec"].get("topologySpreadConstraints") or ():
        yield Spread(
            key=one["topologyKey"],
            max_skew=one["maxSkew"],
            min_domains=one.get("minDomains") or 1,
            selector=_with_label_keys(
                one.get("labelSelector"), pod, one.get("matchLabelKeys") or (), "In"
            ),
            hard=one["whenUnsatisfiable"] == "DoNotSchedule",
            honour_affinity=one.get("nodeAffinityPolicy", "Honor") == "Honor",
            honour_taints=one.get("nodeTaintsPolicy", "Ignore") == "Honor",
        )


def _term(one: Obj, pod: Obj, weight: int = 0) -> Term:
    selector = _with_label_keys(
        one.get("labelSelector"), pod, one.get("matchLabelKeys") or (), "In"
    )
    selector = _with_label_keys(selector, pod, one.get("mismatchLabelKeys") or (), "NotIn")
    namespaces = tuple(one.get("namespaces") or ())
    chosen = one.get("namespaceSelector")
    if not namespaces and chosen is None:
        namespaces = (pod["metadata"]["namespace"],)
    return Term(one["topologyKey"], selector, namespaces, chosen, weight)
