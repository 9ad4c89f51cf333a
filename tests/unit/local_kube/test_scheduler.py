"""The scheduler: where pods go, where they do not, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.local.kube.objects import Obj, condition_of
from tests.unit.local_kube.conftest import TestCluster, node, pod

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"


def message(cluster: TestCluster, name: str) -> str:
    """Return what a pod's PodScheduled condition says."""
    condition = condition_of(cluster.pod(name), "PodScheduled") or {}
    return str(condition.get("message", ""))


def zoned(name: str, zone: str, **changes: Any) -> Obj:
    """Return a Node in a zone."""
    return node(name, labels={ZONE: zone, **changes.pop("labels", {})}, **changes)


def spread(**changes: Any) -> list[Obj]:
    """Return one hard constraint over zones for pods of the app a."""
    selector = {"matchLabels": {"app": "a"}}
    one = {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    return [{**one, "labelSelector": selector, **changes}]


def test_a_pod_goes_where_there_is_room(cluster: TestCluster) -> None:
    """A pod is bound to the node that holds its requests."""
    cluster.apply(node("small", room={"cpu": "1"}), node("large"), pod("p", cpu="2"))
    cluster.run()
    assert cluster.where("p") == "large"
    assert (condition_of(cluster.pod("p"), "PodScheduled") or {})["status"] == "True"


def test_the_emptiest_node_is_preferred(cluster: TestCluster) -> None:
    """LeastAllocated: a pod goes to the node that is less full after it."""
    cluster.apply(node("a"), node("b"), pod("first", cpu="2"))
    cluster.run()
    cluster.apply(pod("second", cpu="2"))
    cluster.run()
    assert {cluster.where("first"), cluster.where("second")} == {"a", "b"}


def test_an_empty_cluster_says_so(cluster: TestCluster) -> None:
    """Without nodes the message is kube-scheduler's for that case."""
    cluster.apply(pod("p"))
    cluster.run()
    assert message(cluster, "p") == "no nodes available to schedule pods"


def test_reasons_are_counted_in_kube_schedulers_words(cluster: TestCluster) -> None:
    """Each reason has its count of nodes, sorted as text, followed by preemption's verdict."""
    cluster.apply(
        node("cordoned", unschedulable=True),
        node("tainted", taints=[{"key": "a", "value": "b", "effect": "NoSchedule"}]),
        node("small", room={"cpu": "1"}),
        node("tiny", room={"cpu": "1", "pods": "0"}),
        pod("p", cpu="2"),
    )
    cluster.run()
    assert message(cluster, "p") == (
        "0/4 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s), "
        "1 node(s) were unschedulable, 2 Insufficient cpu. no new claims to deallocate, "
        "preemption: 0/4 nodes are available: 2 No preemption victims found for incoming pod, "
        "2 Preemption is not helpful for scheduling."
    )


def test_a_failure_is_one_event_and_then_a_series(cluster: TestCluster) -> None:
    """Failing again patches the first Event; it is not another CREATE."""
    cluster.apply(pod("p", cpu="9"))
    cluster.run()
    events = [one for one in cluster.all("events") if one["reason"] == "FailedScheduling"]
    assert len(events) == 1
    assert events[0]["reportingComponent"] == "default-scheduler"
    cluster.run(310)  # what is left over is looked at again after five minutes
    events = [one for one in cluster.all("events") if one["reason"] == "FailedScheduling"]
    assert len(events) == 1
    assert events[0]["series"]["count"] == 2


def test_a_pod_is_tried_again_when_a_node_comes(cluster: TestCluster) -> None:
    """What failed waits for its backoff, not for the five minutes."""
    cluster.apply(pod("p"))
    cluster.run(5)
    cluster.apply(node("n"))
    cluster.run(2)
    assert cluster.where("p") == "n"


def test_a_pod_that_waits_for_another_is_tried_again_when_that_is_bound(
    cluster: TestCluster,
) -> None:
    """A binding of the scheduler's own is news to those that count other pods."""
    term = {"labelSelector": {"matchLabels": {"app": "b"}}, "topologyKey": "kubernetes.io/hostname"}
    near = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    other = pod("b")
    other["metadata"]["labels"] = {"app": "b"}
    cluster.apply(node("n"), pod("a", affinity=near))
    cluster.run(20)
    assert cluster.where("a") == ""
    cluster.apply(other)
    cluster.run(12)
    assert (cluster.where("a"), cluster.where("b")) == ("n", "n")


def test_priority_goes_before_age(cluster: TestCluster) -> None:
    """Of two pods for one place the more important one gets it."""
    high = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    cluster.apply({**high, "metadata": {"name": "high"}})
    cluster.apply(pod("old", cpu="3"))
    cluster.run(3)
    cluster.apply(pod("new", cpu="3", priorityClassName="high"), node("n"))
    cluster.run(3)
    assert (cluster.where("new"), cluster.where("old")) == ("n", "")


def test_a_pod_of_higher_priority_preempts(cluster: TestCluster) -> None:
    """The least important pod makes room, and the preemptor is nominated meanwhile."""
    high = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    cluster.apply({**high, "metadata": {"name": "high"}}, node("n"))
    cluster.apply(pod("victim", cpu="3"))
    cluster.run(3)
    cluster.apply(pod("vip", cpu="3", priorityClassName="high"))
    cluster.run(1)
    assert cluster.pod("victim")["metadata"]["deletionTimestamp"]
    assert cluster.pod("vip")["status"]["nominatedNodeName"] == "n"
    cluster.delete("pods", "victim", grace=0)
    cluster.run(15)
    assert cluster.where("vip") == "n"


def test_a_nominated_node_is_tried_first(cluster: TestCluster) -> None:
    """A pod that somebody nominated goes to that node, though another one is emptier."""
    cluster.apply(pod("p", cpu="1"))
    cluster.run()
    cluster.merge("pods", "p", {"status": {"nominatedNodeName": "full"}}, "status")
    cluster.apply(node("full", room={"cpu": "1500m"}), node("empty"))
    cluster.run(15)
    assert cluster.where("p") == "full"


def test_a_nomination_keeps_the_room(cluster: TestCluster) -> None:
    """A pod of no higher priority does not take the place of a nominated one."""
    cluster.apply(pod("chosen", cpu="3", schedulingGates=[{"name": "example.com/wait"}]))
    cluster.apply(pod("waits", cpu="3", nodeSelector={"never": "there"}))
    cluster.run()
    cluster.merge("pods", "waits", {"status": {"nominatedNodeName": "n"}}, "status")
    cluster.apply(node("n"), pod("other", cpu="3"))
    cluster.run(5)
    assert cluster.where("other") == ""


def test_a_nomination_is_forgotten_when_its_pod_fails(cluster: TestCluster) -> None:
    """A cycle without a place, and nobody whose leaving would help: kube-scheduler clears it."""
    cluster.apply(node("n"), pod("p", cpu="8"), pod("meek", cpu="8", preemptionPolicy="Never"))
    cluster.run()
    for name in ("p", "meek"):
        cluster.merge("pods", name, {"status": {"nominatedNodeName": "n"}}, "status")
    cluster.run()
    assert cluster.pod("p")["status"]["nominatedNodeName"] == "n"  # it is not looked at for that
    cluster.apply(node("other", room={"cpu": "7"}), node("more", room={"cpu": "9"}))
    cluster.run(15)
    assert {cluster.where("p"), cluster.where("meek")} == {"more", ""}
    left = next(name for name in ("p", "meek") if not cluster.where(name))
    kept = cluster.pod(left)["status"].get("nominatedNodeName", "")
    assert kept == ("n" if left == "meek" else "")


def test_nominated_pods_count_for_spread(cluster: TestCluster) -> None:
    """A node is also judged as if those that are nominated to it were there."""
    rule = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    zones = [node(zone, labels={"topology.kubernetes.io/zone": zone}) for zone in "ab"]
    away = {"labels": {"app": "web"}, "nodeSelector": {"never": "there"}}
    cluster.apply(pod("first", **away))
    cluster.run()
    cluster.merge("pods", "first", {"status": {"nominatedNodeName": "a"}}, "status")
    web = {"labels": {"app": "web"}, "topologySpreadConstraints": [rule]}
    cluster.apply(*zones, pod("second", **web))
    cluster.run(3)
    assert cluster.where("second") == "b"


@pytest.mark.parametrize(
    ("toleration", "bound"),
    [
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "a", "value": "c"}, False),
        ({"key": "a", "value": "b", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations_open_tainted_nodes(
    cluster: TestCluster, toleration: Obj, *, bound: bool
) -> None:
    """A taint is tolerated by key, value and effect, each of them optional as Kubernetes has it."""
    cluster.apply(node("n", taints=[{"key": "a", "value": "b", "effect": "NoSchedule"}]))
    cluster.apply(pod("p", tolerations=[toleration]))
    cluster.run()
    assert bool(cluster.where("p")) is bound


def test_node_affinity_is_required(cluster: TestCluster) -> None:
    """Terms are alternatives; within one everything has to hold."""
    terms = [
        {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["z"]}]},
        {
            "matchExpressions": [
                {"key": ZONE, "operator": "In", "values": ["b"]},
                {"key": "gpus", "operator": "Gt", "values": ["3"]},
            ]
        },
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    cluster.apply(
        zoned("a", "a", labels={"gpus": "8"}),
        zoned("b-few", "b", labels={"gpus": "2"}),
        zoned("b-many", "b", labels={"gpus": "8"}),
        pod("p", affinity={"nodeAffinity": required}),
    )
    cluster.run()
    assert cluster.where("p") == "b-many"


def test_spread_keeps_zones_level(cluster: TestCluster) -> None:
    """With maxSkew 1 over three zones, six pods are two and two and two, however roomy one is."""
    cluster.apply(
        zoned("a", "a", room={"cpu": "100"}), zoned("b", "b"), zoned("c", "c"), zoned("a2", "a")
    )
    for number in range(6):
        cluster.apply(pod(f"p{number}", labels={"app": "a"}, topologySpreadConstraints=spread()))
    cluster.run()
    zones = [cluster.where(f"p{number}")[0] for number in range(6)]
    assert sorted(zones) == ["a", "a", "b", "b", "c", "c"]


def test_min_domains_counts_missing_zones_as_empty(cluster: TestCluster) -> None:
    """With fewer zones than minDomains the minimum is zero, so the skew stops at maxSkew."""
    cluster.apply(zoned("a", "a"), zoned("b", "b"))
    for number in range(3):
        constraints = spread(minDomains=3)
        cluster.apply(pod(f"p{number}", labels={"app": "a"}, topologySpreadConstraints=constraints))
    cluster.run()
    assert sorted(bool(cluster.where(f"p{number}")) for number in range(3)) == [False, True, True]
    assert "didn't match pod topology spread constraints" in "".join(
        message(cluster, f"p{number}") for number in range(3)
    )


def test_anti_affinity_works_in_both_directions(cluster: TestCluster) -> None:
    """A pod keeps off those that it shuns, and off those that shun it."""
    term = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "a"}}}
    anti = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    cluster.apply(node("n"), pod("shy", labels={"app": "b"}, affinity=anti))
    cluster.run()
    cluster.apply(pod("a", labels={"app": "a"}))
    cluster.run()
    assert cluster.where("a") == ""
    assert "existing pods anti-affinity rules" in message(cluster, "a")
    cluster.apply(node("m"))
    cluster.run(5)
    assert cluster.where("a") == "m"


