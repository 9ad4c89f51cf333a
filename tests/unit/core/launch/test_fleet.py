"""CreateFleet requests: within the API's limits, as few as it allows, repeatable."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.apis import labels, manifest
from outrider.core.catalog.bundled import bundled
from outrider.core.clusterstate import ClusterState
from outrider.core.launch import fleet
from outrider.core.launch.fleet import FleetRequest, Subnet, requests
from outrider.core.requirements import Requirements
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.result import Choice
from outrider.core.seeding import Seed, State
from tests.support.launches import ZONES, around, choices, launch, nodeclass, orders
from tests.support.market import pool, some_types, waiting

EC2 = botocore.session.get_session().get_service_model("ec2")
TYPES = tuple(
    kind.name for kind in bundled().instance_types if kind.name.startswith(("g", "p5", "m7", "c7"))
)
ALL_ZONES = (*ZONES, "us-east-1d", "us-east-1e", "us-east-1f")


def _valid(request: FleetRequest) -> list[str]:
    """Return what botocore's model of the API finds wrong with *request* and its templates."""
    validator = ParamValidator()
    found = [validator.validate(request.to_json(), EC2.operation_model("CreateFleet").input_shape)]
    for one in request.templates:
        call = {
            "LaunchTemplateName": one.name,
            "LaunchTemplateData": one.data,
            "ClientToken": one.name[-64:],
        }
        shape = EC2.operation_model("CreateLaunchTemplate").input_shape
        found.append(validator.validate(call, shape))
    return [report.generate_report() for report in found if report.has_errors()]


def _only(made: fleet.Requests) -> FleetRequest:
    assert made.refused == ()
    assert len(made.requests) == 1
    return made.requests[0]


def _overrides(request: FleetRequest) -> list[dict[str, Any]]:
    configs = request.to_json()["LaunchTemplateConfigs"]
    return [override for config in configs for override in config["Overrides"]]


def test_one_launch_is_one_call() -> None:
    """Types x zones become overrides with one subnet a zone, and an image for the type."""
    request = _only(requests(orders(launch()), around()))
    call = request.to_json()
    assert call["Type"] == "instant"
    assert call["TargetCapacitySpecification"] == {
        "TotalTargetCapacity": 1,
        "DefaultTargetCapacityType": "spot",
    }
    assert call["SpotOptions"] == {"AllocationStrategy": "price-capacity-optimized"}
    assert "OnDemandOptions" not in call
    pairs = {(one["InstanceType"], one["AvailabilityZone"]) for one in _overrides(request)}
    assert pairs == {(name, zone) for name in ("g6.xlarge", "g5.xlarge") for zone in ZONES}
    assert {one["ImageId"] for one in _overrides(request)} == {"ami-00000001"}
    assert _valid(request) == []


def test_equal_launches_are_one_call() -> None:
    """A thousand launches of one shape need ten calls and one template."""
    many = [launch(f"gpu-{place}") for place in range(1000)]
    made = requests(orders(*many), around())
    assert len(made.requests) == 10
    assert {one.name for request in made.requests for one in request.templates}.__len__() == 1
    assert [claim for request in made.requests for claim in request.claims] == [
        f"claim-{place}" for place in range(1000)
    ]
    assert len({request.client_token for request in made.requests}) == 10


def test_reserved_before_spot_before_on_demand() -> None:
    """One capacity type a call, by precedence, whatever the order of prices."""
    spot = choices("g6.xlarge")
    on_demand = choices("g6.xlarge", capacity_type="on-demand")
    reserved = (Choice("g6.xlarge", ZONES[0], "reserved", 0.0, "", "cr-1"),)
    first = _only(requests(orders(launch(choices=(*on_demand, *spot, *reserved))), around()))
    assert first.capacity_type == "reserved"
    data = first.templates[0].data["CapacityReservationSpecification"]
    assert data["CapacityReservationTarget"] == {"CapacityReservationId": "cr-1"}
    assert first.to_json()["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == (
        "on-demand"
    )
    second = _only(requests(orders(launch(choices=(*on_demand, *spot))), around()))
    assert second.capacity_type == "spot"
    third = _only(requests(orders(launch(choices=on_demand)), around()))
    assert third.to_json()["OnDemandOptions"] == {"AllocationStrategy": "lowest-price"}
    assert _valid(first) == _valid(second) == _valid(third) == []


