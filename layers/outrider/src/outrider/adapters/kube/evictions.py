"""The Eviction API (policy/v1): ask for a pod to go, and understand a no.

201 means that the pod was asked to stop; 404, and 409 for another pod of that name, mean that it
is gone already; 429 with a DisruptionBudget cause, and the 500 for several budgets on one pod,
mean that a PodDisruptionBudget holds it (`Blocked`). Refuses to know when to ask again.
"""

from __future__ import annotations

from typing import Any

from outrider.adapters.kube.client import Client
from outrider.errors import Conflict, Gone


def evict(client: Client, pod: str, uid: str, grace_seconds: int | None = None) -> None:
    """Ask over *client* for *pod* (`namespace/name`) with *uid* to be evicted."""
    namespace, _, name = pod.partition("/")
    options: dict[str, Any] = {}
    if uid:
        options["preconditions"] = {"uid": uid}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = max(grace_seconds, 1)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        **({"deleteOptions": options} if options else {}),
    }
    try:
        client.send("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)
    except (Gone, Conflict):
        return
