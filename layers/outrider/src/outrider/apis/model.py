"""The ground of the pydantic models: how Karpenter's kinds are read.

camelCase outside, snake_case inside; frozen; unknown fields are kept, as the API server keeps them
for newer versions of a CRD. Types are strict and nulls count as absent, as in the API server: the
text "5" is no number there, and `taints: null` is no taint. `read` turns pydantic's findings into
one InvalidManifest with the field's path as a person would write it. Refuses to know any kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
)
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

LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(\/))?"
    r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"
)
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"


def read(model: type[Body], value: object, path: str) -> Body:
    """Return *value* as *model*; *path* is where it stands in its object."""
    said = {} if value is None else _without_nulls(value)
    try:
        text = orjson.dumps(said)
    except TypeError:
        raise InvalidManifest("holds a value that JSON has no room for", path=path) from None
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _finding(error, said, path) from None


def _without_nulls(value: object) -> object:
    """Return *value* without fields that are null: the API server drops them before it looks."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _finding(error: ValidationError, said: object, path: str) -> InvalidManifest:
    """Return pydantic's first finding; of a field that may be this or that, the one that fits."""
    findings = error.errors(include_url=False, include_context=False, include_input=False)
    places = [_path(path, finding["loc"], said) for finding in findings]
    alike = [found for found, place in zip(findings, places, strict=True) if place == places[0]]
    told = next((found for found in alike if found["type"] not in _OF_ANOTHER_TYPE), alike[0])
    return InvalidManifest(told["msg"].removeprefix("Value error, "), path=places[0])


_OF_ANOTHER_TYPE = frozenset({"int_type", "string_type"})


def _path(path: str, location: tuple[int | str, ...], said: object) -> str:
    """Return where a finding is in what was *said*: without pydantic's names for alternatives."""
    here: Any = said
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
            here = here[part] if isinstance(here, list) and part < len(here) else None
        elif isinstance(here, Mapping):  # anything else has no fields: an alternative's name
            path += f".{part}"
            here = here.get(part)
    return path


def _amounts(value: object) -> object:
    if isinstance(value, Mapping):
        fractions = [name for name, amount in value.items() if isinstance(amount, float)]
        if fractions:
            raise ValueError(f"{fractions[0]}: must be a whole number or text")
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

    key: Annotated[str, Field(min_length=1, pattern=LABEL_KEY)]
    value: Annotated[str, Field(pattern=LABEL_KEY)] = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    time_added: Instant | None = None

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

    group: Annotated[str, Field(pattern="^[^/]*$")]
    kind: str
    name: str

    @field_validator("group", "kind", "name")
    @classmethod
    def _is_said(cls, value: str, field: ValidationInfo) -> str:
        if not value:
            raise ValueError(f"{field.field_name} may not be empty")
        return value
