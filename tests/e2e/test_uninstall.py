"""`outrider uninstall` on the embedded cloud: what a dry run says goes, and nothing is left.

A stack with nodes that serve, a guarded pod, a published seed, launch templates and another
cluster's instance beside it. Each test has a cloud of its own, since the patient does not survive.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.apis import labels
from outrider.cli import main
from outrider.local.demo.push import announce, put_image, reference
from tests.support.stage import Stage, budget, deployment, pod, pool, staged

pytestmark = pytest.mark.e2e

LAYERS = (3_000_000_000, 2_000_000_000)
FOREIGN = {"outrider.dev/managed-by": "another", "eks:eks-cluster-name": "another"}
Told = Callable[..., tuple[int, Any]]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Give a stack in use: a node, a seed, and somebody else's instance in the same account."""
    with staged() as running:
        put_image(running.cloud, "ml/app", "v1", LAYERS)
        running.apply(pool("gpu"), pod("a", "gpu", image=reference("ml/app", "v1")))
        running.expect_running("a")
        digest = put_image(running.cloud, "ml/app", "v2", LAYERS)
        announce(running.cloud, "ml/app", "v2", digest)
        running.expect("a seed", 3600, lambda: running.decided("SeedPublished"))
        running.cloud.client("ec2").run_instances(
            ImageId=running.machines()[0]["ImageId"],
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": key, "Value": value} for key, value in FOREIGN.items()],
                }
            ],
        )
        running.cloud.run(120)
        yield running


@pytest.fixture
def tell(
    stage: Stage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Told:
    """Give the command, run on the cloud's clock: its exit status and its answer."""
    kubeconfig = tmp_path / "kubeconfig"
    assert stage.cloud.cluster is not None
    kubeconfig.write_text(stage.cloud.cluster.kubeconfig())
    for name in ("AWS_ENDPOINT_URL", "KUBECONFIG"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    where = ("--endpoint-url", stage.cloud.url, "--kubeconfig", str(kubeconfig), "-o", "json")

    def told(*words: str) -> tuple[int, Any]:
        ended: list[int] = []

        def run() -> None:
            try:
                main.main(["uninstall", *where, *words])
            except SystemExit as end:
                ended.append(int(end.code or 0))

        capsys.readouterr()
        stage.cloud.clock.spawn(run, "uninstall")
        assert stage.cloud.run(1200, lambda: bool(ended))
        shown, complaints = capsys.readouterr()
        assert not complaints, complaints
        return ended[0], json.loads(shown)

    return told


def ours(stage: Stage) -> set[str]:
    """Return what of the stack's is in account and cluster: ids by their kind, and objects."""
    ec2 = stage.cloud.client("ec2")
    managed = [{"Name": f"tag:{labels.MANAGED_BY}", "Values": ["outrider-local"]}]
    running = {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}
    found = {
        one["InstanceId"]
        for group in ec2.describe_instances(Filters=[*managed, running])["Reservations"]
        for one in group["Instances"]
    }
    found |= {one["VolumeId"] for one in ec2.describe_volumes(Filters=managed)["Volumes"]}
    found |= {one["SnapshotId"] for one in ec2.describe_snapshots(Filters=managed)["Snapshots"]}
    templates = ec2.describe_launch_templates(Filters=managed)["LaunchTemplates"]
    found |= {one["LaunchTemplateId"] for one in templates}
    interfaces = ec2.describe_network_interfaces(Filters=managed)["NetworkInterfaces"]
    found |= {one["NetworkInterfaceId"] for one in interfaces}
    for storage in (
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "clusterroles.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
    ):
        found |= {
            one["metadata"]["name"]
            for one in stage.all(storage)
            if one["metadata"]["name"].startswith("outrider")
        }
    return found


def enabled(stage: Stage) -> list[str]:
    """Return the rules of the account that are enabled."""
    rules = stage.cloud.client("events").list_rules()["Rules"]
    return [one["Name"] for one in rules if one["State"] == "ENABLED"]


def foreign(stage: Stage) -> str:
    """Return the state of the other cluster's instance."""
    filters = [{"Name": f"tag:{labels.MANAGED_BY}", "Values": ["another"]}]
    answer = stage.cloud.client("ec2").describe_instances(Filters=filters)
    return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])


def test_a_dry_run_says_everything_and_does_nothing(stage: Stage, tell: Told) -> None:
    """Every kind of thing is named, and all of it is there afterwards."""
    before = ours(stage)
    status, told = tell("--dry-run")
    assert status == 0
    kinds = {one["kind"] for one in told["steps"]}
    assert {"rule", "webhook", "node", "nodeclaim", "instance", "snapshot"} <= kinds
    assert {"launch template", "access"} <= kinds
    assert told["dryRun"] is True
    assert ours(stage) == before
    assert len(enabled(stage)) > 5
    assert stage.run_now("a")


def test_nothing_is_left(stage: Stage, tell: Told) -> None:
    """What the dry run named is gone, nothing carries our tags, and the neighbour lives."""
    planned = tell("--dry-run")[1]["steps"]
    status, told = tell("--yes")
    assert told["steps"] == [one for one in planned if one in told["steps"]]
    assert (status, told["held"], told["tagged"]) == (0, {}, [])
    stage.cloud.run(120)
    assert ours(stage) == set()
    assert stage.claims() == []
    assert not [one for one in stage.all("nodes") if one["metadata"].get("finalizers")]
    assert enabled(stage) == []
    assert foreign(stage) == "running"
    stage.apply(pod("late", "gpu"))
    stage.cloud.run(300)
    assert stage.machines() == [], "nobody is left who launches"
    assert {one["kind"] for one in tell("--dry-run")[1]["steps"]} == set()


def test_nodes_may_stay(stage: Stage, tell: Told) -> None:
    """The pod is not disturbed, the node carries nothing of ours, and can be deleted by anybody."""
    node = stage.node_of("a")
    status, told = tell("--keep-nodes", "--yes")
    assert (status, told["held"], told["tagged"]) == (0, {}, [])
    stage.cloud.run(300)
    assert ours(stage) == set()
    assert stage.run_now("a")
    assert len(stage.machines()) == 1
    after = stage.node_of("a")
    assert after["metadata"]["uid"] == node["metadata"]["uid"]
    assert not after["metadata"].get("finalizers")
    assert not [one for one in after["metadata"]["annotations"] if one.startswith("outrider.dev/")]
    (claim,) = stage.claims("gpu")
    assert not claim["metadata"].get("finalizers")
    assert not [one for one in claim["metadata"]["annotations"] if one.startswith("outrider.dev/")]


def test_a_budget_is_respected(stage: Stage, tell: Told) -> None:
    """A node whose pod may not be evicted stays in use and is named; --force ends it."""
    stage.apply(pool("kept"), budget("kept", minAvailable=1), deployment("kept", "kept", 1))
    stage.expect("the guarded pod runs", 300, lambda: stage.running(app="kept") == 1)
    (guarded,) = (one for one in stage.pods(app="kept"))
    node = guarded["spec"]["nodeName"]
    status, told = tell("--yes", "--patience", "30")
    assert status == 3
    assert list(told["held"]) == [node]
    assert "PodDisruptionBudget" in told["held"][node]
    assert stage.running(app="kept") == 1
    kept = stage.get("nodes", node)
    assert kept is not None
    assert labels.DISRUPTED_TAINT not in [one["key"] for one in kept["spec"].get("taints", ())]
    status, told = tell("--yes", "--force")
    assert (status, told["held"], told["tagged"]) == (0, {}, [])
    stage.cloud.run(120)
    assert ours(stage) == set()
