"""EC2 of the embedded cloud: fleets, states in time, volumes, reservations, prices, images.

Promises are those of AWS that outrider relies on, not moto's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from outrider.local.clock import DiscreteClock
from outrider.local.cloud import Cloud

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
TEMPLATE = Path(__file__).parent / "data" / "cloud" / "template.yaml"
AL2023 = "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/x86_64/nvidia/recommended/image_id"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Give an embedded cloud without a cluster, on discrete time."""
    with Cloud(template=TEMPLATE, clock=DiscreteClock(START), with_cluster=False) as running:
        yield running


@pytest.fixture
def ec2(cloud: Cloud) -> Any:
    """Give an EC2 client."""
    return cloud.client("ec2")


@pytest.fixture
def image(cloud: Cloud) -> str:
    """Give the image id of AL2023 with NVIDIA drivers."""
    return str(cloud.client("ssm").get_parameter(Name=AL2023)["Parameter"]["Value"])


@pytest.fixture
def template(cloud: Cloud, ec2: Any, image: str) -> str:
    """Give the id of a launch template as outrider makes them."""
    assert cloud.network is not None
    data = {
        "ImageId": image,
        "SecurityGroupIds": [cloud.network.security_group],
        "IamInstanceProfile": {"Name": "outrider-local-node"},
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20, "VolumeType": "gp3"}}
        ],
    }
    made = ec2.create_launch_template(LaunchTemplateName="nodes", LaunchTemplateData=data)
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def subnets(cloud: Cloud) -> tuple[str, ...]:
    """Return the three subnets, in the order of their zones."""
    assert cloud.network is not None
    return cloud.network.subnets


def fleet(cloud: Cloud, template: str, overrides: list[dict[str, Any]], **more: Any) -> Any:
    """Ask for a fleet: Spot, price-capacity-optimized, one instance, unless *more* says
    otherwise.
    """
    count = more.pop("count", 1)
    kind = more.pop("kind", "spot")
    options = more.pop("options", {})
    strategy = {"spot": "price-capacity-optimized", "on-demand": "lowest-price"}.get(kind, "")
    request: dict[str, Any] = {
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": count,
            "DefaultTargetCapacityType": kind,
        },
        **more,
    }
    key = "SpotOptions" if kind == "spot" else "OnDemandOptions"
    if strategy:
        request[key] = {"AllocationStrategy": strategy, **options}
    return cloud.client("ec2").create_fleet(**request)


def states(cloud: Cloud, identity: str) -> list[str]:
    """Return the states that an instance went through."""
    return [
        entry["state"]
        for entry in cloud.timeline.entries()
        if entry["kind"] == "instance" and entry["id"] == identity
    ]


def test_a_fleet_takes_the_cheapest_pool_and_its_template(
    cloud: Cloud, ec2: Any, template: str, image: str
) -> None:
    """The cheapest type is launched with everything that template, override and request say."""
    user_data = base64.b64encode(b"hello").decode()
    answer = ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateName": "nodes",
                    "Version": "1",
                    "LaunchTemplateSpecificationUserData": user_data,
                },
                "Overrides": [
                    {"InstanceType": "p4d.24xlarge", "SubnetId": subnets(cloud)[0]},
                    {"InstanceType": "g6.xlarge", "SubnetId": subnets(cloud)[1]},
                ],
            }
        ],
        SpotOptions={"AllocationStrategy": "price-capacity-optimized"},
        TargetCapacitySpecification={
            "TotalTargetCapacity": 2,
            "DefaultTargetCapacityType": "spot",
        },
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "karpenter.sh/nodepool", "Value": "gpu"}]}
        ],
    )
    (entry,) = answer["Instances"]
    assert not answer["Errors"]
    assert (entry["InstanceType"], entry["Lifecycle"]) == ("g6.xlarge", "spot")
    assert len(entry["InstanceIds"]) == 2, "one entry a pool"
    assert entry["AvailabilityZone"] == "us-east-1b"
    found = ec2.describe_instances(InstanceIds=entry["InstanceIds"])["Reservations"][0]
    instance = found["Instances"][0]
    assert instance["State"]["Name"] == "pending"
    assert instance["InstanceLifecycle"] == "spot"
    assert instance["SubnetId"] == subnets(cloud)[1]
    assert instance["ImageId"] == image
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["IamInstanceProfile"]["Arn"].endswith("/outrider-local-node")
    assert {"Key": "karpenter.sh/nodepool", "Value": "gpu"} in instance["Tags"]
    assert cloud.network is not None
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [
        cloud.network.security_group
    ]
    assert instance["LaunchTime"] == START
    volume = ec2.describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}]
    )["Volumes"]
    assert [(one["Size"], one["VolumeType"]) for one in volume] == [(20, "gp3")]
    stored = ec2.describe_instance_attribute(
        InstanceId=instance["InstanceId"], Attribute="userData"
    )
    assert base64.b64decode(stored["UserData"]["Value"]) == b"hello"


