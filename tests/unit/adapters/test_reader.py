"""Reading the cluster: one malformed object, of whatever kind, never hides the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from outrider.adapters.kube.client import Client
from outrider.adapters.kube.reader import RESOURCES, Reader, Resource
from tests.support import builders

GOOD = builders.pod("good")
# What stands where it should not; each is refused by every kind.
POISONS: tuple[dict[str, Any], ...] = (
    {"metadata": {"name": "bad", "uid": "u", "labels": 7}},
    {"metadata": {"name": "bad", "uid": "u", "ownerReferences": "nobody"}},
    {"metadata": {"name": "bad", "uid": "u", "creationTimestamp": "yesterday"}},
)


class Poisoned:
    """An API server with one good pod and one malformed object of one kind."""

    def __init__(self, resource: Resource, poison: dict[str, Any]) -> None:
        self._resource = resource
        self._poison = poison

    def items(self, path: str, **_selectors: str) -> Iterator[dict[str, Any]]:
        """Yield what the list at *path* holds, kinds left out as lists leave them out."""
        if path == self._resource.path:
            yield {**self._poison}
        if path == "/api/v1/pods":
            yield {key: value for key, value in GOOD.items() if key not in {"kind", "apiVersion"}}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: f"{one.kind}.{one.group}")
def test_one_malformed_object_is_left_out(resource: Resource, poison: dict[str, Any]) -> None:
    """It is named with its kind and field, an Event can be written about it, the rest is read."""
    state = Reader(cast("Client", Poisoned(resource, poison))).state()
    assert [found.key for found in state.pods] == ["default/good"]
    (error,) = state.invalid
    assert f"{resource.kind} bad" in str(error)
    assert error.path
    assert dict(error.about) == {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": "bad",
        "uid": "u",
    }