def test_a_capacity_block_is_bought_as_such() -> None:
    """A block has its own market type and target, no on-demand options; one block a call."""
    found = nodeclass(capacityReservationSelectorTerms=[{"id": "cr-1"}])
    listed = [
        {
            "id": name,
            "instanceType": "p5.48xlarge",
            "availabilityZone": zone,
            "reservationType": "capacity-block",
        }
        for name, zone in (("cr-1", ZONES[0]), ("cr-2", ZONES[1]))
    ]
    status = found.status.model_validate({**found.status.to_json(), "capacityReservations": listed})
    wanted = launch(
        choices=(
            Choice("p5.48xlarge", ZONES[0], "reserved", 0.0, "", "cr-1"),
            Choice("p5.48xlarge", ZONES[1], "reserved", 0.0, "", "cr-2"),
        )
    )
    request = _only(requests(orders(wanted), around(replace(found, status=status))))
    call = request.to_json()
    assert call["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "capacity-block"
    assert "OnDemandOptions" not in call
    assert [one["AvailabilityZone"] for one in _overrides(request)] == [ZONES[0]]
    assert request.templates[0].data["InstanceMarketOptions"] == {"MarketType": "capacity-block"}
    assert _valid(request) == []


def test_a_gang_launches_whole() -> None:
    """All of a gang in one zone or none of it."""
    gang = [launch(f"w-{place}", gang="train") for place in range(8)]
    call = _only(requests(orders(*gang), around())).to_json()
    assert call["SpotOptions"]["MinTargetCapacity"] == 8
    assert call["SpotOptions"]["SingleAvailabilityZone"] is True


def test_the_freest_subnet_of_a_zone() -> None:
    """Of two subnets in a zone the one with more free addresses is named, and it fills up."""
    found = nodeclass()
    two = {
        found.name: (
            Subnet("subnet-x", ZONES[0], "", 30),
            Subnet("subnet-y", ZONES[0], "", 40),
        )
    }
    first = [launch(f"a-{place}", choices=choices("g6.xlarge")) for place in range(20)]
    second = launch("b", choices=choices("g5.xlarge"))
    made = requests(orders(*first, second), around(found, subnets=two))
    assert [{pool.subnet_id for pool in one.pools} for one in made.requests] == [
        {"subnet-y"},
        {"subnet-x"},
    ]


def test_types_of_two_kinds_share_a_template() -> None:
    """User data and image differ between max pods and architectures; the template does not."""
    wanted = launch(
        taints=(),
        choices=choices("m7i.xlarge", "m7g.xlarge"),
        max_pods={"m7i.xlarge": 58, "m7g.xlarge": 29},
    )
    request = _only(requests(orders(wanted), around()))
    assert len(request.templates) == 1
    assert len(request.uses) == 2
    assert len({use.user_data for use in request.uses}) == 2
    images = {one["InstanceType"]: one["ImageId"] for one in _overrides(request)}
    assert images["m7i.xlarge"] != images["m7g.xlarge"]


def test_everything_carries_our_tags() -> None:
    """Fleet, instance, volume and interface are tagged; the NodeClaim is on the instance only."""
    found = nodeclass(tags={"team": "ml", "Name": "mine"})
    call = _only(requests(orders(launch()), around(found))).to_json()
    by_kind = {
        one["ResourceType"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        for one in call["TagSpecifications"]
    }
    assert set(by_kind) == {"instance", "fleet", "volume", "network-interface"}
    for found_tags in by_kind.values():
        assert found_tags["eks:eks-cluster-name"] == "prod"
        assert found_tags["kubernetes.io/cluster/prod"] == "owned"
        assert found_tags[labels.NODEPOOL] == "gpu"
        assert found_tags[labels.NODECLASS_LABEL] == "gpu"
        assert found_tags[labels.DECISION] == "d1"
        assert found_tags[labels.MANAGED_BY] == "outrider"
        assert found_tags["team"] == "ml"
    assert by_kind["instance"][labels.NODECLAIM_TAG] == "claim-0"
    assert labels.NODECLAIM_TAG not in by_kind["volume"]
    assert by_kind["instance"]["Name"] == "mine"


def test_efa_gets_its_interfaces() -> None:
    """A pod that asks for EFA gets every card's interface, and card 0 keeps its address."""
    wanted = launch(
        choices=choices("p5.48xlarge"), requests={"vpc.amazonaws.com/efa": 32}, max_pods={}
    )
    request = _only(requests(orders(wanted), around()))
    listed = request.templates[0].data["NetworkInterfaces"]
    assert len(listed) == 32
    assert listed[0]["InterfaceType"] == "efa"
    assert {one["InterfaceType"] for one in listed[1:]} == {"efa-only"}
    assert [one["NetworkCardIndex"] for one in listed] == list(range(32))
    assert "SecurityGroupIds" not in request.templates[0].data
    assert _valid(request) == []


def test_a_card_without_efa_is_plain() -> None:
    """On p6-b300 card 0 is for addresses only: sixteen EFA interfaces beside it."""
    wanted = launch(
        choices=choices("p6-b300.48xlarge"), requests={"vpc.amazonaws.com/efa": 16}, max_pods={}
    )
    listed = _only(requests(orders(wanted), around())).templates[0].data["NetworkInterfaces"]
    assert len(listed) == 17
    assert "InterfaceType" not in listed[0]
    assert sum(one.get("InterfaceType") == "efa-only" for one in listed) == 16


def test_a_seed_changes_volume_and_user_data_only() -> None:
    """A launch with a seed differs in the block device and the user data, nothing else."""
    seed = Seed(
        "k",
        "amd64",
        "AL2023",
        {"reg/trainer:1": "sha256:1"},
        {"reg/trainer:1": 10**10},
        snapshot_id="snap-1",
        volume_gib=60,
        state=State.READY.value,
    )
    images = {"default/gpu-1": ("reg/trainer:1",)}
    found = nodeclass(instanceStorePolicy="RAID0")
    plain = _only(requests(orders(launch()), around(found, images=images)))
    seeded = _only(requests(orders(launch()), around(found, images=images, seeds=(seed,))))
    before, after = dict(plain.templates[0].data), dict(seeded.templates[0].data)
    added = after["BlockDeviceMappings"][-1]
    assert added["Ebs"]["SnapshotId"] == "snap-1"
    assert added["Ebs"]["VolumeSize"] == 60
    assert added["Ebs"]["VolumeInitializationRate"] == 300
    assert before.pop("BlockDeviceMappings") == after.pop("BlockDeviceMappings")[:-1]
    assert before == after
    assert '"disabledMounts"' in seeded.uses[0].user_data
    assert '"disabledMounts"' not in plain.uses[0].user_data
    assert _overrides(plain) == _overrides(seeded)
    assert _valid(seeded) == []


def test_min_values_survive_the_cut() -> None:
    """Sixty types at most, and the flexibility that the pool asks for among them."""
    cheap = [f"fake{place}.xlarge" for place in range(70)]
    names = [*cheap, "g6.xlarge", "g5.xlarge"]
    known = bundled().get("g6.xlarge")
    assert known is not None
    types = {name: replace(known, name=name) for name in names}
    wanted = launch(
        choices=choices(*names, zones=ZONES[:1]),
        requirements=Requirements.of(
            [{"key": "karpenter.k8s.aws/instance-family", "operator": "Exists", "minValues": 50}]
        ),
    )
    request = _only(requests(orders(wanted), around(types=types)))
    kept = {one["InstanceType"] for one in _overrides(request)}
    assert len(kept) == 60
    assert len({name.partition(".")[0] for name in kept}) >= 50


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"node_class": "nope"}, "EC2NodeClass nope does not exist"),
        ({"choices": choices("g6.xlarge", zones=("us-east-1f",))}, "no usable subnet"),
        ({"choices": ()}, "no offering left"),
    ],
)
def test_what_cannot_be_launched_is_said(changes: dict[str, Any], said: str) -> None:
    """An order that no request can serve comes back with what to fix; the others go on."""
    made = requests(orders(launch("a", **changes), launch("b")), around())
    assert len(made.requests) == 1
    assert said in made.refused[0].reason


