"""What the demo's report shows of a record."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from outrider.local.demo.record import (
    Mark,
    NodeLife,
    PackedNode,
    PackedPod,
    Record,
    Sample,
    Stage,
)
from outrider.local.demo.report import html

VOID = {"meta"}


def record() -> Record:
    """Return a short run: two nodes, one of them interrupted, one pod with an odd name."""
    first = NodeLife("i-1", "g6.xlarge", "us-east-1a", "spot", "gpu", 0.3, 1.0, node="n1")
    first.joined, first.ready, first.initialized = 20.0, 23.0, 30.0
    first.interrupted, first.draining, first.gone = 100.0, 102.0, 130.0
    second = NodeLife("i-2", "g5.xlarge", "us-east-1b", "on-demand", "gpu", 1.0, 101.0, node="n2")
    second.seeded = True
    made = Record("a run")
    made.nodes = {"i-1": first, "i-2": second}
    made.marks = [Mark(1.0, "pods arrive"), Mark(100.0, "Spot warning", "bad")]
    made.samples = [Sample(0.0, 2, 0, 0, 0, 0.0), Sample(60.0, 0, 1, 1, 1, 0.3)]
    made.packing = (
        PackedNode(
            "n2",
            "g5.xlarge",
            "gpu",
            "on-demand",
            "us-east-1b",
            1.0,
            4000,
            16 << 30,
            2,
            (PackedPod("ml/<chat>", "<chat>", 2000, 8 << 30, 1),),
        ),
    )
    made.stages = (Stage("pod: pending to running", 2, 30.0, 40.0),)
    made.first_fit_per_hour = 2.0
    made.facts = [("saved", "35 %")]
    made.decisions = [(1.0, "PlanMade", "pods 2")]
    return made


class Balance(HTMLParser):
    """Finds tags that are opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag."""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag that closes itself."""

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that is open."""
        assert self.open.pop() == tag


def test_the_report_asks_nobody_for_anything() -> None:
    """One file: no script, no link, no picture from elsewhere."""
    page = html(record())
    assert not re.search(r"<script|<link|<img|https?://|url\(", page)


def test_the_report_is_well_formed() -> None:
    """Every tag that is opened is closed, in order."""
    balance = Balance()
    balance.feed(html(record()))
    assert balance.open == []


def test_names_are_text() -> None:
    """What a user named cannot become markup."""
    page = html(record())
    assert "&lt;chat&gt;" in page
    assert "<chat>" not in page


def test_a_node_s_life_is_drawn() -> None:
    """Launching, joining, ready and draining are bars; a warning is a bolt, a seed a dot."""
    page = html(record())
    for phase in ("launching", "joining", "ready", "draining"):
        assert f'class="{phase}"' in page
    assert page.count("⚡") == 1
    assert page.count('class="seed"') == 1
    assert page.count('class="slot free"') == 1


def test_an_empty_run_is_a_report_too() -> None:
    """Nothing happened: no error, and nothing drawn that was not there."""
    page = html(Record("nothing"))
    assert "<svg" in page
    assert 'class="ready"' not in page
