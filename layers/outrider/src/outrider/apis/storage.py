"""Storage: claims, volumes, classes, attach limits and attachments, as far as they bind pods to
places.

Slim records projected from the API's JSON. Refuses to know pods: `core.scheduling.volumes` joins
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from outrider.apis import meta, placement
from outrider.apis.fields import Json, integer, mapping, objects, one_of, string, strings
from outrider.apis.placement import Condition, NodeTerm

EBS_DRIVER = "ebs.csi.aws.com"
IN_TREE_EBS = "kubernetes.io/aws-ebs"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
IMMEDIATE, WAIT_FOR_FIRST_CONSUMER = "Immediate", "WaitForFirstConsumer"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BETA_DEFAULT_CLASS = "storageclass.beta.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True)
class PersistentVolumeClaim:
    """One claim; `storage_class` None asks for the default class, "" for none."""

    namespace: str
    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    storage_class: str | None = None
    volume: str = ""
    phase: str = "Pending"
    deleted: datetime | None = None

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PersistentVolume:
    """One volume; `terms` None where it has no node affinity."""

    name: str
    driver: str = ""
    handle: str = ""
    storage_class: str = ""
    terms: tuple[NodeTerm, ...] | None = None
    local: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StorageClass:
    """One storage class; `topologies` are OR-ed, the conditions within one are AND-ed."""

    name: str
    provisioner: str = ""
    binding_mode: str = IMMEDIATE
    topologies: tuple[tuple[Condition, ...], ...] = ()
    default: bool = False
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class CSINode:
    """How many volumes of each driver a node may attach; a driver without a limit is absent."""

    name: str
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VolumeAttachment:
    """A volume attached, or being attached, to a node."""

    name: str
    node: str
    driver: str = ""
    volume: str = ""  # the PersistentVolume's name
    attached: bool = False
    deleted: datetime | None = None


def parse_claim(document: Json) -> PersistentVolumeClaim:
    """Return the PersistentVolumeClaim in *document*."""
    identity = meta.parse(document, namespaced=True)
    spec = mapping(document, "spec")
    legacy = identity.annotations.get("volume.beta.kubernetes.io/storage-class")
    named = spec.get("storageClassName") is not None
    return PersistentVolumeClaim(
        namespace=identity.namespace,
        name=identity.name,
        annotations=identity.annotations,
        storage_class=string(spec, "storageClassName", "spec") if named else legacy,
        volume=string(spec, "volumeName", "spec"),
        phase=string(mapping(document, "status"), "phase", "status") or "Pending",
        deleted=identity.deletion_timestamp,
    )


def parse_volume(document: Json) -> PersistentVolume:
    """Return the PersistentVolume in *document*."""
    identity = meta.parse(document)
    spec = mapping(document, "spec")
    csi = mapping(spec, "csi", "spec")
    in_tree = mapping(spec, "awsElasticBlockStore", "spec")
    affinity = mapping(spec, "nodeAffinity", "spec")
    required = affinity.get("required")
    driver = string(csi, "driver", "spec.csi") or (EBS_DRIVER if in_tree else "")
    return PersistentVolume(
        name=identity.name,
        driver=driver,
        handle=string(csi, "volumeHandle", "spec.csi")
        or string(in_tree, "volumeID", "spec.awsElasticBlockStore"),
        storage_class=string(spec, "storageClassName", "spec"),
        terms=None
        if required is None
        else placement.node_terms(
            mapping(affinity, "required", "spec.nodeAffinity"), "spec.nodeAffinity.required"
        ),
        local="local" in spec or "hostPath" in spec,
        labels=identity.labels,
    )


def parse_class(document: Json) -> StorageClass:
    """Return the StorageClass in *document*."""
    identity = meta.parse(document)
    modes = frozenset({IMMEDIATE, WAIT_FOR_FIRST_CONSUMER})
    marks = (DEFAULT_CLASS, BETA_DEFAULT_CLASS)
    return StorageClass(
        name=identity.name,
        provisioner=string(document, "provisioner"),
        binding_mode=one_of(document, "volumeBindingMode", modes, "", IMMEDIATE),
        topologies=tuple(
            _topology(item, f"allowedTopologies[{index}]")
            for index, item in enumerate(objects(document, "allowedTopologies"))
        ),
        default=any(identity.annotations.get(mark) == "true" for mark in marks),
        created=identity.creation_timestamp,
    )


def _topology(item: Json, path: str) -> tuple[Condition, ...]:
    where = f"{path}.matchLabelExpressions"
    return tuple(
        Condition(string(line, "key", where), "In", tuple(sorted(strings(line, "values", where))))
        for line in objects(item, "matchLabelExpressions", path)
    )


def parse_csi_node(document: Json) -> CSINode:
    """Return the CSINode in *document*."""
    limits = {}
    for driver in objects(mapping(document, "spec"), "drivers", "spec"):
        allocatable = mapping(driver, "allocatable", "spec.drivers")
        if allocatable.get("count") is not None:
            path = "spec.drivers.allocatable"
            limits[string(driver, "name", "spec.drivers")] = integer(allocatable, "count", path)
    return CSINode(meta.parse(document).name, limits)


def parse_attachment(document: Json) -> VolumeAttachment:
    """Return the VolumeAttachment in *document*."""
    identity = meta.parse(document)
    spec = mapping(document, "spec")
    source = mapping(spec, "source", "spec")
    return VolumeAttachment(
        name=identity.name,
        node=string(spec, "nodeName", "spec"),
        driver=string(spec, "attacher", "spec"),
        volume=string(source, "persistentVolumeName", "spec.source"),
        attached=mapping(document, "status").get("attached") is True,
        deleted=identity.deletion_timestamp,
    )
