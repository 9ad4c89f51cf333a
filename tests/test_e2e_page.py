"""docs/e2e.md says what is proven where: its names are tests, and none is forgotten."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "tests" / "e2e" / "real"
NAME = re.compile(r"`(test_\w+)`")


def _tests_in(folder: Path) -> set[str]:
    """Return the names of the tests in *folder*."""
    return {
        node.name
        for path in folder.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _column(number: int) -> set[str]:
    """Return the tests that the table names in a column."""
    lines = (ROOT / "docs" / "e2e.md").read_text().splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return {name for row in rows for name in NAME.findall(row[number])}


def test_every_test_on_the_real_control_plane_is_on_the_page() -> None:
    """The column of the real control plane names exactly the tests that run on it."""
    assert _column(2) == _tests_in(REAL)


def test_the_embedded_column_names_tests_of_the_usual_run() -> None:
    """What is said to be proven on the embedded cloud is a test of `make test`."""
    assert _column(1) <= _tests_in(ROOT / "tests") - _tests_in(REAL)


@pytest.mark.parametrize("target", ["e2e", "e2e-build"])
def test_the_page_s_targets_exist(target: str) -> None:
    """The Makefile has what the page tells people to run."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_usual_run_leaves_the_real_control_plane_out() -> None:
    """`make test` asks for no marker that needs programs which may not be there."""
    assert "not e2e_real" in (ROOT / "Makefile").read_text()
