"""Selector terms as EC2's Describe filters."""

from __future__ import annotations

import pytest

from outrider.adapters.aws.network import term_filters
from outrider.apis.selectors import SecurityGroupSelectorTerm as Term


@pytest.mark.parametrize(
    ("term", "filters"),
    [
        ({"id": "sg-1"}, {"group-id": ["sg-1"]}),
        ({"name": "nodes"}, {"group-name": ["nodes"]}),
        ({"name": "nodes", "vpcID": "vpc-1"}, {"group-name": ["nodes"], "vpc-id": ["vpc-1"]}),
        (
            {"tags": {"team": "a", "any": "*"}, "vpcID": "vpc-1"},
            {"vpc-id": ["vpc-1"], "tag-key": ["any"], "tag:team": ["a"]},
        ),
    ],
)
def test_a_security_group_s_term_becomes_filters(
    term: dict[str, object], filters: dict[str, list[str]]
) -> None:
    """Id, name, tags and the VPC within which a name or tags are looked for."""
    found = term_filters(Term.model_validate(term), "group-id", "group-name")
    assert {one["Name"]: one["Values"] for one in found} == filters