def test_no_image_for_a_type_is_said() -> None:
    """A class without an image for the architecture names the types."""
    found = nodeclass()
    arm = [image for image in found.status.amis if "arm64" not in str(image.requirements)]
    status = found.status.model_validate(
        {**found.status.to_json(), "amis": [image.to_json() for image in arm]}
    )
    wanted = launch(choices=choices("m7g.xlarge"))
    made = requests(orders(wanted), around(replace(found, status=status)))
    assert "no AMI for m7g.xlarge" in made.refused[0].reason


def test_too_much_user_data_is_refused() -> None:
    """Over 16 KB is refused before EC2 is asked."""
    found = nodeclass(userData="#!/bin/sh\n" + "x" * 17000)
    made = requests(orders(launch()), around(found))
    assert "16 KB" in made.refused[0].reason


def test_a_token_names_its_content() -> None:
    """The same plan gives the same token, another attempt or decision another one."""
    token = _only(requests(orders(launch()), around())).client_token
    assert _only(requests(orders(launch()), around())).client_token == token
    assert _only(requests(orders(launch()), around(attempt=1))).client_token != token
    assert _only(requests(orders(launch()), around(decision="d2"))).client_token != token
    assert len(token) <= 64


@st.composite
def _launches(draw: st.DrawFn) -> list[Any]:
    found = []
    for place in range(draw(st.integers(1, 12))):
        types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=90, unique=True))
        zones = draw(st.lists(st.sampled_from(ALL_ZONES), min_size=1, max_size=6, unique=True))
        kinds = draw(st.sets(st.sampled_from(["spot", "on-demand"]), min_size=1))
        found.append(
            launch(
                f"n-{place}",
                choices=tuple(
                    choice
                    for kind in sorted(kinds)
                    for choice in choices(*types, capacity_type=kind, zones=tuple(zones))
                ),
                gang=draw(st.sampled_from([None, None, "g"])),
                requests={"vpc.amazonaws.com/efa": draw(st.sampled_from([0, 1]))},
                max_pods={name: draw(st.sampled_from([58, 110])) for name in types[:3]},
            )
        )
    return found


