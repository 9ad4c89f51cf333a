"""The cluster that the probe asks: the embedded API, `make e2e`'s, or KUBECONFIG_CONFORMANCE's.

Inputs: the environment variable, and the plugin that `make e2e` loads. Outputs: `probe`, a plain
HTTP client with a namespace of its own that is deleted at the end. Nothing is mocked; the embedded
API is asked over TLS like any other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.local.clock import ScaledClock
from outrider.local.kube import KubeAPI
from outrider.local.timeline import Timeline
from tests.conformance.probe import Probe

VARIABLE = "KUBECONFIG_CONFORMANCE"
REAL = "tests.e2e.real.plugin"


@pytest.fixture(scope="session")
def kubeconfig(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Name a kubeconfig of the cluster under test."""
    if request.config.pluginmanager.has_plugin(REAL):
        yield request.getfixturevalue("control_plane").kubeconfig
        return
    named = os.environ.get(VARIABLE)
    if named:
        yield Path(named)
        return
    clock = ScaledClock()
    kube = KubeAPI(clock, Timeline(clock))
    kube.start()
    path = tmp_path_factory.mktemp("kube") / "config"
    path.write_text(kube.kubeconfig())
    yield path
    kube.stop()
    clock.stop()


@pytest.fixture(scope="module")
def probe(kubeconfig: Path) -> Iterator[Probe]:
    """Give a client with a namespace of its own."""
    client = Probe(kubeconfig)
    client.open_namespace()
    yield client
    client.close_namespace()
