"""Make the pictures of the demo and of the shadow report: `python tools/pictures.py [--shadow]`.

It needs Chromium on PATH; with --shadow the demo, which takes a minute, is left as it is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner
from rich.console import Console

from outrider.cli.demo import show
from outrider.cli.report import command
from outrider.local.demo.report import html

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"


def main() -> None:
    """Make the pictures again."""
    PICTURES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium on PATH: no picture was made again")
    if "--shadow" not in sys.argv[1:]:
        _demo(chromium)
    _shadow(chromium)


def _demo(chromium: str) -> None:
    """Run the demo once; keep what the terminal showed and what the report looks like."""
    console = Console(record=True, width=110, highlight=False)
    record = show(console)
    picture = console.export_svg(title="make demo")
    # rich names a font on the web; a picture of ours asks nobody for anything.
    picture = re.sub(r"@font-face {.*?}\s*", "", picture, flags=re.DOTALL)
    (PICTURES / "demo.svg").write_text(picture, encoding="utf-8")
    _taken(chromium, html(record), PICTURES / "report.png", "1200,1760")


def _shadow(chromium: str) -> None:
    """Report on the shipped cluster of `outrider disrupt`."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "shadow.html"
        cluster = str(ROOT / "examples" / "disrupt")
        arguments = [cluster, "--now", "2026-03-02T14:00:00Z", "--html", str(page)]
        CliRunner().invoke(command, arguments, catch_exceptions=False)
        text = page.read_text(encoding="utf-8")
    _taken(chromium, text, PICTURES / "shadow.png", "1200,1500")


def _taken(chromium: str, text: str, picture: Path, size: str) -> None:
    """Write what the page *text* looks like to *picture*."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(text, encoding="utf-8")
        subprocess.run(  # noqa: S603 - a fixed command on a file of ours
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={folder}/profile",
                f"--window-size={size}",
                f"--screenshot={picture}",
                page.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )


if __name__ == "__main__":
    main()
