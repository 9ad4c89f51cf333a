"""A Plan: where every pod goes, what to launch for it, and who is left out and why.

Values only; `outrider plan` prints them, the flows carry them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from outrider.core.requirements import Requirements
from outrider.core.resources import Resources
from outrider.core.taints import Taint


class Code(StrEnum):
    """Why a pod has no place in a NodePool; the command line's contract."""

    INSUFFICIENT_RESOURCES = "InsufficientResources"
    INCOMPATIBLE_REQUIREMENTS = "IncompatibleRequirements"
    UNTOLERATED_TAINT = "UntoleratedTaint"
    TOPOLOGY_SPREAD = "TopologySpread"
    POD_AFFINITY = "PodAffinity"
    POD_ANTI_AFFINITY = "PodAntiAffinity"
    VOLUME_ZONE = "VolumeZone"
    VOLUME_LIMITS = "VolumeLimits"
    HOST_PORT = "HostPort"
    LIMITS_EXCEEDED = "LimitsExceeded"
    NODEPOOL_NOT_READY = "NodePoolNotReady"
    NO_OFFERING = "NoOffering"
    MIN_VALUES = "MinValues"
    GANG = "Gang"
    STATIC_POOL = "StaticPool"
    INVALID_VOLUME = "InvalidVolume"
    DYNAMIC_RESOURCES = "DynamicResources"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one NodePool does not serve a pod; `node_pool` is "" where there is none at all."""

    node_pool: str
    message: str
    code: Code


@dataclass(frozen=True, slots=True)
class Rejection:
    """A pod left out, with one reason for each NodePool, sorted by name."""

    pod: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """A pod (`namespace/name`) put on a node, or on a NodeClaim in flight, that exists."""

    pod: str
    node: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One alternative of a launch: what CreateFleet may buy, and where.

    `stated` says that the price is a NodeOverlay's: EC2, which knows another, must be told.
    """

    instance_type: str
    zone: str
    capacity_type: str
    price_per_hour: float
    zone_id: str = ""
    reservation_id: str | None = None
    stated: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """One node to launch: the pods it is for, and every alternative that holds them.

    `choices` are cheapest first (ties by type, zone, capacity type). `requirements`, `labels`,
    `taints` and `startup_taints` are the NodeClaim's. `max_pods` gives, for each type on the
    list, the `pods` capacity that the plan counted on: the kubelet must be told the same number.
    `headroom` names the placeholders that the node keeps room for.
    """

    name: str
    node_pool: str
    node_class: str
    pods: tuple[str, ...]
    requirements: Requirements
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    taints: tuple[Taint, ...]
    startup_taints: tuple[Taint, ...]
    requests: Resources
    choices: tuple[Choice, ...]
    max_pods: Mapping[str, int] = field(default_factory=dict)
    expire_after: str | None = None
    termination_grace_period: str | None = None
    gang: str | None = None
    headroom: tuple[str, ...] = ()

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Return the types of the choices, cheapest first."""
        return tuple(dict.fromkeys(choice.instance_type for choice in self.choices))

    @property
    def price_per_hour(self) -> float:
        """Return the first choice's price."""
        return self.choices[0].price_per_hour


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for the pods that were asked about.

    `first_fit_per_hour` is what first fit would be paid for the same pods, None where it was not
    planned beside the plan or leaves out others.
    """

    placements: tuple[Placement, ...]
    launches: tuple[Launch, ...]
    rejections: tuple[Rejection, ...]
    strategy: str
    stage: str
    lower_bound_per_hour: float | None = None
    first_fit_per_hour: float | None = None

    @property
    def price_per_hour(self) -> float:
        """Return the price of everything the plan launches."""
        return sum(launch.price_per_hour for launch in self.launches)

    @property
    def placed(self) -> int:
        """Return how many pods have a place."""
        return len(self.placements) + sum(len(launch.pods) for launch in self.launches)
