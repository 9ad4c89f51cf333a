"""EC2NodeClass (karpenter.k8s.aws/v1): every field, with Karpenter's validation rules.

Decides whether a node class is well-formed and ready, and the hash by which static drift is seen
(everything but selectors and ipPrefixCount, as Karpenter's v6). Refuses to resolve its selectors:
the cloud adapter does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, field_validator, model_validator

from outrider.apis import meta
from outrider.apis.fields import Json
from outrider.apis.labels import PAUSED
from outrider.apis.meta import ObjectMeta
from outrider.apis.model import Conditioned, Instant, Model, read
from outrider.apis.requirement import RequirementSpec

HASH_VERSION = "outrider-v1"
FAMILIES = {
    "al2": "AL2",
    "al2023": "AL2023",
    "bottlerocket": "Bottlerocket",
    "windows2019": "Windows2019",
    "windows2022": "Windows2022",
    "windows2025": "Windows2025",
}
CUSTOM = "Custom"

Tags = Annotated[Mapping[str, str], Field(max_length=20)]


def _no_empty_tags(tags: Mapping[str, str]) -> None:
    if any(not key or not value for key, value in tags.items()):
        raise ValueError("empty tag keys or values aren't supported")


class SubnetSelectorTerm(Model):
    """Subnets by tags (all must match) or by id."""

    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="^subnet-[0-9a-z]+$")] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> SubnetSelectorTerm:
        _no_empty_tags(self.tags)
        if not self.tags and not self.id:
            raise ValueError("expected at least one, got none, ['tags', 'id']")
        if self.tags and self.id:
            raise ValueError("'id' is mutually exclusive, cannot be set with other fields")
        return self


class SecurityGroupSelectorTerm(Model):
    """Security groups by tags, id or name; by tags or name within one VPC, if it is named."""

    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="^sg-[0-9a-z]+$")] | None = None
    name: str | None = None
    vpc_id: Annotated[str, Field(pattern="^vpc-[0-9a-z]+$")] | None = Field(
        default=None, alias="vpcID"
    )

    @model_validator(mode="after")
    def _one_way(self) -> SecurityGroupSelectorTerm:
        _no_empty_tags(self.tags)
        given = sum(bool(part) for part in (self.tags, self.id, self.name))
        if given == 0:
            raise ValueError("expected at least one, got none, ['tags', 'id', 'name']")
        if given > 1:
            raise ValueError("'id', 'name' and 'tags' are mutually exclusive")
        if self.id and self.vpc_id:
            raise ValueError("'id' is mutually exclusive, cannot be set with other fields")
        return self


class CapacityReservationSelectorTerm(Model):
    """Capacity reservations by tags, id, owner or match criteria."""

    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="^cr-[0-9a-z]+$")] | None = None
    owner_id: Annotated[str, Field(pattern="^[0-9]{12}$")] | None = Field(
        default=None, alias="ownerID"
    )
    instance_match_criteria: Literal["open", "targeted"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> CapacityReservationSelectorTerm:
        _no_empty_tags(self.tags)
        others = bool(self.tags or self.owner_id or self.instance_match_criteria)
        if not self.id and not others:
            raise ValueError(
                "expected one of ['tags', 'id', 'ownerID', 'instanceMatchCriteria'], got none"
            )
        if self.id and others:
            raise ValueError("'id' is mutually exclusive, cannot be set with other fields")
        return self


class PlacementGroupSelector(Model):
    """A placement group by name or id."""

    name: str | None = None
    id: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> PlacementGroupSelector:
        if bool(self.name) == bool(self.id):
            raise ValueError("exactly one of 'name' and 'id' must be set")
        return self


class AMISelectorTerm(Model):
    """Images by alias, tags, id, name and owner, or SSM parameter."""

    alias: Annotated[str, Field(max_length=60)] | None = None
    tags: Tags = Field(default_factory=dict)
    id: Annotated[str, Field(pattern="ami-[0-9a-z]+")] | None = None
    name: str | None = None
    owner: str | None = None
    ssm_parameter: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> AMISelectorTerm:
        _no_empty_tags(self.tags)
        others = bool(self.tags or self.name or self.owner)
        given = sum((bool(self.alias), bool(self.id), bool(self.ssm_parameter), others))
        if given == 0:
            raise ValueError(
                "expected at least one, got none, ['tags', 'id', 'name', 'alias', 'ssmParameter']"
            )
        if given > 1:
            raise ValueError("'alias', 'id' and 'ssmParameter' are mutually exclusive")
        if self.alias:
            _check_alias(self.alias)
        return self


def _check_alias(alias: str) -> None:
    family, at, version = alias.partition("@")
    if not at or not family or not version:
        raise ValueError("'alias' is improperly formatted, must match the format 'family@version'")
    if family.lower() not in FAMILIES:
        raise ValueError(f"family is not supported, must be one of: {', '.join(FAMILIES)}")
    if family.lower().startswith("windows") and version != "latest":
        raise ValueError("windows families may only specify version 'latest'")


class BlockDevice(Model):
    """An EBS volume of the node."""

    delete_on_termination: bool | None = None
    encrypted: bool | None = None
    iops: int | None = None
    kms_key_id: str | None = Field(default=None, alias="kmsKeyID")
    snapshot_id: str | None = Field(default=None, alias="snapshotID")
    throughput: Annotated[int, Field(ge=125, le=2000)] | None = None
    volume_initialization_rate: Annotated[int, Field(ge=100, le=300)] | None = None
    volume_size: (
        Annotated[
            str,
            Field(
                pattern=r"^((?:[1-9][0-9]{0,3}|[1-4][0-9]{4}|[5][0-8][0-9]{3}|59000)Gi|"
                r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|[6][0-3][0-9]{3}|64000)G|"
                r"([1-9]||[1-5][0-7]|58)Ti|([1-9]||[1-5][0-9]|6[0-3]|64)T)$"
            ),
        ]
        | None
    ) = None
    volume_type: Literal["standard", "io1", "io2", "gp2", "sc1", "st1", "gp3"] | None = None

    @model_validator(mode="after")
    def _has_a_size(self) -> BlockDevice:
        if self.snapshot_id is None and self.volume_size is None:
            raise ValueError("snapshotID or volumeSize must be defined")
        if self.volume_initialization_rate is not None and self.snapshot_id is None:
            raise ValueError("snapshotID must be set when volumeInitializationRate is set")
        return self


class BlockDeviceMapping(Model):
    """One block device of the node."""

    device_name: str | None = None
    ebs: BlockDevice | None = None
    root_volume: bool = False


class MetadataOptions(Model):
    """The instance metadata service."""

    http_endpoint: Literal["enabled", "disabled"] = "enabled"
    http_protocol_ipv6: Literal["enabled", "disabled"] = Field(
        default="disabled", alias="httpProtocolIPv6"
    )
    http_put_response_hop_limit: Annotated[int, Field(ge=1, le=64)] = 1
    http_tokens: Literal["required", "optional"] = "required"


class NetworkInterface(Model):
    """One network interface of the node."""

    network_card_index: Annotated[int, Field(ge=0)] = 0
    device_index: Annotated[int, Field(ge=0)] = 0
    interface_type: Literal["interface", "efa-only"] = "interface"


class ConnectionTracking(Model):
    """Idle timeouts of tracked connections, in seconds."""

    tcp_established_timeout: Annotated[int, Field(ge=60, le=432000)] | None = None
    udp_stream_timeout: Annotated[int, Field(ge=60, le=180)] | None = None
    udp_timeout: Annotated[int, Field(ge=30, le=60)] | None = None


class Kubelet(Model):
    """The kubelet's configuration: what sizes a node is understood, the rest is passed on."""

    cluster_dns: tuple[str, ...] = Field(default=(), alias="clusterDNS")
    max_pods: Annotated[int, Field(ge=0)] | str | None = None
    pods_per_core: Annotated[int, Field(ge=0)] | None = None
    system_reserved: Mapping[str, str] = Field(default_factory=dict)
    kube_reserved: Mapping[str, str] = Field(default_factory=dict)
    eviction_hard: Mapping[str, str] = Field(default_factory=dict)
    eviction_soft: Mapping[str, str] = Field(default_factory=dict)
    eviction_soft_grace_period: Mapping[str, str] = Field(default_factory=dict)
    eviction_max_pod_grace_period: int | None = None
    image_gc_high_threshold_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, alias="imageGCHighThresholdPercent"
    )
    image_gc_low_threshold_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, alias="imageGCLowThresholdPercent"
    )
    cpu_cfs_quota: bool | None = Field(default=None, alias="cpuCFSQuota")

    @field_validator(
        "system_reserved", "kube_reserved", "eviction_hard", "eviction_soft", mode="before"
    )
    @classmethod
    def _numbers_are_fine(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {
            key: str(item)
            if isinstance(item, (int, float)) and not isinstance(item, bool)
            else item
            for key, item in value.items()
        }

    @model_validator(mode="after")
    def _thresholds_fit(self) -> Kubelet:
        high, low = self.image_gc_high_threshold_percent, self.image_gc_low_threshold_percent
        if high is not None and low is not None and high <= low:
            raise ValueError("imageGCHighThresholdPercent must be greater than the low one")
        if set(self.eviction_soft) != set(self.eviction_soft_grace_period):
            raise ValueError("evictionSoft and evictionSoftGracePeriod must name the same signals")
        return self


def _kubelet(value: object) -> object:
    """Check the fields that are understood and keep the map as it was written."""
    if isinstance(value, Mapping):
        Kubelet.model_validate(value)
    return value


class CpuOptions(Model):
    """CPU features of the instance."""

    nested_virtualization: Literal["enabled", "disabled"] | None = None


_RESERVED_TAGS = re.compile(
    r"^(eks:eks-cluster-name|kubernetes\.io/cluster/.*|karpenter\.sh/nodepool|karpenter\.sh/nodeclaim"
    r"|karpenter\.k8s\.aws/ec2nodeclass)$"
)


class EC2NodeClassSpec(Model):
    """spec."""

    subnet_selector_terms: tuple[SubnetSelectorTerm, ...] = Field(min_length=1, max_length=30)
    security_group_selector_terms: tuple[SecurityGroupSelectorTerm, ...] = Field(
        min_length=1, max_length=30
    )
    capacity_reservation_selector_terms: tuple[CapacityReservationSelectorTerm, ...] = Field(
        default=(), max_length=30
    )
    placement_group_selector: PlacementGroupSelector | None = None
    ami_selector_terms: tuple[AMISelectorTerm, ...] = Field(min_length=1, max_length=30)
    ami_family: (
        Literal[
            "AL2", "AL2023", "Bottlerocket", "Custom", "Windows2019", "Windows2022", "Windows2025"
        ]
        | None
    ) = None
    user_data: str | None = None
    role: Annotated[str, Field(min_length=1)] | None = None
    instance_profile: Annotated[str, Field(min_length=1)] | None = None
    tags: Mapping[str, str] = Field(default_factory=dict)
    kubelet: Annotated[Mapping[str, Any], BeforeValidator(_kubelet)] | None = None
    block_device_mappings: tuple[BlockDeviceMapping, ...] = Field(default=(), max_length=50)
    instance_store_policy: Literal["RAID0"] | None = None
    detailed_monitoring: bool | None = None
    metadata_options: MetadataOptions = Field(default_factory=MetadataOptions)
    context: str | None = None
    associate_public_ip_address: bool | None = Field(default=None, alias="associatePublicIPAddress")
    ip_prefix_count: Annotated[int, Field(ge=0)] | None = None
    network_interfaces: tuple[NetworkInterface, ...] = Field(default=(), max_length=150)
    connection_tracking: ConnectionTracking | None = None
    cpu_options: CpuOptions | None = None

    @field_validator("tags")
    @classmethod
    def _tags_are_the_users(cls, tags: Mapping[str, str]) -> Mapping[str, str]:
        for key in tags:
            if not key:
                raise ValueError("empty tag keys aren't supported")
            if _RESERVED_TAGS.match(key):
                raise ValueError(f"tag {key!r} is restricted")
        return tags

    @field_validator("block_device_mappings")
    @classmethod
    def _one_root(cls, mappings: tuple[BlockDeviceMapping, ...]) -> tuple[BlockDeviceMapping, ...]:
        if sum(item.root_volume for item in mappings) > 1:
            raise ValueError("must have only one blockDeviceMappings with rootVolume")
        return mappings

    @model_validator(mode="after")
    def _parts_agree(self) -> EC2NodeClassSpec:
        if (self.role is None) == (self.instance_profile is None):
            raise ValueError("must specify exactly one of ['role', 'instanceProfile']")
        aliases = [term.alias for term in self.ami_selector_terms if term.alias]
        if aliases and len(self.ami_selector_terms) > 1:
            raise ValueError(
                "'alias' is mutually exclusive, cannot be set with other amiSelectorTerms"
            )
        if not aliases and self.ami_family is None:
            raise ValueError("must specify amiFamily if amiSelectorTerms does not contain an alias")
        if aliases and self.ami_family not in {None, CUSTOM, _family_of(aliases[0])}:
            raise ValueError("amiFamily must be the alias's family or Custom")
        return self

    @property
    def family(self) -> str:
        """Return the AMI family: `amiFamily`, else the alias's."""
        if self.ami_family is not None:
            return self.ami_family
        return _family_of(next(term.alias for term in self.ami_selector_terms if term.alias))


def _family_of(alias: str) -> str:
    return FAMILIES[alias.partition("@")[0].lower()]


class Subnet(Model):
    """A subnet that the selectors found."""

    id: str
    zone: str
    zone_id: str = Field(default="", alias="zoneID")


class SecurityGroup(Model):
    """A security group that the selectors found."""

    id: str
    name: str = ""


class AMI(Model):
    """An image that the selectors found, and which types it is for."""

    id: str
    name: str = ""
    deprecated: bool = False
    requirements: tuple[RequirementSpec, ...] = ()


class CapacityReservation(Model):
    """A capacity reservation that the selectors found."""

    id: str
    instance_type: str
    availability_zone: str
    instance_match_criteria: str = "open"
    owner_id: str = Field(default="", alias="ownerID")
    reservation_type: str = "default"
    state: str = "active"
    end_time: Instant | None = None
    interruptible: bool = False


class EC2NodeClassStatus(Conditioned):
    """status."""

    subnets: tuple[Subnet, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    amis: tuple[AMI, ...] = ()
    capacity_reservations: tuple[CapacityReservation, ...] = ()
    instance_profile: str | None = None


@dataclass(frozen=True)
class EC2NodeClass:
    """One EC2NodeClass."""

    metadata: ObjectMeta
    spec: EC2NodeClassSpec
    status: EC2NodeClassStatus = field(default_factory=EC2NodeClassStatus)

    @property
    def name(self) -> str:
        """Return the class's name."""
        return self.metadata.name

    @property
    def hash_version(self) -> str:
        """Return the version of `hash`: hashes of different versions are not compared."""
        return HASH_VERSION

    @property
    def paused(self) -> bool:
        """Return whether an annotation pauses the class."""
        return self.metadata.annotations.get(PAUSED) == "true"

    @cached_property
    def hash(self) -> str:
        """Return the hash of all that drift compares."""
        body: dict[str, Any] = {
            key: value
            for key, value in self.spec.to_json().items()
            if not (key.endswith(("SelectorTerms", "Selector")) or key == "ipPrefixCount")
        }
        text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        return str(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big"))


def parse(document: Json) -> EC2NodeClass:
    """Return the EC2NodeClass in *document*."""
    return EC2NodeClass(
        metadata=meta.parse(document),
        spec=read(EC2NodeClassSpec, document.get("spec"), "spec"),
        status=read(EC2NodeClassStatus, document.get("status"), "status"),
    )
