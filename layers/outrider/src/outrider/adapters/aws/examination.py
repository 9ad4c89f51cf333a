"""What the doctor asks of an account: one read a question, nothing written, answers as facts.

Each question stands alone, so that a caller who may not ask one gets the others. IAM, EKS, EC2,
Lambda, Service Quotas, EventBridge and SQS are asked as whoever runs the command, never as a
function. Refuses to judge (`core.doctor`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

import orjson
from botocore.exceptions import ClientError

from outrider.adapters.aws import errors, network, stacks
from outrider.adapters.aws.session import Session
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.doctor import capacity
from outrider.core.doctor.facts import AccessEntry, ControlPlane, Installed, NodeRole, SubnetFacts

Json = Mapping[str, Any]

SPOT_ROLE = "AWSServiceRoleForEC2Spot"
FUNCTION_ROLE = "FunctionRole"
STRANGERS = frozenset({"Webhook"})  # functions that have no business in the cluster
EC2_SERVICE = "ec2.amazonaws.com"


class Examination:
    """One account, as the doctor reads it over *session*."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- who and what -----------------------------------------------------------------------------

    def time(self) -> datetime | None:
        """Return AWS' time, as an answer of STS is dated; None where it is not."""
        with errors.speaking("GetCallerIdentity"):
            answer = self._session.client("sts").get_caller_identity()
        said = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date", "")
        try:
            return parsedate_to_datetime(said).astimezone(UTC) if said else None
        except ValueError:
            return None

    def stack(self, name: str, cluster: str) -> Installed:
        """Return the stack, with the roles of those functions that enter the cluster."""
        found = stacks.find(self._session, name, cluster)
        roles = {
            logical_id.removesuffix(FUNCTION_ROLE).lower(): physical_id
            for logical_id, kind, physical_id in stacks.resources(self._session, found.name)
            if kind == "AWS::IAM::Role"
            and logical_id.endswith(FUNCTION_ROLE)
            and logical_id.removesuffix(FUNCTION_ROLE) not in STRANGERS
        }
        return Installed(found.name, found.status, found.parameters, found.outputs, roles)

    def control_plane(self, cluster: str) -> ControlPlane:
        """Return the EKS cluster."""
        with errors.speaking("DescribeCluster"):
            found = self._session.client("eks").describe_cluster(name=cluster)["cluster"]
        access = found.get("resourcesVpcConfig", {})
        issues = found.get("health", {}).get("issues", ())
        return ControlPlane(
            status=str(found.get("status", "")),
            version=str(found.get("version", "")),
            authentication_mode=str(
                found.get("accessConfig", {}).get("authenticationMode", "CONFIG_MAP")
            ),
            public=bool(access.get("endpointPublicAccess")),
            private=bool(access.get("endpointPrivateAccess")),
            public_cidrs=tuple(access.get("publicAccessCidrs", ())),
            auto_mode=bool(found.get("computeConfig", {}).get("enabled")),
            issues=tuple(f"{one.get('code')}: {one.get('message')}" for one in issues),
        )

    def entries(self, cluster: str) -> tuple[AccessEntry, ...]:
        """Return every access entry of *cluster*."""
        client = self._session.client("eks")
        with errors.speaking("ListAccessEntries"):
            pages = client.get_paginator("list_access_entries").paginate(clusterName=cluster)
            principals = [one for page in pages for one in page["accessEntries"]]
        found = []
        for principal in principals:
            with errors.speaking("DescribeAccessEntry"):
                answer = client.describe_access_entry(clusterName=cluster, principalArn=principal)
            entry = answer["accessEntry"]
            groups = tuple(entry.get("kubernetesGroups", ()))
            found.append(AccessEntry(principal, str(entry.get("type", "")), groups))
        return tuple(found)

    # --- IAM --------------------------------------------------------------------------------------

    def node_role(self, arn: str) -> NodeRole:
        """Return the role *arn*: whether it exists, who may take it, what is attached to it."""
        client, name = self._session.client("iam"), arn.rpartition("/")[2]
        try:
            role = client.get_role(RoleName=name)["Role"]
        except ClientError as error:
            if errors.code_of(error) in errors.NOT_FOUND:
                return NodeRole(arn, exists=False)
            raise errors.translated(error, "GetRole") from error
        with errors.speaking("ListAttachedRolePolicies"):
            pages = client.get_paginator("list_attached_role_policies").paginate(RoleName=name)
            policies = {one["PolicyName"] for page in pages for one in page["AttachedPolicies"]}
        trusts = _trusts(role.get("AssumeRolePolicyDocument", {}), EC2_SERVICE)
        return NodeRole(arn, exists=True, trusts_ec2=trusts, policies=frozenset(policies))

    def spot_role(self) -> bool:
        """Return whether the account has Spot's service-linked role."""
        try:
            self._session.client("iam").get_role(RoleName=SPOT_ROLE)
        except ClientError as error:
            if errors.code_of(error) in errors.NOT_FOUND:
                return False
            raise errors.translated(error, "GetRole") from error
        return True

    # --- limits -----------------------------------------------------------------------------------

    def quotas(self) -> Mapping[str, float]:
        """Return the vCPU quotas of EC2 by code; those that a region does not have are left out."""
        client = self._session.client("service-quotas")
        found = {}
        for code in capacity.CODES:
            try:
                answer = client.get_service_quota(ServiceCode="ec2", QuotaCode=code)
            except ClientError as error:
                if errors.code_of(error) == "NoSuchResourceException":
                    continue
                raise errors.translated(error, "GetServiceQuota") from error
            found[code] = float(answer["Quota"]["Value"])
        return found

    def concurrency(self) -> tuple[int, int]:
        """Return the account's concurrent executions, and how many of them are not reserved."""
        with errors.speaking("GetAccountSettings"):
            limits = self._session.client("lambda").get_account_settings()["AccountLimit"]
        return int(limits["ConcurrentExecutions"]), int(limits["UnreservedConcurrentExecutions"])

    # --- the network ------------------------------------------------------------------------------

    def subnets(self, node_class: EC2NodeClass) -> tuple[SubnetFacts, ...]:
        """Return the subnets that *node_class* selects, with their free addresses and blocks."""
        ids = [
            one.id for one in network.subnets(self._session, node_class.spec.subnet_selector_terms)
        ]
        if not ids:
            return ()
        client = self._session.client("ec2")
        with errors.speaking("DescribeSubnets"):
            pages = client.get_paginator("describe_subnets").paginate(SubnetIds=ids)
            entries = [entry for page in pages for entry in page["Subnets"]]
        taken, prefixes = self._taken(ids)
        return tuple(
            SubnetFacts(
                id=str(entry["SubnetId"]),
                zone=str(entry["AvailabilityZone"]),
                free_addresses=int(entry.get("AvailableIpAddressCount", 0)),
                free_blocks=capacity.free_blocks(
                    str(entry["CidrBlock"]),
                    taken.get(entry["SubnetId"], ()),
                    prefixes.get(entry["SubnetId"], ()),
                ),
            )
            for entry in entries
        )

    def security_groups(self, node_class: EC2NodeClass) -> tuple[str, ...]:
        """Return the ids of the security groups that *node_class* selects."""
        terms = node_class.spec.security_group_selector_terms
        return tuple(one for one, _ in network.security_groups(self._session, terms))

    def _taken(self, ids: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return the addresses, and the prefixes, that interfaces hold, by subnet."""
        taken: dict[str, list[str]] = {}
        prefixes: dict[str, list[str]] = {}
        with errors.speaking("DescribeNetworkInterfaces"):
            pages = self._session.client("ec2").get_paginator("describe_network_interfaces")
            filters = [{"Name": "subnet-id", "Values": sorted(ids)}]
            for page in pages.paginate(Filters=filters):
                for entry in page["NetworkInterfaces"]:
                    subnet = str(entry["SubnetId"])
                    taken.setdefault(subnet, []).extend(
                        one["PrivateIpAddress"] for one in entry.get("PrivateIpAddresses", ())
                    )
                    prefixes.setdefault(subnet, []).extend(
                        one["Ipv4Prefix"] for one in entry.get("Ipv4Prefixes", ())
                    )
        return taken, prefixes

    # --- the stack's own parts --------------------------------------------------------------------

    def rules_off(self, stack: str) -> tuple[str, ...]:
        """Return the names of the stack's rules that are disabled."""
        client = self._session.client("events")
        off = []
        for _, kind, name in stacks.resources(self._session, stack):
            if kind != "AWS::Events::Rule":
                continue
            try:
                state = client.describe_rule(Name=name)["State"]
            except ClientError as error:
                if errors.code_of(error) not in errors.NOT_FOUND:
                    raise errors.translated(error, "DescribeRule") from error
                state = "DELETED"
            if not state.startswith("ENABLED"):
                off.append(name)
        return tuple(sorted(off))

    def depths(self, urls: Iterable[str]) -> Mapping[str, int]:
        """Return how many messages wait in each of the queues at *urls*."""
        name = "ApproximateNumberOfMessages"
        found = {}
        for url in urls:
            with errors.speaking("GetQueueAttributes"):
                answer = self._session.client("sqs").get_queue_attributes(
                    QueueUrl=url, AttributeNames=[name]
                )
            found[url.rpartition("/")[2]] = int(answer["Attributes"][name])
        return found


def _trusts(policy: Any, service: str) -> bool:
    """Return whether a trust *policy* lets *service* (of any partition) take the role."""
    document = orjson.loads(unquote(policy)) if isinstance(policy, str) else policy
    statements = document.get("Statement", ())
    for statement in [statements] if isinstance(statements, Mapping) else statements:
        principal = statement.get("Principal", {})
        named = principal.get("Service", ()) if isinstance(principal, Mapping) else ()
        services = [named] if isinstance(named, str) else named
        if statement.get("Effect") == "Allow" and any(one.startswith(service) for one in services):
            return True
    return False
