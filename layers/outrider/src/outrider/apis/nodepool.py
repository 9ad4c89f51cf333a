"""NodePool (karpenter.sh/v1): every field, with Karpenter's validation rules.

Decides whether a NodePool is well-formed, whether it is ready, and the hash by which drift is seen
(the template without requirements, as Karpenter's v3). Refuses to know what nodes it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, field_validator, model_validator

from outrider.apis import meta
from outrider.apis.fields import Json
from outrider.apis.labels import NODECLASS_GROUP, PAUSED
from outrider.apis.meta import ObjectMeta
from outrider.apis.model import (
    LABEL_VALUE,
    Amounts,
    Conditioned,
    Duration,
    Model,
    NillableDuration,
    NodeClassRef,
    TaintSpec,
    read,
)
from outrider.apis.placement import Taint
from outrider.apis.requirement import IN_POOLS, RequirementSpec, refuse_owned

HASH_VERSION = "outrider-v1"
"""Not Karpenter's v3: its hash of the same template is another number."""
WHEN_EMPTY, WHEN_EMPTY_OR_UNDERUTILIZED, BALANCED = (
    "WhenEmpty",
    "WhenEmptyOrUnderutilized",
    "Balanced",
)
NODES = "nodes"
"""The limit that counts machines."""
BUDGET = r"^((100|[0-9]{1,2})%|[0-9]+)$"
SCHEDULE = (
    r"^(@(annually|yearly|monthly|weekly|daily|midnight|hourly))|"
    r"((.+)\s(.+)\s(.+)\s(.+)\s(.+))$"
)


