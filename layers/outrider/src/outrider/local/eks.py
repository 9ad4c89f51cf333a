"""EKS: the cluster that the embedded Kubernetes API is, its access entries, and who a token is.

DescribeCluster answers with the API's own address and CA. A token is a presigned STS
GetCallerIdentity URL; its access key says which function signed it, the function's role is looked
up among the access entries, and that gives the Kubernetes user and groups, as EKS's authenticator
does. The signature is not verified: keys here open nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Call, Refused

TOKEN_PREFIX = "k8s-aws-v1."  # noqa: S105 - a prefix, not a secret
NODE_GROUPS = ("system:bootstrappers", "system:nodes")
ADMIN_POLICY = "AmazonEKSClusterAdminPolicy"


@dataclass(slots=True)
class _Entry:
    principal: str
    groups: list[str]
    username: str
    kind: str
    created: datetime
    policies: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Eks:
    """One account's clusters: one."""

    endpoint: Endpoint
    clock: Clock
    name: str
    version: str
    role_of: Callable[[str], str | None]
    address: str = ""
    ca_pem: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def install(self) -> None:
        """Answer EKS's operations."""
        operations: dict[str, Callable[[dict[str, Any], Call], dict[str, Any]]] = {
            "DescribeCluster": self._describe,
            "ListClusters": lambda _wanted, _call: {"clusters": [self.name]},
            "CreateAccessEntry": self._create_entry,
            "DescribeAccessEntry": self._describe_entry,
            "UpdateAccessEntry": self._update_entry,
            "DeleteAccessEntry": self._delete_entry,
            "ListAccessEntries": self._list_entries,
            "AssociateAccessPolicy": self._associate,
            "ListAssociatedAccessPolicies": self._associated,
            "ListAddons": lambda _wanted, _call: {"addons": []},
            "ListPodIdentityAssociations": lambda _wanted, _call: {"associations": []},
        }
        for operation, serve in operations.items():
            self.endpoint.serve(f"eks:{operation}", serve)

    def authenticate(self, token: str) -> tuple[str, list[str]] | None:
        """Return the Kubernetes user and groups of an EKS token, or None."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        padded = token.removeprefix(TOKEN_PREFIX)
        try:
            url = base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
        query = parse_qs(urlsplit(url).query)
        if query.get("Action") != ["GetCallerIdentity"]:
            return None
        access_key = query.get("X-Amz-Credential", [""])[0].partition("/")[0]
        role = self.role_of(access_key)
        entry = self._entries.get(role or "")
        if entry is None:
            return None
        groups = list(entry.groups)
        if any(ADMIN_POLICY in policy["policyArn"] for policy in entry.policies):
            groups.append("system:masters")
        return entry.username.replace("{{SessionName}}", "local"), groups

    def _check(self, wanted: dict[str, Any], key: str = "clusterName") -> None:
        if wanted.get(key) != self.name:
            raise Refused(
                "ResourceNotFoundException", f"No cluster found for name: {wanted.get(key)}."
            )

    def _describe(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        self._check(wanted, "name")
        return {
            "cluster": {
                "name": self.name,
                "arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{self.name}",
                "createdAt": self.clock.now(),
                "version": self.version,
                "endpoint": self.address,
                "roleArn": f"arn:aws:iam::{ACCOUNT}:role/outrider-local-cluster",
                "resourcesVpcConfig": {
                    **self.network,
                    "endpointPublicAccess": True,
                    "endpointPrivateAccess": True,
                    "publicAccessCidrs": ["0.0.0.0/0"],
                },
                "kubernetesNetworkConfig": {
                    "serviceIpv4Cidr": "10.100.0.0/16",
                    "ipFamily": "ipv4",
                },
                "status": "ACTIVE",
                "certificateAuthority": {"data": base64.b64encode(self.ca_pem.encode()).decode()},
                "platformVersion": "eks.1",
                "tags": {},
                "health": {"issues": []},
                "accessConfig": {"authenticationMode": "API"},
                "upgradePolicy": {"supportType": "STANDARD"},
            }
        }

    def _shown(self, entry: _Entry) -> dict[str, Any]:
        name = entry.principal.rpartition("/")[2]
        return {
            "clusterName": self.name,
            "principalArn": entry.principal,
            "kubernetesGroups": entry.groups,
            "accessEntryArn": f"arn:aws:eks:{REGION}:{ACCOUNT}:access-entry/{self.name}/role/"
            f"{ACCOUNT}/{name}/local",
            "createdAt": entry.created,
            "modifiedAt": entry.created,
            "tags": {},
            "username": entry.username,
            "type": entry.kind,
        }

    def _entry(self, wanted: dict[str, Any]) -> _Entry:
        self._check(wanted)
        entry = self._entries.get(wanted["principalArn"])
        if entry is None:
            raise Refused(
                "ResourceNotFoundException",
                f"The specified principalArn could not be found: {wanted['principalArn']}",
            )
        return entry

    def _create_entry(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        self._check(wanted)
        principal = wanted["principalArn"]
        if principal in self._entries:
            raise Refused("ResourceInUseException", "The specified access entry exists already.")
        kind = wanted.get("type") or "STANDARD"
        is_node = kind.startswith("EC2_")
        name = principal.rpartition("/")[2]
        standard = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{{{{SessionName}}}}"
        entry = self._entries[principal] = _Entry(
            principal=principal,
            groups=list(NODE_GROUPS) if is_node else list(wanted.get("kubernetesGroups") or []),
            username=wanted.get("username")
            or ("system:node:{{EC2PrivateDNSName}}" if is_node else standard),
            kind=kind,
            created=self.clock.now(),
        )
        return {"accessEntry": self._shown(entry)}

    def _describe_entry(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        return {"accessEntry": self._shown(self._entry(wanted))}

    def _update_entry(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        entry = self._entry(wanted)
        if "kubernetesGroups" in wanted:
            entry.groups = list(wanted["kubernetesGroups"])
        entry.username = wanted.get("username") or entry.username
        return {"accessEntry": self._shown(entry)}

    def _delete_entry(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        self._entries.pop(self._entry(wanted).principal)
        return {}

    def _list_entries(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        self._check(wanted)
        return {"accessEntries": list(self._entries)}

    def _associate(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        entry = self._entry(wanted)
        policy = {
            "policyArn": wanted["policyArn"],
            "accessScope": wanted["accessScope"],
            "associatedAt": self.clock.now(),
            "modifiedAt": self.clock.now(),
        }
        entry.policies.append(policy)
        return {
            "clusterName": self.name,
            "principalArn": entry.principal,
            "associatedAccessPolicy": policy,
        }

    def _associated(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        entry = self._entry(wanted)
        return {
            "clusterName": self.name,
            "principalArn": entry.principal,
            "associatedAccessPolicies": entry.policies,
        }
