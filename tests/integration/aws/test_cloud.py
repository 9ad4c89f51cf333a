"""The account as the flows ask about it, on moto in process."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.cloud import Cloud
from outrider.adapters.aws.ekstoken import EksToken
from outrider.apis import labels
from outrider.core.launch import readiness, tags
from outrider.core.launch.template import TemplateRequest
from outrider.errors import CapacityError, CloudError, Denied, NotFound, Throttled
from tests.integration.aws.conftest import Clock
from tests.support.account import ROLE, Account, node_class

pytestmark = pytest.mark.integration
OWNER = tags.owned_by("test", "outrider")


def _call(account: Account, count: int = 1, kind: str = "spot") -> dict[str, Any]:
    overrides = [
        {
            "InstanceType": "g6.xlarge",
            "SubnetId": subnet,
            "AvailabilityZone": zone,
            "ImageId": account.image,
        }
        for subnet, zone in zip(account.subnets, ("us-east-1a", "us-east-1b"), strict=False)
    ]
    return {
        "ClientToken": "t",
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": "lt-1", "Version": "1"},
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": count,
            "DefaultTargetCapacityType": kind,
        },
        "TagSpecifications": tags.specifications(("instance",), {**OWNER, labels.NODEPOOL: "gpu"}),
    }


def _template() -> TemplateRequest:
    return TemplateRequest("lt-1", {"MetadataOptions": {"HttpTokens": "required"}}, OWNER)


def test_a_class_is_resolved(cloud: Cloud, account: Account, clock: Clock) -> None:
    """Subnets, groups and a profile for the role are found; a missing AMI is said by its terms."""
    found = cloud.resolve(node_class())
    assert {subnet.id for subnet in found.subnets} == set(account.subnets)
    assert found.security_groups == ((account.group, "nodes"),)
    assert found.instance_profile == f"outrider-test-{ROLE}"
    assert found.role_arn == account.role_arn
    status = readiness.status(node_class(), found, [account.role_arn], clock.now())
    said = {entry["type"]: entry for entry in status["conditions"]}
    assert said["Ready"]["status"] == "False"
    assert "al2023@latest" in said["AMIsReady"]["message"]


def test_a_named_image_is_found(cloud: Cloud, account: Account, clock: Clock) -> None:
    """An AMI by id makes the class ready."""
    wanted = node_class(amiFamily="AL2023", amiSelectorTerms=[{"id": account.image}])
    found = cloud.resolve(wanted)
    assert [image["id"] for image in found.amis] == [account.image]
    status = readiness.status(wanted, found, [account.role_arn], clock.now())
    assert {entry["status"] for entry in status["conditions"]} == {"True"}


def test_a_foreign_role_is_refused(cloud: Cloud, account: Account, clock: Clock) -> None:
    """A role outside NodeRoleArns makes the class NotReady and says so."""
    wanted = node_class(amiFamily="AL2023", amiSelectorTerms=[{"id": account.image}])
    arns = ["arn:aws:iam::123456789012:role/other"]
    status = readiness.status(wanted, cloud.resolve(wanted), arns, clock.now())
    ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
    assert ready["status"] == "False"
    assert "NodeRoleArns" in ready["message"]


def test_instances_come_and_go(cloud: Cloud, account: Account) -> None:
    """A fleet's instances are ours by tag, found by id, named, and gone once terminated."""
    cloud.ensure_template(_template())
    result = cloud.create_fleet(_call(account, 2))
    assert len(result.instances) == 2
    assert {one.capacity_type for one in result.instances} == {"spot"}
    assert {one.zone for one in result.instances} == {"us-east-1a"}
    ids = [one.id for one in result.instances]
    assert {one.id for one in cloud.instances()} == set(ids)
    assert [one.id for one in cloud.instances([ids[0], "i-0123456789abcdef0"])] == [ids[0]]
    cloud.name_instance(ids[0], "gpu-1")
    assert cloud.instances([ids[0]])[0].tags[labels.NODECLAIM_TAG] == "gpu-1"
    cloud.terminate([*ids, "i-0123456789abcdef0"])
    assert cloud.instances() == ()


