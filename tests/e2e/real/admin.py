"""The administrator of a real cluster: the probe's client that also applies manifests."""

from __future__ import annotations

from tests.conformance.probe import APPLY, Obj, Probe

FIELD_MANAGER = "e2e"


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
