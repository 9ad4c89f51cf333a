"""What the documentation shows is what the command prints, on the manifests that ship."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from outrider.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("README.md", "examples/README.md")
_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
_SHOWN = re.compile(r"^\$ outrider ((?:plan|explain) .*examples/.*)$")


def shown() -> list[tuple[str, str, str]]:
    """Return (page, arguments, output) of every plan and explanation that a page shows."""
    found = []
    for page in PAGES:
        for block in _CONSOLE.findall((ROOT / page).read_text()):
            command, _, output = block.partition("\n")
            match = _SHOWN.match(command)
            if match:
                found.append((page, match[1], output))
    return found


def test_the_readme_shows_both_verbs() -> None:
    """A reader sees a plan and an explanation before installing anything."""
    verbs = {arguments.split()[0] for page, arguments, _ in shown() if page == "README.md"}
    assert verbs == {"plan", "explain"}


@pytest.mark.parametrize(
    ("page", "arguments", "output"), shown(), ids=lambda value: str(value).split("\n")[0][:60]
)
def test_the_output_is_real(
    page: str,
    arguments: str,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every line, with its figures; run the command again and paste where this fails."""
    del page
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        main(shlex.split(arguments))
    printed = [line.rstrip() for line in capsys.readouterr().out.strip().splitlines()]
    assert printed == [line.rstrip() for line in output.strip().splitlines()]
