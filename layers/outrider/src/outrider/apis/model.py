"""The ground of the pydantic models: how Karpenter's kinds are read.

camelCase outside, snake_case inside; frozen; unknown fields are kept, as the API server keeps them
for newer versions of a CRD. `read` turns pydantic's findings into one InvalidManifest with the
field's path as a person would write it. Refuses to know any kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from outrider.apis import quantity
from outrider.apis.duration import instant, stamp
from outrider.apis.placement import Taint
from outrider.errors import InvalidManifest


class Model(BaseModel):
    """A frozen piece of a Karpenter kind."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
        defer_build=True,
        protected_namespaces=(),
    )

    def to_json(self) -> dict[str, Any]:
        """Return the piece as the API has it: what was set, under its own names."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


Body = TypeVar("Body", bound=Model)


def read(model: type[Body], value: object, path: str) -> Body:
    """Return *value* as *model*; *path* is where it stands in its object."""
    try:
        return model.model_validate({} if value is None else value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidManifest(message, path=_path(path, first["loc"])) from None


def _path(path: str, location: tuple[int | str, ...]) -> str:
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _amounts(value: object) -> object:
    try:
        return quantity.resources(value)
    except InvalidManifest as error:
        raise ValueError(str(error)) from None


def _instant(value: object) -> object:
    try:
        return instant(value) if isinstance(value, str) else value
    except InvalidManifest as error:
        raise ValueError(str(error)) from None


Amounts = Annotated[
    Mapping[str, int],
    BeforeValidator(_amounts),
    PlainSerializer(quantity.listing, return_type=dict[str, str]),
    Field(json_schema_extra={"x-outrider": "quantities"}),
]
"""A resource list, as integers."""

Instant = Annotated[datetime, BeforeValidator(_instant), PlainSerializer(stamp, return_type=str)]

Duration = Annotated[str, Field(pattern=r"^([0-9]+(s|m|h))+$")]
NillableDuration = Annotated[str, Field(pattern=r"^(([0-9]+(s|m|h))+|Never)$")]


class TaintSpec(Model):
    """A taint as it is written; `value` gives the planner's Taint."""

    key: Annotated[str, Field(min_length=1, max_length=253)]
    value: Annotated[str, Field(max_length=63)] = ""
    effect: Annotated[str, Field(pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$")]

    def taint(self) -> Taint:
        """Return the planner's value."""
        return Taint(self.key, self.value, self.effect)


class Condition(Model):
    """One condition of a status."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: Instant | None = None
    observed_generation: int | None = None


class Conditioned(Model):
    """A status with conditions."""

    conditions: tuple[Condition, ...] = ()

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of that *kind*."""
        return next((item for item in self.conditions if item.type == kind), None)

    def is_true(self, kind: str) -> bool:
        """Return whether the condition *kind* is there and True."""
        found = self.condition(kind)
        return found is not None and found.status == "True"

    def is_false(self, kind: str) -> bool:
        """Return whether the condition *kind* is there and False."""
        found = self.condition(kind)
        return found is not None and found.status == "False"


class NodeClassRef(Model):
    """Which node class a NodePool or NodeClaim uses."""

    group: Annotated[str, Field(min_length=1, pattern="^[^/]*$")]
    kind: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
