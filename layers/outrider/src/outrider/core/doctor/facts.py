"""What an examination of account and cluster brings home: facts as they were read, not judged.

Every field may be None: nobody asked, or nobody answered, and then `unanswered` says why. A judge
says nothing about what it does not know. Refuses to know boto3, Kubernetes and what is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question that got no answer, and why."""

    question: str
    problem: str
    denied: bool = False


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The EKS cluster, as DescribeCluster has it."""

    status: str
    version: str
    authentication_mode: str
    public: bool
    private: bool
    public_cidrs: tuple[str, ...] = ()
    auto_mode: bool = False
    issues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """An IAM principal's way into the cluster."""

    principal: str
    kind: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Installed:
    """The stack: its state, what it was told, and the IAM roles of its functions by short name."""

    name: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeRole:
    """An IAM role that nodes run with: whether EC2 may take it, and what is attached to it."""

    arn: str
    exists: bool
    trusts_ec2: bool = True
    policies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SubnetFacts:
    """A subnet that a node class selects: its free addresses and its free /28 blocks."""

    id: str
    zone: str
    free_addresses: int
    free_blocks: int


@dataclass(frozen=True, slots=True)
class Definition:
    """One CustomResourceDefinition: the versions that it serves, and who converts between them."""

    name: str
    served: tuple[str, ...]
    established: bool = True
    converter: str = ""  # namespace/service of a conversion webhook


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was found out."""

    cluster: str
    now: datetime
    unanswered: tuple[Unanswered, ...] = ()
    # The account
    control_plane: ControlPlane | None = None
    entries: tuple[AccessEntry, ...] | None = None
    stack: Installed | None = None
    stack_missing: str = ""
    node_roles: tuple[NodeRole, ...] | None = None
    spot_role: bool | None = None
    quotas: Mapping[str, float] | None = None
    concurrency: tuple[int, int] | None = None  # of the account, and what of it is not reserved
    subnets: Mapping[str, tuple[SubnetFacts, ...]] | None = None  # by node class
    security_groups: Mapping[str, tuple[str, ...]] | None = None  # by node class
    rules_off: tuple[str, ...] | None = None
    dead_letters: Mapping[str, int] | None = None
    catalog: Catalog | None = None
    catalog_missing: bool = False
    aws_time: datetime | None = None
    # The cluster
    unreachable: str = ""
    definitions: tuple[Definition, ...] | None = None
    access: tuple[Json, ...] | None = None  # ClusterRoles and ClusterRoleBindings of ours
    wanted_access: tuple[Json, ...] = ()
    webhook: Json | None = None
    webhook_known: bool = False
    karpenter_live: bool | None = None
    deployments: Mapping[str, int] | None = None  # namespace/name -> replicas
    heartbeats: Mapping[str, datetime] | None = None  # node -> its Lease's last renewal
    state: ClusterState | None = None
