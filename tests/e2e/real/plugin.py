"""Pytest's plugin of `make e2e`: one real control plane for the whole run.

`-p tests.e2e.real.plugin` brings the fixture `control_plane`; the conformance probe then asks that
API server, too. Figures that a test wants to be seen (latencies, shares) go through `figures` and
are printed at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.real.controlplane import ControlPlane

Figure = Callable[[str, str], None]
_FIGURES = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give the real control plane."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figure:
    """Give a place for what was measured: a name and its value in words."""
    listed = request.config.stash.setdefault(_FIGURES, [])
    return lambda name, value: listed.append((name, value))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for name, value in terminalreporter.config.stash.get(_FIGURES, []):
        terminalreporter.write_line(f"{name}: {value}")
