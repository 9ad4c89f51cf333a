"""NodeOverlay (karpenter.sh/v1alpha1): prices and capacity that a user knows better than the
catalogue.

Decides whether an overlay is well-formed; refuses to apply it (`core.catalog.overlays`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from outrider.apis import meta
from outrider.apis.fields import Json
from outrider.apis.meta import ObjectMeta
from outrider.apis.model import Amounts, Model, read
from outrider.apis.requirement import IN_OVERLAYS, RequirementSpec, refuse_owned

ADJUSTMENT = r"^(([+-]([0-9]*\.?[0-9]+))|(\+[0-9]*\.?[0-9]+%)|(-[0-9]{1,2}(\.[0-9]+)?%)|(-100%))$"
_KUBELETS_OWN = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})


class NodeOverlaySpec(Model):
    """spec."""

    requirements: tuple[RequirementSpec, ...] = Field(default=(), max_length=100)
    price: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")] | None = None
    price_adjustment: Annotated[str, Field(pattern=ADJUSTMENT)] | None = None
    capacity: Amounts = Field(default_factory=dict)
    weight: Annotated[int, Field(ge=1, le=10000)] | None = None

    @field_validator("capacity")
    @classmethod
    def _only_extended_resources(cls, capacity: Amounts) -> Amounts:
        owned = sorted(_KUBELETS_OWN & set(capacity))
        if owned:
            raise ValueError(f"{owned[0]}: invalid resource restricted")
        return capacity

    @field_validator("requirements")
    @classmethod
    def _ask_for_something(
        cls, requirements: tuple[RequirementSpec, ...]
    ) -> tuple[RequirementSpec, ...]:
        refuse_owned((requirement.key for requirement in requirements), IN_OVERLAYS, aws=False)
        if any(item.operator == "NotIn" and not item.values for item in requirements):
            raise ValueError("requirements with operator 'NotIn' must have a value defined")
        return requirements

    @model_validator(mode="after")
    def _one_way_to_price(self) -> NodeOverlaySpec:
        if self.price is not None and self.price_adjustment is not None:
            raise ValueError("cannot set both 'price' and 'priceAdjustment'")
        return self


@dataclass(frozen=True, slots=True)
class NodeOverlay:
    """One NodeOverlay."""

    metadata: ObjectMeta
    spec: NodeOverlaySpec

    @property
    def name(self) -> str:
        """Return the overlay's name."""
        return self.metadata.name

    @property
    def weight(self) -> int:
        """Return the weight; unset is 0."""
        return self.spec.weight or 0


def parse(document: Json) -> NodeOverlay:
    """Return the NodeOverlay in *document*."""
    return NodeOverlay(meta.parse(document), read(NodeOverlaySpec, document.get("spec"), "spec"))
