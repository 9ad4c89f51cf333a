"""Seeds on the embedded cloud: pushed, built, warmed, used; broken in every state, nothing left.

The stack's setting is fast restore, so that builds come through every state of the machine. The
whole matrix of states and faults is printed by `python -m tests.benchmarks.seed_matrix`; here every
state is aborted, and each task is broken in one other way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.cli import main
from outrider.local.demo.push import announce, put_image, reference
from tests.support.breakage import TASKS, WAITS, Fault, State, Workbench, describe, workbench
from tests.support.stage import Stage, pod, pool, staged

pytestmark = pytest.mark.integration

LAYERS = (3_000_000_000, 2_000_000_000)
OTHERS = (Fault.FAILS, Fault.FOR_GOOD, Fault.TIMES_OUT, Fault.KILLED)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Give an embedded cloud whose seeds are fast-restored."""
    with staged(SeedWarmUp="fast-restore") as running:
        yield running


def _restores(stage: Stage) -> dict[str, set[str]]:
    """Return the states of fast restores by snapshot."""
    found: dict[str, set[str]] = {}
    answer = stage.cloud.client("ec2").describe_fast_snapshot_restores()
    for one in answer["FastSnapshotRestores"]:
        found.setdefault(one["SnapshotId"], set()).add(one["State"])
    return found


def _rates(stage: Stage, snapshot: str) -> set[Any]:
    """Return the initialisation rates of the launch templates that carry *snapshot*."""
    ec2 = stage.cloud.client("ec2")
    return {
        device["Ebs"].get("VolumeInitializationRate")
        for template in ec2.describe_launch_templates()["LaunchTemplates"]
        for version in ec2.describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"]
        )["LaunchTemplateVersions"]
        for device in version["LaunchTemplateData"].get("BlockDeviceMappings", ())
        if device.get("Ebs", {}).get("SnapshotId") == snapshot
    }


def test_a_seed_is_published_when_it_is_fast(stage: Stage) -> None:
    """Enabled in every zone of its class first; the next launch has the snapshot and no rate."""
    put_image(stage.cloud, "ml/fast", "v1", LAYERS)
    stage.apply(pool("fast"), pod("a", "fast", image=reference("ml/fast", "v1")))
    stage.expect_running("a")
    announce(stage.cloud, "ml/fast", "v2", put_image(stage.cloud, "ml/fast", "v2", LAYERS))
    stage.expect("a seed", 3600, lambda: stage.decided("SeedPublished"))
    (done,) = stage.entries("snapshot", state="completed")
    assert _restores(stage) == {done["id"]: {"enabled"}}
    stage.apply(pod("b", "fast", image=reference("ml/fast", "v2")))
    stage.expect_running("b")
    assert _rates(stage, done["id"]) == {None}


def test_duplicates_of_a_push_build_once(stage: Stage) -> None:
    """Three events of one push: one builder, one snapshot, and every execution ends well."""
    stage.begin()
    digest = put_image(stage.cloud, "ml/fast", "v3", LAYERS)
    for _ in range(3):
        announce(stage.cloud, "ml/fast", "v3", digest)
    stage.expect("ends", 3600, lambda: len(_ends(stage)) == 3)
    assert _ends(stage) == ["SUCCEEDED"] * 3
    assert len(stage.decided("SeedStarted")) == len(stage.decided("SeedPublished")) == 1
    assert len(stage.entries("snapshot", state="completed")) == 1


def test_two_pushes_during_a_build_end_with_the_newest(stage: Stage) -> None:
    """The tag moves twice while the first build runs: the ledger has the last digest, alone."""
    stage.begin()
    digests = []
    for size in (1, 2, 3):
        put = put_image(stage.cloud, "ml/fast", "moving", (3_000_000_000 + size,))
        digests.append(put)
        announce(stage.cloud, "ml/fast", "moving", put)
        stage.cloud.run(60)
    stage.expect("ends", 7200, lambda: len(_ends(stage)) == 3)
    name = reference("ml/fast", "moving")
    assert [seed["images"].get(name) for seed in _ready(stage) if name in seed["images"]] == [
        digests[-1]
    ]
    assert set(_restores(stage)) == {seed["snapshot"] for seed in _ready(stage)}


def test_the_command_sees_the_account(
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`outrider seed` finds stack, ledger and cluster by `--endpoint-url` and `--kubeconfig`."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(stage.cloud.kube.kubeconfig())
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    where = ("--endpoint-url", stage.cloud.url, "--kubeconfig", str(kubeconfig), "-o", "json")

    def told(*words: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main.main(["seed", *words, *where])
        assert not ended.value.code
        return json.loads(capsys.readouterr().out)

    listed = {one["snapshot"] for one in told("list")["seeds"] if one["state"] == "READY"}
    assert listed == {seed["snapshot"] for seed in _ready(stage)}
    planned = told("plan")
    assert planned["summary"]["toBuild"] == 0
    assert planned["summary"]["ready"] >= 1
    assert {one["kind"] for one in told("gc", "--dry-run")["removed"]} <= {"snapshot"}


def _ends(stage: Stage) -> list[str]:
    return [
        entry["status"]
        for entry in stage.entries("execution")
        if "Seed" in entry["machine"] and entry["status"] != "RUNNING"
    ]


def _ready(stage: Stage) -> list[dict[str, Any]]:
    """Return the ready seeds of the ledger."""
    assert stage.cloud.stack is not None
    table = stage.cloud.stack.outputs["LedgerTable"]
    rows = stage.cloud.client("dynamodb").scan(TableName=table)["Items"]
    return [
        {
            "snapshot": row["snapshot"]["S"],
            "images": {name: one["S"] for name, one in row["images"]["M"].items()},
        }
        for row in rows
        if row["pk"]["S"] == "seed" and row["state"]["S"] == "READY"
    ]


@pytest.fixture(scope="module")
def bench(stage: Stage) -> Iterator[Workbench]:
    """Give a workbench on the stage, with nothing that tidies up by the clock."""
    stage.clear()
    with workbench(stage) as made:
        yield made


@pytest.mark.parametrize("state", [*TASKS, *WAITS], ids=lambda state: state.name)
def test_an_aborted_build_leaves_nothing(bench: Workbench, state: State) -> None:
    """Aborted in any state, its step finishing after the abort: no builder, volume, half snapshot,
    fast restore or lock remains.
    """
    remains = bench.broken(state, Fault.ABORTED)
    assert remains.clean, describe(remains)
    assert remains.status == "ABORTED"


@pytest.mark.parametrize(
    ("state", "fault"),
    [(state, OTHERS[place % len(OTHERS)]) for place, state in enumerate(TASKS)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_broken_build_leaves_nothing(bench: Workbench, state: State, fault: Fault) -> None:
    """A task that fails, times out or is killed once is done again; one that fails for good is
    cleaned up after.
    """
    remains = bench.broken(state, fault)
    assert remains.clean, describe(remains)
    if fault is not Fault.FOR_GOOD and not state.after_failure:
        assert remains.published