def test_affinity_lets_the_first_of_a_kind_in(cluster: TestCluster) -> None:
    """Pods that want each other's zone get going, and then stay together."""
    term = {"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "a"}}}
    wants = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    cluster.apply(zoned("a", "a"), zoned("b", "b"))
    for number in range(4):
        cluster.apply(pod(f"p{number}", labels={"app": "a"}, affinity=wants))
    cluster.run()
    assert len({cluster.where(f"p{number}") for number in range(4)}) == 1


def test_host_ports_exclude_each_other(cluster: TestCluster) -> None:
    """Two pods with one host port need two nodes."""
    for name in ("p", "q"):
        one = pod(name)
        one["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
        cluster.apply(one)
    cluster.apply(node("n"))
    cluster.run(5)
    assert sorted([cluster.where("p"), cluster.where("q")]) == ["", "n"]


def test_a_claim_follows_its_first_consumer(cluster: TestCluster) -> None:
    """A WaitForFirstConsumer claim is bound in the zone of the chosen node, and pins the next
    pod to it.
    """
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "storageClassName": "gp2",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    cluster.apply(claim, zoned("b", "b"), pod("first", cpu="3", volumes=volumes))
    cluster.run()
    assert cluster.where("first") == "b"
    assert cluster.get("persistentvolumeclaims", "data")["status"]["phase"] == "Bound"
    volume = cluster.all("persistentvolumes")[0]
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["b"]
    cluster.apply(zoned("a", "a"), pod("second", cpu="3", volumes=volumes))
    cluster.run()
    assert cluster.where("second") == ""
    assert "volume node affinity conflict" in message(cluster, "second")


def test_gates_hold_until_they_are_gone(cluster: TestCluster) -> None:
    """A gated pod is not tried; without its gates it is bound."""
    cluster.apply(node("n"), pod("p", schedulingGates=[{"name": "example.com/wait"}]))
    cluster.run()
    assert cluster.where("p") == ""
    cluster.merge("pods", "p", {"spec": {"schedulingGates": None}})
    cluster.run()
    assert cluster.where("p") == "n"


def test_other_schedulers_pods_are_left_alone(cluster: TestCluster) -> None:
    """A pod of another scheduler is neither bound nor marked."""
    cluster.apply(node("n"), pod("p", schedulerName="other"))
    cluster.run()
    assert cluster.where("p") == ""
    assert condition_of(cluster.pod("p"), "PodScheduled") is None


def test_the_same_seed_gives_the_same_placement(build: Any) -> None:
    """Two runs from one seed bind every pod alike."""

    def run() -> dict[str, str]:
        cluster: TestCluster = build(seed=7)
        cluster.apply(*[node(f"n{number}") for number in range(5)])
        cluster.apply(*[pod(f"p{number}") for number in range(30)])
        cluster.run()
        return {one["metadata"]["name"]: one["spec"]["nodeName"] for one in cluster.all("pods")}

    assert run() == run()


def test_a_node_in_the_making_costs_no_patience(cluster: TestCluster) -> None:
    """Changes that cannot help do not lengthen the backoff: the pod is bound when the GPU is
    there.
    """
    cluster.apply(
        pod("p", requests={"nvidia.com/gpu": "1"}), node("n", room={"nvidia.com/gpu": "0"})
    )
    for number in range(10):
        cluster.run(2)
        cluster.merge("nodes", "n", {"metadata": {"labels": {"step": str(number)}}})
    more = {"nvidia.com/gpu": "1"}
    cluster.merge("nodes", "n", {"status": {"allocatable": more, "capacity": more}}, "status")
    cluster.run(0.1)
    assert cluster.where("p") == "n"
