"""Make the README's pictures of the demo: `python tools/pictures.py` (with Chromium on PATH)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from outrider.cli.demo import show
from outrider.local.demo.report import html

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
SIZE = "1200,1760"


def main() -> None:
    """Run the demo once; keep what the terminal showed and what the report looks like."""
    PICTURES.mkdir(exist_ok=True)
    console = Console(record=True, width=110, highlight=False)
    record = show(console)
    picture = console.export_svg(title="make demo")
    # rich names a font on the web; a picture of ours asks nobody for anything.
    picture = re.sub(r"@font-face {.*?}\s*", "", picture, flags=re.DOTALL)
    (PICTURES / "demo.svg").write_text(picture, encoding="utf-8")
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium on PATH: docs/pictures/report.png was not made again")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(html(record), encoding="utf-8")
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
                f"--window-size={SIZE}",
                f"--screenshot={PICTURES / 'report.png'}",
                page.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )


if __name__ == "__main__":
    main()
