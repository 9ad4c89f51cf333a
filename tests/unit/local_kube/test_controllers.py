"""Controllers: workloads make pods, budgets are counted, what is left over goes."""

from __future__ import annotations

from typing import Any

from outrider.local.kube.objects import Obj, is_true
from tests.unit.local_kube.conftest import TestCluster, facts, node, pod

LABELS = {"app": "a"}


def workload(kind: str, name: str, **spec: Any) -> Obj:
    """Return a workload of small pods."""
    template = {"metadata": {"labels": LABELS}, "spec": pod("x")["spec"]}
    template["spec"].update(spec.pop("pod", {}))
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template, **spec},
    }


def job(name: str, seconds: int = 10, **spec: Any) -> Obj:
    """Return a Job whose pods end after so many seconds."""
    ends = {"outrider.dev/run-seconds": str(seconds), **spec.pop("annotations", {})}
    template = {"metadata": {"annotations": ends}, "spec": pod("x", restartPolicy="Never")["spec"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def budget(name: str, **spec: Any) -> Obj:
    """Return a PodDisruptionBudget over the pods of the app a."""
    selector = {"matchLabels": LABELS}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"selector": selector, **spec},
    }


def with_node(cluster: TestCluster, *numbers: int) -> None:
    """Let nodes join and become Ready."""
    for number in numbers or (1,):
        cluster.kube.kubelets.instance_running(facts(number))
    cluster.run(20)


def test_a_deployment_runs_its_replicas(cluster: TestCluster) -> None:
    """Pods are made, run, are counted, and replaced when they go."""
    with_node(cluster)
    cluster.apply(workload("Deployment", "web", replicas=3))
    cluster.run(5)
    status = cluster.get("deployments.apps", "web")["status"]
    assert (status["readyReplicas"], status["updatedReplicas"]) == (3, 3)
    assert is_true(cluster.get("deployments.apps", "web"), "Available")
    first = cluster.all("pods")[0]["metadata"]["name"]
    cluster.delete("pods", first)
    cluster.run(6)
    names = {one["metadata"]["name"] for one in cluster.all("pods")}
    assert len(names) == 3
    assert first not in names


def test_a_new_template_rolls_without_a_gap(cluster: TestCluster) -> None:
    """A rolling update never has fewer available pods than it may, and ends with the new
    template.
    """
    with_node(cluster)
    roll = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    cluster.apply(workload("Deployment", "web", replicas=3, strategy=roll))
    cluster.run(5)
    changed = workload("Deployment", "web", replicas=3, strategy=roll)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/app:2"
    cluster.apply(changed)
    least = 3
    for _ in range(40):
        cluster.run(0.5)
        available = cluster.get("deployments.apps", "web")["status"]["availableReplicas"]
        least = min(least, available)
    images = {one["spec"]["containers"][0]["image"] for one in cluster.all("pods")}
    assert images == {"example.com/app:2"}
    assert len(cluster.all("pods")) == 3
    assert least == 3


def test_recreate_stops_before_it_starts(cluster: TestCluster) -> None:
    """Recreate has no pod of either template in between."""
    with_node(cluster)
    cluster.apply(workload("Deployment", "web", replicas=2, strategy={"type": "Recreate"}))
    cluster.run(5)
    changed = workload("Deployment", "web", replicas=2, strategy={"type": "Recreate"})
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/app:2"
    cluster.apply(changed)
    cluster.run(10)
    images = [one["spec"]["containers"][0]["image"] for one in cluster.all("pods")]
    assert images == ["example.com/app:2"] * 2


def test_a_stateful_set_goes_one_by_one(cluster: TestCluster) -> None:
    """Ordinals start in order, each when the one before is Ready, and each has its claim."""
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "storageClassName": "gp2",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    cluster.apply(workload("StatefulSet", "db", replicas=2, volumeClaimTemplates=[claim]))
    cluster.run(2)
    assert [one["metadata"]["name"] for one in cluster.all("pods")] == ["db-0"]
    with_node(cluster)
    assert sorted(one["metadata"]["name"] for one in cluster.all("pods")) == ["db-0", "db-1"]
    assert cluster.get("statefulsets.apps", "db")["status"]["readyReplicas"] == 2
    cluster.merge("statefulsets.apps", "db", {"spec": {"replicas": 1}})
    cluster.run(5)
    assert [one["metadata"]["name"] for one in cluster.all("pods")] == ["db-0"]
    assert len(cluster.all("persistentvolumeclaims")) == 2


def test_an_indexed_job_completes_each_index(cluster: TestCluster) -> None:
    """Every index runs once, no more at a time than parallelism allows."""
    with_node(cluster)
    cluster.apply(job("train", completions=4, parallelism=2, completionMode="Indexed"))
    cluster.run(5)
    assert cluster.get("jobs.batch", "train")["status"]["active"] == 2
    cluster.run(40)
    done = cluster.get("jobs.batch", "train")
    assert is_true(done, "Complete")
    assert done["status"]["completedIndexes"] == "0-3"
    assert len(cluster.all("pods")) == 4


def test_a_job_fails_after_its_backoff_limit(cluster: TestCluster) -> None:
    """Pods that fail are replaced until the limit, then the Job has Failed."""
    with_node(cluster)
    fails = {"outrider.dev/exit-code": "1"}
    cluster.apply(job("bad", seconds=2, backoffLimit=2, annotations=fails))
    cluster.run(30)
    done = cluster.get("jobs.batch", "bad")
    assert is_true(done, "Failed")
    assert done["status"]["failed"] == 3