def test_instances_take_their_time(cloud: Cloud, ec2: Any, template: str) -> None:
    """Pending becomes running, terminated comes after shutting-down, each with its event."""
    made = fleet(cloud, template, [{"InstanceType": "g6.xlarge", "SubnetId": subnets(cloud)[0]}])
    identity = made["Instances"][0]["InstanceIds"][0]
    cloud.run(10)
    ec2.terminate_instances(InstanceIds=[identity])
    ec2.terminate_instances(InstanceIds=[identity])
    cloud.run(10)
    assert states(cloud, identity) == ["pending", "running", "shutting-down", "terminated"]
    signals = [entry for entry in cloud.timeline.entries() if entry["kind"] == "signal"]
    assert [entry["instance"] for entry in signals] == [identity] * 4


def test_insufficient_capacity_comes_beside_what_was_launched(cloud: Cloud, template: str) -> None:
    """A pool without capacity is an entry in Errors, HTTP 200, and the next pool is used."""
    cloud.faults.set(
        {
            "insufficientCapacity": [
                {"instanceType": "g6.xlarge", "zone": "*", "capacityType": "spot", "available": 1}
            ]
        }
    )
    overrides = [
        {"InstanceType": name, "SubnetId": subnets(cloud)[0]} for name in ("g6.xlarge", "g5.xlarge")
    ]
    lowest = {"AllocationStrategy": "lowest-price"}
    answer = fleet(cloud, template, overrides, count=3, options=lowest)
    assert {one["InstanceType"]: len(one["InstanceIds"]) for one in answer["Instances"]} == {
        "g6.xlarge": 1,
        "g5.xlarge": 2,
    }
    (error,) = answer["Errors"]
    assert error["ErrorCode"] == "InsufficientInstanceCapacity"
    assert error["Lifecycle"] == "spot"
    assert error["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"] == "g6.xlarge"


def test_a_gang_is_launched_whole_or_not_at_all(cloud: Cloud, template: str) -> None:
    """MinTargetCapacity in one zone launches nothing where no zone holds all of it."""
    rule = {"instanceType": "g6.xlarge", "capacityType": "*", "available": 1}
    cloud.faults.set(
        {"insufficientCapacity": [{**rule, "zone": zone} for zone in ("us-east-1a", "us-east-1b")]}
    )
    options = {"SingleAvailabilityZone": True, "MinTargetCapacity": 3}
    overrides = [{"InstanceType": "g6.xlarge", "SubnetId": subnet} for subnet in subnets(cloud)[:2]]
    refused = fleet(cloud, template, overrides, count=3, options=options)
    assert not refused["Instances"]
    assert {one["ErrorCode"] for one in refused["Errors"]} == {"InsufficientInstanceCapacity"}
    overrides.append({"InstanceType": "g6.xlarge", "SubnetId": subnets(cloud)[2]})
    launched = fleet(cloud, template, overrides, count=3, options=options)
    assert [one["AvailabilityZone"] for one in launched["Instances"]] == ["us-east-1c"]


