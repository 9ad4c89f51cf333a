"""Builders: manifests in one line, as documents that the real parsers read.

Every builder returns the JSON of one object; what a test does not say has a harmless default, and
any field may be overridden by *spec* or *metadata*. Amounts are Kubernetes quantities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

ZONES = ("test-zone-1", "test-zone-2", "test-zone-3")
ZONE = "topology.kubernetes.io/zone"
HOSTNAME = "kubernetes.io/hostname"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
NODEPOOL = "karpenter.sh/nodepool"
GPU = "nvidia.com/gpu"
NOW = "2026-11-23T12:00:00Z"


def pod(
    name: str = "pod",
    *,
    namespace: str = "default",
    cpu: str | None = "100m",
    memory: str | None = None,
    gpu: int | str | None = None,
    requests: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    selector: Mapping[str, str] | None = None,
    required: Sequence[Json] | None = None,
    preferred: Sequence[Json] | None = None,
    tolerations: Sequence[Json] | None = None,
    spread: Sequence[Json] | None = None,
    near: Sequence[Json] | None = None,
    near_preferred: Sequence[Json] | None = None,
    apart: Sequence[Json] | None = None,
    apart_preferred: Sequence[Json] | None = None,
    node: str | None = None,
    claims: Sequence[str] = (),
    host_port: int | None = None,
    owner: tuple[str, str] | None = None,
    priority: int | None = None,
    annotations: Mapping[str, str] | None = None,
    spec: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
) -> Json:
    """Return a Pod; bound and running where *node* is given."""
    optional: Json = {
        "nodeSelector": dict(selector or {}),
        "affinity": _affinity(required, preferred, near, near_preferred, apart, apart_preferred),
        "tolerations": list(tolerations or ()),
        "topologySpreadConstraints": list(spread or ()),
        "volumes": [
            {"name": f"v{index}", "persistentVolumeClaim": {"claimName": claim}}
            for index, claim in enumerate(claims)
        ],
        "nodeName": node,
        "priority": priority,
    }
    body: Json = {
        "containers": [_container(cpu, memory, gpu, requests, host_port)],
        **{key: value for key, value in optional.items() if value or value == 0},
        **(spec or {}),
    }
    about: Json = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "labels": dict(labels or {}),
        "annotations": dict(annotations or {}),
        "ownerReferences": [
            {"apiVersion": "v1", "kind": kind, "name": who, "uid": "u", "controller": True}
            for kind, who in ([owner] if owner else [])
        ],
        **(metadata or {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": about,
        "spec": body,
        "status": {"phase": "Running" if node else "Pending", **(status or {})},
    }


def _container(
    cpu: str | None,
    memory: str | None,
    gpu: int | str | None,
    requests: Mapping[str, str] | None,
    host_port: int | None,
) -> Json:
    stated = {"cpu": cpu, "memory": memory, GPU: None if gpu is None else str(gpu)}
    asked = {
        **{key: value for key, value in stated.items() if value is not None},
        **(requests or {}),
    }
    container: Json = {"name": "main", "image": "app", "resources": {"requests": asked}}
    if GPU in asked:
        container["resources"]["limits"] = {GPU: asked[GPU]}
    if host_port is not None:
        container["ports"] = [{"containerPort": host_port, "hostPort": host_port}]
    return container


def _affinity(
    required: Sequence[Json] | None,
    preferred: Sequence[Json] | None,
    near: Sequence[Json] | None,
    near_preferred: Sequence[Json] | None,
    apart: Sequence[Json] | None,
    apart_preferred: Sequence[Json] | None,
) -> Json:
    hard = "requiredDuringSchedulingIgnoredDuringExecution"
    soft = "preferredDuringSchedulingIgnoredDuringExecution"
    found: Json = {}
    if required is not None or preferred:
        found["nodeAffinity"] = {}
    if required is not None:
        found["nodeAffinity"][hard] = {
            "nodeSelectorTerms": [
                {"matchExpressions": [term]} if "key" in term else term for term in required
            ]
        }
    if preferred:
        found["nodeAffinity"][soft] = list(preferred)
    for kind, terms, wishes in (
        ("podAffinity", near, near_preferred),
        ("podAntiAffinity", apart, apart_preferred),
    ):
        if terms or wishes:
            found[kind] = {}
        if terms:
            found[kind][hard] = list(terms)
        if wishes:
            found[kind][soft] = list(wishes)
    return found


def expression(key: str, operator: str, *values: str) -> Json:
    """Return one line of a node selector term or of NodePool requirements."""
    line: Json = {"key": key, "operator": operator}
    if values:
        line["values"] = list(values)
    return line


def preference(weight: int, *lines: Json) -> Json:
    """Return a preferred node affinity term."""
    return {"weight": weight, "preference": {"matchExpressions": list(lines)}}


def matching(labels: Mapping[str, str] | None) -> Json | None:
    """Return a label selector for *labels*; None is no selector at all."""
    return None if labels is None else {"matchLabels": dict(labels)}


def spread(
    key: str,
    labels: Mapping[str, str] | None,
    *,
    skew: int = 1,
    soft: bool = False,
    **more: Any,
) -> Json:
    """Return a topologySpreadConstraint."""
    found: Json = {
        "topologyKey": key,
        "maxSkew": skew,
        "whenUnsatisfiable": "ScheduleAnyway" if soft else "DoNotSchedule",
        **more,
    }
    if labels is not None:
        found["labelSelector"] = matching(labels)
    return found


def term(key: str, labels: Mapping[str, str] | None, **more: Any) -> Json:
    """Return a pod (anti-)affinity term."""
    found: Json = {"topologyKey": key, **more}
    if labels is not None:
        found["labelSelector"] = matching(labels)
    return found


def wish(weight: int, affinity_term: Json) -> Json:
    """Return a preferred pod (anti-)affinity term."""
    return {"weight": weight, "podAffinityTerm": affinity_term}


def nodepool(
    name: str = "default",
    *,
    requirements: Sequence[Json] = (),
    taints: Sequence[Json] = (),
    startup_taints: Sequence[Json] = (),
    labels: Mapping[str, str] | None = None,
    weight: int | None = None,
    limits: Mapping[str, Any] | None = None,
    node_class: str = "default",
    ready: bool | None = None,
    replicas: int | None = None,
    annotations: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Json:
    """Return a NodePool."""
    spec: Json = {
        "nodeClassRef": {
            "group": "karpenter.k8s.aws",
            "kind": "EC2NodeClass",
            "name": node_class,
        },
        "requirements": list(requirements),
    }
    if taints:
        spec["taints"] = list(taints)
    if startup_taints:
        spec["startupTaints"] = list(startup_taints)
    template: Json = {"spec": spec}
    if labels:
        template["metadata"] = {"labels": dict(labels)}
    body: Json = {"template": template}
    if weight is not None:
        body["weight"] = weight
    if limits is not None:
        body["limits"] = dict(limits)
    if replicas is not None:
        body["replicas"] = replicas
    document: Json = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name, **(metadata or {})},
        "spec": body,
    }
    if annotations:
        document["metadata"]["annotations"] = dict(annotations)
    if ready is not None:
        document["status"] = {
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]
        }
    return document


def taint(key: str, effect: str = "NoSchedule", value: str = "") -> Json:
    """Return a taint."""
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def tolerates(key: str, effect: str = "") -> Json:
    """Return a toleration of every value of *key*."""
    return {"key": key, "operator": "Exists", **({"effect": effect} if effect else {})}


def nodeclass(name: str = "default", **spec: Any) -> Json:
    """Return an EC2NodeClass."""
    return {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": name},
        "spec": {
            "amiSelectorTerms": [{"alias": "al2023@latest"}],
            "role": "node",
            "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": "test"}}],
            "securityGroupSelectorTerms": [{"tags": {"karpenter.sh/discovery": "test"}}],
            **spec,
        },
    }


def node(
    name: str = "node",
    *,
    zone: str = ZONES[0],
    capacity_type: str = "on-demand",
    instance_type: str = "m.large",
    pool: str | None = "default",
    cpu: str = "4",
    memory: str = "16Gi",
    pods: str = "110",
    resources: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Json] = (),
    initialized: bool = True,
    metadata: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Json:
    """Return a Node; not one of ours where *pool* is None."""
    marks = {
        HOSTNAME: name,
        ZONE: zone,
        CAPACITY_TYPE: capacity_type,
        INSTANCE_TYPE: instance_type,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
    }
    if pool is not None:
        marks[NODEPOOL] = pool
        marks["karpenter.sh/registered"] = "true"
        if initialized:
            marks["karpenter.sh/initialized"] = "true"
    marks.update(labels or {})
    room = {"cpu": cpu, "memory": memory, "pods": pods, **(resources or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": marks, **(metadata or {})},
        "spec": {
            "providerID": f"aws:///{zone}/i-{name}",
            **({"taints": list(taints)} if taints else {}),
            **(spec or {}),
        },
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def nodeclaim(
    name: str = "claim",
    *,
    pool: str = "default",
    zone: str = ZONES[0],
    instance_type: str = "m.large",
    resources: Mapping[str, str] | None = None,
    node_name: str | None = None,
    provider_id: str | None = None,
    startup_taints: Sequence[Json] = (),
    taints: Sequence[Json] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Json:
    """Return a NodeClaim that has been launched."""
    room = {"cpu": "4", "memory": "16Gi", "pods": "110", **(resources or {})}
    status: Json = {"capacity": room, "allocatable": room}
    status["providerID"] = provider_id or f"aws:///{zone}/i-{name}"
    if node_name:
        status["nodeName"] = node_name
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": name,
            "labels": {
                NODEPOOL: pool,
                ZONE: zone,
                INSTANCE_TYPE: instance_type,
                CAPACITY_TYPE: "on-demand",
            },
            **(metadata or {}),
        },
        "spec": {
            "nodeClassRef": {
                "group": "karpenter.k8s.aws",
                "kind": "EC2NodeClass",
                "name": "default",
            },
            **({"startupTaints": list(startup_taints)} if startup_taints else {}),
            **({"taints": list(taints)} if taints else {}),
        },
        "status": status,
    }


def daemonset(
    name: str = "daemon",
    *,
    namespace: str = "kube-system",
    cpu: str = "100m",
    limits: Mapping[str, str] | None = None,
    requests: Mapping[str, str] | None = None,
    host_port: int | None = None,
    **spec: Any,
) -> Json:
    """Return a DaemonSet."""
    container: Json = {"name": "main", "resources": {}}
    if limits:
        container["resources"]["limits"] = dict(limits)
    else:
        container["resources"]["requests"] = {"cpu": cpu, **(requests or {})}
    if host_port is not None:
        container["ports"] = [{"containerPort": host_port, "hostPort": host_port}]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], **spec},
            },
        },
    }


def claim(
    name: str,
    *,
    volume: str | None = None,
    storage_class: str | None = "standard",
    namespace: str = "default",
    phase: str | None = None,
) -> Json:
    """Return a PersistentVolumeClaim, bound where *volume* is given."""
    spec: Json = {"accessModes": ["ReadWriteOnce"]}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    if volume:
        spec["volumeName"] = volume
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
        "status": {"phase": phase or ("Bound" if volume else "Pending")},
    }


def volume(name: str, *terms: Sequence[Json], local: bool = False) -> Json:
    """Return a PersistentVolume whose node affinity is one of *terms*."""
    spec: Json = (
        {"local": {"path": "/mnt"}}
        if local
        else {"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": f"vol-{name}"}}
    )
    if terms:
        spec["nodeAffinity"] = {
            "required": {"nodeSelectorTerms": [{"matchExpressions": list(item)} for item in terms]}
        }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": spec,
    }


def storage_class(
    name: str = "standard",
    *,
    mode: str = "WaitForFirstConsumer",
    zones: Sequence[str] = (),
    provisioner: str = "ebs.csi.aws.com",
) -> Json:
    """Return a StorageClass."""
    document: Json = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        "volumeBindingMode": mode,
    }
    if zones:
        document["allowedTopologies"] = [
            {"matchLabelExpressions": [{"key": ZONE, "values": list(zones)}]}
        ]
    return document


def csi_node(name: str, limit: int) -> Json:
    """Return a CSINode that attaches *limit* EBS volumes."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name},
        "spec": {
            "drivers": [
                {"name": "ebs.csi.aws.com", "nodeID": name, "allocatable": {"count": limit}}
            ]
        },
    }


