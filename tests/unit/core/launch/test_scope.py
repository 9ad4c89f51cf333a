"""What is in scope and what is refused: each row of the table in docs/faq.md, checked."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator

from outrider.adapters.aws.prices import _product
from outrider.adapters.aws.session import Session
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.launch import readiness
from outrider.core.launch.bootstrap import ClusterIdentity
from outrider.core.launch.fleet import FleetRequest, Subnet, requests
from outrider.core.launch.readiness import Found
from tests.support.launches import CLUSTER, around, choices, launch, nodeclass, orders

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
EC2 = botocore.session.get_session().get_service_model("ec2")
USUAL = (Subnet("subnet-a", "us-east-1a"), Subnet("subnet-b", "us-east-1b"))
IPV6 = replace(CLUSTER, service_cidr="fd30:1c53:5f8a::/108", ip_family="ipv6")
OUTPOST = "arn:aws-us-gov:outposts:us-gov-west-1:111122223333:outpost/op-0ab23c4567EXAMPLE"


def told(node_class: EC2NodeClass, *subnets: Subnet) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message of each condition of *node_class* with *subnets*."""
    found = Found(
        subnets=subnets or USUAL,
        security_groups=(("sg-1", "nodes"),),
        amis=({"id": "ami-1", "requirements": []},),
        instance_profile="p",
    )
    status = readiness.status(node_class, found, (), NOW)
    return {
        one["type"]: (one["status"], one["reason"], one["message"]) for one in status["conditions"]
    }


def launched(cluster: ClusterIdentity, **spec: Any) -> FleetRequest:
    """Return the fleet request for a GPU node in *cluster*."""
    wanted = orders(launch(choices=choices("g6.xlarge")))
    (request,) = requests(wanted, replace(around(nodeclass(**spec)), cluster=cluster)).requests
    return request


@pytest.mark.parametrize(
    "spec",
    [
        {"amiSelectorTerms": [{"alias": "al2023@latest"}]},
        {"amiSelectorTerms": [{"alias": "bottlerocket@latest"}]},
        {"amiFamily": "AL2023", "amiSelectorTerms": [{"id": "ami-12345678"}]},
        {"amiFamily": "Bottlerocket", "amiSelectorTerms": [{"name": "mine"}]},
        {
            "amiFamily": "Custom",
            "amiSelectorTerms": [{"tags": {"team": "ml"}}],
            "userData": "#!/bin/sh",
        },
    ],
    ids=["al2023", "bottlerocket", "al2023-own-ami", "bottlerocket-own-ami", "custom"],
)
def test_a_family_that_is_spoken_is_ready(spec: dict[str, Any]) -> None:
    """AL2023, Bottlerocket, and images of one's own in either dialect or none."""
    assert told(nodeclass(**spec))["Ready"][0] == "True"


@pytest.mark.parametrize("alias", ["al2", "windows2019", "windows2022", "windows2025"])
def test_a_family_that_is_not_spoken_is_refused(alias: str) -> None:
    """Ready is False, and the message names what may be used instead."""
    conditions = told(nodeclass(amiSelectorTerms=[{"alias": f"{alias}@latest"}]))
    status, reason, message = conditions["ValidationSucceeded"]
    assert (status, reason) == ("False", "Unsupported")
    assert "use one of AL2023, Bottlerocket, Custom" in message
    assert conditions["Ready"][0] == "False"
    assert message in conditions["Ready"][2]


@pytest.mark.parametrize(
    ("subnet", "said"),
    [
        (
            Subnet("subnet-o", "us-gov-west-1a", outpost=OUTPOST),
            "on the Outpost op-0ab23c4567EXAMPLE",
        ),
        (Subnet("subnet-l", "us-east-1-bos-1a"), "us-east-1-bos-1a, a Local or Wavelength Zone"),
        (Subnet("subnet-w", "us-east-1-wl1-bos-wlz-1"), "a Local or Wavelength Zone"),
    ],
    ids=["outpost", "local-zone", "wavelength-zone"],
)
def test_a_subnet_elsewhere_is_refused(subnet: Subnet, said: str) -> None:
    """Also one among many: a launch that lands there by chance would be worse than none."""
    conditions = told(nodeclass(), *USUAL, subnet)
    status, reason, message = conditions["SubnetsReady"]
    assert (status, reason) == ("False", "Unsupported")
    assert said in message
    assert subnet.id in message
    assert "subnetSelectorTerms" in message
    assert conditions["Ready"][:1] == ("False",)
    assert not any(one.id in message for one in USUAL)


