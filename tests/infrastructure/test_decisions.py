"""What we publish is written down: a schema, an example and a line of docs for each detail-type."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from outrider.apis.signals import Unknown
from tests.support.decisions import OUT, check
from tests.support.stack import ROOT

FLOWS = ROOT / "layers/outrider/src/outrider/flows"
# Who queues a message, and at which argument its detail-type stands.
TELLERS = {"publish": 1, "publish_once": 3, "owe": 3, "_tell_once": 3, "_publish": 1}
EXAMPLES = sorted(
    path.stem for path in OUT.glob("*.json") if not path.name.endswith(".schema.json")
)
PROMISED = {
    "PlanMade",
    "LaunchStarted",
    "LaunchFailed",
    "NodeRegistered",
    "NodeInitialized",
    "NodeInterrupted",
    "ReplacementLaunched",
    "PodEvicted",
    "NodeDrained",
    "NodeTerminated",
    "DisruptionDecided",
    "DisruptionRolledBack",
    "ReportMade",
    "SeedStarted",
    "SeedPublished",
    "SeedFailed",
    "SeedRetired",
}


def published() -> Iterator[str]:
    """Yield every detail-type that a flow names."""
    for path in FLOWS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            place = TELLERS.get(name)
            if place is None or len(node.args) <= place:
                continue
            told = node.args[place]
            if isinstance(told, ast.Constant):
                yield str(told.value)


def test_what_the_flows_publish_is_what_is_promised() -> None:
    """Neither a detail-type that nobody documented nor one that nobody publishes."""
    assert set(published()) == PROMISED == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_its_schema_says(name: str) -> None:
    """The example is a whole event, as a rule's target gets it."""
    schema = json.loads((OUT / f"{name}.schema.json").read_text())
    example: dict[str, Any] = json.loads((OUT / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(example)
    check(name, example["detail"])
    assert set(example["detail"]) == set(schema["properties"]["detail"]["properties"])


def test_the_written_files_are_current() -> None:
    """Schemas, examples and the reference in docs/events.md come from one table."""
    command = [sys.executable, str(ROOT / "tools" / "decisions.py"), "--check"]
    checked = subprocess.run(command, check=False)
    assert checked.returncode == 0, "not current: python tools/decisions.py"


def words() -> Iterator[str]:
    """Yield every word by which a signal is let go."""
    place = {"_ignored": 2, "_deferred": 1, "_ignore": 1}
    core = ROOT / "layers/outrider/src/outrider/core/interruption.py"
    for path in (core, FLOWS / "interrupt.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                at = place.get(node.func.id, len(node.args))
                told = node.args[at] if at < len(node.args) else None
                if isinstance(told, ast.Constant):
                    yield str(told.value)
    yield from get_args(Unknown.model_fields["reason"].annotation)


def test_every_word_for_a_signal_let_go_can_be_read_up() -> None:
    """docs/operations.md has each value of the metric SignalsIgnored, and none that is not."""
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.partition("## Signals that are let go")[2].partition("\n## ")[0]
    said = {
        word
        for line in table.splitlines()
        if line.startswith("| `")
        for word in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert said == set(words())
