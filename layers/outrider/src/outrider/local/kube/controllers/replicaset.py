"""ReplicaSet: keep so many pods of one template.

Matches the ReplicaSet controller in which pods it gives up first and in its status; orphans are not
adopted.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller, active, least_wanted
from outrider.local.kube.objects import Obj, is_leaving, is_ready


class ReplicaSets(Controller):
    """Creates and removes pods."""

    name = "replicaset-controller"
    storage = "replicasets.apps"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.follow_owned("pods", "ReplicaSet")

    def reconcile(self, obj: Obj) -> None:
        """Create what is missing, remove what is too much."""
        if is_leaving(obj):
            return
        pods = active(self.owned(obj, "pods"))
        wanted = obj["spec"].get("replicas", 1)
        for _ in range(wanted - len(pods)):
            self.create_pod(obj, obj["spec"]["template"])
        for pod in least_wanted(pods)[: max(len(pods) - wanted, 0)]:
            self.remove("pods", pod)
        pods = active(self.owned(obj, "pods"))
        ready = sum(map(is_ready, pods))
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": obj["metadata"]["generation"],
        }
        self.set_status(obj, status)