def offering(
    zone: str = ZONES[0],
    capacity_type: str = "on-demand",
    price: float = 1.0,
    *,
    available: bool = True,
    reservation: str | None = None,
    count: int | None = None,
) -> Json:
    """Return one offering of a catalogue entry."""
    return {
        "zone": zone,
        "zoneId": zone.replace("test-zone-", "tst1-az"),
        "capacityType": capacity_type,
        "pricePerHour": price,
        "available": available,
        "reservationId": reservation,
        "reservationCapacity": count,
    }


def instance_type(
    name: str,
    *,
    cpu: str = "4",
    memory: str = "16Gi",
    pods: str = "110",
    gpu: int | None = None,
    price: float = 1.0,
    spot: float | None = 0.4,
    zones: Sequence[str] = ZONES,
    labels: Mapping[str, str] | None = None,
    arch: str = "amd64",
    resources: Mapping[str, str] | None = None,
    offerings: Sequence[Json] | None = None,
    **more: Any,
) -> Json:
    """Return a catalogue entry, sold on demand at *price* and as Spot at *spot* times that."""
    capacity = {"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "100Gi"}
    if gpu:
        capacity[GPU] = str(gpu)
    capacity.update(resources or {})
    sold = [offering(zone, "on-demand", price) for zone in zones]
    if spot is not None:
        sold += [offering(zone, "spot", round(price * spot, 9)) for zone in zones]
    requirements = [expression("kubernetes.io/arch", "In", arch)] + [
        expression(key, "In", value) for key, value in (labels or {}).items()
    ]
    entry: Json = {
        "name": name,
        "requirements": requirements,
        "capacity": capacity,
        "offerings": list(sold if offerings is None else offerings),
    }
    entry.update(more)
    return entry


def catalog(*types: Json) -> Json:
    """Return a catalogue; without *types*, a small family of CPU and GPU machines."""
    return {"instanceTypes": list(types or SMALL_FAMILY)}


SMALL_FAMILY: tuple[Json, ...] = (
    instance_type("c.small", cpu="2", memory="4Gi", price=0.1),
    instance_type("c.large", cpu="8", memory="16Gi", price=0.4),
    instance_type("c.huge", cpu="32", memory="64Gi", price=1.6),
    instance_type("arm.large", cpu="8", memory="16Gi", price=0.3, arch="arm64"),
    instance_type("g.one", cpu="8", memory="32Gi", gpu=1, price=1.0),
    instance_type("g.four", cpu="32", memory="128Gi", gpu=4, price=4.4),
    instance_type("p.eight", cpu="96", memory="1Ti", gpu=8, price=30.0),
)
