"""The command itself: its verbs, its help, and what it says when something is not there."""

from __future__ import annotations

import pytest

from outrider.cli import main as cli
from outrider.cli.main import main


def status_of(*arguments: str) -> int:
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_help_names_every_verb_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer reads what there is and what to type."""
    assert status_of("--help") == 0
    shown = capsys.readouterr().out
    assert "Example:" in shown
    for verb in ("plan", "explain", "disrupt", "manifests", "local", "demo"):
        assert verb in shown


@pytest.mark.parametrize("verb", ["plan", "explain", "disrupt", "manifests", "local", "demo"])
def test_each_verb_s_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`outrider VERB --help` teaches by one."""
    assert status_of(verb, "--help") == 0
    assert "Example: outrider" in capsys.readouterr().out


def test_a_wrong_verb_is_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, what is wrong, and where to look."""
    assert status_of("plam") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "plam" in shown.err
    assert "--help" in shown.err


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A verb that finds no moto says what to install, without a traceback."""

    def without_moto(**_options: object) -> None:
        raise ModuleNotFoundError("No module named 'moto'", name="moto")

    monkeypatch.setattr(cli.outrider, "main", without_moto)
    assert status_of("demo") == 1
    assert capsys.readouterr().err == (
        "outrider: moto is not installed: this verb needs pip install 'outrider[local]'\n"
    )
