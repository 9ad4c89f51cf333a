"""`outrider doctor` on the embedded cloud: nothing on a healthy stack, every planted ailment found.

Each ailment is planted alone, the command asks as a person's would (endpoint, kubeconfig, JSON),
and what it finds is exactly what is owed for the ailment, with the severity, a fix and the exit
status that go with it; afterwards the patient is healthy again. The count is printed at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.cli import main
from outrider.cli.doctor import STATUS
from tests.support.ailments import AILMENTS, Ailment, system_daemons
from tests.support.stage import Stage, pool, staged

pytestmark = pytest.mark.e2e

Asked = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Give a healthy stack in a healthy cluster."""
    with staged() as running:
        running.apply(*system_daemons(), pool("gpu"))
        running.cloud.run(70)
        yield running


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[set[str]]:
    """Collect the ailments that were found; say at the end how many of how many."""
    names: set[str] = set()
    yield names
    plugins = request.config.pluginmanager
    said = f"\ndoctor: {len(names)} of {len(AILMENTS)} planted ailments found"
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        plugins.getplugin("terminalreporter").write_line(said)


@pytest.fixture
def ask(
    stage: Stage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Asked:
    """Give the command against the stage: its exit status and its answer."""
    kubeconfig = tmp_path / "kubeconfig"
    assert stage.cloud.cluster is not None
    kubeconfig.write_text(stage.cloud.cluster.kubeconfig())
    for name in ("AWS_ENDPOINT_URL", "KUBECONFIG"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)

    def asked(*words: str) -> tuple[int, Any]:
        where = ("--endpoint-url", stage.cloud.url, "--kubeconfig", str(kubeconfig))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main(["doctor", *where, "-o", "json", *words])
        shown = capsys.readouterr().out
        return int(ended.value.code or 0), shown if "table" in words else json.loads(shown)

    return asked


def test_a_healthy_stack_has_nothing(ask: Asked) -> None:
    """No finding, no note, exit status 0."""
    status, told = ask()
    assert told == {
        "cluster": "local",
        "findings": [],
        "summary": {"errors": 0, "warnings": 0, "notes": 0},
    }
    assert status == 0


@pytest.mark.parametrize("ailment", AILMENTS, ids=lambda one: one.name.replace(" ", "-"))
def test_each_ailment_is_found(stage: Stage, ask: Asked, found: set[str], ailment: Ailment) -> None:
    """Exactly what is owed, with a fix; what the ailment before left behind would be too much."""
    with ailment.plant(stage):
        status, told = ask(*ailment.words)
    assert {one["code"] for one in told["findings"]} == ailment.finds, told["findings"]
    assert {one["severity"] for one in told["findings"]} == {ailment.severity}
    assert all(one["fix"] and one["problem"] and one["about"] for one in told["findings"])
    assert status == STATUS[ailment.severity]
    found.add(ailment.name)


def test_looking_left_no_trace(ask: Asked) -> None:
    """After all of them the patient is as healthy as before."""
    assert ask()[1]["findings"] == []


def test_there_are_more_than_twenty() -> None:
    """Twenty ailments at least, of different kinds, are planted."""
    assert len({code for one in AILMENTS for code in one.finds}) >= 20


def test_a_cluster_that_does_not_answer_is_one_finding(
    stage: Stage, ask: Asked, tmp_path: Path
) -> None:
    """The account is examined all the same, and nothing is said about what nobody could see."""
    assert stage.cloud.cluster is not None
    dead = tmp_path / "dead"
    address = stage.cloud.cluster.url
    dead.write_text(stage.cloud.cluster.kubeconfig().replace(address, "https://127.0.0.1:9"))
    status, told = ask("--kubeconfig", str(dead))
    assert [one["code"] for one in told["findings"]] == ["ApiUnreachable"]
    assert status == STATUS["error"]


def test_people_read_every_fix(stage: Stage, ask: Asked) -> None:
    """The table has severity, problem and fix of each finding, and the counts."""
    (ailment,) = (one for one in AILMENTS if one.name == "no device plugin")
    with ailment.plant(stage):
        status, shown = ask("-o", "table")
    assert "ERROR DevicePluginMissing: NodePool gpu" in shown
    assert "fix: kubectl apply -f" in shown
    assert "1 error, 0 warnings, 0 notes" in shown
    assert status == STATUS["error"]
