"""What the tests on the real control plane share: an administrator, and what outrider installs.

Run by `make e2e` alone: everything here carries the marker `e2e_real`, and without the plugin that
brings the control plane there is nothing to run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider import manifests
from tests.conformance.probe import APPLY, Obj, Probe
from tests.e2e.real.controlplane import ControlPlane

HERE = Path(__file__).parent
FIELD_MANAGER = "e2e"


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


class Administrator(Probe):
    """The probe's client, that can find a manifest's place by discovery."""

    def collection(self, manifest: Obj) -> str:
        """Return the path under which objects like *manifest* live."""
        version = str(manifest["apiVersion"])
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        for resource in self.must("GET", root)["resources"]:
            if resource["kind"] == manifest["kind"] and "/" not in resource["name"]:
                namespace = manifest["metadata"].get("namespace", self.namespace)
                where = f"/namespaces/{namespace}" if resource["namespaced"] else ""
                return f"{root}{where}/{resource['name']}"
        raise AssertionError(f"{root} has no {manifest['kind']}")

    def apply(self, manifest: Obj, **query: str) -> Obj:
        """Apply *manifest* as `kubectl apply --server-side` does: unknown fields are an error."""
        path = f"{self.collection(manifest)}/{manifest['metadata']['name']}"
        asked = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        return self.must("PATCH", path, manifest, APPLY, **{**asked, **query})


def is_established(definition: Obj) -> bool:
    """Return whether a CRD is served."""
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
