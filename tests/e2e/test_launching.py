"""Launching told on template.yaml: what is planned is launched, and what AWS refuses is said.

Faults come from AWS; each story ends with nothing launched twice and nothing left that nobody owns.
Hints may die of them three times over, which is no matter: the minute tick needs none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider.adapters.aws import packing
from outrider.apis import labels
from tests.support.stage import Stage, node_class, pod, pool, staged

pytestmark = pytest.mark.e2e

OUTRIDER = str(Path(sys.executable).with_name("outrider"))


@pytest.fixture(scope="module")
def theatre() -> Iterator[Stage]:
    """Give the cloud that the stories share."""
    with staged() as stage:
        yield stage


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """Give the shared cloud for one story; afterwards nothing is left."""
    theatre.begin()
    yield theatre
    theatre.clear()


def launched(stage: Stage) -> list[Any]:
    """Return the instances that fleets of this story gave."""
    return [one for fleet in stage.entries("createFleet") for one in fleet["launched"]]


def stored_catalog(stage: Stage) -> bytes:
    """Return the catalogue that the functions plan with, as `--catalog` takes it."""
    assert stage.cloud.stack is not None
    table = stage.cloud.stack.outputs["LedgerTable"]
    rows = stage.cloud.client("dynamodb").scan(TableName=table)["Items"]
    pointer = next(row for row in rows if row["pk"]["S"] == "catalog")["version"]["S"]
    chunks = [row for row in rows if row["pk"]["S"] == f"catalog#{pointer}"]
    ordered = sorted(chunks, key=lambda row: str(row["sk"]["S"]))
    return packing.joined(bytes(row["data"]["B"]) for row in ordered)


def test_what_outrider_plan_prints_is_what_is_launched(stage: Stage, tmp_path: Path) -> None:
    """The command, given the manifests and the stored catalogue, says what the function does."""
    objects = [pool("same"), *(pod(name, "same") for name in ("a", "b", "c"))]
    stage.apply(*objects)
    stage.expect_running("a", "b", "c")
    (made,) = stage.entries("plan")
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(yaml.safe_dump_all([node_class(), *objects]))
    goods = tmp_path / "catalog.json"
    goods.write_bytes(stored_catalog(stage))
    answer = subprocess.run(
        [OUTRIDER, "plan", str(manifests), "--catalog", str(goods), "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(answer.stdout)
    assert sorted(sorted(one["pods"]) for one in printed["launches"]) == sorted(
        sorted(one["pods"]) for one in made["launches"]
    )
    for said, done in zip(printed["launches"], made["launches"], strict=True):
        assert said["instanceTypes"][:10] == done["instanceTypes"]
    assert {one["type"] for one in launched(stage)} <= {
        name for one in printed["launches"] for name in one["instanceTypes"]
    }
    assert len(launched(stage)) == len(printed["launches"])


@pytest.mark.parametrize(
    "operation",
    [
        "ec2:CreateFleet",
        "ec2:CreateLaunchTemplate",
        "ec2:DescribeSubnets",
        "dynamodb:TransactWriteItems",
        "dynamodb:BatchWriteItem",
        "sqs:SendMessageBatch",
        "eks:DescribeCluster",
    ],
)
def test_throttling_loses_and_doubles_nothing(stage: Stage, operation: str) -> None:
    """A call that AWS throttles for a while is made again; one instance comes of it."""
    stage.cloud.faults.set({"throttle": {operation: 7}})
    stage.apply(pool("slow"), pod("a", "slow"))
    stage.expect_running("a", seconds=900)
    stage.cloud.run(90)
    assert len(stage.machines()) == len(stage.claims("slow")) == 1


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestExpired"])
def test_credentials_that_expire_are_survived(stage: Stage, code: str) -> None:
    """The call fails, the message comes again, and the next try finishes the same errand."""
    stage.cloud.faults.set({"fail": {"ec2:CreateFleet": {"code": code, "times": 1}}})
    stage.apply(pool("late"), pod("a", "late"))
    stage.expect_running("a", seconds=900)
    stage.cloud.run(90)
    assert len(stage.machines()) == len(stage.claims("late")) == 1


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"subnetSelectorTerms": [{"tags": {"no": "such"}}]}, "SubnetsReady"),
        ({"securityGroupSelectorTerms": [{"tags": {"no": "such"}}]}, "SecurityGroupsReady"),
        (
            {"amiSelectorTerms": [{"id": "ami-0123456789abcdef0"}], "amiFamily": "AL2023"},
            "AMIsReady",
        ),
    ],
)
def test_a_class_that_selects_nothing_says_what_to_fix(
    stage: Stage, spec: dict[str, Any], kind: str
) -> None:
    """The condition names the selector, the pod learns of it, and nothing is launched."""
    stage.apply(node_class("bare", **spec), pool("bare", node_class="bare"), pod("a", "bare"))

    def conditions() -> dict[str, Any]:
        found = stage.get("ec2nodeclasses.karpenter.k8s.aws", "bare") or {}
        return {one["type"]: one for one in found.get("status", {}).get("conditions", ())}

    stage.expect("a verdict on the class", 120, conditions)
    assert conditions()[kind]["status"] == "False"
    assert "SelectorTerms select no" in conditions()[kind]["message"]
    tagged = "there are some with karpenter.sh/discovery local" in conditions()[kind]["message"]
    assert tagged is (kind != "AMIsReady")
    stage.cloud.run(60)
    assert any("bare" in one["message"] for one in stage.told("FailedScheduling", "a"))
    assert launched(stage) == []
    assert stage.claims("bare") == []
    stage.delete("ec2nodeclasses.karpenter.k8s.aws", "bare")


def test_a_deleted_pool_takes_its_nodes_along(stage: Stage) -> None:
    """Claims of a deleted NodePool drain within the minute, and their pods are not lost."""
    stage.apply(pool("gone"), *(pod(name, "gone") for name in ("a", "b")))
    stage.expect_running("a", "b")
    began = stage.cloud.timeline.at()
    stage.delete("nodepools.karpenter.sh", "gone")

    def draining() -> bool:
        nodes = [one for one in stage.all("nodes") if labels.NODEPOOL in one["metadata"]["labels"]]
        return all(
            any(taint["key"] == "karpenter.sh/disrupted" for taint in one["spec"].get("taints", ()))
            for one in nodes
        )

    stage.expect("drains of both nodes", 60, draining)
    stage.expect("the end of both claims", 300, lambda: not stage.claims("gone"))
    stage.expect("the end of both machines", 60, lambda: not stage.machines())
    assert stage.cloud.timeline.at() - began < 180
