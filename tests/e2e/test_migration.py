"""The way from Karpenter and the way back, node by node, on the embedded cloud.

Karpenter is played: its Lease is renewed, and its nodes are nodes of this cluster with everything
of outrider taken off them, in the account, in the cluster and in the ledger, and Karpenter's own
hashes put on. What a real Karpenter does with nodes of ours is read from what it looks for: tags,
labels, finalizers, provider ids, conditions. No node may be restarted, no pod moved, either way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.apis import labels
from outrider.cli.main import main
from tests.support.stage import Stage, deployment, karpenter_lease, pod, pool, staged

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
LEASE = ("leases.coordination.k8s.io", "karpenter-leader-election", "kube-system")
THEIR_HASH = {
    labels.NODEPOOL_HASH: "4011011812873467437",
    labels.NODEPOOL_HASH_VERSION: "v3",
    labels.NODECLASS_HASH: "9611433391263110213",
    labels.NODECLASS_HASH_VERSION: "v4",
}
# What Karpenter v1 finds its instances by, and what it wants of a NodeClaim and its Node.
TAGS = {"eks:eks-cluster-name", labels.NODEPOOL, labels.NODECLASS_LABEL, labels.NODECLAIM_TAG}
CONDITIONS = {"Launched", "Registered", "Initialized", "Ready"}


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
    if theatre.get(*LEASE):
        theatre.delete(*LEASE)
    theatre.clear()
    assert theatre.errors() == []
    assert theatre.dead_letters() == {}


def pass_beside_karpenter(stage: Stage, seconds: int) -> None:
    """Let time pass while a Karpenter renews its Lease."""
    for _ in range(seconds // 20):
        stage.apply(karpenter_lease(stage))
        stage.cloud.run(20)


def tags_of(machine: Json) -> dict[str, str]:
    """Return an instance's tags."""
    return {tag["Key"]: tag["Value"] for tag in machine.get("Tags", ())}


def identities(stage: Stage) -> dict[str, set[str]]:
    """Return what is another thing after a restart: instances, Nodes, claims and pods by uid."""
    return {
        "machines": {one["InstanceId"] for one in stage.machines()},
        "nodes": {one["metadata"]["uid"] for one in stage.all("nodes")},
        "claims": {one["metadata"]["uid"] for one in stage.claims()},
        "pods": {one["metadata"]["uid"] for one in stage.pods()},
    }


def hand_to_karpenter(stage: Stage) -> None:
    """Take off everything by which outrider knows its nodes; put on what Karpenter writes."""
    ec2 = stage.cloud.client("ec2")
    for machine in stage.machines():
        ours = [key for key in tags_of(machine) if key.startswith("outrider.dev/")]
        ec2.delete_tags(Resources=[machine["InstanceId"]], Tags=[{"Key": key} for key in ours])
    for storage, objects in (
        ("nodeclaims.karpenter.sh", stage.claims()),
        ("nodes", stage.all("nodes")),
    ):
        for one in objects:
            said = one["metadata"].get("annotations") or {}
            gone = {key: None for key in said if key.startswith("outrider.dev/")}
            body = {"metadata": {"annotations": {**gone, **THEIR_HASH}}}
            stage.patch(storage, one["metadata"]["name"], body)
    dynamodb = stage.cloud.client("dynamodb")
    assert stage.cloud.stack is not None
    ledger = stage.cloud.stack.outputs["LedgerTable"]
    for item in dynamodb.scan(TableName=ledger)["Items"]:
        if item["pk"]["S"] in {"instance", "intent", "reaction"}:
            key = {"pk": item["pk"], "sk": item["sk"]}
            dynamodb.delete_item(TableName=ledger, Key=key)


def settled(stage: Stage, count: int) -> None:
    """Wait until *count* nodes serve."""

    def serve() -> bool:
        conditions = [
            {one["type"] for one in claim["status"]["conditions"] if one["status"] == "True"}
            for claim in stage.claims()
        ]
        return len(conditions) == count and all(one >= CONDITIONS for one in conditions)

    stage.expect(f"{count} nodes serve", 300, serve)


def test_karpenters_nodes_are_adopted_where_they_stand(stage: Stage) -> None:
    """Beside Karpenter nothing is touched; once it is scaled down its nodes are ours within two
    minutes, and none of them, nor a pod on them, is another than before.
    """
    stage.apply(pool("mine", capacity=("spot",), after="1m"), deployment("web", "mine", 3))
    stage.expect("three pods run", 300, lambda: stage.running() == 3)
    settled(stage, 3)
    hand_to_karpenter(stage)
    before = identities(stage)

    pass_beside_karpenter(stage, 300)
    assert identities(stage) == before
    (told,) = stage.decided("ReportMade")
    assert (told["watching"], told["nodesAsIs"]) == ("a Karpenter is live", 3)
    assert told["pricePerHour"] >= told["plannedPricePerHour"] > 0
    assert not [one for one in stage.machines() if labels.MANAGED_BY in tags_of(one)]

    stage.delete(*LEASE)
    stage.expect(
        "the instances are adopted",
        120,
        lambda: all(labels.MANAGED_BY in tags_of(one) for one in stage.machines()),
    )
    stage.cloud.run(600)  # disruption has looked five times: nothing has drifted by the change
    assert identities(stage) == before
    assert not stage.decided("DisruptionDecided")
    assert not stage.decided("NodeTerminated")