def test_a_client_token_replays_its_answer(cloud: Cloud, ec2: Any, template: str) -> None:
    """The same token launches once; with other parameters it is refused."""
    overrides = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(cloud)[0]}]
    first = fleet(cloud, template, overrides, ClientToken="t-1")
    second = fleet(cloud, template, overrides, ClientToken="t-1")
    assert first["Instances"] == second["Instances"]
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        fleet(cloud, template, overrides, ClientToken="t-1", count=2)
    assert len(ec2.describe_instances()["Reservations"]) == 1


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ({"InstanceType": "zz9.large"}, "InvalidInstanceType"),
        ({"InstanceType": "g6.xlarge", "ImageId": "ami-nowhere"}, "InvalidAMIID.NotFound"),
        (
            {
                "InstanceType": "g6.xlarge",
                "BlockDeviceMappings": [
                    {"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": "snap-gone"}}
                ],
            },
            "InvalidSnapshot.NotFound",
        ),
    ],
)
def test_what_does_not_exist_is_not_launched(
    cloud: Cloud, template: str, override: dict[str, Any], code: str
) -> None:
    """An unknown type, image or snapshot is an error of its pool."""
    answer = fleet(cloud, template, [{**override, "SubnetId": subnets(cloud)[0]}])
    assert not answer["Instances"]
    assert [one["ErrorCode"] for one in answer["Errors"]] == [code]


def test_a_dry_run_launches_nothing(cloud: Cloud, ec2: Any, template: str) -> None:
    """Success is an error called DryRunOperation."""
    overrides = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(cloud)[0]}]
    with pytest.raises(ClientError, match="DryRunOperation"):
        fleet(cloud, template, overrides, DryRun=True)
    assert not ec2.describe_instances()["Reservations"]


def test_a_snapshot_completes_in_time_and_seeds_a_volume(
    cloud: Cloud, ec2: Any, template: str
) -> None:
    """A snapshot is pending, then completed with an event; a volume may be made from it then."""
    volume = ec2.create_volume(Size=20, AvailabilityZone="us-east-1a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    override = {
        "InstanceType": "g6.xlarge",
        "SubnetId": subnets(cloud)[0],
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": snapshot}}],
    }
    shown = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert shown["State"] == "pending"
    assert fleet(cloud, template, [override])["Errors"][0]["ErrorCode"] == "IncorrectState"
    cloud.run(60)
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed"
    identity = fleet(cloud, template, [override])["Instances"][0]["InstanceIds"][0]
    instance = ec2.describe_instances(InstanceIds=[identity])["Reservations"][0]["Instances"][0]
    ids = [one["Ebs"]["VolumeId"] for one in instance["BlockDeviceMappings"]]
    volumes = ec2.describe_volumes(VolumeIds=ids)["Volumes"]
    assert sorted((one["Size"], one.get("SnapshotId", "")) for one in volumes) == [
        (20, ""),
        (20, snapshot),
    ]


def test_a_reservation_is_used_up_and_given_back(cloud: Cloud, ec2: Any, image: str) -> None:
    """Instances that target a reservation count against it until they end."""
    made = ec2.create_capacity_reservation(
        InstanceType="g6.xlarge",
        InstancePlatform="Linux/UNIX",
        AvailabilityZone="us-east-1a",
        InstanceCount=1,
        InstanceMatchCriteria="targeted",
    )["CapacityReservation"]
    identity = made["CapacityReservationId"]
    target = {"CapacityReservationTarget": {"CapacityReservationId": identity}}
    template = ec2.create_launch_template(
        LaunchTemplateName="reserved",
        LaunchTemplateData={"ImageId": image, "CapacityReservationSpecification": target},
    )["LaunchTemplate"]["LaunchTemplateId"]
    overrides = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(cloud)[0]}]

    def free() -> int:
        shown = ec2.describe_capacity_reservations(CapacityReservationIds=[identity])
        return int(shown["CapacityReservations"][0]["AvailableInstanceCount"])

    first = fleet(cloud, template, overrides, kind="on-demand")
    assert free() == 0
    second = fleet(cloud, template, overrides, kind="on-demand")
    assert second["Errors"][0]["ErrorCode"] == "ReservationCapacityExceeded"
    ec2.terminate_instances(InstanceIds=first["Instances"][0]["InstanceIds"])
    cloud.run(10)
    assert free() == 1


