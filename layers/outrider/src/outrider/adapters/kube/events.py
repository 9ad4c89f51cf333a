"""Kubernetes Events about one object: asked for by name, of whatever age the API server keeps.

Events about what has no namespace are in `default`. Refuses to write any (`writer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.adapters.kube.client import Client


def about(client: Client, kind: str, namespace: str, name: str) -> tuple[Mapping[str, Any], ...]:
    """Return the Events about *kind* *namespace*/*name*."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name}"
    path = f"/api/v1/namespaces/{namespace or 'default'}/events"
    return tuple(client.items(path, fieldSelector=selector))