@given(_launches())
@settings(max_examples=40, deadline=None)
def test_every_request_is_within_the_limits(wanted: list[Any]) -> None:
    """Whatever is planned: at most 60 types and 300 overrides, unique pools, one zone a subnet."""
    found = nodeclass()
    subnets = {found.name: tuple(Subnet(f"subnet-{zone[-1]}", zone, "", 100) for zone in ALL_ZONES)}
    made = requests(orders(*wanted), around(found, subnets=subnets))
    claims = [claim for request in made.requests for claim in request.claims]
    claims += [one.order.claim for one in made.refused]
    assert sorted(claims) == sorted(f"claim-{place}" for place in range(len(wanted)))
    for request in made.requests:
        overrides = _overrides(request)
        assert 1 <= len(overrides) <= 300
        assert len({one["InstanceType"] for one in overrides}) <= 60
        pools = [(one["InstanceType"], one["SubnetId"]) for one in overrides]
        assert len(pools) == len(set(pools))
        assert len(request.client_token) <= 64
        assert len(request.claims) <= 100 or request.gang
    if made.requests:
        assert _valid(made.requests[0]) == []


@pytest.mark.parametrize(
    ("capacity_type", "options", "strategy"),
    [
        ("spot", "SpotOptions", "capacity-optimized-prioritized"),
        ("on-demand", "OnDemandOptions", "prioritized"),
    ],
)
def test_stated_prices_become_priorities(capacity_type: str, options: str, strategy: str) -> None:
    """EC2 does not know a NodeOverlay's price, so it is told the order: the cheaper the higher."""
    listed = choices("g6.xlarge", "g5.xlarge", capacity_type=capacity_type)
    stated = tuple(replace(one, stated=True) for one in listed)
    (made,) = requests(orders(launch(choices=stated)), around()).requests
    call = made.to_json()
    assert call[options] == {"AllocationStrategy": strategy}
    priorities = {
        (one["InstanceType"], one["Priority"])
        for config in call["LaunchTemplateConfigs"]
        for one in config["Overrides"]
    }
    assert _valid(made) == []
    assert priorities == {("g6.xlarge", 0.0), ("g5.xlarge", 1.0)}


def test_a_plan_at_stated_prices_says_so() -> None:
    """The fact travels from the NodeOverlay over the plan to the request."""
    overlay = manifest.parse(
        {
            "apiVersion": "karpenter.sh/v1alpha1",
            "kind": "NodeOverlay",
            "metadata": {"name": "ours"},
            "spec": {
                "requirements": [
                    {"key": labels.INSTANCE_TYPE, "operator": "In", "values": ["g5.xlarge"]}
                ],
                "price": "0.01",
            },
        }
    )
    goods = some_types(bundled(), "g6.xlarge", "g5.xlarge")
    pod = waiting("p0", **{"nvidia.com/gpu": "1"})
    state = ClusterState.of([nodeclass(), pool(), pod, overlay])
    now = datetime(2026, 3, 2, tzinfo=UTC)
    (wanted,) = plan(state, pending(state, now), goods, Policy(), now).launches
    assert {one.instance_type for one in wanted.choices if one.stated} == {"g5.xlarge"}
    (made,) = requests(orders(wanted), around()).requests
    assert made.prioritized
