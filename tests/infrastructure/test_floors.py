"""The floors of the house, read by import-linter from pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.stack import ROOT


def test_the_floors_hold() -> None:
    """Every contract is kept, and no module is without a floor."""
    lint = Path(sys.executable).with_name("lint-imports")
    told = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-1000:]


def test_a_new_module_without_a_floor_is_noticed() -> None:
    """The contract of the floors is exhaustive."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (floors,) = [c for c in project["tool"]["importlinter"]["contracts"] if c["name"] == "floors"]
    assert floors["exhaustive"] is True