class TemplateMeta(Model):
    """Labels and annotations that every node of the pool gets."""

    labels: Mapping[str, Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]] = Field(
        default_factory=dict, max_length=100
    )
    annotations: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _nobody_else_owns_them(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        refuse_owned(labels, IN_POOLS)
        return labels


class TemplateSpec(Model):
    """What every NodeClaim of the pool says."""

    node_class_ref: NodeClassRef
    requirements: tuple[RequirementSpec, ...] = Field(default=(), max_length=100)
    taints: tuple[TaintSpec, ...] = ()
    startup_taints: tuple[TaintSpec, ...] = ()
    expire_after: NillableDuration = "720h"
    termination_grace_period: Duration | None = None

    @field_validator("requirements")
    @classmethod
    def _keys_may_be_asked_for(
        cls, requirements: tuple[RequirementSpec, ...]
    ) -> tuple[RequirementSpec, ...]:
        refuse_owned((requirement.key for requirement in requirements), IN_POOLS)
        return requirements

    @model_validator(mode="after")
    def _taints_differ(self) -> TemplateSpec:
        seen: set[tuple[str, str]] = set()
        for taint in (*self.taints, *self.startup_taints):
            if (taint.key, taint.effect) in seen:
                raise ValueError(f"taint {taint.key}:{taint.effect} is there twice")
            seen.add((taint.key, taint.effect))
        return self


class Template(Model):
    """spec.template."""

    metadata: TemplateMeta = Field(default_factory=TemplateMeta)
    spec: TemplateSpec


class Budget(Model):
    """How many nodes may be disrupted at once, and when.

    A schedule of the right shape that no clock can follow (minute 61) is let in: such a budget
    allows nothing (`core.disruption.budgets`).
    """

    nodes: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=BUDGET)] = "10%"
    schedule: Annotated[str, Field(pattern=SCHEDULE)] | None = None
    duration: Annotated[str, Field(pattern=r"^((([0-9]+(h|m))|([0-9]+h[0-9]+m))(0s)?)$")] | None = (
        None
    )
    reasons: tuple[Literal["Underutilized", "Empty", "Drifted"], ...] | None = Field(
        default=None, max_length=50
    )

    @field_validator("nodes")
    @classmethod
    def _as_text(cls, value: int | str) -> str:
        return str(value)

    @field_validator("reasons")
    @classmethod
    def _said_once(cls, reasons: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if reasons is not None and len(set(reasons)) < len(reasons):
            raise ValueError("a reason is there twice")
        return reasons

    @model_validator(mode="after")
    def _schedule_needs_duration(self) -> Budget:
        if (self.schedule is None) != (self.duration is None):
            raise ValueError("'schedule' must be set with 'duration'")
        return self


class Disruption(Model):
    """spec.disruption."""

    consolidate_after: NillableDuration = "0s"
    consolidation_policy: Literal["WhenEmpty", "WhenEmptyOrUnderutilized", "Balanced"] = (
        "WhenEmptyOrUnderutilized"
    )
    budgets: tuple[Budget, ...] = Field(default=(Budget(),), max_length=50)


class NodePoolSpec(Model):
    """spec."""

    template: Template
    disruption: Disruption = Field(default_factory=Disruption)
    limits: Amounts = Field(default_factory=dict)
    weight: Annotated[int, Field(ge=1, le=100)] | None = None
    replicas: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _static_pools_are_plain(self) -> NodePoolSpec:
        if self.replicas is not None:
            if self.weight is not None:
                raise ValueError("'weight' is not supported on static NodePools")
            if set(self.limits) - {NODES}:
                raise ValueError("only 'limits.nodes' is supported on static NodePools")
        return self


class NodePoolStatus(Conditioned):
    """status."""

    resources: Amounts = Field(default_factory=dict)
    nodes: int | None = None
    node_class_observed_generation: int | None = None


@dataclass(frozen=True)
class NodePool:
    """One NodePool."""

    metadata: ObjectMeta
    spec: NodePoolSpec
    status: NodePoolStatus = field(default_factory=NodePoolStatus)

    @property
    def name(self) -> str:
        """Return the pool's name."""
        return self.metadata.name

    @property
    def weight(self) -> int:
        """Return the weight; unset is 0."""
        return self.spec.weight or 0

    @property
    def ours(self) -> bool:
        """Return whether the pool's node class is EC2NodeClass: others are left alone."""
        return self.spec.template.spec.node_class_ref.group == NODECLASS_GROUP

    @property
    def node_class(self) -> str:
        """Return the name of the pool's EC2NodeClass."""
        return self.spec.template.spec.node_class_ref.name

    @property
    def paused(self) -> bool:
        """Return whether an annotation pauses the pool."""
        return self.metadata.annotations.get(PAUSED) == "true"

    @property
    def hash_version(self) -> str:
        """Return the version of `hash`: hashes of different versions are not compared."""
        return HASH_VERSION

    @property
    def static(self) -> bool:
        """Return whether the pool keeps a fixed number of nodes."""
        return self.spec.replicas is not None

    @cached_property
    def taints(self) -> tuple[Taint, ...]:
        """Return the taints that nodes of the pool keep."""
        return tuple(item.taint() for item in self.spec.template.spec.taints)

    @cached_property
    def startup_taints(self) -> tuple[Taint, ...]:
        """Return the taints that nodes of the pool start with."""
        return tuple(item.taint() for item in self.spec.template.spec.startup_taints)

    @cached_property
    def hash(self) -> str:
        """Return the hash of the template without requirements, by which drift is seen."""
        template = self.spec.template.to_json()
        body: dict[str, Any] = dict(template.get("spec", {}))
        body.pop("requirements", None)
        body.setdefault("expireAfter", self.spec.template.spec.expire_after)
        text = orjson.dumps(
            {"metadata": template.get("metadata", {}), "spec": body}, option=orjson.OPT_SORT_KEYS
        )
        return str(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big"))


def parse(document: Json) -> NodePool:
    """Return the NodePool in *document*."""
    return NodePool(
        metadata=meta.parse(document),
        spec=read(NodePoolSpec, document.get("spec"), "spec"),
        status=read(NodePoolStatus, document.get("status"), "status"),
    )
