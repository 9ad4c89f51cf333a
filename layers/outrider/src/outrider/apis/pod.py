"""Pod, as much of it as planning, draining and seeding ask about: a slim record, not the whole
object.

Pods are read by the ten thousand, so they are projected straight from the API's JSON into frozen
slotted dataclasses: no pydantic here. `parse` validates what it reads and names the field of what
is wrong; what pods of one owner have in common (requests, constraints) is parsed once and shared.
Refuses to know the cluster: a priority class, a runtime class and a claim stay names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from outrider.apis import requests as effective_requests
from outrider.apis.fields import Json, integer, labels, mapping, objects, string, time
from outrider.apis.meta import Owner, owners
from outrider.apis.placement import ANYWHERE, Constraints
from outrider.apis.placement import parse as parse_constraints
from outrider.apis.quantity import Resources
from outrider.errors import InvalidManifest

__all__ = ["HostPort", "Owner", "Pod", "PodClaim", "PodVolume", "Resources", "parse", "template"]


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that a pod takes; `address` "" or 0.0.0.0 is every address."""

    protocol: str
    port: int
    address: str = ""


@dataclass(frozen=True, slots=True)
class PodVolume:
    """A volume of a pod that binds it to a place or counts as attached.

    `claim` is the PersistentVolumeClaim's name; a generic ephemeral volume's is the pod's and the
    volume's joined, with `ephemeral` set and the template's class; `volume_id` is an in-tree EBS
    volume without a claim.
    """

    name: str
    claim: str = ""
    ephemeral: bool = False
    storage_class: str | None = None
    volume_id: str = ""


@dataclass(frozen=True, slots=True)
class PodClaim:
    """One resource claim of a pod (dynamic resource allocation)."""

    name: str
    claim: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """One Pod."""

    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    created: datetime | None = None
    deleted: datetime | None = None  # deletionTimestamp: when the grace period ends
    node_name: str = ""
    nominated_node_name: str = ""
    phase: str = "Pending"
    started: datetime | None = None  # status.startTime
    ready: bool = False
    priority: int = 0
    priority_class_name: str = ""
    grace_seconds: int = 30  # terminationGracePeriodSeconds
    scheduler_name: str = "default-scheduler"
    scheduling_gates: tuple[str, ...] = ()
    requests: Resources = field(default_factory=dict)  # effective, with overhead, and pods: 1
    constraints: Constraints = ANYWHERE
    host_ports: tuple[HostPort, ...] = ()
    volumes: tuple[PodVolume, ...] = ()
    resource_claims: tuple[PodClaim, ...] = ()
    runtime_class_name: str = ""
    has_overhead: bool = False  # spec.overhead was written, by admission or by hand
    has_priority: bool = False  # spec.priority was written, by admission or by hand
    workload: str = ""  # spec.workloadRef: namespace is the pod's
    pod_group: str = ""  # … and its pod group, or spec.schedulingGroup's
    images: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def finished(self) -> bool:
        """Return whether the pod has run to its end."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def from_daemon(self) -> bool:
        """Return whether a DaemonSet owns the pod."""
        return any(owner.kind == "DaemonSet" for owner in self.owners)

    @property
    def from_node(self) -> bool:
        """Return whether a Node owns the pod: a static pod's mirror."""
        return any(owner.kind == "Node" for owner in self.owners) or (
            "kubernetes.io/config.mirror" in self.annotations
        )

    @property
    def controller(self) -> Owner | None:
        """Return the owner that controls the pod."""
        return next((owner for owner in self.owners if owner.controller), None)


_NOTHING: Json = {}


def parse(document: Json) -> Pod:
    """Return the Pod in *document*."""
    metadata = mapping(document, "metadata")
    spec = mapping(document, "spec")
    if not metadata.get("name"):
        raise InvalidManifest("is required", path="metadata.name")
    if not spec.get("containers"):
        raise InvalidManifest("must have a container", path="spec.containers")
    return template(metadata, spec, mapping(document, "status"))


def template(metadata: Json, spec: Json, status: Json = _NOTHING) -> Pod:
    """Return the pod that *metadata*, *spec* and *status* describe; a template has no name."""
    name = string(metadata, "name", "metadata")
    node_name = string(spec, "nodeName", "spec")
    ports, images = _containers(spec)
    priority = spec.get("priority")
    overhead = spec.get("overhead")
    gates = spec.get("schedulingGates")
    pull_secrets = spec.get("imagePullSecrets")
    workload, group = _group(spec)
    return Pod(
        namespace=string(metadata, "namespace", "metadata") or "default",
        name=name,
        uid=string(metadata, "uid", "metadata"),
        labels=labels(metadata, "labels", "metadata"),
        annotations=labels(metadata, "annotations", "metadata"),
        owners=owners(metadata),
        created=time(metadata, "creationTimestamp", "metadata"),
        deleted=time(metadata, "deletionTimestamp", "metadata"),
        node_name=node_name,
        nominated_node_name=string(status, "nominatedNodeName", "status"),
        phase=string(status, "phase", "status") or "Pending",
        started=time(status, "startTime", "status"),
        ready=_is_ready(status),
        priority=0 if priority is None else integer(spec, "priority", "spec", least=-(2**31)),
        priority_class_name=string(spec, "priorityClassName", "spec"),
        grace_seconds=integer(spec, "terminationGracePeriodSeconds", "spec", default=30),
        scheduler_name=string(spec, "schedulerName", "spec") or "default-scheduler",
        scheduling_gates=_names(spec, "schedulingGates") if gates else (),
        requests=effective_requests.effective(spec, status if node_name else None),
        constraints=parse_constraints(spec),
        host_ports=ports,
        volumes=_volumes(spec, name) if spec.get("volumes") else (),
        resource_claims=_claims(spec, status) if spec.get("resourceClaims") else (),
        runtime_class_name=string(spec, "runtimeClassName", "spec"),
        has_overhead=overhead is not None,
        has_priority=priority is not None,
        workload=workload,
        pod_group=group,
        images=images,
        pull_secrets=_names(spec, "imagePullSecrets") if pull_secrets else (),
        finalizers=tuple(metadata.get("finalizers") or ()),
    )


