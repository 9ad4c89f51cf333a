"""One requirement of a NodePool, a NodeClaim or a NodeOverlay, with Karpenter's own rules.

Decides which keys may be asked for and which values go with which operator; refuses to know what a
requirement means: `core.requirements` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from outrider.apis.labels import CAPACITY_TYPE, HOSTNAME, NODEPOOL, normalise
from outrider.apis.model import Model
from outrider.apis.placement import check_values
from outrider.errors import InvalidManifest

LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(\/))?"
    r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"
)
OWNED = frozenset({CAPACITY_TYPE})
"""Keys of the karpenter.sh domain that people may use."""

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"]


class RequirementSpec(Model):
    """One line of `requirements`."""

    key: Annotated[str, Field(max_length=316, pattern=LABEL_KEY)]
    operator: Operator
    values: tuple[str, ...] = ()
    min_values: Annotated[int, Field(ge=1, le=50)] | None = None

    @model_validator(mode="after")
    def _values_go_with_the_operator(self) -> RequirementSpec:
        try:
            check_values(self.operator, self.values, "values")
        except InvalidManifest as error:
            raise ValueError(f"values {error.problem}") from None
        if self.operator in {"Gt", "Lt", "Gte", "Lte"} and self.values[0].startswith("-"):
            raise ValueError(f"values must be one positive integer with {self.operator}")
        if self.operator == "In" and self.min_values and len(set(self.values)) < self.min_values:
            raise ValueError(f"values must have at least minValues ({self.min_values}) entries")
        return self


def refuse_owned(keys: Iterable[str], allowed: frozenset[str] = OWNED) -> None:
    """Raise ValueError where one of *keys* belongs to Karpenter or to the node itself."""
    for key in keys:
        domain = key.partition("/")[0] if "/" in key else ""
        owned = domain == "karpenter.sh" or domain.endswith(".karpenter.sh")
        if normalise(key) in {HOSTNAME, NODEPOOL} - allowed or (owned and key not in allowed):
            raise ValueError(f"label {key!r} is restricted")
