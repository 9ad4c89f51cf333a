"""Every example that a help text shows is run, as it is printed.

The reader's own names are put in: the cluster `local` for `prod`, files of these names in the
folder, an account and a cluster by AWS_ENDPOINT_URL and KUBECONFIG. What would start a second
cloud in this process (`local up`, `demo`) is parsed and not run: tests of their own run them.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from outrider.cli import main as cli
from outrider.local.demo.push import put_image
from tests.support.ailments import system_daemons
from tests.support.stage import ROOT, Stage, pod, pool, staged

pytestmark = pytest.mark.e2e

PARSED = frozenset({("local",), ("local", "up"), ("demo",)})
FINE = frozenset({0, 3})  # 3: some pods have no place, or the doctor has a warning
_EXAMPLE = re.compile(r"Example: (outrider .+)")


def verbs() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that has a help text, groups included."""
    context = click.Context(cli.outrider)
    yield (), cli.outrider
    for name in cli.outrider.list_commands(context):
        command = cli.outrider.get_command(context, name)
        assert command is not None
        yield (name,), command
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield (name, inner), found


def example(command: click.Command) -> str:
    """Return the command line that a help text shows; what a shell would do with it is left off."""
    found = _EXAMPLE.search(" ".join((command.epilog or "").split()))
    assert found, f"{command.name} shows no example"
    return re.split(r" [|&;#]|; ", found[1])[0].rstrip(";& ").replace("prod", "local")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Give an account and a cluster with the pod that examples speak of."""
    with staged() as running:
        put_image(running.cloud, "ml/trainer", "v42", (3_000_000_000,))
        running.apply(*system_daemons(), pool("gpu"), pod("trainer-0", "gpu"))
        running.expect_running("trainer-0")
        running.cloud.run(30)
        yield running


@pytest.fixture
def folder(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the files that examples name, and the way to the account."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    llm = pod("llm-0", "inference")
    llm["metadata"]["namespace"] = "inference"
    llm["spec"].pop("nodeSelector")
    (tmp_path / "pods.yaml").write_text(yaml.safe_dump(llm))
    (tmp_path / "cluster.yaml").write_text(
        "---\n".join(
            path.read_text() for path in sorted((ROOT / "examples/disrupt").glob("*.yaml"))
        )
    )
    assert stage.cloud.cluster is not None
    (tmp_path / "kubeconfig").write_text(stage.cloud.cluster.kubeconfig())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", stage.cloud.url)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    # `local down` ends what runs by the notes in the temporary folder: not somebody else's here.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


VERBS = [(words, example(command)) for words, command in verbs()]


@pytest.mark.parametrize(("words", "line"), VERBS, ids=[line[:60] for _, line in VERBS])
def test_the_example_works(words: tuple[str, ...], line: str, folder: Path) -> None:
    """No usage error, no failure, whatever it finds."""
    del folder
    arguments = shlex.split(line)[1:]
    if words in PARSED:
        _parse(cli.outrider, arguments)
        return
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert int(ended.value.code or 0) in FINE


def _parse(command: click.Command, arguments: list[str]) -> None:
    """Parse *arguments* as *command* would, down to the last verb, without running it."""
    context = command.make_context(command.name, list(arguments))
    if isinstance(command, click.Group):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        _parse(inner, rest)