@pytest.mark.parametrize(
    "zone",
    ["us-east-1a", "ap-southeast-2c", "us-gov-west-1b", "cn-northwest-1a", "us-isob-east-1a"],
)
def test_every_partition_has_availability_zones(zone: str) -> None:
    """Their names are those of their regions and a letter."""
    assert told(nodeclass(), Subnet("subnet-a", zone))["Ready"][0] == "True"


def test_a_node_of_ipv6_has_its_address_first() -> None:
    """One IPv6 address that stays the interface's first, groups on the interface, and a request
    that EC2's own model accepts.
    """
    data = launched(IPV6).templates[0].data
    (interface,) = data["NetworkInterfaces"]
    assert interface == {
        "DeviceIndex": 0,
        "Groups": ["sg-1"],
        "DeleteOnTermination": True,
        "PrimaryIpv6": True,
        "Ipv6AddressCount": 1,
    }
    assert "SecurityGroupIds" not in data
    call = {"LaunchTemplateName": "n", "LaunchTemplateData": data}
    shape = EC2.operation_model("CreateLaunchTemplate").input_shape
    assert not ParamValidator().validate(call, shape).has_errors()


def test_prefixes_are_of_the_clusters_family() -> None:
    """`ipPrefixCount` means IPv6 prefixes in a cluster of IPv6."""
    six = launched(IPV6, ipPrefixCount=2).templates[0].data["NetworkInterfaces"][0]
    four = launched(CLUSTER, ipPrefixCount=2).templates[0].data["NetworkInterfaces"][0]
    assert (six["Ipv6PrefixCount"], "Ipv4PrefixCount" in six) == (2, False)
    assert (four["Ipv4PrefixCount"], "Ipv6PrefixCount" in four) == (2, False)


def test_efa_only_interfaces_take_no_address_of_either_family() -> None:
    """EC2 refuses them with one."""
    wanted = launch(
        choices=choices("p5.48xlarge"), requests={"vpc.amazonaws.com/efa": 32}, max_pods={}
    )
    (request,) = requests(orders(wanted), replace(around(), cluster=IPV6)).requests
    first, *others = request.templates[0].data["NetworkInterfaces"]
    assert first["PrimaryIpv6"] is True
    assert not [one for one in others if {"PrimaryIpv6", "Ipv6AddressCount"} & one.keys()]


def test_nodes_of_ipv4_are_launched_as_before() -> None:
    """Nothing is spelled out that need not be."""
    assert "NetworkInterfaces" not in launched(CLUSTER).templates[0].data


def test_a_node_of_ipv6_is_told_its_services() -> None:
    """nodeadm gets the IPv6 range, and pods the tenth address of it."""
    (config,) = launched(IPV6).to_json()["LaunchTemplateConfigs"]
    specification = config["LaunchTemplateSpecification"]
    text = base64.b64decode(specification["LaunchTemplateSpecificationUserData"]).decode()
    assert '"cidr": "fd30:1c53:5f8a::/108"' in text
    assert '"fd30:1c53:5f8a::a"' in text


@pytest.mark.parametrize(
    ("region", "asked"),
    [
        ("eu-central-1", "https://api.pricing.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "https://api.pricing.us-east-1.amazonaws.com"),
        ("cn-north-1", "https://api.pricing.cn-northwest-1.amazonaws.com.cn"),
    ],
)
def test_prices_are_asked_in_the_partition(
    region: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """China has a Pricing API of its own; what GovCloud cannot reach comes from the price book."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert Session(region).pricing().meta.endpoint_url == asked


@pytest.mark.parametrize("currency", ["USD", "CNY"])
def test_a_price_is_of_its_partitions_currency(currency: str) -> None:
    """On-demand and Spot of a partition are compared in the same one."""
    dimension = {"unit": "Hrs", "pricePerUnit": {currency: "8.5"}}
    product = {
        "product": {"attributes": {"instanceType": "g4dn.xlarge"}},
        "terms": {"OnDemand": {"t": {"priceDimensions": {"d": dimension}}}},
    }
    assert _product(product) == ("g4dn.xlarge", 8.5)


def test_the_sdk_knows_the_partitions() -> None:
    """What `AWS::Partition` is in the template, the session finds by its region."""
    known = {"us-east-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov"}
    session = boto3.session.Session()
    assert {region: session.get_partition_for_region(region) for region in known} == known
