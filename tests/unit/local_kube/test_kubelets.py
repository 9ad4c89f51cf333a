"""Kubelets: instances become Nodes by their user data, and pods live and end on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from outrider.core.seeding import estimate
from outrider.core.seeding.images import UNPACKED_FACTOR
from outrider.local.kube import Faults, Timings
from outrider.local.kube.client import LocalClient
from outrider.local.kube.objects import Obj, is_true
from outrider.local.kube.status import StatusError
from tests.unit.local_kube.conftest import Build, TestCluster, facts, pod, user_data

NAME = "ip-10-0-0-1.ec2.internal"


def test_an_instance_becomes_a_node(cluster: TestCluster) -> None:
    """The Node has the labels, taints and provider id that a real one has, and turns Ready."""
    taints = "[{key: karpenter.sh/unregistered, effect: NoExecute}]"
    cluster.kube.kubelets.instance_running(facts(user_data=user_data(taints=taints)))
    cluster.run(8)
    node = cluster.get("nodes", NAME)
    labels = node["metadata"]["labels"]
    assert node["spec"]["providerID"] == f"aws:///us-east-1a/{facts().instance_id}"
    assert labels["node.kubernetes.io/instance-type"] == "g6.xlarge"
    assert labels["topology.kubernetes.io/zone"] == "us-east-1a"
    assert labels["topology.k8s.aws/zone-id"] == "use1-az1"
    assert labels["karpenter.sh/nodepool"] == "gpu"
    assert "karpenter.sh/unregistered" in {one["key"] for one in node["spec"]["taints"]}
    assert "node.kubernetes.io/not-ready" in {one["key"] for one in node["spec"]["taints"]}
    cluster.run(8)
    node = cluster.get("nodes", NAME)
    assert is_true(node, "Ready")
    assert {one["key"] for one in node["spec"]["taints"]} == {"karpenter.sh/unregistered"}
    lease = cluster.get("leases.coordination.k8s.io", NAME, "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == NAME


def test_gpus_are_zero_until_the_device_plugin_registers(cluster: TestCluster) -> None:
    """Extended resources appear as 0, and in number some seconds after Ready."""
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(8)
    assert cluster.get("nodes", NAME)["status"]["allocatable"]["nvidia.com/gpu"] == "0"
    cluster.run(10)
    assert cluster.get("nodes", NAME)["status"]["allocatable"]["nvidia.com/gpu"] == "1"


def test_allocatable_is_less_what_is_reserved(cluster: TestCluster) -> None:
    """Reservations follow nodeadm: 11 MiB a pod and 255, 6 % of a core and so on, 100 Mi for
    eviction.
    """
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(20)
    status = cluster.get("nodes", NAME)["status"]
    assert status["capacity"]["pods"] == "58"
    assert status["allocatable"]["cpu"] == "3920m"
    kept = int(status["capacity"]["memory"][:-2]) - int(status["allocatable"]["memory"][:-2])
    assert kept == (11 * 58 + 255 + 100) * 1024


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no user data"),
        (user_data(cluster="other"), "cluster 'other'"),
        (user_data(endpoint="https://elsewhere"), "cannot be reached"),
        ("#!/bin/sh\necho hello", "nothing names the cluster"),
    ],
)
def test_wrong_user_data_keeps_a_node_out(cluster: TestCluster, text: str, why: str) -> None:
    """A node whose user data is wrong never joins, and the timeline says why."""
    cluster.kube.kubelets.instance_running(facts(user_data=text))
    cluster.run(60)
    assert cluster.all("nodes") == []
    said = cluster.said("instance")[0]
    assert said["state"] == "join-failed"
    assert why in said["reason"]


def test_nodes_join_in_an_order_of_their_own(build: Build) -> None:
    """Nodes join in another order than their instances started, the same one for the same seed."""

    def order(seed: int) -> list[str]:
        cluster = build(seed=seed)
        for number in range(1, 9):
            cluster.kube.kubelets.instance_running(facts(number))
        cluster.run(20)
        return [one["id"] for one in cluster.said("nodeJoined")]

    assert order(1) == order(1)
    assert order(1) != sorted(order(1))


def test_faults_delay_and_prevent(cluster: TestCluster) -> None:
    """JoinDelaySeconds, neverJoin and neverInitialize do what they are called."""
    cluster.kube.faults = {"joinDelaySeconds": 40, "neverJoin": ["p5.48xlarge"]}
    cluster.kube.kubelets.instance_running(facts(1))
    cluster.kube.kubelets.instance_running(facts(2, instance_type="p5.48xlarge"))
    cluster.run(39)
    assert cluster.all("nodes") == []
    cluster.run(60)
    assert [one["metadata"]["name"] for one in cluster.all("nodes")] == [NAME]
    cluster.kube.faults = {"neverInitialize": ["g6.xlarge"]}
    cluster.kube.kubelets.instance_running(facts(3))
    cluster.run(120)
    third = cluster.get("nodes", "ip-10-0-0-3.ec2.internal")
    assert is_true(third, "Ready")
    assert third["status"]["allocatable"]["nvidia.com/gpu"] == "0"


def test_what_the_api_server_could_not_take_is_said_again(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that is away when a node joins, or a pod starts, costs a moment, no more."""
    away: set[tuple[str, str]] = set()

    def first_refused(name: str) -> None:
        real = getattr(LocalClient, name)

        def call(client: LocalClient, storage: str, *rest: Any) -> Obj:
            if (name, storage) not in away:
                away.add((name, storage))
                raise StatusError(503, "ServiceUnavailable", "etcd has no leader")
            result: Obj = real(client, storage, *rest)
            return result

        monkeypatch.setattr(LocalClient, name, call)

    for name in ("create", "patch"):
        first_refused(name)
    cluster.kube.kubelets.instance_running(facts())
    cluster.apply(pod("p"))
    cluster.run(60)
    assert is_true(cluster.get("nodes", NAME), "Ready")
    assert cluster.pod("p")["status"]["phase"] == "Running"
    assert {("create", "nodes"), ("patch", "nodes"), ("patch", "pods")} <= away


