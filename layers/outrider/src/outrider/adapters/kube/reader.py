"""The cluster as one value: every list that planning asks about, read in pages, projected at once.

An object that does not parse is left out and named in `ClusterState.invalid`; one poison object
never stops the rest. Kinds of APIs that a cluster need not have (overlays, buffers, gangs, DRA)
are read where they are served: a 404 or a 403 there means "none". Finished pods are not asked for.

Also the two cheap looks: whether any pod waits at all, and whether somebody else's Karpenter lives
in the cluster. Refuses to know what a plan does with the state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from outrider.adapters.kube.client import Client
from outrider.adapters.kube.memory import Memory, unhurried
from outrider.apis import duration, manifest
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.errors import ClusterError, Gone, InvalidManifest

ALIVE = timedelta(minutes=1)
WAITING = "spec.nodeName=,status.phase=Pending"
KARPENTER_LEASE = "karpenter-leader-election"
OURS = "outrider"


@dataclass(frozen=True, slots=True)
class Resource:
    """One list to read: its apiVersion, its plural, and the kind of its items."""

    api_version: str
    plural: str
    kind: str
    optional: bool = False
    field_selector: str = ""

    @property
    def group(self) -> str:
        """Return the API group, "" for the core one: what RBAC rules name."""
        return self.api_version.rpartition("/")[0]

    @property
    def path(self) -> str:
        """Return where the list of all namespaces is."""
        root = "apis" if "/" in self.api_version else "api"
        return f"/{root}/{self.api_version}/{self.plural}"


RESOURCES: tuple[Resource, ...] = (
    Resource("v1", "pods", "Pod", field_selector="status.phase!=Succeeded,status.phase!=Failed"),
    Resource("v1", "nodes", "Node"),
    Resource("v1", "namespaces", "Namespace"),
    Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource("v1", "persistentvolumes", "PersistentVolume"),
    Resource("apps/v1", "daemonsets", "DaemonSet"),
    Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass"),
    Resource("node.k8s.io/v1", "runtimeclasses", "RuntimeClass"),
    Resource("storage.k8s.io/v1", "storageclasses", "StorageClass"),
    Resource("storage.k8s.io/v1", "csinodes", "CSINode"),
    Resource("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment"),
    Resource("karpenter.sh/v1", "nodepools", "NodePool"),
    Resource("karpenter.sh/v1", "nodeclaims", "NodeClaim"),
    Resource("karpenter.k8s.aws/v1", "ec2nodeclasses", "EC2NodeClass"),
    Resource("karpenter.sh/v1alpha1", "nodeoverlays", "NodeOverlay", optional=True),
    Resource("autoscaling.x-k8s.io/v1beta1", "capacitybuffers", "CapacityBuffer", optional=True),
    Resource("autoscaling.x-k8s.io/v1alpha1", "capacitybuffers", "CapacityBuffer", optional=True),
    Resource("resource.k8s.io/v1", "resourceclaims", "ResourceClaim", optional=True),
    Resource(
        "resource.k8s.io/v1", "resourceclaimtemplates", "ResourceClaimTemplate", optional=True
    ),
    Resource("resource.k8s.io/v1", "resourceslices", "ResourceSlice", optional=True),
    Resource("resource.k8s.io/v1", "deviceclasses", "DeviceClass", optional=True),
    Resource("scheduling.k8s.io/v1alpha1", "workloads", "Workload", optional=True),
    Resource("scheduling.x-k8s.io/v1alpha1", "podgroups", "PodGroup", optional=True),
    Resource("jobset.x-k8s.io/v1alpha2", "jobsets", "JobSet", optional=True),
    Resource("kueue.x-k8s.io/v1beta1", "workloads", "Workload", optional=True),
)

AROUND_A_NODE: Mapping[str, str] = {
    "Pod": "spec.nodeName={}",
    "Node": "metadata.name={}",
    "PersistentVolumeClaim": "",
    "PodDisruptionBudget": "",
    "VolumeAttachment": "",
}
"""What a drain has to see, a few times a minute for each node: the field selector of each list."""


SCALABLE: Mapping[str, str] = {
    "PodTemplate": "/api/v1/namespaces/{}/podtemplates/{}",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets/{}",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
    "Job": "/apis/batch/v1/namespaces/{}/jobs/{}",
}
"""Where the objects are that a CapacityBuffer may refer to, by namespace and name."""


MACHINES = frozenset({"Node", "NodeClaim", "NodePool", "EC2NodeClass"})
"""What says how nodes join: lists that stay small however many pods there are."""

TERRAIN = MACHINES | {"DaemonSet", "DeviceClass"}
"""What nodes are made of and what runs on each of them: as small."""


class Reader:
    """Reads of one cluster over *client*."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._memory = Memory()
        self._absent: set[str] = set()  # optional lists that this cluster does not serve

    def pending(self) -> bool:
        """Return whether any pod waits for a node: the cheap look before `state`."""
        page = self._client.get("/api/v1/pods", fieldSelector=WAITING, limit="1")
        return bool(page.get("items"))

    def waiting(self) -> tuple[Pod, ...]:
        """Return the pods that wait for a node, malformed ones left out."""
        pods = next(resource for resource in RESOURCES if resource.kind == "Pod")
        return self._read([replace(pods, field_selector=WAITING)]).pods

    def state(self) -> ClusterState:
        """Return the cluster as it is now; malformed objects are left out and listed in it."""
        return self._read(RESOURCES)

    def node_state(self, name: str, nodeclaims: Collection[str] = ()) -> ClusterState:
        """Return one Node, its pods and what holds them: the budgets, claims and attachments; and
        of the NodeClaims those that are named.

        Every drain asks this every few seconds, so its cost must not grow with the cluster.
        """
        narrow = [
            replace(resource, field_selector=selector.format(name))
            for resource in RESOURCES
            if (selector := AROUND_A_NODE.get(resource.kind)) is not None
        ]
        claims = next(resource for resource in RESOURCES if resource.kind == "NodeClaim")
        named = [
            replace(claims, field_selector=f"metadata.name={claim}")
            for claim in dict.fromkeys(nodeclaims)
        ]
        return self._read([*narrow, *named])

    def machines(self) -> ClusterState:
        """Return Nodes, NodeClaims, NodePools and node classes, without any pod."""
        return self._read(resource for resource in RESOURCES if resource.kind in MACHINES)

    def terrain(self) -> ClusterState:
        """Return `machines` with DaemonSets and device classes, without any pod."""
        return self._read(resource for resource in RESOURCES if resource.kind in TERRAIN)

    def _read(self, resources: Iterable[Resource]) -> ClusterState:
        objects: list[object] = []
        invalid: list[InvalidManifest] = []
        with unhurried():
            self._read_into(objects, invalid, resources)
        objects.extend(self._buffered(objects, invalid))
        state = ClusterState.of(objects)
        return replace(state, invalid=(*state.invalid, *invalid)) if invalid else state

    def _read_into(
        self,
        objects: list[object],
        invalid: list[InvalidManifest],
        resources: Iterable[Resource],
    ) -> None:
        for resource in resources:
            parse = self._memory.reading(resource.path, whole=resource in RESOURCES)
            for item in self._items(resource):
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                try:
                    read = parse(item)
                except InvalidManifest as error:
                    invalid.append(
                        error.of(where="cluster", thing=_thing(item), about=_about(item))
                    )
                    continue
                if read is not None:
                    objects.append(read)

    def _buffered(
        self, objects: Iterable[object], invalid: list[InvalidManifest]
    ) -> Iterator[object]:
        """Yield what CapacityBuffers among *objects* refer to: each is asked for by its name."""
        for item in objects:
            if type(item).__name__ != "CapacityBuffer":
                continue
            path = _referred(item)
            if path is None:
                continue
            try:
                read = manifest.parse(self._client.get(path))
            except InvalidManifest as error:
                invalid.append(error.of(where="cluster"))
                continue
            except ClusterError as error:
                if not isinstance(error, Gone) and error.status != 403:
                    raise
                continue
            if read is not None:
                yield read

    def karpenter_is_live(self, now: datetime) -> bool:
        """Return whether another's Karpenter has renewed its Lease within a minute of *now*."""
        leases = self._client.items(
            "/apis/coordination.k8s.io/v1/leases",
            fieldSelector=f"metadata.name={KARPENTER_LEASE}",
        )
        return any(_renewed(lease, now) for lease in leases)

    def _items(self, resource: Resource) -> Iterator[dict[str, Any]]:
        if resource.path in self._absent:
            return
        selector = {"fieldSelector": resource.field_selector} if resource.field_selector else {}
        try:
            yield from self._client.items(resource.path, **selector)
        except ClusterError as error:
            missing = isinstance(error, Gone) or error.status == 403
            if not (resource.optional and missing):
                raise
            self._absent.add(resource.path)


