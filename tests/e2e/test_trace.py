"""`outrider trace` on the embedded cloud: one decision from the plan to the node, one to the end.

A pod pends, runs on a Spot node, is interrupted and moved. The chain of the pod, of its first node
and of the instance tell the same story, in order; a decision's id is on each link of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.apis import labels
from outrider.cli import main
from tests.support.stage import Stage, deployment, pool, staged

pytestmark = pytest.mark.e2e

Told = Callable[..., Any]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Give a cloud with a pod on a Spot node that is initialised."""
    with staged() as running:
        running.apply(pool("spot", capacity=("spot",)), deployment("web", "spot", 1))
        running.expect("it runs", 300, lambda: running.running(app="web") == 1)
        running.expect("initialized", 60, lambda: running.decided("NodeInitialized"))
        yield running


@pytest.fixture
def tell(
    stage: Stage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Told:
    """Give the command against the stage."""
    kubeconfig = tmp_path / "kubeconfig"
    assert stage.cloud.cluster is not None
    kubeconfig.write_text(stage.cloud.cluster.kubeconfig())
    for name in ("AWS_ENDPOINT_URL", "KUBECONFIG"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)

    def told(subject: str, *words: str, status: int = 0) -> Any:
        where = ("--endpoint-url", stage.cloud.url, "--kubeconfig", str(kubeconfig))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main(["trace", subject, *where, *words])
        shown = capsys.readouterr()
        assert int(ended.value.code or 0) == status, shown.err
        if status:
            return shown.err
        return json.loads(shown.out) if "json" in words else shown.out

    return told


def whats(chain: Any, about: str) -> list[str]:
    """Return what is said about a kind of thing, in order."""
    return [one["what"] for one in chain["links"] if one["about"].startswith(about)]


def test_a_pod_s_way_to_its_node(stage: Stage, tell: Told) -> None:
    """Created, refused by the scheduler, planned, launched, registered, initialised: one id."""
    (web,) = stage.pods(app="web")
    name = web["metadata"]["name"]
    chain = tell(f"default/{name}", "-o", "json")
    (made,) = stage.decided("PlanMade")
    assert chain["decisions"] == [made["decision"]]
    assert chain["silent"] == {}
    pod = whats(chain, "pod default/")
    assert pod[0] == "created"
    assert any(one.startswith("FailedScheduling") for one in pod)
    assert any(one.startswith("Nominated: Pod should schedule on: nodeclaim/") for one in pod)
    claim = " | ".join(whats(chain, "nodeclaim "))
    for word in (f"for default/{name}; EC2 gave i-", "Launched", "Registered", "Initialized"):
        assert word in claim
    assert "joined" in whats(chain, "node ")
    assert whats(chain, "instance ")[0].startswith("launched (g")
    ats = [one["at"] for one in chain["links"]]
    assert ats == sorted(ats)


def test_an_interruption_is_a_decision_of_its_own(stage: Stage, tell: Told) -> None:
    """The node that goes shows both: the one that brought it, the one that took it."""
    (machine,) = stage.machines()
    instance = machine["InstanceId"]
    (web,) = stage.pods(app="web")
    node, name = web["spec"]["nodeName"], web["metadata"]["name"]
    before = tell(node, "-o", "json")["decisions"]
    stage.cloud.reclaim.interrupt(instance)
    stage.expect("it moved", 200, lambda: stage.decided("PodEvicted"))
    stage.expect("it is back", 200, lambda: stage.running(app="web") == 1)
    chain = tell(instance, "-o", "json")
    (interrupted,) = stage.decided("NodeInterrupted")
    assert set(chain["decisions"]) == {*before, interrupted["decision"]}
    (drained,) = (one for one in chain["links"] if "to be drained" in one["what"])
    assert "SpotInterruption" in drained["what"]
    gone = tell(f"default/{name}", "-o", "json")
    assert before[0] in gone["decisions"], "the ledger remembers a pod that is gone"
    assert stage.decided("PodEvicted")[0]["decision"] == interrupted["decision"]


def test_people_read_a_line_a_link(stage: Stage, tell: Told) -> None:
    """Time, thing, what, decision, source; and how many there are."""
    (machine, *_) = stage.machines()
    tags = {one["Key"]: one["Value"] for one in machine["Tags"]}
    shown = tell(tags[labels.NODECLAIM_TAG])
    assert f"[{tags[labels.DECISION]}] (ledger)" in shown
    assert "links, decisions: " in shown.splitlines()[-1]


def test_what_nobody_remembers(tell: Told) -> None:
    """One line on standard error and exit status 1."""
    assert "nothing remembers default/nobody" in tell("default/nobody", status=1)
