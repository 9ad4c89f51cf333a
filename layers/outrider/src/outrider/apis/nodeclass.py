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

from outrider.apis import gpu_sharing, meta
from outrider.apis.fields import Json
from outrider.apis.gpu_sharing import GpuSharing
from outrider.apis.kubelet import Kubelet
from outrider.apis.labels import PAUSED
from outrider.apis.meta import ObjectMeta
from outrider.apis.model import Conditioned, Instant, Model, read
from outrider.apis.requirement import RequirementSpec
from outrider.apis.selectors import (
    FAMILIES,
    AMISelectorTerm,
    CapacityReservationSelectorTerm,
    PlacementGroupSelector,
    Said,
    SecurityGroupSelectorTerm,
    SubnetSelectorTerm,
    images_one_way,
    not_all_mix,
)
from outrider.errors import InvalidManifest

HASH_VERSION = "outrider-v1"
CUSTOM = "Custom"


class BlockDevice(Model):
    """An EBS volume of the node."""

    delete_on_termination: bool | None = None
    encrypted: bool | None = None
    iops: int | None = None
    kms_key_id: str | None = Field(default=None, alias="kmsKeyID")
    snapshot_id: str | None = Field(default=None, alias="snapshotID")
    throughput: int | None = None
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
        if self.volume_initialization_rate is not None and not self.snapshot_id:
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


def _kubelet(value: object) -> object:
    """Check the fields that are understood and keep the map as it was written."""
    if isinstance(value, Mapping):
        try:
            read(Kubelet, value, "")
        except InvalidManifest as error:
            raise ValueError(str(error).removeprefix(".")) from None
    return value


class CpuOptions(Model):
    """CPU features of the instance."""

    nested_virtualization: Literal["enabled", "disabled"] | None = None


_RESERVED_TAGS = re.compile(
    r"^(eks:eks-cluster-name$|kubernetes\.io/cluster|karpenter\.sh/nodepool$"
    r"|karpenter\.sh/nodeclaim$|karpenter\.k8s\.aws/ec2nodeclass$)"
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
    role: Said | None = None
    instance_profile: Said | None = None
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

    @field_validator("subnet_selector_terms")
    @classmethod
    def _ways_to_subnets(
        cls, terms: tuple[SubnetSelectorTerm, ...]
    ) -> tuple[SubnetSelectorTerm, ...]:
        not_all_mix(terms, "id", ("tags",))
        return terms

    @field_validator("security_group_selector_terms")
    @classmethod
    def _ways_to_security_groups(
        cls, terms: tuple[SecurityGroupSelectorTerm, ...]
    ) -> tuple[SecurityGroupSelectorTerm, ...]:
        not_all_mix(terms, "id", ("tags", "name"))
        not_all_mix(terms, "name", ("tags", "id"))
        return terms

    @field_validator("capacity_reservation_selector_terms")
    @classmethod
    def _ways_to_reservations(
        cls, terms: tuple[CapacityReservationSelectorTerm, ...]
    ) -> tuple[CapacityReservationSelectorTerm, ...]:
        not_all_mix(terms, "id", ("tags", "ownerID", "instanceMatchCriteria"))
        return terms

    @field_validator("ami_selector_terms")
    @classmethod
    def _ways_to_images(cls, terms: tuple[AMISelectorTerm, ...]) -> tuple[AMISelectorTerm, ...]:
        images_one_way(terms)
        return terms

    @field_validator("tags")
    @classmethod
    def _tags_are_the_users(cls, tags: Mapping[str, str]) -> Mapping[str, str]:
        for key in tags:
            if not key:
                raise ValueError("empty tag keys aren't supported")
            if _RESERVED_TAGS.match(key):
                raise ValueError(f"tag contains a restricted tag matching {key}")
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
        if not aliases and self.ami_family is None:
            raise ValueError("must specify amiFamily if amiSelectorTerms does not contain an alias")
        if aliases and self.ami_family not in {None, CUSTOM, _family_of(aliases[0])}:
            family = _family_of(aliases[0])
            raise ValueError(
                f"if set, amiFamily must be '{family}' or 'Custom' when using its alias"
            )
        return self

    @property
    def family(self) -> str:
        """Return the AMI family: `amiFamily`, else the alias's."""
        if self.ami_family is not None:
            return self.ami_family
        return _family_of(next(term.alias for term in self.ami_selector_terms if term.alias))


def _family_of(alias: str) -> str:
    return FAMILIES[alias.partition("@")[0]]


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
    def gpu_sharing(self) -> GpuSharing | None:
        """Return how nodes of the class share their GPUs; None where they do not."""
        return gpu_sharing.of(self.metadata.annotations)

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
    metadata = meta.parse(document)
    gpu_sharing.of(metadata.annotations)
    return EC2NodeClass(
        metadata=metadata,
        spec=read(EC2NodeClassSpec, document.get("spec"), "spec"),
        status=read(EC2NodeClassStatus, document.get("status"), "status"),
    )
