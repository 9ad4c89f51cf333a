"""Cluster policy: disruption budgets of pods, priority classes, runtime classes, namespaces.

Slim records projected from the API's JSON. Decides which pods a PodDisruptionBudget covers and
whether it lets one go now; refuses to know who wants to move them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.apis import meta
from outrider.apis.fields import Json, boolean, integer, mapping, one_of, string
from outrider.apis.meta import LabelSelector, selector
from outrider.apis.placement import Toleration
from outrider.apis.placement import parse as parse_constraints
from outrider.apis.quantity import Resources, resources
from outrider.errors import InvalidManifest

ALWAYS_ALLOW, IF_HEALTHY_BUDGET = "AlwaysAllow", "IfHealthyBudget"


@dataclass(frozen=True, slots=True)
class PodDisruptionBudget:
    """One PodDisruptionBudget; without a status it allows nothing."""

    namespace: str
    name: str
    selector: LabelSelector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    unhealthy_policy: str = IF_HEALTHY_BUDGET
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    disrupted_pods: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def covers(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Return whether a pod in *namespace* with *labels* is under the budget."""
        return (
            namespace == self.namespace
            and self.selector is not None
            and self.selector.matches(labels)
        )


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """One PriorityClass."""

    name: str
    value: int
    global_default: bool = False
    preemption_policy: str = "PreemptLowerPriority"


@dataclass(frozen=True, slots=True)
class RuntimeClass:
    """One RuntimeClass: what it adds to a pod's request and constraints."""

    name: str
    overhead: Resources = field(default_factory=dict)
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """One Namespace."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_budget(document: Json) -> PodDisruptionBudget:
    """Return the PodDisruptionBudget in *document*."""
    identity = meta.parse(document, namespaced=True)
    spec = mapping(document, "spec")
    status = mapping(document, "status")
    least, most = _share(spec, "minAvailable"), _share(spec, "maxUnavailable")
    if least is not None and most is not None:
        raise InvalidManifest("excludes maxUnavailable", path="spec.minAvailable")
    return PodDisruptionBudget(
        namespace=identity.namespace,
        name=identity.name,
        selector=selector(spec, "selector", "spec"),
        min_available=least,
        max_unavailable=most,
        unhealthy_policy=one_of(
            spec,
            "unhealthyPodEvictionPolicy",
            frozenset({ALWAYS_ALLOW, IF_HEALTHY_BUDGET}),
            "spec",
            IF_HEALTHY_BUDGET,
        ),
        disruptions_allowed=integer(status, "disruptionsAllowed", "status"),
        current_healthy=integer(status, "currentHealthy", "status"),
        desired_healthy=integer(status, "desiredHealthy", "status"),
        expected_pods=integer(status, "expectedPods", "status"),
        disrupted_pods=tuple(sorted(mapping(status, "disruptedPods", "status"))),
    )


def _share(spec: Json, name: str) -> int | str | None:
    value = spec.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if (
        isinstance(value, str)
        and value[:-1].isascii()
        and value[:-1].isdigit()
        and value[-1] == "%"
    ):
        return value
    raise InvalidManifest("must be a whole number or a percentage", path=f"spec.{name}")


def parse_priority_class(document: Json) -> PriorityClass:
    """Return the PriorityClass in *document*."""
    return PriorityClass(
        name=meta.parse(document).name,
        value=integer(document, "value", least=-(2**31)),
        global_default=boolean(document, "globalDefault"),
        preemption_policy=string(document, "preemptionPolicy", default="PreemptLowerPriority"),
    )


def parse_runtime_class(document: Json) -> RuntimeClass:
    """Return the RuntimeClass in *document*."""
    overhead = mapping(document, "overhead")
    scheduling = parse_constraints(mapping(document, "scheduling"))
    return RuntimeClass(
        name=meta.parse(document).name,
        overhead=resources(overhead.get("podFixed"), "overhead.podFixed"),
        node_selector=scheduling.node_selector,
        tolerations=scheduling.tolerations,
    )


def parse_namespace(document: Json) -> Namespace:
    """Return the Namespace in *document*; its own name is always among its labels."""
    identity = meta.parse(document)
    return Namespace(
        identity.name, {**identity.labels, "kubernetes.io/metadata.name": identity.name}
    )