def _names(spec: Json, field_name: str) -> tuple[str, ...]:
    return tuple(
        string(item, "name", f"spec.{field_name}") for item in objects(spec, field_name, "spec")
    )


def _group(spec: Json) -> tuple[str, str]:
    """Return the Workload and the group of it that a pod is of; a PodGroup has no Workload.

    Kubernetes 1.35 has `workloadRef`, later releases `schedulingGroup`.
    """
    if spec.get("schedulingGroup"):
        path = "spec.schedulingGroup"
        return "", string(mapping(spec, "schedulingGroup", "spec"), "podGroupName", path)
    if spec.get("workloadRef"):
        reference, path = mapping(spec, "workloadRef", "spec"), "spec.workloadRef"
        return string(reference, "name", path), string(reference, "podGroup", path)
    return "", ""


def _is_ready(status: Json) -> bool:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            return bool(condition.get("status") == "True")
    return False


def _containers(spec: Json) -> tuple[tuple[HostPort, ...], tuple[str, ...]]:
    on_host = spec.get("hostNetwork") is True
    ports: list[HostPort] = []
    images: list[str] = []
    for group in ("containers", "initContainers"):
        for container in spec.get(group) or ():
            if not isinstance(container, Mapping):
                raise InvalidManifest("must be an object", path=f"spec.{group}")
            image = container.get("image")
            if image:
                images.append(image)
            if container.get("ports") and (
                group == "containers" or container.get("restartPolicy") == "Always"
            ):
                _ports(container, f"spec.{group}.ports", on_host, ports)
    return tuple(dict.fromkeys(ports)), tuple(dict.fromkeys(images))


_PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})


def _ports(container: Json, path: str, on_host: bool, found: list[HostPort]) -> None:  # noqa: FBT001 (a fact about the pod)
    for item in objects(container, "ports", path.removesuffix(".ports")):
        port = item.get("hostPort") or (item.get("containerPort") if on_host else 0)
        if not port:
            continue
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise InvalidManifest("must be a port, 1 to 65535", path=f"{path}.hostPort")
        protocol = string(item, "protocol", path) or "TCP"
        if protocol not in _PROTOCOLS:
            raise InvalidManifest(f"{protocol[:64]!r} is not a protocol", path=f"{path}.protocol")
        address = string(item, "hostIP", path)
        found.append(HostPort(protocol, port, "" if address in {"0.0.0.0", "::"} else address))  # noqa: S104 (a pod's wish)


def _volumes(spec: Json, pod_name: str) -> tuple[PodVolume, ...]:
    found = []
    for item in objects(spec, "volumes", "spec"):
        if "persistentVolumeClaim" in item:
            source = mapping(item, "persistentVolumeClaim", "spec.volumes")
            claim = string(source, "claimName", "spec.volumes.persistentVolumeClaim")
            found.append(PodVolume(string(item, "name", "spec.volumes"), claim))
        elif "ephemeral" in item:
            found.append(_ephemeral(item, pod_name))
        elif "awsElasticBlockStore" in item:
            source = mapping(item, "awsElasticBlockStore", "spec.volumes")
            identity = string(source, "volumeID", "spec.volumes.awsElasticBlockStore")
            found.append(PodVolume(string(item, "name", "spec.volumes"), volume_id=identity))
    return tuple(found)


def _ephemeral(item: Json, pod_name: str) -> PodVolume:
    path = "spec.volumes.ephemeral"
    source = mapping(item, "ephemeral", "spec.volumes")
    claim = mapping(mapping(source, "volumeClaimTemplate", path), "spec", path)
    storage_class = claim.get("storageClassName")
    name = string(item, "name", "spec.volumes")
    return PodVolume(
        name=name,
        claim=f"{pod_name}-{name}",
        ephemeral=True,
        storage_class=None if storage_class is None else string(claim, "storageClassName", path),
    )


def _claims(spec: Json, status: Json) -> tuple[PodClaim, ...]:
    generated = {
        item.get("name"): item.get("resourceClaimName") or ""
        for item in objects(status, "resourceClaimStatuses", "status")
    }
    path = "spec.resourceClaims"
    return tuple(
        PodClaim(
            name=string(item, "name", path),
            claim=string(item, "resourceClaimName", path) or generated.get(item.get("name"), ""),
            template=string(item, "resourceClaimTemplateName", path),
        )
        for item in objects(spec, "resourceClaims", "spec")
    )
