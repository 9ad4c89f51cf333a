"""One requirement of a NodePool, a NodeClaim or a NodeOverlay, with Karpenter's own rules.

Decides which keys may be asked for and which values go with which operator, exactly as Karpenter's
CRDs do: values beside Exists are ignored there, and NotIn without values excludes nothing. Refuses
to know what a requirement means: `core.requirements` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from outrider.apis.labels import CAPACITY_TYPE, HOSTNAME, NODECLASS_LABEL, NODEPOOL
from outrider.apis.model import LABEL_KEY, Model

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"]
BOUNDS = frozenset({"Gt", "Lt", "Gte", "Lte"})
_LONGEST_BOUND = 18  # digits: int64 has 19

INSTANCE_LABELS = "karpenter.k8s.aws/instance-"
"""What labels of instance types begin with; each release of Karpenter has new ones."""
AWS_LABELS = frozenset(
    f"karpenter.k8s.aws/{name}"
    for name in (
        "capacity-reservation-id",
        "capacity-reservation-interruptible",
        "capacity-reservation-type",
        "placement-group-id",
        "placement-group-partition",
    )
)
"""Further labels of the karpenter.k8s.aws domain that people may use."""
IN_POOLS = frozenset({CAPACITY_TYPE, *AWS_LABELS})
IN_CLAIMS = frozenset({CAPACITY_TYPE, NODEPOOL, NODECLASS_LABEL, *AWS_LABELS})
IN_OVERLAYS = frozenset({CAPACITY_TYPE, NODEPOOL})
"""Keys of Karpenter's domains that people may use in the requirements of each kind."""


class RequirementSpec(Model):
    """One line of `requirements`."""

    key: Annotated[str, Field(max_length=316, pattern=LABEL_KEY)]
    operator: Operator
    values: tuple[str, ...] = ()
    min_values: Annotated[int, Field(ge=1, le=50)] | None = None

    @model_validator(mode="after")
    def _values_go_with_the_operator(self) -> RequirementSpec:
        if self.operator == "In" and not self.values:
            raise ValueError("values: requirements with operator 'In' must have a value defined")
        if self.operator in BOUNDS and not (len(self.values) == 1 and _is_bound(self.values[0])):
            raise ValueError(
                "values: requirements operator 'Gt', 'Lt', 'Gte', or 'Lte' must have a single"
                " positive integer value"
            )
        if self.operator == "In" and self.min_values and len(self.values) < self.min_values:
            raise ValueError(
                "values: requirements with 'minValues' must have at least that many values"
                " specified in the 'values' field"
            )
        return self


def _is_bound(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_BOUND


def refuse_owned(keys: Iterable[str], allowed: frozenset[str], *, aws: bool = True) -> None:
    """Raise ValueError where one of *keys* is Karpenter's or the node's own and not *allowed*.

    The domain karpenter.k8s.aws is looked at where *aws* is set.
    """
    for key in keys:
        domain = key.partition("/")[0]
        if key == HOSTNAME:
            raise ValueError(f'label "{key}" is restricted')
        if key in allowed:
            continue
        if domain.endswith("karpenter.sh"):
            raise ValueError(f'{key}: label domain "karpenter.sh" is restricted')
        if aws and domain.endswith("karpenter.k8s.aws") and not key.startswith(INSTANCE_LABELS):
            raise ValueError(f'{key}: label domain "karpenter.k8s.aws" is restricted')
