"""Why nodes drift from their EC2NodeClass, one reason after the other, and what is no drift."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import labels, manifest
from tests.support import builders
from tests.support.estate import Estate, claim, node, pod, pool

STATUS: dict[str, Any] = {
    "amis": [{"id": "ami-1", "requirements": []}],
    "subnets": [{"id": "subnet-1", "zone": "us-east-1a", "zoneID": "use1-az1"}],
    "securityGroups": [{"id": "sg-1"}, {"id": "sg-2"}],
    "capacityReservations": [],
}
HAD: dict[str, str] = {
    labels.SUBNET: "subnet-1",
    labels.SECURITY_GROUPS: "sg-1,sg-2",
    labels.PLACEMENT_GROUP: "",
}


def why(
    had: dict[str, str],
    *,
    image: str = "ami-1",
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> str:
    """Return why the node of a claim that *had* these annotations goes, "" where it stays."""
    document = {**builders.nodeclass(**spec), "status": {**STATUS, **(status or {})}}
    one = node("n1")
    estate = Estate(
        pool(disruption={"consolidateAfter": "Never"}),
        manifest.parse(document),
        one,
        claim(one, annotations=had, status={"imageID": image}),
        pod("a", on="n1", cpu="3"),
    )
    commands = estate.decide().commands
    return commands[0].why if commands else ""


def test_what_is_as_selected_stays() -> None:
    """Nothing changed, nothing drifts."""
    assert why(HAD) == ""


@pytest.mark.parametrize("left_out", [*HAD, "all"])
def test_what_is_not_written_is_no_drift(left_out: str) -> None:
    """A claim of Karpenter's, or of an older version, says less: what is unknown stays."""
    had = {} if left_out == "all" else {key: HAD[key] for key in HAD if key != left_out}
    assert why(had) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"had": {**HAD, labels.SUBNET: "subnet-9"}}, "SubnetDrift: subnet-9"),
        ({"had": {**HAD, labels.SECURITY_GROUPS: "sg-1"}}, "SecurityGroupDrift"),
        ({"had": {**HAD, labels.SECURITY_GROUPS: "sg-1,sg-2,sg-3"}}, "(sg-3)"),
        ({"had": {**HAD, labels.PLACEMENT_GROUP: "pg-1"}}, "PlacementGroupDrift"),
        (
            {"had": HAD, "placementGroupSelector": {"name": "close"}},
            "selects close, it is in none",
        ),
        ({"had": HAD, "image": "ami-9"}, "AMIDrift: ami-9"),
    ],
)
def test_each_selection_drifts_and_is_named(change: dict[str, Any], reason: str) -> None:
    """A subnet, a group, an image or a placement group that is not selected any more is said."""
    assert reason in why(**change)


def test_a_selection_that_finds_nothing_drifts_nothing() -> None:
    """A class whose status is empty for a moment must not empty the cluster."""
    empty = {"amis": [], "subnets": [], "securityGroups": []}
    assert why(HAD, status=empty) == ""


def test_a_reservation_that_is_not_selected_any_more_drifts() -> None:
    """A reserved node whose reservation left the selection goes; one that is still there stays."""
    zone = "us-east-1a"
    shown = {
        "id": "cr-00000000000000001",
        "availabilityZone": zone,
        "instanceMatchCriteria": "targeted",
        "instanceType": "m5.xlarge",
        "ownerID": "123456789012",
        "reservationType": "default",
        "state": "active",
    }
    document = {
        **builders.nodeclass(),
        "status": {**STATUS, "capacityReservations": [shown]},
    }
    used = {"labels": {labels.CAPACITY_RESERVATION_ID: "cr-00000000000000002"}}
    one = node("n1", bought=labels.RESERVED, **used)
    estate = Estate(
        pool(
            disruption={"consolidateAfter": "Never"},
            template={
                "requirements": [
                    {
                        "key": labels.CAPACITY_TYPE,
                        "operator": "In",
                        "values": [labels.RESERVED, labels.ON_DEMAND],
                    }
                ]
            },
        ),
        manifest.parse(document),
        one,
        claim(one),
        pod("a", on="n1"),
    )
    assert estate.command().why.startswith("CapacityReservationDrift: cr-00000000000000002")
