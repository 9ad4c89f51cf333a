"""What a pod's claims allow: zones of bound volumes, binding at scheduling, attach limits.

Matches the VolumeBinding, VolumeZone and NodeVolumeLimits plugins for PersistentVolumeClaims of CSI
drivers. Refuses to know other constraints.
"""

from __future__ import annotations

from collections.abc import Iterator

from outrider.local.kube.controllers.volumes import SELECTED_NODE, fits_claim
from outrider.local.kube.matching import node_selector
from outrider.local.kube.objects import Obj, annotations_of, is_leaving, labels_of
from outrider.local.kube.scheduler.cluster import NodeInfo
from outrider.local.kube.scheduler.template import Template
from outrider.local.kube.store import Store

CONFLICT = "node(s) had volume node affinity conflict"
NONE_FREE = "node(s) didn't find available persistent volumes to bind"
TOO_MANY = "node(s) exceed max volume count"
IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
_DRIVER = "ebs.csi.aws.com"
_STATIC_ONLY = "kubernetes.io/no-provisioner"


class VolumeView:
    """Reads claims, volumes and classes as they are now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def refusal(self, template: Template) -> str:
        """Return why no node at all can do, "" where some may."""
        for name in template.claims:
            claim = self._claim(template.namespace, name)
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if is_leaving(claim):
                return f'persistentvolumeclaim "{name}" is being deleted'
            if not claim["spec"].get("volumeName") and not self._waits(claim):
                return IMMEDIATE
        return ""

    def why_not(self, template: Template, info: NodeInfo) -> str:
        """Return why the claims of *template* keep it off a node, "" where they do not."""
        claims = [one for name in template.claims if (one := self._claim(template.namespace, name))]
        for claim in claims:
            why = self._why_not(claim, info.node)
            if why:
                return why
        return self._over_limit(claims, template, info)

    @staticmethod
    def is_hopeless(reason: str) -> bool:
        """Tell whether preemption cannot cure *reason*."""
        return reason in {CONFLICT, NONE_FREE}

    def unbound(self, template: Template) -> list[Obj]:
        """Return the claims that are bound once a node is chosen."""
        claims = (self._claim(template.namespace, name) for name in template.claims)
        return [one for one in claims if one is not None and not one["spec"].get("volumeName")]

    def _claim(self, namespace: str, name: str) -> Obj | None:
        found = self._store.get("persistentvolumeclaims", (namespace, name))
        return found.object if found else None

    def _class(self, claim: Obj) -> Obj | None:
        name = claim["spec"].get("storageClassName") or ""
        found = self._store.get("storageclasses.storage.k8s.io", ("", name))
        return found.object if found else None

    def _waits(self, claim: Obj) -> bool:
        storage_class = self._class(claim)
        return (
            storage_class is not None
            and storage_class["volumeBindingMode"] == "WaitForFirstConsumer"
        )

    def _why_not(self, claim: Obj, node: Obj) -> str:
        name = claim["spec"].get("volumeName")
        if name:
            volume = self._store.get("persistentvolumes", ("", name))
            required = (
                (volume.object["spec"].get("nodeAffinity") or {}).get("required")
                if volume
                else None
            )
            return "" if required is None or node_selector(required)(node) else CONFLICT
        selected = annotations_of(claim).get(SELECTED_NODE)
        if (
            selected
            and selected != node["metadata"]["name"]
            and self._store.get("nodes", ("", selected))
        ):
            return CONFLICT
        if any(fits_claim(one, claim, node) for one in self._store.objects("persistentvolumes")):
            return ""
        storage_class = self._class(claim)
        if storage_class is None or storage_class["provisioner"] == _STATIC_ONLY:
            return NONE_FREE
        topologies = storage_class.get("allowedTopologies")
        return "" if not topologies or any(_allows(one, node) for one in topologies) else NONE_FREE

    def _over_limit(self, claims: list[Obj], template: Template, info: NodeInfo) -> str:
        limit = self._limit(info.name)
        if limit is None:
            return ""
        attached = {
            (placed.template.namespace, name)
            for placed in info.pods.values()
            for name in placed.template.claims
        }
        new = {(template.namespace, claim["metadata"]["name"]) for claim in claims} - attached
        return TOO_MANY if new and len(attached) + len(new) > limit else ""

    def _limit(self, node: str) -> int | None:
        found = self._store.get("csinodes.storage.k8s.io", ("", node))
        for driver in _drivers(found.object if found else None):
            if driver["name"] == _DRIVER:
                count = (driver.get("allocatable") or {}).get("count")
                return None if count is None else int(count)
        return None


def _drivers(csi_node: Obj | None) -> Iterator[Obj]:
    if csi_node is not None:
        yield from (csi_node.get("spec") or {}).get("drivers") or ()


def _allows(topology: Obj, node: Obj) -> bool:
    return all(
        labels_of(node).get(one["key"]) in one["values"]
        for one in topology.get("matchLabelExpressions") or ()
    )