def test_a_pod_that_is_bound_while_its_node_joins_runs_there(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubelet runs what was bound to its Node before the API server's answer was back."""
    real = LocalClient.create

    def create(client: LocalClient, storage: str, body: Obj) -> Obj:
        made = real(client, storage, body)
        if storage == "nodes":
            cluster.apply(pod("early", nodeName=NAME))
        return made

    monkeypatch.setattr(LocalClient, "create", create)
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(60)
    assert cluster.pod("early")["status"]["phase"] == "Running"


@pytest.mark.parametrize(
    "wanted", [{"joinDelay": 1}, {"joinDelaySeconds": -1}, {"neverJoin": "g6.xlarge"}]
)
def test_unknown_faults_are_refused(wanted: dict[str, object]) -> None:
    """A fault that does not exist, or has a bad value, is a ValueError."""
    with pytest.raises(ValueError, match=r"fault|joinDelaySeconds|neverJoin"):
        Faults.of(wanted)


def test_a_pod_runs_once_its_image_is_there(cluster: TestCluster) -> None:
    """A big image takes as long as such pulls take, the second pod of it starts at once."""
    cluster.kube.kubelets.image_bytes = {"example.com/app": 4_000_000_000}
    takes = estimate.pull_seconds(4_000_000_000, int(4_000_000_000 * UNPACKED_FACTOR))
    assert 130 < takes < 150
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(20)
    cluster.apply(pod("p"))
    cluster.run(takes - 2)
    assert cluster.pod("p")["status"]["phase"] == "Pending"
    cluster.run(4)
    running = cluster.pod("p")
    assert running["status"]["phase"] == "Running"
    assert is_true(running, "Ready")
    assert running["status"]["podIP"]
    assert running["status"]["containerStatuses"][0]["ready"] is True
    cluster.apply(pod("q"))
    cluster.run(1)
    assert cluster.pod("q")["status"]["phase"] == "Running"
    images = cluster.get("nodes", NAME)["status"]["images"]
    assert {"names": ["example.com/app:1"], "sizeBytes": 4_000_000_000} in images


@pytest.mark.parametrize(
    ("images_at", "early", "late"), [(0.0, 0, 1), (100.0, 75, 10), (None, 3430, 20)]
)
def test_a_seeded_volume_saves_the_pull(
    cluster: TestCluster, images_at: float | None, early: float, late: float
) -> None:
    """An image is there when the volume's blocks have arrived; on a cold one, as they are read."""
    cluster.kube.kubelets.image_bytes = {"example.com/app": 40_000_000_000}
    seeded = facts(
        images=frozenset({"example.com/app:1"}), images_at=images_at, snapshot_id="snap-1"
    )
    cluster.kube.kubelets.instance_running(seeded)
    cluster.run(20)
    cluster.apply(pod("p"))
    cluster.run(early)
    if early:
        assert cluster.pod("p")["status"]["phase"] == "Pending"
    cluster.run(late)
    assert cluster.pod("p")["status"]["phase"] == "Running"


def test_a_pod_that_is_to_end_ends(cluster: TestCluster) -> None:
    """The annotations name when and how a pod ends by itself."""
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(20)
    ends = {"outrider.dev/run-seconds": "30"}
    cluster.apply(pod("good", annotations=ends, restartPolicy="Never"))
    fails = {**ends, "outrider.dev/exit-code": "3"}
    cluster.apply(pod("bad", annotations=fails, restartPolicy="Never"))
    cluster.apply(pod("ever", annotations=ends))
    cluster.run(40)
    phases = [cluster.pod(name)["status"]["phase"] for name in ("good", "bad", "ever")]
    assert phases == ["Succeeded", "Failed", "Running"]
    terminated = cluster.pod("bad")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert terminated["exitCode"] == 3


@pytest.mark.parametrize(
    ("grace", "stays", "how"), [(30, 2.0, "exited after SIGTERM"), (1, 1.0, "killed")]
)
def test_a_stopped_pod_stays_for_its_grace(
    cluster: TestCluster, grace: int, stays: float, how: str
) -> None:
    """It keeps its deletionTimestamp for min(grace, 2 s) and is then removed."""
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(20)
    cluster.apply(pod("p"))
    cluster.run(5)
    cluster.delete("pods", "p", grace=grace)
    cluster.run(stays - 0.1)
    assert cluster.pod("p")["metadata"]["deletionGracePeriodSeconds"] == grace
    cluster.run(0.3)
    assert cluster.all("pods") == []
    assert [one["how"] for one in cluster.said("podGone")] == [how]


def test_the_end_of_an_instance_ends_its_pods(cluster: TestCluster) -> None:
    """Its pods stop at once, its Node turns Unknown and goes in the end, and the pods with it."""
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(20)
    cluster.apply(pod("p"))
    cluster.run(5)
    cluster.kube.kubelets.instance_stopping(facts().instance_id)
    cluster.run(1)
    assert [one["pod"] for one in cluster.said("podGone")] == ["default/p"]
    assert not is_true(cluster.pod("p"), "Ready")
    node = cluster.get("nodes", NAME)
    assert not is_true(node, "Ready")
    assert "node.kubernetes.io/unreachable" in {one["key"] for one in node["spec"]["taints"]}
    cluster.kube.kubelets.instance_gone(facts().instance_id)
    cluster.run(70)
    assert cluster.all("nodes") == []
    assert cluster.all("pods") == []
    assert len(cluster.said("podGone")) == 1


def test_a_node_that_a_client_posts_needs_no_kubelet(cluster: TestCluster) -> None:
    """Pods are bound to it and stay Pending."""
    room = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    body = {"metadata": {"name": "posted"}, "status": {"allocatable": room, "capacity": room}}
    cluster.apply({"apiVersion": "v1", "kind": "Node", **body}, pod("p"))
    cluster.run(30)
    assert cluster.where("p") == "posted"
    assert cluster.pod("p")["status"]["phase"] == "Pending"


def test_no_execute_taints_evict_in_time(cluster: TestCluster) -> None:
    """A pod that does not tolerate goes at once, one that tolerates for a while after it."""
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(20)
    patient = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    cluster.apply(pod("p"), pod("q", tolerations=[patient]))
    cluster.run(5)
    taint = {"key": "a", "effect": "NoExecute", "timeAdded": cluster.api.now()}
    cluster.merge("nodes", NAME, {"spec": {"taints": [taint]}})
    cluster.run(5)
    assert [one["metadata"]["name"] for one in cluster.all("pods")] == ["q"]
    cluster.run(30)
    assert cluster.all("pods") == []


def test_timings_can_be_set(build: Build) -> None:
    """A cluster may be made with other times."""
    slow = replace(Timings(), join=100.0, join_jitter=0.0)
    cluster = build(timings=slow)
    cluster.kube.kubelets.instance_running(facts())
    cluster.run(99)
    assert cluster.all("nodes") == []
    cluster.run(2)
    assert len(cluster.all("nodes")) == 1
