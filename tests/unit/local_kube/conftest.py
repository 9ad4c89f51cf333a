"""A cluster in virtual time, without sockets.

`cluster` has the API, scheduler, controllers and kubelets on a DiscreteClock: it moves when a test
says so. Nothing is mocked; webhooks are reached through a transport that the test gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from outrider.local.clock import DiscreteClock
from outrider.local.kube import Gpu, InstanceFacts, KubeAPI, Timings
from outrider.local.kube.calls import Call, Deletion
from outrider.local.kube.eviction import evict
from outrider.local.kube.objects import Obj
from outrider.local.kube.patch import merge
from outrider.local.kube.status import StatusError
from outrider.local.timeline import Timeline

START = datetime(2026, 1, 1, tzinfo=UTC)
ENDPOINT = "https://127.0.0.1:6443"
NODE_CONFIG = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="BOUNDARY"

--BOUNDARY
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: {cluster}
    apiServerEndpoint: {endpoint}
    certificateAuthority: Q0E=
    cidr: 10.100.0.0/16
  kubelet:
    config:
      maxPods: 58
      registerWithTaints: {taints}
    flags:
      - --node-labels=karpenter.sh/nodepool=gpu,karpenter.sh/capacity-type=spot
--BOUNDARY--
"""


def user_data(cluster: str = "local", endpoint: str = ENDPOINT, taints: str = "[]") -> str:
    """Return AL2023 user data."""
    return NODE_CONFIG.format(cluster=cluster, endpoint=endpoint, taints=taints)


def facts(number: int = 1, **changes: Any) -> InstanceFacts:
    """Return a running g6.xlarge."""
    values: dict[str, Any] = {
        "instance_id": f"i-{number:017x}",
        "instance_type": "g6.xlarge",
        "zone": "us-east-1a",
        "zone_id": "use1-az1",
        "private_ip": f"10.0.0.{number}",
        "private_dns": f"ip-10-0-0-{number}.ec2.internal",
        "arch": "amd64",
        "vcpus": 4,
        "memory_mib": 16384,
        "gpus": (Gpu("l4", "NVIDIA", 1, 22888),),
        "user_data": user_data(),
        **changes,
    }
    return InstanceFacts(**values)


def pod(name: str, cpu: str = "100m", **spec: Any) -> Obj:
    """Return a pod; `labels`, `annotations` and `requests` are put where they belong."""
    requests = {"cpu": cpu, **spec.pop("requests", {})}
    extended = {key: value for key, value in requests.items() if "/" in key}
    meta = {
        "name": name,
        "labels": spec.pop("labels", {}),
        "annotations": spec.pop("annotations", {}),
    }
    container = {"name": "main", "image": "example.com/app:1", "resources": {"requests": requests}}
    if extended:
        container["resources"]["limits"] = extended  # type: ignore[index]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container], **spec},
    }


def node(name: str, **changes: Any) -> Obj:
    """Return a Node that a client posts: no kubelet, room for 4 CPU."""
    room = {"cpu": "4", "memory": "16Gi", "pods": "20", **changes.pop("room", {})}
    labels = {"kubernetes.io/hostname": name, **changes.pop("labels", {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": changes,
        "status": {"capacity": room, "allocatable": room},
    }


class TestCluster:
    """A cluster and the verbs by which tests talk to it."""

    __test__ = False

    def __init__(self, kube: KubeAPI, clock: DiscreteClock, timeline: Timeline) -> None:
        self.kube = kube
        self.api = kube.api
        self.clock = clock
        self.timeline = timeline

    def run(self, seconds: float = 1.0) -> None:
        """Let so much time pass."""
        self.clock.run(seconds)

    def apply(self, *manifests: Obj) -> None:
        """Apply manifests into the default namespace."""
        self.kube.apply(*manifests)

    def get(self, storage: str, name: str, namespace: str = "default") -> Obj:
        """Return an object."""
        resource = self.api.resource(storage)
        key = (namespace if resource.namespaced else "", name)
        return self.api.entry(resource, key).object

    def all(self, storage: str) -> list[Obj]:
        """Return every object of a kind."""
        return self.kube.store.objects(storage)

    def pod(self, name: str) -> Obj:
        """Return a pod."""
        return self.get("pods", name)

    def where(self, name: str) -> str:
        """Return the node of a pod, "" where it has none."""
        found: str = self.pod(name)["spec"].get("nodeName", "")
        return found

    def merge(self, storage: str, name: str, body: Obj, subresource: str = "") -> Obj:
        """Lay a merge patch over an object."""
        resource = self.api.resource(storage)
        key = ("default" if resource.namespaced else "", name)

        def change(one: Obj) -> Obj:
            merged: Obj = merge(one, body)
            return merged

        return self.api.patch(resource, key, change, Call(), subresource).object

    def delete(self, storage: str, name: str, **options: Any) -> None:
        """Delete an object."""
        resource = self.api.resource(storage)
        key = ("default" if resource.namespaced else "", name)
        self.api.delete(resource, key, Deletion(**options), Call())

    def evict(self, name: str) -> int:
        """Evict a pod and return the answer's status."""
        try:
            evict(self.api, ("default", name), {}, Call())
        except StatusError as refusal:
            return refusal.code
        return 201

    def said(self, kind: str) -> list[dict[str, Any]]:
        """Return the timeline's entries of one kind."""
        return [one for one in self.timeline.entries() if one["kind"] == kind]


Build = Callable[..., TestCluster]


@pytest.fixture
def build() -> Iterator[Build]:
    """Make clusters, and stop their clocks in the end."""
    clocks: list[DiscreteClock] = []

    def make(**options: Any) -> TestCluster:
        clock = DiscreteClock(START)
        clocks.append(clock)
        timeline = Timeline(clock)
        quick = Timings(join=5.0, join_jitter=3.0, ready=3.0, devices=4.0)
        kube = KubeAPI(clock, timeline, **{"timings": quick, **options})
        kube.kubelets.endpoint = ENDPOINT
        return TestCluster(kube, clock, timeline)

    yield make
    for clock in clocks:
        clock.stop()


@pytest.fixture
def cluster(build: Build) -> TestCluster:
    """Give one cluster."""
    return build()
