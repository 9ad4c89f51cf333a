"""Claims, classes and slices as the API gives them, older spellings included."""

from __future__ import annotations

import pytest

from outrider.apis.devices import (
    Version,
    parse_claim,
    parse_class,
    parse_slice,
    parse_template,
)
from outrider.errors import InvalidManifest
from tests.support.builders import Json
from tests.support.devices import (
    claim_template,
    device,
    device_class,
    first_of,
    request,
    resource_claim,
    resource_slice,
    together,
)


def test_requests_and_constraints() -> None:
    """A claim's requests, their selectors, alternatives and constraints are read."""
    claim = parse_claim(
        resource_claim(
            "c",
            request("one", "device.driver == 'x'", count=3),
            first_of("two", request("big"), request("small", of="other")),
            constraints=[together("d.io/numa", "one"), {"distinctAttribute": "d.io/x"}],
        )
    )
    (one,), (big, small) = claim.spec.requests
    assert (one.name, one.count, one.selectors) == ("one", 3, ("device.driver == 'x'",))
    assert (big.name, small.name, small.device_class) == ("two/big", "two/small", "other")
    assert claim.spec.constraints[0].attribute == "d.io/numa"
    assert claim.spec.beyond == "a distinctAttribute constraint"


def test_the_spelling_before_exactly() -> None:
    """A request with its fields at the top, as before resource.k8s.io/v1, says the same."""
    body = {"devices": {"requests": [{"name": "r", "deviceClassName": "gpu", "count": 2}]}}
    template = parse_template({"metadata": {"name": "t", "namespace": "n"}, "spec": {"spec": body}})
    assert template.spec.requests[0][0].count == 2
    assert template.key == "n/t"


def test_allocations() -> None:
    """An allocation holds its devices, those of administrators excepted, and says where it is."""
    claim = parse_claim(resource_claim("c", allocated=["d0"], node="n", reserved=["p"]))
    assert claim.held == (("gpu.example.com", "pool", "d0"),)
    assert claim.is_allocated
    assert claim.reserved_for == ("uid-default-p",)
    assert claim.node_terms is not None
    assert claim.node_terms[0].fields[0].values == ("n",)
    assert parse_claim(resource_claim("c", allocated=["d0"], admin=True)).held == ()


def test_devices_of_a_slice() -> None:
    """Attributes keep their types; what is read elsewhere, or not at all, is known by name."""
    shown = device("d0", {"memory": "4Gi"}, model="a", slot=1, fine=True)
    shown["attributes"]["firmware"] = {"version": "1.2.3"}
    shown["attributes"]["lanes"] = {"ints": [1, 2]}
    shown["taints"] = [
        {"key": "a", "effect": "NoExecute"},
        {"key": "b", "effect": "None"},
    ]
    found = parse_slice(resource_slice("s", shown, generation=3, of=2))
    assert (found.generation, found.slices, found.node) == (3, 2, "node")
    only = found.devices[0]
    assert only.attributes == {"model": "a", "slot": 1, "fine": True, "firmware": Version("1.2.3")}
    assert isinstance(only.attributes["firmware"], Version)
    assert only.unknown == {"lanes"}
    assert [taint.key for taint in only.taints] == ["a"]
    old = {"name": "d1", "basic": {"attributes": {"model": {"string": "b"}}}}
    assert parse_slice(resource_slice("s", old)).devices[0].attributes == {"model": "b"}
    assert parse_slice(resource_slice("s", shown, node=None)).node == ""


def test_classes() -> None:
    """A class has selectors, and may stand for an extended resource."""
    found = parse_class(device_class("gpu", "true", extendedResourceName="x.io/gpu"))
    assert (found.selectors, found.extended_resource) == (("true",), "x.io/gpu")


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (
            {"requests": [{"name": "r", "exactly": {"count": 1}}]},
            "requests[0].exactly.deviceClassName",
        ),
        ({"requests": [request("a"), request("a")]}, "requests[1].name"),
        (
            {"requests": [request("a")], "constraints": [together("d.io/x", "b")]},
            "constraints[0].requests",
        ),
        ({"requests": [request(count=0)]}, "requests[0].exactly.count"),
        ({"requests": [request(allocationMode="Some")]}, "requests[0].exactly.allocationMode"),
    ],
)
def test_what_the_api_refuses(spec: Json, path: str) -> None:
    """A wrong field is refused with its path."""
    document = claim_template("t")
    document["spec"]["spec"]["devices"] = spec
    with pytest.raises(InvalidManifest) as caught:
        parse_template(document)
    assert caught.value.path == f"spec.spec.devices.{path}"