def test_run_instances_is_idempotent_and_takes_its_time(cloud: Cloud, ec2: Any, image: str) -> None:
    """A builder launched twice with one token is one instance, which can be stopped."""
    request = {
        "ImageId": image,
        "InstanceType": "c6i.xlarge",
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": subnets(cloud)[0],
        "ClientToken": "builder-1",
        "TagSpecifications": [
            {"ResourceType": "volume", "Tags": [{"Key": "outrider.dev/seed", "Value": "x"}]}
        ],
    }
    first = ec2.run_instances(**request)["Instances"][0]["InstanceId"]
    assert ec2.run_instances(**request)["Instances"][0]["InstanceId"] == first
    cloud.run(10)
    ec2.stop_instances(InstanceIds=[first])
    cloud.run(10)
    assert states(cloud, first) == ["pending", "running", "stopping", "stopped"]
    volume = ec2.describe_volumes()["Volumes"][0]
    assert {"Key": "outrider.dev/seed", "Value": "x"} in volume["Tags"]


def test_an_interruption_of_the_simulator_is_carried_out(cloud: Cloud, template: str) -> None:
    """Two minutes after its warning the instance goes; a client's warning only warns."""
    overrides = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(cloud)[0]}]
    ours = fleet(cloud, template, overrides)["Instances"][0]["InstanceIds"][0]
    other = fleet(cloud, template, overrides)["Instances"][0]["InstanceIds"][0]
    cloud.run(10)
    cloud.reclaim.interrupt(ours)
    warning = {"instance-id": other, "instance-action": "terminate"}
    cloud.put_event(
        {
            "source": "aws.ec2",
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "detail": warning,
        }
    )
    cloud.run(119)
    assert states(cloud, ours)[-1] == "running"
    cloud.run(10)
    assert states(cloud, ours)[-1] == "terminated"
    assert states(cloud, other)[-1] == "running"


def test_prices_are_plausible_and_always_the_same(cloud: Cloud, ec2: Any) -> None:
    """Spot costs a part of on-demand, differs by zone, and history repeats itself."""
    pricing = cloud.client("pricing")
    products = pricing.get_products(
        ServiceCode="AmazonEC2",
        Filters=[{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "g6.xlarge"}],
    )["PriceList"]
    (term,) = json.loads(products[0])["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    on_demand = float(dimension["pricePerUnit"]["USD"])
    assert 0.5 < on_demand < 1.5

    def history() -> list[tuple[str, float]]:
        rows = ec2.describe_spot_price_history(
            InstanceTypes=["g6.xlarge"], ProductDescriptions=["Linux/UNIX"], StartTime=START
        )["SpotPriceHistory"]
        return [(row["AvailabilityZone"], float(row["SpotPrice"])) for row in rows]

    prices = dict(history())
    assert set(prices) == {"us-east-1a", "us-east-1b", "us-east-1c"}
    assert len(set(prices.values())) == 3
    assert all(0.2 * on_demand < price < 0.6 * on_demand for price in prices.values())
    assert history() == history()


def test_public_images_exist_for_every_parameter(cloud: Cloud, ec2: Any) -> None:
    """Each published parameter names an image of its architecture."""
    ssm = cloud.client("ssm")
    root = "/aws/service/bottlerocket/aws-k8s-1.34-nvidia/arm64/latest/image_id"
    value = ssm.get_parameter(Name=root)["Parameter"]["Value"]
    (image,) = ec2.describe_images(ImageIds=[value])["Images"]
    assert image["Architecture"] == "arm64"
    assert image["RootDeviceName"] == "/dev/xvda"
    with pytest.raises(ClientError, match="ParameterNotFound"):
        ssm.get_parameter(Name=root.replace("1.34", "1.01"))
