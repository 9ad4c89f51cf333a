"""The Kubernetes adapter on the embedded API server, over TLS, as on EKS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from outrider.adapters.kube.client import JSON_PATCH, Client, Endpoint
from outrider.adapters.kube.cluster import KubeCluster
from outrider.apis import labels
from outrider.errors import Blocked, ClusterError, Conflict, Gone, Unreachable
from outrider.local.clock import ScaledClock
from outrider.local.kube import KubeAPI
from outrider.local.timeline import Timeline

pytestmark = pytest.mark.integration
NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
GROUP = "karpenter.sh"


def definition(group: str, kind: str, plural: str, version: str = "v1") -> dict[str, Any]:
    """Return a CRD that takes anything."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


def claim(name: str) -> dict[str, Any]:
    """Return a NodeClaim manifest."""
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {"name": name, "finalizers": [labels.TERMINATION_FINALIZER]},
        "spec": {"nodeClassRef": reference},
    }


def node(name: str, **spec: Any) -> dict[str, Any]:
    """Return a Node manifest."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def pod(name: str, on: str = "", **metadata: Any) -> dict[str, Any]:
    """Return a Pod manifest, bound to a node or waiting."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            **({"nodeName": on} if on else {}),
        },
    }


@pytest.fixture
def api() -> Iterator[KubeAPI]:
    """A served API without controllers or scheduler."""
    clock = ScaledClock()
    served = KubeAPI(clock, Timeline(clock), with_controllers=False)
    served.start()
    served.apply(
        definition(GROUP, "NodePool", "nodepools"),
        definition(GROUP, "NodeClaim", "nodeclaims"),
        definition("karpenter.k8s.aws", "EC2NodeClass", "ec2nodeclasses"),
    )
    yield served
    served.stop()
    clock.stop()


@pytest.fixture
def cluster(api: KubeAPI) -> KubeCluster:
    """The adapter, as the administrator."""
    client = Client(lambda: Endpoint(api.url, api.ca_pem), lambda: api.admin_token, lambda _: None)
    return KubeCluster(client, lambda: NOW)


def read(api: KubeAPI, path: str) -> Any:
    """Return the object at *path*."""
    client = Client(lambda: Endpoint(api.url, api.ca_pem), lambda: api.admin_token, lambda _: None)
    return client.get(path)


def test_state_is_everything_and_names_what_does_not_parse(
    api: KubeAPI, cluster: KubeCluster
) -> None:
    """A poison object is left out and named; all others are there; absent APIs mean none."""
    api.apply(node("n1"), pod("a", "n1"), pod("b"), claim("good"))
    bad = claim("bad")
    bad["spec"]["expireAfter"] = "soon"
    api.apply(bad)
    state = cluster.state()
    assert {found.key for found in state.pods} == {"default/a", "default/b"}
    assert [found.name for found in state.nodes] == ["n1"]
    assert [found.name for found in state.nodeclaims] == ["good"]
    assert len(state.invalid) == 1
    assert "NodeClaim bad" in str(state.invalid[0])


def test_pages_are_put_together(api: KubeAPI, cluster: KubeCluster) -> None:
    """More objects than one page holds are all read, each once."""
    api.apply(*(pod(f"p{number}") for number in range(1100)))
    assert len({found.key for found in cluster.state().pods}) == 1100


def test_the_cheap_look(api: KubeAPI, cluster: KubeCluster) -> None:
    """Pending is whether any pod waits for a node."""
    api.apply(node("n1"), pod("bound", "n1"))
    assert not cluster.pending()
    api.apply(pod("waits"))
    assert cluster.pending()


def test_a_node_and_what_is_on_it(api: KubeAPI, cluster: KubeCluster) -> None:
    """A drain reads its own node's pods and nobody else's, and the NodeClaims that it names."""
    api.apply(node("n1"), node("n2"), pod("a", "n1"), pod("b", "n2"), claim("c"), claim("d"))
    state = cluster.node_state("n1", ("c", "gone", "c"))
    assert [found.name for found in state.pods] == ["a"]
    assert [found.name for found in state.nodes] == ["n1"]
    assert [found.name for found in state.nodeclaims] == ["c"]


