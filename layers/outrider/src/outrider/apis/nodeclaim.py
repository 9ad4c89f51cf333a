"""NodeClaim (karpenter.sh/v1): a node that was asked for, from launch to termination.

Decides whether a NodeClaim is well-formed; refuses to know its Node.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import Field, field_validator

from outrider.apis import meta
from outrider.apis.fields import Json
from outrider.apis.labels import NODEPOOL
from outrider.apis.meta import ObjectMeta
from outrider.apis.model import (
    Amounts,
    Conditioned,
    Duration,
    Instant,
    Model,
    NillableDuration,
    NodeClassRef,
    TaintSpec,
    read,
)
from outrider.apis.placement import Taint
from outrider.apis.requirement import IN_CLAIMS, RequirementSpec, refuse_owned

LAUNCHED, REGISTERED, INITIALIZED = "Launched", "Registered", "Initialized"
CONSOLIDATABLE, DRIFTED, READY = "Consolidatable", "Drifted", "Ready"


class ResourceRequests(Model):
    """What the claim was planned for."""

    requests: Amounts = Field(default_factory=dict)


class NodeClaimSpec(Model):
    """spec."""

    node_class_ref: NodeClassRef
    requirements: tuple[RequirementSpec, ...] = Field(default=(), max_length=100)
    resources: ResourceRequests = Field(default_factory=ResourceRequests)
    taints: tuple[TaintSpec, ...] = ()
    startup_taints: tuple[TaintSpec, ...] = ()
    expire_after: NillableDuration = "720h"
    termination_grace_period: Duration | None = None

    @field_validator("requirements")
    @classmethod
    def _keys_may_be_asked_for(
        cls, requirements: tuple[RequirementSpec, ...]
    ) -> tuple[RequirementSpec, ...]:
        refuse_owned((requirement.key for requirement in requirements), IN_CLAIMS)
        return requirements


class NodeClaimStatus(Conditioned):
    """status."""

    provider_id: str = Field(default="", alias="providerID")
    image_id: str = Field(default="", alias="imageID")
    node_name: str = ""
    capacity: Amounts = Field(default_factory=dict)
    allocatable: Amounts = Field(default_factory=dict)
    last_pod_event_time: Instant | None = None


@dataclass(frozen=True)
class NodeClaim:
    """One NodeClaim."""

    metadata: ObjectMeta
    spec: NodeClaimSpec
    status: NodeClaimStatus = field(default_factory=NodeClaimStatus)

    @property
    def name(self) -> str:
        """Return the claim's name."""
        return self.metadata.name

    @property
    def node_pool(self) -> str:
        """Return the name of the NodePool the claim belongs to, or ""."""
        return self.metadata.labels.get(NODEPOOL, "")

    @property
    def taints(self) -> tuple[Taint, ...]:
        """Return the taints that the node keeps."""
        return tuple(item.taint() for item in self.spec.taints)

    @property
    def startup_taints(self) -> tuple[Taint, ...]:
        """Return the taints that the node starts with."""
        return tuple(item.taint() for item in self.spec.startup_taints)

    @property
    def instance_id(self) -> str:
        """Return the EC2 instance id in the provider id, or ""."""
        return self.status.provider_id.rpartition("/")[2]


def parse(document: Json) -> NodeClaim:
    """Return the NodeClaim in *document*."""
    return NodeClaim(
        metadata=meta.parse(document),
        spec=read(NodeClaimSpec, document.get("spec"), "spec"),
        status=read(NodeClaimStatus, document.get("status"), "status"),
    )