def test_others_instances_are_not_ours(cloud: Cloud, account: Account) -> None:
    """Instances of another cluster are not seen."""
    cloud.ensure_template(_template())
    call = _call(account)
    call["TagSpecifications"] = tags.specifications(
        ("instance",), tags.owned_by("other", "outrider")
    )
    cloud.create_fleet(call)
    assert cloud.instances() == ()


def test_templates_are_made_once(cloud: Cloud, account: Account, clock: Clock) -> None:
    """Two sandboxes that make the same template both have it."""
    first = cloud.ensure_template(_template())
    again = Cloud(account.session, "test", "outrider", clock.now).ensure_template(_template())
    assert first == again


@pytest.fixture
def refused(account: Account) -> Iterator[list[ClientError]]:
    """Return a list of errors that the next EC2 calls get."""
    waiting: list[ClientError] = []

    def refuse(**_event: Any) -> None:
        if waiting:
            raise waiting.pop(0)

    events = account.session.client("ec2").meta.events
    events.register("before-call.ec2", refuse)
    yield waiting
    events.unregister("before-call.ec2", refuse)


def _error(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateFleet")


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("InsufficientInstanceCapacity", "offering"),
        ("InsufficientFreeAddressesInSubnet", "subnet"),
        ("VcpuLimitExceeded", "account"),
    ],
)
def test_no_capacity_is_a_result(
    cloud: Cloud, account: Account, refused: list[ClientError], code: str, scope: str
) -> None:
    """A capacity error of the whole call is an answer without instances, classed by its scope."""
    refused.append(_error(code))
    result = cloud.create_fleet(_call(account))
    assert result.instances == ()
    assert [(error.code, error.scope) for error in result.errors] == [(code, scope)]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("RequestLimitExceeded", Throttled),
        ("MaxFleetCountExceeded", Throttled),
        ("UnauthorizedOperation", Denied),
        ("InvalidLaunchTemplateName.NotFoundException", NotFound),
        ("InternalError", CloudError),
    ],
)
def test_other_errors_are_raised(
    cloud: Cloud, account: Account, refused: list[ClientError], code: str, kind: type[CloudError]
) -> None:
    """What is not about capacity is raised as its class, with AWS's own code."""
    refused.append(_error(code))
    with pytest.raises(kind) as caught:
        cloud.create_fleet(_call(account))
    assert type(caught.value) is kind
    assert caught.value.code == code


def test_prefix_shortage_is_the_subnets() -> None:
    """The one code that needs its message: no free prefixes means the subnet, not the request."""
    message = "There aren't sufficient free Ipv4 addresses or prefixes"
    assert errors.scope("InvalidParameterValue", message) == "subnet"
    assert errors.scope("InvalidParameterValue", "bad") == "request"
    raised = errors.translated(_error("InvalidParameterValue", message), "CreateFleet")
    assert isinstance(raised, CapacityError)


def test_the_catalogue_of_some_zones(cloud: Cloud, clock: Clock) -> None:
    """Facts and prices of the zones asked for, and of no other."""
    catalog = cloud.catalog_facts(["us-east-1a", "us-east-1b"], (), clock.now())
    kind = catalog.get("g6.xlarge")
    assert kind is not None
    assert kind.ec2 is not None
    assert {offering.zone for offering in kind.offerings} <= {"us-east-1a", "us-east-1b"}
    on_demand = [one for one in kind.offerings if one.capacity_type == "on-demand"]
    assert on_demand[0].price_per_hour == pytest.approx(0.8048)
    assert on_demand[0].zone_id == "use1-az6"


