"""CapacityBuffer (autoscaling.x-k8s.io) and NodePools' headroom: room kept free for pods to come.

Decides whether a buffer is well-formed, how many pods' room it asks for (Karpenter's F28), and what
a resource list in an annotation says. Refuses to know the pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import orjson
from pydantic import Field, model_validator

from outrider.apis import meta, quantity
from outrider.apis.fields import Json
from outrider.apis.meta import ObjectMeta
from outrider.apis.model import Amounts, Model, read
from outrider.errors import InvalidManifest

ACTIVE = "buffer.x-k8s.io/active-capacity"


class LocalRef(Model):
    """An object in the buffer's namespace."""

    name: Annotated[str, Field(min_length=1)]
    kind: Annotated[str, Field(min_length=1)] = "PodTemplate"
    api_group: str = ""


class ScalableRef(LocalRef):
    """An object in the buffer's namespace that has a scale: its kind has to be said."""

    kind: Annotated[str, Field(min_length=1)]


class CapacityBufferSpec(Model):
    """spec."""

    pod_template_ref: LocalRef | None = None
    scalable_ref: ScalableRef | None = None
    replicas: Annotated[int, Field(ge=0)] | None = None
    percentage: Annotated[int, Field(ge=0)] | None = None
    limits: Amounts = Field(default_factory=dict)
    provisioning_strategy: str | None = None
    refill_strategy: Literal["recreate", "none"] | None = None
    fill_deadline_seconds: Annotated[int, Field(ge=1)] | None = None

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

    @property
    def active(self) -> bool:
        """Return whether the buffer is one of nodes that run: other strategies are others'."""
        return self.spec.provisioning_strategy in {None, "", ACTIVE}

    def size(self, standing: int, requests: Mapping[str, int]) -> int:
        """Return for how many pods of *requests* there is to be room, *standing* being what the
        buffer's scalable wants to run.
        """
        wishes = []
        if self.spec.replicas is not None:
            wishes.append(self.spec.replicas)
        if self.spec.percentage is not None and self.spec.scalable_ref is not None:
            wishes.append(max(1, -(-standing * self.spec.percentage // 100)))
        caps = [
            limit // requests[name]
            for name, limit in self.spec.limits.items()
            if requests.get(name)
        ]
        if not wishes:
            return min(caps, default=0)
        return min([max(wishes), *caps])


def parse(document: Json) -> CapacityBuffer:
    """Return the CapacityBuffer in *document*."""
    return CapacityBuffer(
        meta.parse(document, namespaced=True),
        read(CapacityBufferSpec, document.get("spec"), "spec"),
    )


def headroom(text: str) -> dict[str, int]:
    """Return the resource list in *text*: `cpu=8,memory=32Gi`, or the same as a JSON object."""
    stripped = text.strip()
    if stripped.startswith("{"):
        try:
            return quantity.resources(orjson.loads(stripped))
        except orjson.JSONDecodeError:
            raise InvalidManifest("is neither a resource list nor JSON") from None
    listing: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in stripped.split(","))):
        name, sign, value = part.partition("=")
        if not sign or not name.strip() or name.strip() in listing:
            raise InvalidManifest(f"{part[:60]!r} is not resource=quantity")
        listing[name.strip()] = value.strip()
    return quantity.resources(listing)
