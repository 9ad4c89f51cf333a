"""CapacityBuffer (autoscaling.x-k8s.io): room kept free for pods to come.

Decides whether a buffer is well-formed; refuses to count it in pods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from outrider.apis import meta
from outrider.apis.fields import Json
from outrider.apis.meta import ObjectMeta
from outrider.apis.model import Amounts, Model, read


class LocalRef(Model):
    """An object in the buffer's namespace."""

    name: str
    kind: str = ""
    api_group: str = ""


class CapacityBufferSpec(Model):
    """spec."""

    pod_template_ref: LocalRef | None = None
    scalable_ref: LocalRef | None = None
    replicas: Annotated[int, Field(ge=0)] | None = None
    percentage: Annotated[int, Field(ge=0)] | None = None
    limits: Amounts = Field(default_factory=dict)
    provisioning_strategy: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> CapacityBufferSpec:
        if (self.pod_template_ref is None) == (self.scalable_ref is None):
            raise ValueError("exactly one of 'podTemplateRef' and 'scalableRef' must be set")
        if self.pod_template_ref is not None and self.replicas is None and not self.limits:
            raise ValueError("'podTemplateRef' needs 'replicas' or 'limits'")
        return self


@dataclass(frozen=True, slots=True)
class CapacityBuffer:
    """One CapacityBuffer."""

    metadata: ObjectMeta
    spec: CapacityBufferSpec


def parse(document: Json) -> CapacityBuffer:
    """Return the CapacityBuffer in *document*."""
    return CapacityBuffer(
        meta.parse(document, namespaced=True),
        read(CapacityBufferSpec, document.get("spec"), "spec"),
    )
