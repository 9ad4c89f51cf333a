"""The three walks and consolidation, told on template.yaml in discrete time.

Each story is one promise to whoever runs this. The stories share one embedded cloud, each with a
NodePool and pods of its own, and leave it empty.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outrider.apis import labels
from outrider.local.demo.push import announce, put_image, reference
from outrider.local.timeline import Entry
from tests.support.stage import (
    GPU_TAINT,
    PRECIOUS,
    Stage,
    budget,
    deployment,
    karpenter_lease,
    node_class,
    pod,
    pool,
    spot_node,
    staged,
)

pytestmark = pytest.mark.e2e

NO_SPOT = {"insufficientCapacity": [{"instanceType": "*", "zone": "*", "capacityType": "spot"}]}


@pytest.fixture(scope="module")
def theatre() -> Iterator[Stage]:
    """Give the cloud that the stories share."""
    with staged() as stage:
        yield stage


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """Give the shared cloud for one story; afterwards nothing is left, nothing failed."""
    theatre.begin()
    yield theatre
    theatre.clear()
    assert theatre.errors() == []
    assert theatre.dead_letters() == {}


def launched(stage: Stage) -> list[Entry]:
    """Return the instances that fleets of this story gave."""
    return [one for fleet in stage.entries("createFleet") for one in fleet["launched"]]


def conditions(claim: dict[str, object]) -> dict[str, str]:
    """Return a NodeClaim's conditions by type."""
    status = claim["status"]
    assert isinstance(status, dict)
    return {one["type"]: one["status"] for one in status["conditions"]}


# --- pod to node ----------------------------------------------------------------------------------


def test_a_pending_pod_becomes_a_running_one(stage: Stage) -> None:
    """The webhook's hint leads to a fleet within two seconds, and the node is what was planned."""
    stage.apply(node_class("gpu", kubelet={"maxPods": 42}), pool("walk"), pod("a", "walk"))
    stage.expect_running("a")
    (pending,), (hint, *_) = stage.entries("podPending", pod="default/a"), stage.entries("hint")
    (fleet,) = stage.entries("createFleet")
    assert pending["at"] <= hint["at"] < fleet["at"] < pending["at"] + 2

    stage.expect("the node is initialized", 30, lambda: stage.decided("NodeInitialized"))
    (claim,), node = stage.claims("walk"), stage.node_of("a")
    wanted = {
        "story": "walk",
        labels.NODEPOOL: "walk",
        "node.kubernetes.io/instance-type": fleet["launched"][0]["type"],
        "karpenter.sh/capacity-type": "spot",
        "topology.kubernetes.io/zone": fleet["launched"][0]["zone"],
        "karpenter.sh/registered": "true",
        "karpenter.sh/initialized": "true",
    }
    assert wanted.items() <= node["metadata"]["labels"].items()
    assert node["spec"]["taints"] == [GPU_TAINT]
    assert node["status"]["allocatable"]["pods"] == "42"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    assert claim["status"]["nodeName"] == node["metadata"]["name"]
    expected = dict.fromkeys(("Launched", "Registered", "Initialized", "Ready"), "True")
    assert expected.items() <= conditions(claim).items()
    stage.apply(node_class())


def test_one_decision_ties_everything_together(stage: Stage) -> None:
    """Plan, NodeClaim, instance, node and the Event on the pod carry one decision."""
    stage.apply(pool("tie"), pod("tied", "tie"))
    stage.expect_running("tied")
    stage.expect("the node is initialized", 30, lambda: stage.decided("NodeInitialized"))
    (made,), (claim,) = stage.decided("PlanMade"), stage.claims("tie")
    decision = made["decision"]
    (machine,) = stage.machines()
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert tags[labels.DECISION] == claim["metadata"]["annotations"][labels.DECISION] == decision
    assert stage.node_of("tied")["metadata"]["annotations"][labels.DECISION] == decision
    assert tags[labels.NODECLAIM_TAG] == claim["metadata"]["name"]
    assert {"LaunchStarted", "NodeRegistered", "NodeInitialized"} <= {
        name for _, name, detail in stage.decisions if detail["decision"] == decision
    }
    assert f"nodeclaim/{claim['metadata']['name']}" in stage.told("Nominated", "tied")[0]["message"]


def test_a_storm_of_hints_makes_few_plans(stage: Stage) -> None:
    """Ten thousand hints over ten seconds cost no more plans than seconds, one launch in all."""
    stage.apply(pool("storm"), pod("a", "storm"))
    for _ in range(10):
        for _ in range(1000):
            hint = stage.cloud.router.event(
                "outrider.hints", "PodUnschedulable", {"cluster": "local", "version": 1}
            )
            stage.cloud.router.put(hint)
        stage.cloud.run(1)
    stage.expect_running("a")
    assert len(stage.entries("hint")) > 10_000
    assert len(stage.entries("plan")) <= 12
    assert len(launched(stage)) == 1