def _referred(buffer: Any) -> str | None:
    """Return where the object is that a CapacityBuffer keeps room for."""
    spec, namespace = buffer.spec, buffer.metadata.namespace
    reference = spec.pod_template_ref or spec.scalable_ref
    kind = "PodTemplate" if spec.pod_template_ref else reference.kind
    root = SCALABLE.get(kind)
    return root.format(namespace, reference.name) if root else None


def _thing(item: dict[str, Any]) -> str:
    """Return `Kind namespace/name`, whatever else is wrong with *item*."""
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = "/".join(str(metadata[part]) for part in ("namespace", "name") if metadata.get(part))
    return f"{item.get('kind', '')} {name}".strip()


def _about(item: dict[str, Any]) -> dict[str, str]:
    """Return how an Event refers to *item*; nothing where it has no name."""
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if not metadata.get("name"):
        return {}
    named = {part: metadata[part] for part in ("name", "namespace", "uid") if metadata.get(part)}
    said = {"apiVersion": item["apiVersion"], "kind": item["kind"], **named}
    return {key: str(value) for key, value in said.items()}


def _renewed(lease: dict[str, Any], now: datetime) -> bool:
    """Return whether another's *lease* is fresh; one without a holder or a time is nobody's."""
    spec = lease.get("spec") or {}
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime")
    if not holder or not renewed or holder.startswith(OURS):
        return False
    try:
        return now - duration.instant(renewed) < ALIVE
    except InvalidManifest:
        return False