def test_taints_survive_concurrent_writers(api: KubeAPI, cluster: KubeCluster) -> None:
    """Eight writers that taint one node at once all get their taint on it."""
    api.apply(node("n1", taints=[{"key": "own", "effect": "NoSchedule"}]))
    keys = [f"k{number}" for number in range(8)]
    threads = [
        threading.Thread(
            target=KubeCluster(
                Client(
                    lambda: Endpoint(api.url, api.ca_pem),
                    lambda: api.admin_token,
                    lambda _: None,
                ),
                lambda: NOW,
            ).taint,
            args=("n1", key, "NoSchedule"),
            kwargs={"present": True},
        )
        for key in keys[:4]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cluster.taint("n1", "k0", "NoSchedule", present=True)
    found = {taint["key"] for taint in read(api, "/api/v1/nodes/n1")["spec"]["taints"]}
    assert {"own", *keys[:4]} <= found
    cluster.taint("n1", "k0", "NoSchedule", present=False)
    cluster.taint("n1", "k0", "NoSchedule", present=False)
    after = {taint["key"] for taint in read(api, "/api/v1/nodes/n1")["spec"]["taints"]}
    assert "k0" not in after
    assert "own" in after


def test_a_node_that_somebody_writes_to_is_opened_all_the_same(
    api: KubeAPI, cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server gives a patch up after some tries of its own: it is read and written then."""
    api.apply(node("busy", taints=[{"key": labels.UNREGISTERED_TAINT, "effect": "NoExecute"}]))
    seen = cluster.machines().nodes
    send = Client.send

    def refuse(client: Client, method: str, path: str, *body: Any, **named: Any) -> Any:
        if named.get("content_type") == JSON_PATCH:
            raise Conflict("the object has been modified", status=409)
        return send(client, method, path, *body, **named)

    monkeypatch.setattr(Client, "send", refuse)
    assert cluster.untaint_all(seen, labels.UNREGISTERED_TAINT, "NoExecute") == {}
    assert not read(api, "/api/v1/nodes/busy")["spec"].get("taints")


def test_nodes_are_opened_whatever_has_changed_since_they_were_read(
    api: KubeAPI, cluster: KubeCluster
) -> None:
    """The taint goes, others stay, also where the list is another by now; who is gone is told."""
    closed = {"key": labels.UNREGISTERED_TAINT, "effect": "NoExecute"}
    early, own = {"key": "early", "effect": "NoSchedule"}, {"key": "own", "effect": "NoSchedule"}
    for name in ("same", "shorter", "open", "gone"):
        api.apply(node(name, taints=[early, closed, own]))
    seen = cluster.machines().nodes
    api.apply(node("shorter", taints=[closed, own]))
    api.apply(node("open", taints=[early, own]))
    cluster.delete_node("gone")
    failed = cluster.untaint_all(seen, labels.UNREGISTERED_TAINT, "NoExecute")
    left = {
        name: [one["key"] for one in read(api, f"/api/v1/nodes/{name}")["spec"]["taints"]]
        for name in ("same", "shorter", "open")
    }
    assert left == {"same": ["early", "own"], "shorter": ["own"], "open": ["early", "own"]}
    assert set(failed) == {"gone"}


def test_writes_are_repeatable(api: KubeAPI, cluster: KubeCluster) -> None:
    """Every write may be made twice, also on what is gone."""
    api.apply(node("n1"), pod("a", "n1"))
    for _ in range(2):
        cluster.create_nodeclaim(claim("c"))
        cluster.patch_nodeclaim("c", {"metadata": {"annotations": {"x": "y"}}})
        cluster.patch_nodeclaim_status("c", {"nodeName": "n1"})
        cluster.patch_node("n1", {"metadata": {"labels": {"l": "v"}}})
        cluster.nominate("default/a", "n1")
    assert read(api, "/apis/karpenter.sh/v1/nodeclaims/c")["status"] == {"nodeName": "n1"}
    for _ in range(2):
        cluster.delete_nodeclaim("c")
        cluster.release_nodeclaim("c")
        cluster.delete_pod("default/a", "", 1)
        cluster.delete_node("n1")
    with pytest.raises(Gone):
        read(api, "/apis/karpenter.sh/v1/nodeclaims/c")
    with pytest.raises(Gone):
        cluster.taint("n1", "k", "NoSchedule", present=True)


def test_a_deleted_claim_waits_for_its_finalizer(api: KubeAPI, cluster: KubeCluster) -> None:
    """Deleting only marks; releasing lets it go."""
    cluster.create_nodeclaim(claim("c"))
    cluster.delete_nodeclaim("c")
    assert read(api, "/apis/karpenter.sh/v1/nodeclaims/c")["metadata"]["deletionTimestamp"]
    cluster.release_nodeclaim("c")
    assert cluster.state().nodeclaims == ()


def test_a_budget_blocks_an_eviction(api: KubeAPI, cluster: KubeCluster) -> None:
    """429 is Blocked; a pod that is gone, or another of that name, counts as evicted."""
    api.apply(node("n1"), pod("a", "n1", labels={"app": "x"}))
    api.apply(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "pdb", "namespace": "default"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "x"}}},
        }
    )
    cluster.evict("default/a", "00000000-0000-0000-0000-000000000000")
    running = {"status": {"phase": "Running"}}  # a budget does not hold a pod that never ran
    client = Client(lambda: Endpoint(api.url, api.ca_pem), lambda: api.admin_token, lambda _: None)
    path = "/api/v1/namespaces/default/pods/a/status"
    client.send("PATCH", path, running, content_type="application/merge-patch+json")
    with pytest.raises(Blocked):
        cluster.evict("default/a", "")
    cluster.evict("default/nobody", "")
    assert cluster.node_state("n1").pods[0].deleted is None


def test_events_are_told_once_and_counted(api: KubeAPI) -> None:
    """The same words about the same object are one Event; a repetition counts every two minutes."""
    times = iter(NOW + timedelta(minutes=minute) for minute in (0, 1, 3, 4, 6, 6))
    client = Client(lambda: Endpoint(api.url, api.ca_pem), lambda: api.admin_token, lambda _: None)
    cluster = KubeCluster(client, lambda: next(times))
    involved = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1"}
    for _ in range(5):
        cluster.event(involved, "Draining", "because", warning=True)
    cluster.event(involved, "Draining", "x" * 5000)
    events = read(api, "/api/v1/namespaces/default/events")["items"]
    assert sorted(event.get("count") for event in events) == [1, 3]
    assert max(len(event["message"]) for event in events) <= 1024


def test_anothers_karpenter_is_seen(api: KubeAPI, cluster: KubeCluster) -> None:
    """A Lease renewed within a minute by somebody else means that a Karpenter lives."""

    def lease(holder: str, renewed: str) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "karpenter-leader-election", "namespace": "kube-system"},
            "spec": {"holderIdentity": holder, "renewTime": renewed},
        }

    assert not cluster.karpenter_is_live(NOW)
    api.apply(lease("karpenter-7d_1", "2026-03-02T13:59:30.000000Z"), namespace="kube-system")
    assert cluster.karpenter_is_live(NOW)
    api.apply(lease("karpenter-7d_1", "2026-03-02T13:58:30.000000Z"), namespace="kube-system")
    assert not cluster.karpenter_is_live(NOW)


def test_no_answer_is_unreachable() -> None:
    """A port where nobody listens is tried a few times and then named."""
    client = Client(lambda: Endpoint("https://127.0.0.1:1"), lambda: "t", lambda _: None)
    with pytest.raises(Unreachable):
        client.get("/api/v1/nodes")


def test_a_wrong_token_is_refused(api: KubeAPI) -> None:
    """401 is an error of its own status, tried once more and no further."""
    client = Client(lambda: Endpoint(api.url, api.ca_pem), lambda: "wrong", lambda _: None)
    with pytest.raises(ClusterError) as refused:
        client.get("/api/v1/nodes")
    assert refused.value.status == 401


@pytest.mark.parametrize("writers", [1, 4])
def test_writes_go_together(api: KubeAPI, writers: int) -> None:
    """All are made, however many at a time; the first that fails is raised when all have ended."""
    endpoint = Endpoint(api.url, api.ca_pem)
    client = Client(lambda: endpoint, lambda: api.admin_token, lambda _: None, writers)
    done: list[int] = []

    def write(number: int) -> None:
        if number in {3, 5}:
            raise Conflict(f"the name {number} is taken", 409)
        done.append(number)

    with pytest.raises(Conflict, match="3 is taken"):
        client.together([partial(write, number) for number in range(8)])
    assert sorted(done) == ([0, 1, 2] if writers == 1 else [0, 1, 2, 4, 6, 7])
    client.together([])
