"""What the demo sees of its cluster: the API as a person with kubectl does, and rival plans for it.

Reads through the same reader that the functions use, plans with the same planner, so that the
first-fit figure in the report is what `outrider plan --strategy first-fit` would say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from outrider.adapters.aws.ledger import Ledger
from outrider.adapters.aws.session import Session
from outrider.adapters.kube.client import Client, Endpoint
from outrider.adapters.kube.reader import Reader
from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.protection import movable
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.result import Plan
from outrider.errors import NotFound
from outrider.local.aws import REGION
from outrider.local.cloud import Cloud
from outrider.local.demo.record import NodeLife, PackedNode, PackedPod

GPU = "nvidia.com/gpu"


class _Administrator(Session):
    """The account's administrator, where an adapter expects a function's session."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(REGION)
        self._cloud = cloud

    def client(self, service: str) -> Any:
        """Return the administrator's client of *service*."""
        return self._cloud.client(service)


class View:
    """A person's view of the demo's cluster."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        client = Client(
            lambda: Endpoint(cloud.kube.url, cloud.kube.ca_pem),
            lambda: str(cloud.kube.admin_token),
            cloud.clock.sleep,
        )
        self._client = client
        self._reader = Reader(client)

    def state(self) -> ClusterState:
        """Return the cluster as it is now."""
        return self._reader.state()

    def apply(self, folder: Path) -> None:
        """Apply every manifest under *folder*."""
        self.apply_objects(*(one for path in sorted(folder.rglob("*.yaml")) for one in _read(path)))

    def apply_objects(self, *objects: Mapping[str, Any]) -> None:
        """Apply *objects* as an administrator."""
        if self._cloud.cluster is not None:
            self._cloud.cluster.apply(objects)

    def has_catalog(self) -> bool:
        """Return whether the ledger holds a catalogue yet."""
        try:
            return bool(self._ledger().catalog().instance_types)
        except NotFound:
            return False

    def daemon_sets(self) -> tuple[str, ...]:
        """Return what the names of DaemonSets' pods begin with."""
        return tuple(f"{one.namespace}/{one.name}-" for one in self.state().daemonsets)

    def movable_pods(self) -> dict[str, tuple[Pod, ...]]:
        """Return, by node, the pods that have to go elsewhere when it goes."""
        state = self.state()
        return {
            node.name: tuple(pod for pod in state.pods_on(node.name) if movable(pod))
            for node in state.nodes
        }

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        """Set a Deployment's replicas."""
        self._client.send(
            "PATCH",
            f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
            {"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
        )

    def rival(self, strategy: str) -> Plan:
        """Return what *strategy* would launch for the pods that wait now."""
        state, now = self.state(), self._cloud.clock.now()
        policy = replace(Policy(), strategy=strategy)
        return plan(state, pending(state, now), self._ledger().catalog(), policy, now)

    def packing(self, lives: Iterable[NodeLife]) -> tuple[PackedNode, ...]:
        """Return each living node with what is on it."""
        state = self.state()
        by_node = {life.node: life for life in lives if life.gone is None and life.node}
        nodes = [node for node in state.nodes if node.name in by_node]
        nodes.sort(key=lambda node: (by_node[node.name].node_pool, node.name))
        return tuple(_packed(node, by_node[node.name], state.pods_on(node.name)) for node in nodes)

    def _ledger(self) -> Ledger:
        cloud = self._cloud
        table = cloud.stack.outputs["LedgerTable"] if cloud.stack else ""
        return Ledger(_Administrator(cloud), table, cloud.clock.now)


def _packed(node: Node, life: NodeLife, pods: Sequence[Pod]) -> PackedNode:
    return PackedNode(
        node.name,
        life.instance_type,
        life.node_pool,
        life.capacity_type,
        life.zone,
        life.price_per_hour,
        node.allocatable.get("cpu", 0),
        node.allocatable.get("memory", 0),
        node.allocatable.get(GPU, 0),
        tuple(
            PackedPod(
                pod.key,
                _workload(pod),
                pod.requests.get("cpu", 0),
                pod.requests.get("memory", 0),
                pod.requests.get(GPU, 0),
            )
            for pod in pods
            if pod.phase == "Running"
        ),
    )


def _workload(pod: Pod) -> str:
    """Return what a person calls the pod's workload; a node's own pods are one colour."""
    if any(owner.kind == "DaemonSet" for owner in pod.owners):
        return "daemons"
    for key in ("app", "job"):
        if key in pod.labels:
            return pod.labels[key]
    return pod.name.rpartition("-")[0] or pod.name


def _read(path: Path) -> list[Mapping[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]