def test_the_report_reads_the_live_cluster(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`outrider report --kubeconfig` compares what runs, and writes nothing to the cluster."""
    stage.apply(pool("mine"), deployment("web", "mine", 2))
    stage.expect("two pods run", 300, lambda: stage.running() == 2)
    settled(stage, 2)
    kubeconfig, page = tmp_path / "kubeconfig", tmp_path / "report.html"
    kubeconfig.write_text(stage.cloud.kube.kubeconfig())
    before = {name: one["metadata"]["resourceVersion"] for name, one in _everything(stage)}
    with pytest.raises(SystemExit) as ended:
        main(["report", "--kubeconfig", str(kubeconfig), "--html", str(page), "-o", "json"])
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)
    assert {line["name"] for line in told["nodes"]} == {
        claim["status"]["nodeName"] for claim in stage.claims()
    }
    assert told["pods"]["replanned"] == 2
    assert page.read_text().startswith("<!doctype html>")
    assert {name: one["metadata"]["resourceVersion"] for name, one in _everything(stage)} == before


def _everything(stage: Stage) -> Iterator[tuple[str, Json]]:
    for storage in ("nodes", "nodeclaims.karpenter.sh", "nodepools.karpenter.sh", "pods"):
        for one in stage.all(storage):
            yield f"{storage}/{one['metadata']['name']}", one


def test_an_adopted_node_is_cared_for(stage: Stage) -> None:
    """A Spot warning for it is ours: replacement first, each pod evicted once, then terminated."""
    stage.apply(pool("mine", capacity=("spot",)), deployment("web", "mine", 1))
    stage.expect("a pod runs", 300, lambda: stage.running() == 1)
    settled(stage, 1)
    hand_to_karpenter(stage)
    stage.begin()
    stage.expect(
        "the instance is adopted",
        120,
        lambda: all(labels.MANAGED_BY in tags_of(one) for one in stage.machines()),
    )
    (machine,) = stage.machines()
    stage.cloud.put_event(
        {
            "source": "aws.ec2",
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "detail": {"instance-id": machine["InstanceId"], "instance-action": "terminate"},
        }
    )
    stage.expect("the node is gone", 200, lambda: stage.decided("NodeTerminated"))
    stage.expect("a pod runs", 200, lambda: stage.running() == 1)
    assert len(stage.decided("ReplacementLaunched")) == len(stage.decided("PodEvicted")) == 1
    (after,) = stage.machines()
    assert after["InstanceId"] != machine["InstanceId"]


def test_our_nodes_are_handed_back_where_they_stand(stage: Stage) -> None:
    """With Karpenter up again outrider lets go at once: no node is restarted, what Karpenter looks
    for is all there, and what it leaves to do is left to it.
    """
    stage.apply(pool("mine", after="30s"), deployment("web", "mine", 2))
    stage.expect("two pods run", 300, lambda: stage.running() == 2)
    settled(stage, 2)
    before = identities(stage)
    stage.begin()

    pass_beside_karpenter(stage, 300)
    assert identities(stage) == before
    for machine in stage.machines():
        assert tags_of(machine).keys() >= TAGS
    for claim in stage.claims():
        meta, status = claim["metadata"], claim["status"]
        assert meta["finalizers"] == [labels.TERMINATION_FINALIZER]
        # Of another version, so that Karpenter writes its own hash instead of seeing drift.
        assert meta["annotations"][labels.NODEPOOL_HASH_VERSION] not in {"v1", "v2", "v3", "v4"}
        node = stage.get("nodes", status["nodeName"])
        assert node is not None
        assert node["spec"]["providerID"] == status["providerID"]
        assert node["metadata"]["finalizers"] == [labels.TERMINATION_FINALIZER]
        assert node["metadata"]["labels"][labels.REGISTERED] == "true"
        assert node["metadata"]["labels"][labels.INITIALIZED] == "true"
        assert {tag["Key"]: tag["Value"] for tag in _tags(stage, status)}[
            labels.NODECLAIM_TAG
        ] == meta["name"]

    stage.apply(pod("late", "mine"))
    pass_beside_karpenter(stage, 120)
    assert not stage.entries("createFleet")
    assert stage.told("BesideKarpenter")
    (pending,) = [one for one in stage.pods() if one["metadata"]["name"] == "late"]
    assert pending["status"]["phase"] == "Pending"


def _tags(stage: Stage, status: Json) -> list[dict[str, str]]:
    instance_id = status["providerID"].rpartition("/")[2]
    machine = next(one for one in stage.machines() if one["InstanceId"] == instance_id)
    found: list[dict[str, str]] = machine["Tags"]
    return found


def test_what_karpenter_deletes_is_karpenters_to_end(stage: Stage) -> None:
    """A NodeClaim that is deleted beside a live Karpenter keeps its finalizer and its instance: two
    who drain one node would each think that the other had not begun.
    """
    stage.apply(pool("mine"), deployment("web", "mine", 1))
    stage.expect("a pod runs", 300, lambda: stage.running() == 1)
    settled(stage, 1)
    stage.apply(karpenter_lease(stage))
    (claim,) = stage.claims()
    stage.delete("nodeclaims.karpenter.sh", claim["metadata"]["name"])
    pass_beside_karpenter(stage, 240)
    (left,) = stage.claims()
    assert left["metadata"]["finalizers"] == [labels.TERMINATION_FINALIZER]
    assert len(stage.machines()) == 1
    assert stage.running() == 1
