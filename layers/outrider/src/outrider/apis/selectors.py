"""Selector terms of an EC2NodeClass: how subnets, images, reservations and the like are named.

Decides which fields of a term go together, as Karpenter's CRD does. Refuses to find anything: the
cloud adapter does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from outrider.apis.model import Model

FAMILIES = {
    "al2": "AL2",
    "al2023": "AL2023",
    "bottlerocket": "Bottlerocket",
    "bottlerocket-fips": "Bottlerocket",
    "windows2019": "Windows2019",
    "windows2022": "Windows2022",
    "windows2025": "Windows2025",
}


def _no_empty_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    if any(not key or not value for key, value in tags.items()):
        raise ValueError("empty tag keys or values aren't supported")
    return tags


Tags = Annotated[
    Mapping[str, str], Field(min_length=1, max_length=20), AfterValidator(_no_empty_tags)
]
Said = Annotated[str, Field(min_length=1)]


class _Term(Model):
    """A selector term: it has to select by something."""

    ways: ClassVar[tuple[str, ...]]

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if not _has(self, self.ways):
            raise ValueError(f"expected at least one, got none, {list(self.ways)}")
        return self


class SubnetSelectorTerm(_Term):
    """Subnets by tags (all must match) or by id."""

    ways = ("tags", "id")

    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="^subnet-[0-9a-z]+$")] | None = None


class SecurityGroupSelectorTerm(_Term):
    """Security groups by tags, id or name; by tags or name within one VPC, if it is named."""

    ways = ("tags", "id", "name")

    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="^sg-[0-9a-z]+$")] | None = None
    name: Said | None = None
    vpc_id: Annotated[str, Field(pattern="^vpc-[0-9a-z]+$")] | None = Field(
        default=None, alias="vpcID"
    )


class CapacityReservationSelectorTerm(_Term):
    """Capacity reservations by tags, id or match criteria; of one owner, if it is named."""

    ways = ("tags", "id", "instanceMatchCriteria")

    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="^cr-[0-9a-z]+$")] | None = None
    owner_id: Annotated[str, Field(pattern="^[0-9]{12}$")] | None = Field(
        default=None, alias="ownerID"
    )
    instance_match_criteria: Literal["open", "targeted"] | None = None


class PlacementGroupSelector(Model):
    """A placement group by name or id."""

    name: Said | None = None
    id: Said | None = None

    @model_validator(mode="after")
    def _one_way(self) -> PlacementGroupSelector:
        if (self.name is None) == (self.id is None):
            raise ValueError("exactly one of 'name' and 'id' must be set")
        return self


def _check_alias(alias: str) -> str:
    family, _, version = alias.partition("@")
    if family not in FAMILIES:
        raise ValueError(
            f"family is not supported, must be one of the following: {', '.join(FAMILIES)}"
        )
    if family.startswith("windows") and version != "latest":
        raise ValueError("windows families may only specify version 'latest'")
    return alias


class AMISelectorTerm(_Term):
    """Images by alias, tags, id, name and owner, or SSM parameter."""

    ways = ("tags", "id", "name", "alias", "ssmParameter")

    alias: (
        Annotated[
            str, Field(max_length=60, pattern="^[a-zA-Z0-9-]+@.+$"), AfterValidator(_check_alias)
        ]
        | None
    ) = None
    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="ami-[0-9a-z]+")] | None = None
    name: Said | None = None
    owner: Said | None = None
    ssm_parameter: Said | None = None


def not_all_mix(terms: Sequence[Model], way: str, others: Sequence[str]) -> None:
    """Raise ValueError where every term gives *way* with one of *others*.

    Karpenter's rule says "all" where "any" was meant; classes that it took are taken here, and a
    term's id beats its other fields.
    """
    if terms and all(_has(term, (way,)) and _has(term, others) for term in terms):
        raise ValueError(
            f"'{way}' is mutually exclusive, cannot be set with a combination of other fields"
        )


def images_one_way(terms: Sequence[AMISelectorTerm]) -> None:
    """Raise ValueError where an id or an alias stands beside what it excludes."""
    for term in terms:
        if term.id and _has(term, ("alias", "tags", "name", "owner")):
            raise ValueError("'id' is mutually exclusive, cannot be set with other fields")
        if term.alias and _has(term, ("tags", "name", "owner")):
            raise ValueError("'alias' is mutually exclusive, cannot be set with other fields")
        if term.alias and len(terms) > 1:
            raise ValueError(
                "'alias' is mutually exclusive, cannot be set with other amiSelectorTerms"
            )


_ATTRIBUTES = {
    "ownerID": "owner_id",
    "instanceMatchCriteria": "instance_match_criteria",
    "ssmParameter": "ssm_parameter",
}


def _has(term: Model, ways: Iterable[str]) -> bool:
    return any(getattr(term, _ATTRIBUTES.get(way, way)) for way in ways)
