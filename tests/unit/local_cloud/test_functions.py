"""Functions as Lambda runs them: initialisation is not the function's time, and nobody else's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType

import pytest

from outrider.local.clock import DiscreteClock, ScaledClock
from outrider.local.functions import Function, Outcome, Registry

PATIENCE = 20.0
HANDLER = "def lambda_handler(event, context):\n    return context.get_remaining_time_in_millis()\n"


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Function]:
    """Give what makes a function whose import calls *at_import*."""

    def make(name: str, at_import: Callable[[], object] = lambda: None) -> Function:
        hook = ModuleType(f"at_import_of_{name}")
        hook.__dict__["call"] = at_import
        monkeypatch.setitem(sys.modules, hook.__name__, hook)
        code = tmp_path / name
        code.mkdir()
        (code / "app.py").write_text(f"import {hook.__name__} as hook\nhook.call()\n{HANDLER}")
        return Function(name, name, code, "app.lambda_handler", {}, 3.0, 128, "", "")

    return make


def test_initialisation_is_not_the_function_s_time(function: Callable[..., Function]) -> None:
    """A function that takes long to import has all its time left when it begins."""
    clock = DiscreteClock(datetime(2026, 3, 2, tzinfo=UTC))
    slow = function("slow", lambda: clock.run(30))
    outcome = Registry(clock).invoke(slow, {})
    assert (outcome.error, outcome.payload, outcome.seconds) == (None, 3000, 0.0)
    assert clock.at() == 30


def test_a_slow_import_keeps_no_other_function_from_answering(
    function: Callable[..., Function],
) -> None:
    """The webhook's three seconds are not spent on the planner's imports."""
    clock = ScaledClock()
    begun, gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        gate.wait(PATIENCE)

    registry = Registry(clock)
    slow, quick = function("slow", wait), function("quick")
    importing = threading.Thread(target=lambda: registry.invoke(slow, {}), daemon=True)
    importing.start()
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    try:
        assert begun.wait(PATIENCE)
        answer = threading.Thread(target=lambda: outcomes.put(registry.invoke(quick, {})))
        answer.start()
        assert outcomes.get(timeout=PATIENCE / 2).error is None
    finally:
        gate.set()
        importing.join(PATIENCE)
        clock.stop()
