"""The kubelet's configuration in an EC2NodeClass: an open map; what sizes a node is checked.

Karpenter's rules for the keys and values of reservations and eviction thresholds. Refuses to know
what they take from a node: `core.catalog.overhead` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from outrider.apis.model import Model

SIGNALS = (
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
)
"""What the kubelet evicts on."""
RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
"""What the kubelet sets aside."""
QUANTITY = r"\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]{1,3}))?"
"""A quantity of something that cannot be negative; a pattern for the middle of others."""
PERCENT = r"([0-9]{1,2}(\.[0-9]{1,2})?|100(\.0{1,2})?)%"


Reserved = Mapping[
    str, Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=f"^{QUANTITY}$")]
]
Thresholds = Annotated[
    Mapping[
        str,
        Annotated[int, Field(ge=0)]
        | Annotated[str, Field(pattern=f"^(({PERCENT})|({QUANTITY}))$")],
    ],
    Field(max_length=len(SIGNALS)),
]
GracePeriods = Annotated[Mapping[str, str], Field(max_length=len(SIGNALS))]


class Kubelet(Model):
    """The kubelet's configuration: what sizes a node is understood, the rest is passed on.

    maxPods is a number: the expressions that Karpenter takes behind a feature gate are refused.
    """

    cluster_dns: tuple[str, ...] = Field(default=(), alias="clusterDNS")
    max_pods: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern="^[0-9]{1,9}$")] | None = (
        None
    )
    pods_per_core: Annotated[int, Field(ge=0)] | None = None
    system_reserved: Reserved = Field(default_factory=dict)
    kube_reserved: Reserved = Field(default_factory=dict)
    eviction_hard: Thresholds = Field(default_factory=dict)
    eviction_soft: Thresholds = Field(default_factory=dict)
    eviction_soft_grace_period: GracePeriods = Field(default_factory=dict)
    eviction_minimum_reclaim: Thresholds = Field(default_factory=dict)
    eviction_max_pod_grace_period: Annotated[int, Field(ge=0)] | None = None
    image_gc_high_threshold_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, alias="imageGCHighThresholdPercent"
    )
    image_gc_low_threshold_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, alias="imageGCLowThresholdPercent"
    )
    cpu_cfs_quota: bool | None = Field(default=None, alias="cpuCFSQuota")

    @field_validator("system_reserved", "kube_reserved")
    @classmethod
    def _may_be_reserved(cls, value: Mapping[str, object]) -> Mapping[str, object]:
        return _named(value, RESERVABLE)

    @field_validator(
        "eviction_hard", "eviction_soft", "eviction_soft_grace_period", "eviction_minimum_reclaim"
    )
    @classmethod
    def _are_signals(cls, value: Mapping[str, object]) -> Mapping[str, object]:
        return _named(value, SIGNALS)

    @model_validator(mode="after")
    def _thresholds_fit(self) -> Kubelet:
        high, low = self.image_gc_high_threshold_percent, self.image_gc_low_threshold_percent
        if high is not None and low is not None and high <= low:
            raise ValueError("imageGCHighThresholdPercent must be greater than the low one")
        if set(self.eviction_soft) != set(self.eviction_soft_grace_period):
            raise ValueError("evictionSoft and evictionSoftGracePeriod must name the same signals")
        return self


def _named(value: Mapping[str, object], known: tuple[str, ...]) -> Mapping[str, object]:
    for name in value:
        if name not in known:
            raise ValueError(f"{name}: valid keys are {', '.join(known)}")
    return value
