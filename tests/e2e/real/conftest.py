"""What the tests on the real control plane share: an administrator, and what outrider installs.

Run by `make e2e` alone: everything here carries the marker `e2e_real`, and without the plugin that
brings the control plane there is nothing to run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider import manifests
from tests.conformance.probe import Obj
from tests.e2e.real.admin import Administrator
from tests.e2e.real.controlplane import ControlPlane
from tests.e2e.real.town import Town, opened

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is collected from this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e_real)


@pytest.fixture(scope="session")
def admin(control_plane: ControlPlane) -> Iterator[Administrator]:
    """Give the administrator's client, with a namespace of its own."""
    client = Administrator(control_plane.kubeconfig)
    client.open_namespace()
    yield client
    client.close_namespace()


@pytest.fixture(scope="session")
def installed(admin: Administrator) -> Administrator:
    """Apply what `outrider manifests all` prints, wait for the CRDs, and give the administrator."""
    for manifest in manifests.render(cluster="local"):
        admin.apply(manifest)
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for manifest in manifests.render("crds", cluster="local"):
        name = manifest["metadata"]["name"]
        admin.until(definitions, is_established, fieldSelector=f"metadata.name={name}")
    return admin


@pytest.fixture(scope="session")
def town(control_plane: ControlPlane, installed: Administrator) -> Iterator[Town]:
    """Give the application around the real control plane."""
    with opened(control_plane, installed) as running:
        yield running


def is_established(definition: Obj) -> bool:
    """Return whether a CRD is served."""
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
