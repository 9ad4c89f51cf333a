"""Handlers decorate, parse and call one flow; layers carry what they need and no more."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.support.stack import ROOT

FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))
LONGEST = 25
DISTRIBUTION = ROOT / "layers/outrider"


def tree(name: str) -> ast.Module:
    """Return the syntax tree of one handler."""
    return ast.parse((ROOT / "functions" / name / "app.py").read_text())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_handler_is_short_and_decides_nothing(name: str) -> None:
    """Twenty-five lines at most, no branch, no loop, nothing caught."""
    source = (ROOT / "functions" / name / "app.py").read_text()
    assert len(source.splitlines()) <= LONGEST
    deciding = (ast.If, ast.IfExp, ast.For, ast.While, ast.Try, ast.Match)
    assert not [node for node in ast.walk(tree(name)) if isinstance(node, deciding)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_handler_calls_its_own_flow(name: str) -> None:
    """The flow bears the function's name."""
    imported = {
        alias.name
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom) and node.module == "outrider.flows"
        for alias in node.names
    }
    assert imported == {name}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_handler_is_observed(name: str) -> None:
    """Logger and metrics decorate every handler."""
    (handler,) = [node for node in tree(name).body if isinstance(node, ast.FunctionDef)]
    assert handler.name == "lambda_handler"
    assert [ast.unparse(decorator) for decorator in handler.decorator_list] == [
        "logger.inject_lambda_context",
        "metrics.log_metrics",
    ]


def imported(statement: str, **environment: str) -> set[str]:
    """Return the modules that a fresh interpreter has after *statement*."""
    told = subprocess.run(
        [sys.executable, "-c", f"import json, sys, {statement}; print(json.dumps([*sys.modules]))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    return set(json.loads(told.stdout))


def test_the_webhook_starts_light() -> None:
    """Neither pydantic nor boto3 nor kubernetes nor numpy is imported before the first hint."""
    heavy = {"pydantic", "boto3", "botocore.session", "kubernetes", "numpy", "highspy"}
    assert not heavy & imported("functions.webhook.app")


def test_a_snapshot_holds_what_an_invocation_imports() -> None:
    """While SnapStart takes its picture, bootstrap imports what it would import later."""
    source = (DISTRIBUTION / "src/outrider/bootstrap.py").read_text()
    later = set(re.findall(r"^    +from (outrider\.[\w.]+) import", source, re.MULTILINE))
    of_planners = {name for name in later if not name.endswith((".webhook", ".secrets"))}
    pictured = imported("outrider.bootstrap", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    assert of_planners <= pictured
    assert not of_planners & imported("outrider.bootstrap")


def test_function_folders_bring_no_requirements() -> None:
    """Dependencies are in the layers: `sam build` then works without the runtime's Python."""
    assert not list((ROOT / "functions").rglob("requirements*.txt"))


def test_the_solver_layer_is_the_extra() -> None:
    """layers/solver holds what `outrider[solver]` would install."""
    project = tomllib.loads((DISTRIBUTION / "pyproject.toml").read_text())["project"]
    wanted = set(project["optional-dependencies"]["solver"])
    lines = (ROOT / "layers/solver/requirements.txt").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == wanted


def test_the_layer_keeps_the_services_that_adapters_call() -> None:
    """Pruning botocore never removes a service whose client some function's adapter makes."""
    pruned = (DISTRIBUTION / "prune.py").read_text()
    kept = set(re.findall(r'^\s+"([a-z0-9]+)",$', pruned, re.MULTILINE))
    used: set[str] = set()
    for path in (DISTRIBUTION / "src/outrider/adapters/aws").rglob("*.py"):
        if path.stem in {"estate", "examination", "logs"}:  # commands only
            continue
        used |= set(re.findall(r'(?:client|service)\(\s*"([a-z0-9-]+)"', path.read_text()))
    assert used <= kept