def test_without_any_hint_the_minute_finds_the_pods(stage: Stage) -> None:
    """A webhook that is gone costs a minute, never a pod."""
    with stage.without_webhook():
        stage.apply(pool("quiet"), pod("a", "quiet"))
        stage.expect("a fleet", 65, lambda: stage.entries("createFleet"))
        assert not stage.entries("hint")
    stage.expect_running("a")


def test_an_empty_spot_market_is_left_within_the_invocation(stage: Stage) -> None:
    """On-demand is asked for in the same second, and Spot not again while the mark lasts."""
    stage.cloud.faults.set(NO_SPOT)
    stage.apply(pool("ice"), pod("a", "ice"))
    stage.expect_running("a")
    first, *_, last = stage.entries("createFleet")
    assert first["errors"]
    assert last["launched"]
    assert last["at"] - first["at"] < 1
    assert sum(name == "provision" for name, _ in stage.outcomes) <= 3
    stage.begin()
    stage.apply(pod("b", "ice"))
    stage.expect_running("b")
    assert [fleet["errors"] for fleet in stage.entries("createFleet")] == [[]]
    stage.cloud.run(400)  # marks last three minutes, six at the second time


# The lease, the cluster's lists, the intent, the fleet, the NodeClaim and what is told afterwards.
@pytest.mark.parametrize("call", [4, 12, 20, 28])
def test_a_provision_that_dies_loses_and_doubles_nothing(stage: Stage, call: int) -> None:
    """Killed at any call and delivered again, it launches once, and no orphan is left."""
    stage.cloud.faults.set({"killAtCall": {"function": "provision", "call": call}})
    stage.apply(pool("dies"), pod("a", "dies"), pod("b", "dies"))
    stage.expect_running("a", "b", seconds=600)
    assert stage.entries("fault", killed="ProvisionFunction")
    stage.cloud.run(120)  # an errand is somebody's for a minute, and the tick comes every minute
    assert len(launched(stage)) == 2
    assert len(stage.machines()) == len(stage.claims("dies")) == 2
    assert stage.run_now("a", "b")


# --- interruption ---------------------------------------------------------------------------------


def test_an_interruption_costs_no_pod_its_end(stage: Stage) -> None:
    """Replacement first, the budget kept, the precious pod told in time, everything put away."""
    instance = spot_node(stage, "spot")
    node = stage.node_of(stage.pods(app="spot")[0]["metadata"]["name"])["metadata"]["name"]
    stage.begin()
    low = 2

    def over() -> bool:
        nonlocal low
        low = min(low, stage.running(app="spot"))
        return stage.get("nodes", node) is None

    warned = stage.cloud.timeline.at()
    stage.cloud.reclaim.interrupt(instance)
    stage.expect("the node is gone", 125, over)
    stage.expect("three pods run", 120, lambda: stage.running() == 3)
    assert low == 1, "the budget keeps one of two"
    asked = stage.entries("createFleet")[0]["at"]
    assert asked - warned < 3
    assert asked < min(entry["at"] for entry in stage.entries("evict"))
    ends = [entry for entry in stage.entries("podGone") if entry["pod"].startswith("default/")]
    assert len(ends) == 3
    assert {entry["how"] for entry in ends} == {"exited after SIGTERM"}
    assert max(entry["at"] for entry in ends) < warned + 120
    assert len(stage.decided("PodEvicted")) == 3
    assert len(stage.decided("ReplacementLaunched")) == len(stage.decided("NodeDrained")) == 1
    stage.expect("one NodeClaim, the new one", 60, lambda: len(stage.claims("spot")) == 1)
    assert [one["InstanceId"] for one in stage.machines()] != [instance]


def test_events_twice_and_in_any_order_do_no_harm(stage: Stage) -> None:
    """Every event three times and shuffled: one replacement, one eviction a pod, told once."""
    instance = spot_node(stage, "twice")
    stage.begin()
    stage.cloud.faults.set({"duplicateEvents": 3, "reorderEvents": True})
    stage.cloud.reclaim.interrupt(instance)
    stage.expect("the drain ends", 150, lambda: stage.decided("NodeTerminated"))
    stage.expect("three pods run", 120, lambda: stage.running() == 3)
    assert len(launched(stage)) == 1
    assert len(stage.decided("ReplacementLaunched")) == len(stage.decided("NodeInterrupted")) == 1
    evicted = [detail["pod"] for detail in stage.decided("PodEvicted")]
    assert len(evicted) == len(set(evicted)) == 3
    assert len(stage.decided("NodeTerminated")) == 1


