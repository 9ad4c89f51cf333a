"""`outrider report`: its JSON, its tables and its page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from outrider.cli.main import main
from tests.support.stack import ROOT

EXAMPLE = str(ROOT / "examples" / "disrupt")
NOW = "2026-03-02T14:00:00Z"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit status and both outputs of `outrider report` with *arguments*."""
    with pytest.raises(SystemExit) as left:
        main(["report", *arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The report on the shipped cluster."""
    status, out, _ = run(capsys, EXAMPLE, "--now", NOW, "-o", "json")
    assert status == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_levels_are_in_order(document: dict[str, Any]) -> None:
    """As it is, consolidated, planned, bound: no later one is dearer; first fit is no cheaper."""
    prices = document["pricePerHour"]
    order = [prices[name] for name in ("asIs", "consolidated", "plan", "lowerBound")]
    assert order == sorted(order, reverse=True)
    assert prices["firstFit"] >= prices["plan"]
    assert document["savingPerHour"] == pytest.approx(prices["asIs"] - prices["plan"])


def test_both_columns_add_up(document: dict[str, Any]) -> None:
    """The sum of the lines is the price above them, kept nodes on both sides."""
    prices = document["pricePerHour"]
    nodes, planned = document["nodes"], document["planned"]
    kept = [line for line in nodes if line["verdict"] == "kept"]
    assert sum(line["pricePerHour"] for line in nodes) == pytest.approx(prices["asIs"])
    assert sum(line["pricePerHour"] for line in (*planned, *kept)) == pytest.approx(prices["plan"])


def test_the_same_input_gives_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """A report can be compared with yesterday's."""
    first = run(capsys, EXAMPLE, "--now", NOW, "-o", "json")
    assert run(capsys, EXAMPLE, "--now", NOW, "-o", "json") == first


def test_people_get_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Prices, what constraints cost, and nodes on both sides."""
    status, out, _ = run(capsys, EXAMPLE, "--now", NOW, "--quick")
    assert status == 0
    for text in ("our plan for the same pods", "capacity types", "web-4", "pods come from"):
        assert text in out
    assert "consolidation" not in out


class _Page(HTMLParser):
    """Counts what a page has, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note *tag*, and whatever of *attrs* leads elsewhere."""
        self.tags.append(tag)
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]


def test_the_page_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file, pictures in it, no script, nothing fetched, every number of the JSON's prices."""
    page = tmp_path / "report.html"
    status, out, _ = run(capsys, EXAMPLE, "--now", NOW, "--html", str(page), "-o", "json")
    assert status == 0
    text = page.read_text()
    parsed = _Page()
    parsed.feed(text)
    assert parsed.fetched == []
    assert "script" not in parsed.tags
    assert parsed.tags.count("svg") == 3
    assert not re.search(r"url\(|@import", text)
    for price in json.loads(out)["pricePerHour"].values():
        assert f"${price:,.3f}/h" in text


def test_names_from_the_cluster_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever may name a pod may not write the page."""
    cluster = (ROOT / "examples/disrupt/cluster.yaml").read_text()
    nasty = tmp_path / "cluster.yaml"
    nasty.write_text(
        cluster.replace("kubernetes.io/hostname: web-4", "x: y").replace("us-east-1a", "'<b>z</b>'")
    )
    page = tmp_path / "report.html"
    run(capsys, str(nasty), "--now", NOW, "--quick", "--html", str(page))
    assert "<b>z</b>" not in page.read_text()


@pytest.mark.parametrize("arguments", [(), (EXAMPLE, "--kubeconfig", EXAMPLE + "/cluster.yaml")])
def test_one_source_is_wanted(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Manifests or a cluster: neither and both are refused with exit status 2."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert "--kubeconfig" in err
