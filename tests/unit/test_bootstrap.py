"""The wiring: worlds are made once a sandbox, of what their function needs and no more."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from outrider import bootstrap
from outrider.adapters.clock import clock

HEAVY = ("pydantic", "boto3", "kubernetes", "numpy", "orjson", "outrider.core")


def test_the_webhook_imports_little() -> None:
    """Neither pydantic nor boto3, the Kubernetes client, numpy or the planner come with it."""
    code = (
        "import sys; import functions.webhook.app; from outrider.bootstrap import webhook_world;"
        f" webhook_world(); print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_a_world_is_made_once_for_each_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two functions in one process have worlds of their own; a sandbox that died gets a new one."""
    monkeypatch.setenv("OUTRIDER_CLUSTER", "test")
    monkeypatch.setenv("OUTRIDER_REGION", "us-east-1")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "one")
    first = bootstrap.world()
    assert bootstrap.world() is first
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "two")
    assert bootstrap.world() is not first
    bootstrap.forget("two")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "one")
    assert bootstrap.world() is first
    bootstrap.forget("one")
    assert bootstrap.world() is not first
    bootstrap.forget("one")


def test_every_world_runs_on_the_clock_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded cloud's time takes the wall's place, and gives it back."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    slept: list[float] = []
    bootstrap.use_clock(lambda: noon, slept.append)
    try:
        clock.sleep(5)
        assert clock.now() == noon
        assert slept == [5]
    finally:
        bootstrap.use_clock(None)
    assert clock.now() != noon
