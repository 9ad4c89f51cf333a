"""The account before the stack is deployed: network, node role, and who a caller is.

A VPC with a subnet in each of three zones and a security group, tagged for discovery; the node role
with its instance profile. Answers the identity and CloudFormation reads, and Lambda's Invoke.
Refuses to know what the stack holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.functions import Registry, TooManyRequests
from outrider.local.market import ZONES
from outrider.local.region import ACCOUNT, REGION
from outrider.local.stack import Stack
from outrider.local.wire import Call, Refused

NODE_ROLE = "outrider-local-node"
NODE_ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{NODE_ROLE}"
NODE_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonEKS_CNI_Policy",
)
SPOT_ROLE = "AWSServiceRoleForEC2Spot"
# What a client on this machine signs with; any key that no function has is an administrator.
ADMIN_KEY = "AKIALOCALADMINISTRAT"


@dataclass(frozen=True, slots=True)
class Network:
    """The ids of the cluster's network."""

    vpc: str
    subnets: tuple[str, ...]
    security_group: str


def furnish(client: Callable[[str], Any], cluster: str) -> Network:
    """Make the network and the node role of *cluster*."""
    ec2 = client("ec2")
    discovery = {"Key": "karpenter.sh/discovery", "Value": cluster}
    owned = {"Key": f"kubernetes.io/cluster/{cluster}", "Value": "shared"}

    def tagged(kind: str, name: str) -> list[dict[str, Any]]:
        name_tag = {"Key": "Name", "Value": name}
        return [{"ResourceType": kind, "Tags": [name_tag, owned, discovery]}]

    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tagged("vpc", cluster))
    vpc_id = vpc["Vpc"]["VpcId"]
    subnets = []
    for index, zone in enumerate(ZONES):
        made = ec2.create_subnet(
            VpcId=vpc_id,
            CidrBlock=f"10.0.{index * 32}.0/19",
            AvailabilityZone=zone,
            TagSpecifications=tagged("subnet", f"{cluster}-{zone}"),
        )
        subnets.append(made["Subnet"]["SubnetId"])
    group = ec2.create_security_group(
        GroupName=f"{cluster}-nodes",
        Description=f"Nodes of {cluster}",
        VpcId=vpc_id,
        TagSpecifications=tagged("security-group", f"{cluster}-nodes"),
    )["GroupId"]
    _node_role(client("iam"))
    _spot_role(client("iam"))
    return Network(vpc_id, tuple(subnets), group)


def _node_role(iam: Any) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ec2.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    iam.create_role(RoleName=NODE_ROLE, AssumeRolePolicyDocument=json.dumps(trust))
    iam.create_instance_profile(InstanceProfileName=NODE_ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=NODE_ROLE, RoleName=NODE_ROLE)
    anything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [anything]})
    for name in NODE_POLICIES:  # AWS' own by name; nothing here evaluates them
        made = iam.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]
        iam.attach_role_policy(RoleName=NODE_ROLE, PolicyArn=made["Arn"])


def _spot_role(iam: Any) -> None:
    """Make the service-linked role that an account has since its first Spot request."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "spot.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    iam.create_role(
        RoleName=SPOT_ROLE,
        Path="/aws-service-role/spot.amazonaws.com/",
        AssumeRolePolicyDocument=json.dumps(trust),
    )


@dataclass(slots=True)
class Desk:
    """The reads about who calls and what is deployed, and Invoke."""

    endpoint: Endpoint
    clock: Clock
    functions: Registry
    stack: Stack | None = None

    def install(self) -> None:
        """Answer them."""
        serve = self.endpoint.serve
        serve("sts:GetCallerIdentity", self._identity)
        serve("cloudformation:DescribeStacks", self._stacks)
        serve("cloudformation:DescribeStackResources", self._resources)
        serve("cloudformation:ListStackResources", self._resource_summaries)
        serve("lambda:Invoke", self._invoke)

    def role_of(self, access_key: str) -> str | None:
        """Return the role that signs with *access_key*: a function's."""
        for function in self.functions.functions.values():
            if function.access_key == access_key:
                return function.role
        return None

    def _identity(self, _wanted: dict[str, Any], call: Call) -> dict[str, Any]:
        role = self.role_of(call.access_key)
        if role is None:
            arn = f"arn:aws:iam::{ACCOUNT}:user/administrator"
            return {"UserId": "AIDALOCALADMINISTRAT", "Account": ACCOUNT, "Arn": arn}
        name = role.rpartition("/")[2]
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/local"
        return {"UserId": "AROALOCAL:local", "Account": ACCOUNT, "Arn": arn}

    def _deployed(self, wanted: dict[str, Any]) -> Stack:
        name = str(wanted.get("StackName") or "")
        if self.stack is None or (name and self.stack.name not in [*name.split("/")[-2:], name]):
            raise Refused("ValidationError", f"Stack with id {name} does not exist")
        return self.stack

    def _stacks(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        stack = self._deployed(wanted)
        return {
            "Stacks": [
                {
                    "StackId": _stack_id(stack),
                    "StackName": stack.name,
                    "CreationTime": self.clock.now(),
                    "StackStatus": "CREATE_COMPLETE",
                    "Capabilities": ["CAPABILITY_IAM"],
                    "Parameters": [
                        {"ParameterKey": key, "ParameterValue": str(value)}
                        for key, value in stack.parameters.items()
                    ],
                    "Outputs": [
                        {"OutputKey": key, "OutputValue": value}
                        for key, value in stack.outputs.items()
                    ],
                    "Tags": [],
                }
            ]
        }

    def _rows(self, stack: Stack) -> list[dict[str, Any]]:
        return [
            {
                "LogicalResourceId": logical_id,
                "PhysicalResourceId": made.physical_id,
                "ResourceType": stack.template.resources[logical_id]["Type"],
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for logical_id, made in stack.made.items()
        ]

    def _resources(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        stack = self._deployed(wanted)
        now = self.clock.now()
        chosen = wanted.get("LogicalResourceId")
        return {
            "StackResources": [
                {**row, "StackName": stack.name, "StackId": _stack_id(stack), "Timestamp": now}
                for row in self._rows(stack)
                if chosen in (None, row["LogicalResourceId"])
            ]
        }

    def _resource_summaries(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        stack = self._deployed(wanted)
        now = self.clock.now()
        rows = self._rows(stack)
        return {"StackResourceSummaries": [{**row, "LastUpdatedTimestamp": now} for row in rows]}

    def _invoke(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        function = self.functions.find(wanted["FunctionName"])
        if function is None:
            raise Refused(
                "ResourceNotFoundException", f"Function not found: {wanted['FunctionName']}"
            )
        raw = wanted.get("Payload") or b"{}"
        try:
            payload = json.loads(raw)
        except ValueError as error:
            raise Refused("InvalidRequestContentException", str(error)) from error
        if wanted.get("InvocationType") == "DryRun":
            return {"StatusCode": 204}
        if wanted.get("InvocationType") == "Event":
            self.functions.invoke_later(function, payload)
            return {"StatusCode": 202, "Payload": b""}
        try:
            outcome = self.functions.invoke(function, payload)
        except TooManyRequests as error:
            raise Refused("TooManyRequestsException", "Rate Exceeded.") from error
        answer: dict[str, Any] = {"StatusCode": 200, "ExecutedVersion": "1"}
        if outcome.error is not None:
            return {
                **answer,
                "FunctionError": "Unhandled",
                "Payload": json.dumps(outcome.error).encode(),
            }
        return {**answer, "Payload": json.dumps(outcome.payload).encode()}


def _stack_id(stack: Stack) -> str:
    return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack.name}/local"
