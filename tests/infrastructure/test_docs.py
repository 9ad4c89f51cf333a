"""What the documents say can be followed: links lead somewhere, verbs and parameters exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outrider.cli.main import VERBS
from tests.support.stack import ROOT, template

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")], key=lambda page: page.name)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
COMMAND = re.compile(r"(?:`|\$ |bin/)outrider ([a-z]+)\b")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Git hosts make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there, and every anchor a heading in it."""
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {path}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_that_are_named_exist(page: Path) -> None:
    """`outrider VERB` is one of the command's."""
    assert set(COMMAND.findall(page.read_text())) <= set(VERBS)


def test_every_parameter_is_documented() -> None:
    """docs/deploy.md lists exactly the template's parameters."""
    table = (ROOT / "docs" / "deploy.md").read_text().partition("## Parameters")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == set(template()["Parameters"])
