"""What the planning flags change: the policy that the plan is made with."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import yaml

from outrider.cli.main import main
from tests.support.builders import (
    CAPACITY_TYPE,
    ZONES,
    catalog,
    expression,
    instance_type,
    nodepool,
    offering,
    pod,
)

GOODS = catalog(
    instance_type("small", cpu="4", offerings=[offering(ZONES[0], "on-demand", 0.1)]),
    instance_type("large", cpu="8", offerings=[offering(ZONES[0], "on-demand", 0.2001)]),
)


def launched(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[int]:
    """Plan six pods with *flags*; return how many pods each launch has."""
    pool = nodepool(requirements=[expression(CAPACITY_TYPE, "In", "on-demand")])
    pods = [pod(f"p{index}", cpu="1200m") for index in range(6)]
    manifests, goods = folder / "pods.yaml", folder / "catalog.json"
    manifests.write_text(yaml.safe_dump_all([pool, *pods]))
    goods.write_bytes(orjson.dumps(GOODS))
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(manifests), "--catalog", str(goods), "-o", "json", *flags])
    assert not ended.value.code
    return [len(item["pods"]) for item in orjson.loads(capsys.readouterr().out)["launches"]]


def test_a_node_costs_a_cent_unless_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One node by default; two where a node costs nothing beside its price."""
    assert launched(tmp_path, capsys) == [6]
    assert launched(tmp_path, capsys, "--node-cost", "0") == [3, 3]


def test_a_blast_radius_is_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No node has more pods than asked for."""
    assert max(launched(tmp_path, capsys, "--max-pods-per-node", "2")) == 2


def test_thorough_and_spot_flexibility_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More effort and another flexibility change nothing where there is nothing to gain."""
    assert launched(tmp_path, capsys, "--thorough", "--spot-flexibility", "1") == [6]
