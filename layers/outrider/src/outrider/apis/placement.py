"""Where a pod may run: node selectors, affinity, tolerations and topology spread, as values.

Decides nothing: it is the part of a PodSpec that constrains placement, parsed once for all pods
that say the same (the text of that part is the cache's key), hashable, so that the planner groups
pods by it. Validates as the API server does and names the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from outrider.apis.fields import (
    Json,
    integer,
    join,
    labels,
    mapping,
    objects,
    one_of,
    string,
    strings,
)
from outrider.apis.labels import normalise
from outrider.apis.meta import (
    DOES_NOT_EXIST,
    EXISTS,
    GT,
    GTE,
    IN,
    LT,
    LTE,
    NOT_IN,
    LabelSelector,
    selector,
)
from outrider.errors import InvalidManifest

OPERATORS = frozenset({IN, NOT_IN, EXISTS, DOES_NOT_EXIST, GT, LT})
BOUNDS = frozenset({GT, LT, GTE, LTE})

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"
EFFECTS = frozenset({NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE})

DO_NOT_SCHEDULE, SCHEDULE_ANYWAY = "DoNotSchedule", "ScheduleAnyway"
HONOR, IGNORE = "Honor", "Ignore"


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint on a node, a NodePool or a NodeClaim."""

    key: str
    value: str = ""
    effect: str = NO_SCHEDULE


@dataclass(frozen=True, slots=True)
class Toleration:
    """One toleration of a pod; an empty key with Exists tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None

    def tolerates(self, taint: Taint) -> bool:
        """Return whether *taint* is tolerated."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == EXISTS:
            return True
        return bool(self.key) and self.value == taint.value


@dataclass(frozen=True, slots=True)
class Condition:
    """One node selector requirement: a label key (or field), an operator, values."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One nodeSelectorTerm: every expression and every field must hold."""

    expressions: tuple[Condition, ...] = ()
    fields: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferredNodes:
    """One preferred node affinity term with its weight."""

    weight: int
    term: NodeTerm


@dataclass(frozen=True, slots=True)
class PodTerm:
    """One pod affinity or anti-affinity term.

    `namespaces` empty and `namespace_selector` None mean the pod's own namespace.
    """

    topology_key: str
    selector: LabelSelector | None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferredPods:
    """One preferred pod (anti-)affinity term with its weight."""

    weight: int
    term: PodTerm


