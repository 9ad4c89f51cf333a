"""Which versions of state are read, and that all of it is of one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from outrider.core import stateversion
from outrider.core.stateversion import VERSION
from outrider.errors import StateTooNew
from tests.support.stack import ROOT

SOURCE = ROOT / "layers/outrider/src/outrider"


@pytest.mark.parametrize("version", [None, 0, "0", "", VERSION, str(VERSION), VERSION + 1])
def test_one_step_either_way_is_read(version: object) -> None:
    """State without a version, of this one and of the next."""
    stateversion.check(version, "a row")


@pytest.mark.parametrize("version", [VERSION + 2, str(VERSION + 2), 99])
def test_more_is_refused_by_name(version: object) -> None:
    """Who reads the message knows what was found and what to do."""
    with pytest.raises(StateTooNew, match=r"a row is of version .* roll forward again"):
        stateversion.check(version, "a row")


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "flows").glob("*.py")), ids=lambda path: path.stem
)
def test_whatever_a_flow_leaves_behind_is_of_this_version(path: Path) -> None:
    """A literal version beside the constant would stay when the constant moves on."""
    literals = {
        value.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "version"
        if isinstance(value, ast.Constant)
    }
    assert literals <= {VERSION}
