"""A mocked AWS account, furnished as a small EKS cluster needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outrider.adapters.aws.session import Session
from outrider.apis import manifest
from outrider.apis.nodeclass import EC2NodeClass

TABLE = "outrider-LedgerTable"
ROLE = "outrider-test-node"
IMAGE = "ami-03cf127a"  # one of moto's own
TRUST = '{"Version":"2012-10-17","Statement":[]}'


@dataclass(frozen=True, slots=True)
class Account:
    """What was made in the account."""

    session: Session
    subnets: tuple[str, ...]
    group: str
    image: str
    role_arn: str


def make_table(session: Session) -> None:
    """Make the ledger's table as template.yaml has it."""
    session.client("dynamodb").create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
    )


def furnish(session: Session) -> Account:
    """Make a network, a role and a cluster through *session*."""
    ec2 = session.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    tag = [{"Key": "karpenter.sh/discovery", "Value": "test"}]
    subnets = tuple(
        ec2.create_subnet(
            VpcId=vpc,
            CidrBlock=f"10.0.{place}.0/24",
            AvailabilityZone=zone,
            TagSpecifications=[{"ResourceType": "subnet", "Tags": tag}],
        )["Subnet"]["SubnetId"]
        for place, zone in enumerate(("us-east-1a", "us-east-1b", "us-east-1c"))
    )
    group = ec2.create_security_group(
        GroupName="nodes",
        Description="nodes",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tag}],
    )["GroupId"]
    role = session.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=TRUST)
    session.client("eks").create_cluster(
        name="test",
        version="1.33",
        roleArn=role["Role"]["Arn"],
        resourcesVpcConfig={"subnetIds": list(subnets)},
        kubernetesNetworkConfig={"serviceIpv4Cidr": "172.20.0.0/16"},
    )
    return Account(session, subnets, group, IMAGE, role["Role"]["Arn"])


def node_class(name: str = "gpu", **spec: Any) -> EC2NodeClass:
    """Return an EC2NodeClass that selects by the discovery tag; *spec* overrides."""
    discovery = [{"tags": {"karpenter.sh/discovery": "test"}}]
    document = {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": name, "generation": 1},
        "spec": {
            "role": ROLE,
            "subnetSelectorTerms": discovery,
            "securityGroupSelectorTerms": discovery,
            "amiSelectorTerms": [{"alias": "al2023@latest"}],
            **spec,
        },
    }
    parsed = manifest.parse(document)
    assert isinstance(parsed, EC2NodeClass)
    return parsed