@dataclass(frozen=True, slots=True)
class Spread:
    """One topologySpreadConstraint."""

    topology_key: str
    max_skew: int
    when_unsatisfiable: str
    selector: LabelSelector | None
    min_domains: int | None = None
    node_affinity_policy: str = HONOR
    node_taints_policy: str = IGNORE
    match_label_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraints:
    """Everything in a PodSpec that says where the pod may run, except its volumes and ports."""

    node_selector: tuple[tuple[str, str], ...] = ()
    required_nodes: tuple[NodeTerm, ...] | None = None  # None: no required node affinity at all
    preferred_nodes: tuple[PreferredNodes, ...] = ()
    affinity: tuple[PodTerm, ...] = ()
    preferred_affinity: tuple[PreferredPods, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    preferred_anti_affinity: tuple[PreferredPods, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    spread: tuple[Spread, ...] = ()
    company: tuple[PodTerm, ...] = ()  # affinity that a planner adds; each term stands by itself
    confined: tuple[Condition, ...] = ()  # nodes that a planner allows; spreads do not look at it


ANYWHERE = Constraints()


def parse(spec: Json) -> Constraints:
    """Return the constraints in a PodSpec."""
    node_selector = spec.get("nodeSelector")
    affinity = spec.get("affinity")
    tolerations = spec.get("tolerations")
    spread = spec.get("topologySpreadConstraints")
    if not (node_selector or affinity or tolerations or spread):
        return ANYWHERE
    try:
        text = orjson.dumps((node_selector, affinity, tolerations, spread))
    except TypeError:
        return _read(spec)
    return _constraints(text)


@lru_cache(maxsize=16384)
def _constraints(text: bytes) -> Constraints:
    node_selector, affinity, tolerations, spread = orjson.loads(text)
    return _read(
        {
            "nodeSelector": node_selector,
            "affinity": affinity,
            "tolerations": tolerations,
            "topologySpreadConstraints": spread,
        }
    )


def _read(spec: Json) -> Constraints:
    affinity = mapping(spec, "affinity", "spec")
    nodes = mapping(affinity, "nodeAffinity", "spec.affinity")
    near = mapping(affinity, "podAffinity", "spec.affinity")
    apart = mapping(affinity, "podAntiAffinity", "spec.affinity")
    return Constraints(
        node_selector=tuple(sorted(labels(spec, "nodeSelector", "spec").items())),
        required_nodes=_required_nodes(nodes),
        preferred_nodes=_preferred_nodes(nodes),
        affinity=_pod_terms(near, "spec.affinity.podAffinity"),
        preferred_affinity=_preferred_pods(near, "spec.affinity.podAffinity"),
        anti_affinity=_pod_terms(apart, "spec.affinity.podAntiAffinity"),
        preferred_anti_affinity=_preferred_pods(apart, "spec.affinity.podAntiAffinity"),
        tolerations=tuple(
            _toleration(item, f"spec.tolerations[{index}]")
            for index, item in enumerate(objects(spec, "tolerations", "spec"))
        ),
        spread=tuple(
            _spread(item, f"spec.topologySpreadConstraints[{index}]")
            for index, item in enumerate(objects(spec, "topologySpreadConstraints", "spec"))
        ),
    )


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def _required_nodes(nodes: Json) -> tuple[NodeTerm, ...] | None:
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}"
    if nodes.get(_REQUIRED) is None:
        return None
    return node_terms(mapping(nodes, _REQUIRED, "spec.affinity.nodeAffinity"), path)


def node_terms(node_selector: Json, path: str) -> tuple[NodeTerm, ...]:
    """Return the terms of a NodeSelector (any one must hold); at least one is needed."""
    items = objects(node_selector, "nodeSelectorTerms", path)
    if not items:
        raise InvalidManifest("must have a term", path=join(path, "nodeSelectorTerms"))
    return tuple(
        _node_term(item, f"{path}.nodeSelectorTerms[{index}]") for index, item in enumerate(items)
    )


def _node_term(item: Json, path: str) -> NodeTerm:
    return NodeTerm(
        expressions=conditions(item, "matchExpressions", path),
        fields=conditions(item, "matchFields", path),
    )


def conditions(
    source: Json, name: str, path: str, operators: frozenset[str] = OPERATORS
) -> tuple[Condition, ...]:
    """Return the node selector requirements under *name*."""
    return tuple(
        condition(item, f"{join(path, name)}[{index}]", operators)
        for index, item in enumerate(objects(source, name, path))
    )


def condition(item: Json, path: str, operators: frozenset[str] = OPERATORS) -> Condition:
    """Return one node selector requirement, with values that go with its operator."""
    key = string(item, "key", path)
    operator = one_of(item, "operator", operators, path)
    values = strings(item, "values", path)
    if not key:
        raise InvalidManifest("is required", path=join(path, "key"))
    if not operator:
        raise InvalidManifest("is required", path=join(path, "operator"))
    check_values(operator, values, join(path, "values"))
    return Condition(key, operator, tuple(sorted(set(values))))


def check_values(operator: str, values: tuple[str, ...], path: str) -> None:
    """Refuse *values* that do not go with *operator*."""
    if operator in {IN, NOT_IN} and not values:
        raise InvalidManifest(f"must not be empty with {operator}", path=path)
    if operator in {EXISTS, DOES_NOT_EXIST} and values:
        raise InvalidManifest(f"must be empty with {operator}", path=path)
    if operator in BOUNDS:
        bound = values[0].removeprefix("-") if len(values) == 1 else ""
        if not (bound.isascii() and bound.isdigit() and len(bound) <= 18):
            raise InvalidManifest(f"must be one integer with {operator}", path=path)


def _preferred_nodes(nodes: Json) -> tuple[PreferredNodes, ...]:
    path = f"spec.affinity.nodeAffinity.{_PREFERRED}"
    return tuple(
        PreferredNodes(
            weight=_weight(item, f"{path}[{index}]"),
            term=_node_term(
                mapping(item, "preference", f"{path}[{index}]"), f"{path}[{index}].preference"
            ),
        )
        for index, item in enumerate(objects(nodes, _PREFERRED, "spec.affinity.nodeAffinity"))
    )


def _weight(item: Json, path: str) -> int:
    weight = integer(item, "weight", path, least=1)
    if not 1 <= weight <= 100:
        raise InvalidManifest("must be 1 to 100", path=join(path, "weight"))
    return weight


def _pod_terms(source: Json, path: str) -> tuple[PodTerm, ...]:
    return tuple(
        _pod_term(item, f"{path}.{_REQUIRED}[{index}]")
        for index, item in enumerate(objects(source, _REQUIRED, path))
    )


def _preferred_pods(source: Json, path: str) -> tuple[PreferredPods, ...]:
    where = f"{path}.{_PREFERRED}"
    return tuple(
        PreferredPods(
            weight=_weight(item, f"{where}[{index}]"),
            term=_pod_term(
                mapping(item, "podAffinityTerm", f"{where}[{index}]"),
                f"{where}[{index}].podAffinityTerm",
            ),
        )
        for index, item in enumerate(objects(source, _PREFERRED, path))
    )


def _pod_term(item: Json, path: str) -> PodTerm:
    key = string(item, "topologyKey", path)
    if not key:
        raise InvalidManifest("is required", path=join(path, "topologyKey"))
    return PodTerm(
        topology_key=normalise(key),
        selector=selector(item, "labelSelector", path),
        namespaces=tuple(sorted(strings(item, "namespaces", path))),
        namespace_selector=selector(item, "namespaceSelector", path),
        match_label_keys=tuple(sorted(strings(item, "matchLabelKeys", path))),
        mismatch_label_keys=tuple(sorted(strings(item, "mismatchLabelKeys", path))),
    )


def _toleration(item: Json, path: str) -> Toleration:
    operator = one_of(item, "operator", frozenset({"Equal", EXISTS}), path, "Equal") or "Equal"
    key = string(item, "key", path)
    value = string(item, "value", path)
    if not key and operator != EXISTS:
        raise InvalidManifest("must be Exists where key is empty", path=join(path, "operator"))
    if value and operator == EXISTS:
        raise InvalidManifest("must be empty with Exists", path=join(path, "value"))
    return Toleration(
        key=key,
        operator=operator,
        value=value,
        effect=one_of(item, "effect", EFFECTS, path),
        seconds=_seconds(item, path),
    )


def _seconds(item: Json, path: str) -> int | None:
    value: Any = item.get("tolerationSeconds")
    return None if value is None else integer(item, "tolerationSeconds", path, least=-(2**63))


def taints(source: Json, name: str, path: str) -> tuple[Taint, ...]:
    """Return the taints under *name*."""
    where = join(path, name)
    return tuple(
        Taint(
            key=string(item, "key", f"{where}[{index}]"),
            value=string(item, "value", f"{where}[{index}]"),
            effect=one_of(item, "effect", EFFECTS, f"{where}[{index}]"),
        )
        for index, item in enumerate(objects(source, name, path))
    )


_UNSATISFIABLE = frozenset({DO_NOT_SCHEDULE, SCHEDULE_ANYWAY})
_POLICIES = frozenset({HONOR, IGNORE})


def _spread(item: Json, path: str) -> Spread:
    key = string(item, "topologyKey", path)
    if not key:
        raise InvalidManifest("is required", path=join(path, "topologyKey"))
    when = one_of(item, "whenUnsatisfiable", _UNSATISFIABLE, path)
    if not when:
        raise InvalidManifest("is required", path=join(path, "whenUnsatisfiable"))
    if item.get("maxSkew") is None:
        raise InvalidManifest("is required", path=join(path, "maxSkew"))
    least_domains = integer(item, "minDomains", path, least=1, default=0)
    return Spread(
        topology_key=normalise(key),
        max_skew=integer(item, "maxSkew", path, least=1),
        when_unsatisfiable=when,
        selector=selector(item, "labelSelector", path),
        min_domains=least_domains if least_domains and when == DO_NOT_SCHEDULE else None,
        node_affinity_policy=one_of(item, "nodeAffinityPolicy", _POLICIES, path, HONOR),
        node_taints_policy=one_of(item, "nodeTaintsPolicy", _POLICIES, path, IGNORE),
        match_label_keys=tuple(sorted(strings(item, "matchLabelKeys", path))),
    )
