"""docs/compatibility.md says what these tests prove."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "compatibility.py"


def test_the_page_is_current() -> None:
    """The page is what `python tools/compatibility.py` writes."""
    assert subprocess.run([sys.executable, str(TOOL), "--check"], check=False).returncode == 0
