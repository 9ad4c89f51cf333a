"""StatefulSet: pods with ordinals, one after the other or in parallel, each with its own claims.

Matches the StatefulSet controller for OrderedReady and Parallel, scaling from the highest ordinal
and rolling updates from it; claims outlive their pods.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller, template_hash
from outrider.local.kube.objects import (
    Obj,
    clone,
    is_finished,
    is_leaving,
    is_ready,
    labels_of,
)

_REVISION = "controller-revision-hash"
_POD_NAME = "statefulset.kubernetes.io/pod-name"
_INDEX = "apps.kubernetes.io/pod-index"


class StatefulSets(Controller):
    """Creates and removes ordinals."""

    name = "statefulset-controller"
    storage = "statefulsets.apps"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.follow_owned("pods", "StatefulSet")

    def reconcile(self, obj: Obj) -> None:
        """Take the next step of every ordinal that may take one."""
        if is_leaving(obj):
            return
        pods = {pod["metadata"]["name"]: pod for pod in self.owned(obj, "pods")}
        start = (obj["spec"].get("ordinals") or {}).get("start", 0)
        base = obj["metadata"]["name"]
        names = [f"{base}-{start + place}" for place in range(obj["spec"]["replicas"])]
        mark = template_hash(obj["spec"]["template"])
        ordered = obj["spec"].get("podManagementPolicy") != "Parallel"
        settled = self._fill(obj, names, pods, mark, ordered=ordered)
        if settled or not ordered:
            self._trim(names, pods, ordered=ordered)
        if settled:
            self._update(obj, names, pods, mark)
        self._report(obj, mark)

    def _fill(
        self, obj: Obj, names: list[str], pods: dict[str, Obj], mark: str, *, ordered: bool
    ) -> bool:
        """Create what is missing; return whether every ordinal is there and Ready."""
        settled = True
        for name in names:
            pod = pods.get(name)
            if pod is None:
                self._create(obj, name, mark)
            elif is_finished(pod) and not is_leaving(pod):
                self.remove("pods", pod)
            if pod is None or is_leaving(pod) or not is_ready(pod):
                settled = False
                if ordered:
                    break
        return settled

    def _create(self, obj: Obj, name: str, mark: str) -> None:
        namespace = obj["metadata"]["namespace"]
        claims: Obj = {}
        for template in obj["spec"].get("volumeClaimTemplates") or ():
            claim = clone(template)
            volume = claim["metadata"]["name"]
            claims[volume] = f"{volume}-{name}"
            labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
            claim["metadata"] = {
                "name": claims[volume],
                "namespace": namespace,
                "labels": dict(labels),
            }
            claim.update({"apiVersion": "v1", "kind": "PersistentVolumeClaim"})
            claim.pop("status", None)
            self.create("persistentvolumeclaims", claim)

        def complete(pod: Obj) -> None:
            labels = pod["metadata"].setdefault("labels", {})
            labels.update({_POD_NAME: name, _INDEX: name.rpartition("-")[2], _REVISION: mark})
            pod["spec"]["hostname"] = name
            if obj["spec"].get("serviceName"):
                pod["spec"]["subdomain"] = obj["spec"]["serviceName"]
            own = [one for one in pod["spec"].get("volumes") or () if one["name"] not in claims]
            own += [
                {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
                for volume, claim in claims.items()
            ]
            if own:
                pod["spec"]["volumes"] = own

        self.create_pod(obj, obj["spec"]["template"], name=name, change=complete)

    def _trim(self, names: list[str], pods: dict[str, Obj], *, ordered: bool) -> None:
        surplus = sorted(
            (pods[name] for name in pods.keys() - set(names)), key=_ordinal, reverse=True
        )
        for pod in surplus:
            if not is_leaving(pod):
                self.remove("pods", pod)
            if ordered:
                return

    def _update(self, obj: Obj, names: list[str], pods: dict[str, Obj], mark: str) -> None:
        strategy = obj["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        for name in reversed(names[partition:]):
            if labels_of(pods[name]).get(_REVISION) != mark:
                self.remove("pods", pods[name])
                return

    def _report(self, obj: Obj, mark: str) -> None:
        pods = [pod for pod in self.owned(obj, "pods") if not is_leaving(pod)]
        ready = sum(map(is_ready, pods))
        updated = sum(labels_of(pod).get(_REVISION) == mark for pod in pods)
        self.set_status(
            obj,
            {
                "observedGeneration": obj["metadata"]["generation"],
                "replicas": len(pods),
                "readyReplicas": ready,
                "availableReplicas": ready,
                "currentReplicas": updated,
                "updatedReplicas": updated,
                "updateRevision": f"{obj['metadata']['name']}-{mark}",
            },
        )


def _ordinal(pod: Obj) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])