def test_a_suspended_job_waits(cluster: TestCluster) -> None:
    """A suspended Job has no pods, a resumed one has them."""
    cluster.apply(job("later", suspend=True))
    cluster.run(2)
    assert cluster.all("pods") == []
    cluster.merge("jobs.batch", "later", {"spec": {"suspend": False}})
    cluster.run(2)
    assert len(cluster.all("pods")) == 1


def test_a_finished_job_expires(cluster: TestCluster) -> None:
    """TtlSecondsAfterFinished removes the Job and its pods."""
    with_node(cluster)
    cluster.apply(job("brief", seconds=1, ttlSecondsAfterFinished=30))
    cluster.run(10)
    assert is_true(cluster.get("jobs.batch", "brief"), "Complete")
    cluster.run(40)
    assert cluster.all("jobs.batch") == []
    assert cluster.all("pods") == []


def test_a_daemon_set_covers_the_nodes_that_it_fits(cluster: TestCluster) -> None:
    """A pod on each eligible node; none where a taint is not tolerated, until it is gone."""
    taint = {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}
    selector = {"pool": "gpu"}
    cluster.apply(
        node("a", labels=selector),
        node("b", labels=selector, taints=[taint]),
        node("c"),
        node("d", labels=selector, unschedulable=True),
        workload("DaemonSet", "agent", pod={"nodeSelector": selector}),
    )
    cluster.run(2)
    assert sorted(one["spec"]["nodeName"] for one in cluster.all("pods")) == ["a", "d"]
    cluster.merge("nodes", "b", {"spec": {"taints": []}})
    cluster.run(2)
    assert sorted(one["spec"]["nodeName"] for one in cluster.all("pods")) == ["a", "b", "d"]
    assert cluster.get("daemonsets.apps", "agent")["status"]["desiredNumberScheduled"] == 3


def test_budgets_count_and_hold(cluster: TestCluster) -> None:
    """MaxUnavailable is of the owner's scale; a granted eviction counts until its pod is gone."""
    with_node(cluster)
    cluster.apply(workload("Deployment", "web", replicas=4), budget("web", maxUnavailable="25%"))
    cluster.run(5)
    status = cluster.get("poddisruptionbudgets.policy", "web")["status"]
    assert status["disruptionsAllowed"] == 1
    assert (status["desiredHealthy"], status["expectedPods"]) == (3, 4)
    one, two, *_ = [each["metadata"]["name"] for each in cluster.all("pods")]
    assert [cluster.evict(one), cluster.evict(two)] == [201, 429]
    cluster.run(0.3)
    assert cluster.evict(two) == 429
    cluster.run(1)  # the replacement runs, though the evicted pod is still there
    assert cluster.evict(two) == 201
    assert [one["how"] for one in cluster.said("evict")] == ["eviction", "eviction"]


def test_an_unhealthy_pod_may_go_when_the_policy_says_so(cluster: TestCluster) -> None:
    """AlwaysAllow lets a running pod that is not Ready go, IfHealthyBudget does not."""
    with_node(cluster)
    cluster.apply(pod("sick", labels=LABELS), budget("b", minAvailable=1))
    cluster.run(5)
    conditions = [{"type": "Ready", "status": "False"}]
    cluster.merge("pods", "sick", {"status": {"conditions": conditions}}, "status")
    cluster.run(1)
    assert cluster.evict("sick") == 429
    always = {"unhealthyPodEvictionPolicy": "AlwaysAllow"}
    cluster.merge("poddisruptionbudgets.policy", "b", {"spec": always})
    assert cluster.evict("sick") == 201


def test_a_budget_that_lags_says_when_to_come_back(cluster: TestCluster) -> None:
    """While the status is about an older spec the eviction is 429, whatever the numbers say."""
    with_node(cluster)
    cluster.apply(pod("p", labels=LABELS), budget("b", minAvailable=0))
    cluster.run(5)
    cluster.merge("poddisruptionbudgets.policy", "b", {"spec": {"minAvailable": "0%"}})
    assert cluster.evict("p") == 429
    cluster.run(1)
    assert cluster.evict("p") == 201


def test_deletion_can_wait_for_dependents_or_spare_them(cluster: TestCluster) -> None:
    """Foreground deletes dependents first; Orphan cuts them loose."""
    cluster.apply(workload("ReplicaSet", "fore", replicas=1))
    cluster.run(1)
    cluster.delete("replicasets.apps", "fore", propagation="Foreground")
    assert cluster.get("replicasets.apps", "fore")["metadata"]["deletionTimestamp"]
    cluster.run(2)
    assert (cluster.all("replicasets.apps"), cluster.all("pods")) == ([], [])
    cluster.apply(workload("ReplicaSet", "loose", replicas=1))
    cluster.run(1)
    cluster.delete("replicasets.apps", "loose", propagation="Orphan")
    cluster.run(2)
    assert cluster.all("replicasets.apps") == []
    assert [one["metadata"].get("ownerReferences") for one in cluster.all("pods")] == [None]


def test_pods_of_a_node_that_is_gone_go_too(cluster: TestCluster) -> None:
    """Pod garbage collection removes what no kubelet can remove any more."""
    cluster.apply(node("n"), pod("p"))
    cluster.run(2)
    assert cluster.where("p") == "n"
    cluster.delete("nodes", "n")
    cluster.run(4)
    assert len(cluster.all("pods")) == 1
    cluster.run(4)
    assert cluster.all("pods") == []


def test_events_are_forgotten_after_an_hour(cluster: TestCluster) -> None:
    """An Event goes an hour after its last change."""
    cluster.apply(pod("p"))
    cluster.run(10)
    assert cluster.all("events")
    cluster.delete("pods", "p")
    cluster.run(3700)
    assert cluster.all("events") == []