def test_a_rebalance_recommendation_moves_pods_in_peace(stage: Stage) -> None:
    """The new node is up before the first pod leaves, and nothing is forced."""
    stage.apply(pool("calm", capacity=("spot",)), deployment("calm", "calm", 1))
    stage.expect("the pod runs", 300, lambda: stage.running() == 1)
    stage.expect("its node is initialized", 30, lambda: stage.decided("NodeInitialized"))
    (machine,) = stage.machines()
    stage.begin()
    stage.cloud.reclaim.recommend(machine["InstanceId"])
    stage.expect("it is gone", 300, lambda: stage.decided("NodeTerminated"))
    (joined,) = stage.entries("nodeInitialized")
    evicted = [one for one in stage.entries("evict") if one["pod"].startswith("default/")]
    assert joined["at"] < evicted[0]["at"]
    assert {one["how"] for one in evicted} == {"eviction"}
    stage.expect("the pod runs", 60, lambda: stage.running() == 1)


# --- voluntary disruption -------------------------------------------------------------------------


def test_consolidation_saves_and_respects(stage: Stage) -> None:
    """Empty goes, too dear is replaced before its pod leaves; do-not-disrupt and a closed budget
    keep their nodes; then nothing more is done.
    """
    cheap = [
        {"instanceType": name, "zone": "*", "capacityType": "*"}
        for name in ("g6.xlarge", "g5.xlarge")
    ]
    stage.cloud.faults.set({"insufficientCapacity": cheap})
    stage.apply(
        pool("save", capacity=("on-demand",), after="30s"),
        budget("held", maxUnavailable=0),
        deployment("held", "save", 1),
        deployment("kept", "save", 1, annotations=PRECIOUS),
        deployment("moved", "save", 1),
        deployment("empty", "save", 1),
    )
    stage.expect("four pods run", 300, lambda: stage.running() == 4)
    nodes = {
        app: stage.pods(app=app)[0]["spec"]["nodeName"]
        for app in ("held", "kept", "moved", "empty")
    }
    assert len(set(nodes.values())) == 4
    stage.delete("deployments.apps", "empty", "default")
    stage.cloud.faults.set({})
    stage.begin()
    # By uid: a new node may get a dead one's address, and with it its name.
    gone = {
        one["metadata"]["uid"]
        for one in stage.all("nodes")
        if one["metadata"]["name"] in {nodes["moved"], nodes["empty"]}
    }
    stage.expect(
        "two nodes are gone",
        1200,
        lambda: not gone & {one["metadata"]["uid"] for one in stage.all("nodes")},
    )
    stage.expect("three pods run", 120, lambda: stage.running() == 3)
    reasons = {detail["reason"] for detail in stage.decided("DisruptionDecided")}
    assert reasons == {"Empty", "Underutilized"}
    assert [one["type"] for one in launched(stage)] == ["g6.xlarge"]
    for app in ("held", "kept"):
        assert stage.pods(app=app)[0]["spec"]["nodeName"] == nodes[app]
    assert stage.metric("DisruptionBlocked") > 0
    ends = [entry for entry in stage.entries("podGone") if entry["pod"].startswith("default/")]
    assert {entry["how"] for entry in ends} == {"exited after SIGTERM"}
    stage.begin()
    stage.cloud.run(900)
    for kind in ("terminate", "createFleet", "evict"):
        assert stage.entries(kind) == []


def test_a_pool_of_fixed_size_is_kept_at_it(stage: Stage) -> None:
    """Its nodes come without a pod that asks, an ended one is replaced, a smaller size is kept."""
    fixed = pool("fixed", capacity=("on-demand",))
    fixed["spec"]["replicas"] = 2
    stage.apply(fixed)
    stage.expect("two machines", 600, lambda: len(stage.machines()) == 2)
    stage.expect("two nodes", 600, lambda: len(stage.all("nodes")) == 2)
    lost = stage.machines()[0]["InstanceId"]
    stage.cloud.client("ec2").terminate_instances(InstanceIds=[lost])
    stage.expect(
        "another machine",
        900,
        lambda: len(stage.machines()) == 2 and lost not in _ids(stage),
    )
    stage.patch("nodepools.karpenter.sh", "fixed", {"spec": {"replicas": 1}})
    stage.expect("one machine", 900, lambda: len(stage.machines()) == 1)
    stage.patch("nodepools.karpenter.sh", "fixed", {"spec": {"replicas": 0}})
    stage.expect("no machine", 900, lambda: not stage.machines())


