"""`outrider explain`: each NodePool's funnel, the choice, and what spoke against the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from outrider.cli.main import main
from tests.support import builders as b

Json = dict[str, Any]
GOODS = b.catalog(
    b.instance_type("c.large", cpu="8", price=0.4),
    b.instance_type("g.one", cpu="8", gpu=1, price=1.0),
    b.instance_type("g.four", cpu="32", gpu=4, price=4.0),
)


def explained(
    folder: Path, capsys: pytest.CaptureFixture[str], *documents: Json, pod: str = "pod"
) -> tuple[int, str, Json]:
    """Run `explain` both ways; return the status, the text and the JSON."""
    manifests, catalog = folder / "in.json", folder / "catalog.json"
    manifests.write_bytes(
        orjson.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
    )
    catalog.write_bytes(orjson.dumps(GOODS))
    shown = []
    for output in ("table", "json"):
        with pytest.raises(SystemExit) as ended:
            main(["explain", pod, str(manifests), "--catalog", str(catalog), "-o", output])
        shown.append(capsys.readouterr().out)
    return int(ended.value.code or 0), shown[0], orjson.loads(shown[1])


def pool_of(answer: Json, name: str) -> Json:
    """Return the story of one NodePool."""
    return next(story for story in answer["nodePools"] if story["nodePool"] == name)


def test_a_funnel_for_each_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each constraint says what fell to it and what it left; only those that bit have a line."""
    pool = b.nodepool("gpu")
    status, text, answer = explained(tmp_path, capsys, b.pod(gpu=1, cpu="1"), pool)
    assert status == 0
    assert text.startswith("default/pod asks for 1 cpu, 1 gpu\nThere is no node yet.\n")
    assert "its requirements" in text
    assert "of 3 types" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  resources")]
    assert "c.large" in line
    assert "volumes" not in text
    steps = {step["constraint"]: step for step in pool_of(answer, "gpu")["constraints"]}
    assert steps["resources"]["droppedTypes"] == ["c.large"]
    assert (steps["resources"]["types"], steps["volumes"]["types"]) == (2, 3)
    assert steps["resources"]["offerings"] < steps["volumes"]["offerings"]


def test_the_choice_and_what_else_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cheapest way of each type, with what it costs more."""
    _, text, _ = explained(tmp_path, capsys, b.pod(gpu=1), b.nodepool("gpu"))
    assert "→ chosen" in text
    assert "It gets gpu-1, a new node." in text
    lines = text.splitlines()
    place = next(n for n, line in enumerate(lines) if "to buy it" in line)
    assert lines[place + 1].split()[:2] == ["g.one", "on-demand"]
    assert lines[place + 2].split()[0] == "g.four"
    assert lines[place + 2].rstrip().endswith("+300%")


def test_why_another_pool_was_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A lighter pool says so, with the price it would have had; a taint is named."""
    _, text, answer = explained(
        tmp_path,
        capsys,
        b.pod(gpu=1),
        b.nodepool("heavy", weight=10),
        b.nodepool("light"),
        b.nodepool("tainted", taints=[b.taint("team", value="ml")]),
    )
    assert "not needed: heavy is heavier (its cheapest is g.one on-demand in" in " ".join(
        text.split()
    )
    assert text.index("NodePool heavy") < text.index("NodePool light")
    assert "does not tolerate taint team=ml:NoSchedule" in " ".join(text.split())
    assert pool_of(answer, "light")["cheapest"]["instanceType"] == "g.one"
    assert pool_of(answer, "tainted")["cheapest"] is None


def test_the_nearest_miss_of_an_unplaced_pod(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was missing, who came nearest, and the code of the plan; the status is the plan's."""
    status, text, answer = explained(tmp_path, capsys, b.pod(gpu=16), b.nodepool("gpu"))
    assert status == 3
    flat = " ".join(text.split())
    assert "needs 16 nvidia.com/gpu; the largest allowed type, g.four, has 4" in flat
    assert "✗ InsufficientResources" in flat
    assert flat.endswith("It has no place.")
    story = pool_of(answer, "gpu")
    assert story["code"] == "InsufficientResources"
    assert story["constraints"][-1]["reason"] == story["reason"]


def test_nodes_that_exist_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many there are, how many it may use, how many have room; and that one was taken."""
    _, text, answer = explained(
        tmp_path,
        capsys,
        b.pod(cpu="1", selector={"node.kubernetes.io/instance-type": "m.large"}),
        b.nodepool(),
        b.node("n1"),
        b.node("n2", instance_type="other"),
    )
    assert answer["existingNodes"] == {"nodes": 2, "suitable": 1, "roomy": 1}
    assert "Of 2 nodes that exist or are coming it may run on 1; 1 had room" in text
    assert "It goes to n1, which exists." in text


def test_a_pool_that_takes_no_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A paused pool has no funnel, and a verdict."""
    paused = b.nodepool("paused")
    paused["metadata"]["annotations"] = {"outrider.dev/paused": "true"}
    _, text, answer = explained(tmp_path, capsys, b.pod(), b.nodepool(), paused)
    assert "✗ NodePoolNotReady: is paused" in text
    assert pool_of(answer, "paused")["constraints"] == []


@pytest.mark.parametrize("gpus", [1, 16])
def test_it_fits_eighty_columns(
    gpus: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nobody says how wide the paper is, no line is wider than a terminal of old."""
    _, text, _ = explained(tmp_path, capsys, b.pod(gpu=gpus), b.nodepool("a" * 50))
    assert max(map(len, text.splitlines())) <= 80
