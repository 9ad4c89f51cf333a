"""ClusterState: the cluster at one instant, as a value.

Decides how objects belong together: which pods are on which node, which NodeClaim is which
node's, what a pod's priority and overhead are (its PriorityClass and RuntimeClass filled in, as
admission would have). `without` gives the cluster after some nodes are gone. Refuses to know
where the objects came from and what becomes of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from outrider.apis.devices import (
    DeviceClass,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from outrider.apis.gang import JobSet, PodGroup, QueuedWorkload
from outrider.apis.node import Node
from outrider.apis.placement import Constraints
from outrider.apis.pod import Pod
from outrider.apis.policy import Namespace, PodDisruptionBudget, PriorityClass, RuntimeClass
from outrider.apis.storage import (
    CSINode,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
    VolumeAttachment,
)
from outrider.apis.workload import DaemonSet, Workload
from outrider.core.resources import total
from outrider.errors import InvalidManifest

TYPE_CHECKING = False
if TYPE_CHECKING:  # pydantic's models cost 0.1 s to import, which a drain need not pay
    from outrider.apis.buffer import CapacityBuffer
    from outrider.apis.nodeclaim import NodeClaim
    from outrider.apis.nodeclass import EC2NodeClass
    from outrider.apis.nodepool import NodePool
    from outrider.apis.overlay import NodeOverlay


@dataclass(frozen=True)
class ClusterState:
    """Everything in the cluster that decisions ask about."""

    pods: tuple[Pod, ...] = ()
    nodes: tuple[Node, ...] = ()
    nodepools: tuple[NodePool, ...] = ()
    nodeclasses: tuple[EC2NodeClass, ...] = ()
    nodeclaims: tuple[NodeClaim, ...] = ()
    daemonsets: tuple[DaemonSet, ...] = ()
    pdbs: tuple[PodDisruptionBudget, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    priority_classes: tuple[PriorityClass, ...] = ()
    runtime_classes: tuple[RuntimeClass, ...] = ()
    pvcs: tuple[PersistentVolumeClaim, ...] = ()
    pvs: tuple[PersistentVolume, ...] = ()
    storage_classes: tuple[StorageClass, ...] = ()
    csinodes: tuple[CSINode, ...] = ()
    volume_attachments: tuple[VolumeAttachment, ...] = ()
    owners: tuple[Workload, ...] = ()
    overlays: tuple[NodeOverlay, ...] = ()
    buffers: tuple[CapacityBuffer, ...] = ()
    resource_claims: tuple[ResourceClaim, ...] = ()
    resource_claim_templates: tuple[ResourceClaimTemplate, ...] = ()
    resource_slices: tuple[ResourceSlice, ...] = ()
    device_classes: tuple[DeviceClass, ...] = ()
    pod_groups: tuple[PodGroup, ...] = ()
    job_sets: tuple[JobSet, ...] = ()
    queued: tuple[QueuedWorkload, ...] = ()
    invalid: tuple[InvalidManifest, ...] = ()
    _index: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, objects: Iterable[object]) -> ClusterState:
        """Return the state that consists of *objects*, pods as admission would have left them."""
        found: dict[str, list[Any]] = defaultdict(list)
        for item in objects:
            for piece in item if isinstance(item, tuple) else (item,):
                place = _PLACES.get(type(piece).__name__)
                if place is not None:
                    found[place].append(piece)
        admit = _admission(found["priority_classes"], found["runtime_classes"])
        found["pods"] = [admit(pod) for pod in found["pods"]]
        found["daemonsets"] = [
            replace(daemon, template=admit(daemon.template)) for daemon in found["daemonsets"]
        ]
        lists: dict[str, Any] = {place: tuple(items) for place, items in found.items()}
        return cls(**lists)

    def without(self, *node_names: str) -> ClusterState:
        """Return the state after the nodes called *node_names*, their claims and pods are gone."""
        gone = set(node_names)
        claims = {claim.name for name in gone if (claim := self.claim_of(name)) is not None} | gone
        return self._with(
            nodes=tuple(node for node in self.nodes if node.name not in gone),
            nodeclaims=tuple(claim for claim in self.nodeclaims if claim.name not in claims),
            pods=tuple(pod for pod in self.pods if pod.node_name not in gone or not pod.node_name),
            csinodes=tuple(item for item in self.csinodes if item.name not in gone),
            volume_attachments=tuple(
                item for item in self.volume_attachments if item.node not in gone
            ),
        )

    def with_pods(self, pods: Iterable[Pod]) -> ClusterState:
        """Return the state with exactly *pods*."""
        return self._with(pods=tuple(pods))

    def with_nodeclaims(self, claims: Iterable[NodeClaim]) -> ClusterState:
        """Return the state with *claims* as well; one of a name that is known replaces it."""
        known = {claim.name: claim for claim in self.nodeclaims}
        known.update((claim.name, claim) for claim in claims)
        return self._with(nodeclaims=tuple(known.values()))

    def with_nodeclasses(self, classes: Iterable[EC2NodeClass]) -> ClusterState:
        """Return the state with *classes* in place of those of the same name."""
        known = {item.name: item for item in self.nodeclasses}
        known.update((item.name, item) for item in classes)
        return self._with(nodeclasses=tuple(known.values()))

    def _with(self, **changes: Any) -> ClusterState:
        kept = {item.name: getattr(self, item.name) for item in fields(self)}
        return ClusterState(**{**kept, **changes, "_index": {}})

    def node(self, name: str) -> Node | None:
        """Return the Node called *name*."""
        return self._by("node", self.nodes, lambda item: item.name).get(name)

    def nodepool(self, name: str) -> NodePool | None:
        """Return the NodePool called *name*."""
        return self._by("nodepool", self.nodepools, lambda item: item.name).get(name)

    def nodeclass(self, name: str) -> EC2NodeClass | None:
        """Return the EC2NodeClass called *name*."""
        return self._by("nodeclass", self.nodeclasses, lambda item: item.name).get(name)

    def nodeclaim(self, name: str) -> NodeClaim | None:
        """Return the NodeClaim called *name*."""
        return self._by("nodeclaim", self.nodeclaims, lambda item: item.name).get(name)

    def pod(self, key: str) -> Pod | None:
        """Return the Pod *key* (`namespace/name`)."""
        return self._by("pod", self.pods, lambda item: item.key).get(key)

    def namespace(self, name: str) -> Namespace | None:
        """Return the Namespace called *name*."""
        return self._by("namespace", self.namespaces, lambda item: item.name).get(name)

    def pods_on(self, node_name: str) -> tuple[Pod, ...]:
        """Return the pods bound to a node, finished ones left out."""
        index = self._index.get("pods_on")
        if index is None:
            grouped: dict[str, list[Pod]] = defaultdict(list)
            for pod in self.pods:
                if pod.node_name and not pod.finished:
                    grouped[pod.node_name].append(pod)
            index = {name: tuple(pods) for name, pods in grouped.items()}
            self._index["pods_on"] = index
        found: tuple[Pod, ...] = index.get(node_name, ())
        return found

    def claim_of(self, node: Node | str) -> NodeClaim | None:
        """Return the NodeClaim of a node: by provider id, else by the name in its status."""
        name = node if isinstance(node, str) else node.name
        known = self.node(name)
        provider_id = known.provider_id if known else ""
        if provider_id:
            by_provider = self._by(
                "claim_by_provider", self.nodeclaims, lambda item: item.status.provider_id
            )
            if provider_id in by_provider:
                found: NodeClaim = by_provider[provider_id]
                return found
        by_node = self._by("claim_by_node", self.nodeclaims, lambda item: item.status.node_name)
        return by_node.get(name)

    def node_of(self, claim: NodeClaim) -> Node | None:
        """Return the Node of a NodeClaim, None while there is none."""
        if claim.status.provider_id:
            by_provider = self._by("node_by_provider", self.nodes, lambda item: item.provider_id)
            if claim.status.provider_id in by_provider:
                found: Node = by_provider[claim.status.provider_id]
                return found
        return self.node(claim.status.node_name) if claim.status.node_name else None

    def _by(self, index: str, items: Iterable[Any], key: Callable[[Any], str]) -> dict[str, Any]:
        found = self._index.get(index)
        if found is None:
            found = {key(item): item for item in items}
            found.pop("", None)
            self._index[index] = found
        return found


# By name, so that the pydantic kinds need not be imported to be recognised.
_PLACES: Mapping[str, str] = {
    "Pod": "pods",
    "Node": "nodes",
    "NodePool": "nodepools",
    "EC2NodeClass": "nodeclasses",
    "NodeClaim": "nodeclaims",
    "DaemonSet": "daemonsets",
    "PodDisruptionBudget": "pdbs",
    "Namespace": "namespaces",
    "PriorityClass": "priority_classes",
    "RuntimeClass": "runtime_classes",
    "PersistentVolumeClaim": "pvcs",
    "PersistentVolume": "pvs",
    "StorageClass": "storage_classes",
    "CSINode": "csinodes",
    "VolumeAttachment": "volume_attachments",
    "Workload": "owners",
    "NodeOverlay": "overlays",
    "CapacityBuffer": "buffers",
    "ResourceClaim": "resource_claims",
    "ResourceClaimTemplate": "resource_claim_templates",
    "ResourceSlice": "resource_slices",
    "DeviceClass": "device_classes",
    "PodGroup": "pod_groups",
    "JobSet": "job_sets",
    "QueuedWorkload": "queued",
}


def _admission(
    priority_classes: Iterable[PriorityClass], runtime_classes: Iterable[RuntimeClass]
) -> Callable[[Pod], Pod]:
    """Return what admission does to a pod that came without it: priority, overhead, constraints."""
    priorities = {item.name: item.value for item in priority_classes}
    default = max((item.value for item in priority_classes if item.global_default), default=0)
    runtimes = {item.name: item for item in runtime_classes}

    def admit(pod: Pod) -> Pod:
        changes: dict[str, Any] = {}
        if not pod.has_priority:
            priority = priorities.get(
                pod.priority_class_name,
                _SYSTEM.get(pod.priority_class_name, 0) if pod.priority_class_name else default,
            )
            if priority != pod.priority:
                changes["priority"] = priority
        runtime = runtimes.get(pod.runtime_class_name) if pod.runtime_class_name else None
        if runtime is not None:
            if not pod.has_overhead and runtime.overhead:
                changes["requests"] = total((pod.requests, runtime.overhead))
            changes["constraints"] = _constrained(pod.constraints, runtime)
        return replace(pod, **changes) if changes else pod

    return admit


_SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def _constrained(constraints: Constraints, runtime: RuntimeClass) -> Constraints:
    return replace(
        constraints,
        node_selector=tuple(sorted({*constraints.node_selector, *runtime.node_selector})),
        tolerations=tuple(dict.fromkeys((*constraints.tolerations, *runtime.tolerations))),
    )