def _ids(stage: Stage) -> set[str]:
    return {str(one["InstanceId"]) for one in stage.machines()}


def test_headroom_waits_for_a_pod_and_is_kept_again(stage: Stage) -> None:
    """Room is launched for nobody, a pod that comes runs on it without a launch, then it is kept
    again.
    """
    room = {labels.HEADROOM: "nvidia.com/gpu=1"}
    stage.apply(pool("roomy", capacity=("on-demand",), after="30s", annotations=room))
    stage.expect("a node with room", 900, lambda: len(stage.all("nodes")) == 1)
    stage.cloud.run(600)
    assert len(stage.machines()) == 1
    stage.begin()
    stage.apply(deployment("taker", "roomy", 1))
    stage.expect("the pod runs", 120, lambda: stage.running() == 1)
    assert launched(stage) == []
    stage.expect("room again", 900, lambda: len(stage.machines()) == 2)


# --- image push -----------------------------------------------------------------------------------


def test_a_pushed_image_is_on_the_next_node(stage: Stage) -> None:
    """ECR's push becomes a snapshot, and the next launch's volume is made of it."""
    layers = (3_000_000_000, 2_000_000_000)
    put_image(stage.cloud, "ml/story", "v1", layers)
    stage.apply(pool("seed"), pod("a", "seed", image=reference("ml/story", "v1")))
    stage.expect_running("a")
    announce(stage.cloud, "ml/story", "v2", put_image(stage.cloud, "ml/story", "v2", layers))
    stage.expect("a seed", 1800, lambda: stage.decided("SeedPublished"))
    (done,) = stage.entries("snapshot", state="completed")
    stage.begin()
    stage.apply(pod("b", "seed", image=reference("ml/story", "v2")))
    stage.expect_running("b")
    volumes = stage.cloud.client("ec2").describe_volumes(
        Filters=[{"Name": "snapshot-id", "Values": [done["id"]]}]
    )["Volumes"]
    assert [one["Attachments"][0]["InstanceId"] for one in volumes] == [launched(stage)[0]["id"]]


# --- modes ----------------------------------------------------------------------------------------


def test_observe_says_what_it_would_do_and_does_nothing(stage: Stage) -> None:
    """The plan is published and written on the pod; nothing is launched, tainted or evicted."""
    with stage.mode("observe"):
        stage.apply(pool("look"), pod("a", "look"))
        stage.cloud.run(90)
        made = stage.decided("PlanMade")
        assert made
        assert not made[0]["acting"]
        assert made[0]["launches"][0]["nodePool"] == "look"
        (said,) = stage.told("WouldLaunch", "a")
        assert "NodePool look" in said["message"]
        assert not stage.entries("createFleet")
        assert not stage.claims()
    stage.expect_running("a")


def test_provision_answers_interruptions_and_consolidates_nothing(stage: Stage) -> None:
    """An empty node stays; one that EC2 takes back is replaced."""
    with stage.mode("provision"):
        stage.apply(
            pool("half", after="0s", capacity=("spot",)),
            deployment("half", "half", 1),
            deployment("idle", "half", 1),
        )
        stage.expect("two pods run", 300, lambda: stage.running() == 2)
        used = stage.pods(app="half")[0]["spec"]["nodeName"]
        idle = stage.pods(app="idle")[0]["spec"]["nodeName"]
        stage.delete("deployments.apps", "idle", "default")
        stage.cloud.run(300)
        assert stage.get("nodes", idle) is not None
        assert not stage.decided("DisruptionDecided")
        (taken,) = (claim for claim in stage.claims("half") if claim["status"]["nodeName"] == used)
        stage.cloud.reclaim.interrupt(taken["status"]["providerID"].rpartition("/")[2])
        stage.expect("it is drained", 150, lambda: stage.get("nodes", used) is None)
        stage.expect("the pod runs", 60, lambda: stage.running() == 1)


def test_beside_a_live_karpenter_nothing_is_launched(stage: Stage) -> None:
    """It only observes and says so in an Event and a metric, until the other one is gone."""
    stage.apply(pool("beside"), pod("a", "beside"))
    before = stage.metric("BesideKarpenter")
    for _ in range(12):
        stage.apply(karpenter_lease(stage))
        stage.cloud.run(10)
    assert not stage.entries("createFleet")
    assert stage.decided("PlanMade")[0]["acting"] is False
    assert stage.told("BesideKarpenter", "kube-system")
    assert stage.metric("BesideKarpenter") > before
    stage.expect_running("a")