def test_snapshots_are_made_once(cloud: Cloud, account: Account) -> None:
    """A volume is snapshotted once a seed, whoever asks again."""
    volume = account.session.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=20)
    marks = tags.of_seed("test", "outrider", "k", "2026-03-02T16:00:00Z")
    first = cloud.create_snapshot(volume["VolumeId"], "seed", marks)
    assert cloud.create_snapshot(volume["VolumeId"], "seed", marks) == first
    assert [one["id"] for one in cloud.snapshots({labels.SEED: "k"})] == [first]
    assert cloud.delete_snapshot(first)
    assert cloud.delete_snapshot(first)
    assert cloud.snapshots({labels.SEED: "k"}) == ()


def test_an_image_in_ecr_is_measured(cloud: Cloud, account: Account) -> None:
    """Digest and size come from the manifest; of one that is not there it is said what is not."""
    ecr = account.session.client("ecr")
    ecr.create_repository(repositoryName="ml/trainer")
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"size": 7, "digest": "sha256:" + "1" * 64, "mediaType": "x"},
        "layers": [{"size": 9_000_000_000, "digest": "sha256:" + "2" * 64, "mediaType": "x"}],
    }
    ecr.put_image(repositoryName="ml/trainer", imageManifest=json.dumps(document), imageTag="v42")
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    found = cloud.image(f"{host}/ml/trainer:v42")
    assert found.compressed_bytes == 9_000_000_000
    assert found.digest.startswith("sha256:")
    with pytest.raises(NotFound, match="no image ml/trainer:v43"):
        cloud.image(f"{host}/ml/trainer:v43")
    with pytest.raises(NotFound, match="no repository ml/other"):
        cloud.image(f"{host}/ml/other:v1")


def test_an_index_is_followed(cloud: Cloud, account: Account) -> None:
    """An index has the architectures of its children and the size of the largest."""
    ecr = account.session.client("ecr")
    ecr.create_repository(repositoryName="ml/multi")
    children = []
    for place, arch in enumerate(("amd64", "arm64", "s390x"), 1):
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"size": 7, "digest": f"sha256:{place}" + "a" * 63, "mediaType": "x"},
            "layers": [
                {"size": place * 10**9, "digest": f"sha256:{place}" + "b" * 63, "mediaType": "x"}
            ],
        }
        put = ecr.put_image(repositoryName="ml/multi", imageManifest=json.dumps(document))
        children.append(
            {
                "mediaType": document["mediaType"],
                "digest": put["image"]["imageId"]["imageDigest"],
                "size": 1,
                "platform": {"architecture": arch, "os": "linux"},
            }
        )
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": children,
    }
    ecr.put_image(repositoryName="ml/multi", imageManifest=json.dumps(index), imageTag="v1")
    found = cloud.image("123456789012.dkr.ecr.us-east-1.amazonaws.com/ml/multi:v1")
    assert found.architectures == ("amd64", "arm64")
    assert found.compressed_bytes == 2 * 10**9


def test_the_cluster_is_described(cloud: Cloud) -> None:
    """What user data needs comes from DescribeCluster."""
    identity = cloud.cluster()
    assert identity.service_cidr == "172.20.0.0/16"
    assert identity.dns_ip == "172.20.0.10"
    assert identity.version == "1.33"
    assert identity.endpoint.startswith("https://")


def test_a_token_is_a_signed_url(account: Account, clock: Clock) -> None:
    """An EKS token holds a presigned GetCallerIdentity for the cluster, renewed when it is old."""
    token = EksToken(account.session, "test", clock.now)
    first = token()
    assert first.startswith("k8s-aws-v1.")
    body = first.removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    assert url.startswith("https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity")
    assert "x-k8s-aws-id" in url
    assert token() == first


def test_resolving_twice_makes_one_profile(cloud: Cloud, account: Account) -> None:
    """The instance profile for a role is made once."""
    assert cloud.resolve(node_class()) == cloud.resolve(replace(node_class()))
    profiles = account.session.client("iam").list_instance_profiles()["InstanceProfiles"]
    assert len(profiles) == 1
