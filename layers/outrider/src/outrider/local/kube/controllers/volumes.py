"""The volume provisioner and binder: a claim gets a PersistentVolume in the right zone.

Matches the EBS CSI provisioner: a WaitForFirstConsumer claim waits until the scheduler has chosen a
node (`volume.kubernetes.io/selected-node`), an Immediate one gets a zone at once; a
PersistentVolume that exists and fits is taken first.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller
from outrider.local.kube.matching import node_selector
from outrider.local.kube.objects import Obj, annotations_of, is_leaving, key_of, labels_of
from outrider.local.kube.quantities import amount
from outrider.local.kube.store import Change
from outrider.local.kube.workqueue import WorkQueue

SELECTED_NODE = "volume.kubernetes.io/selected-node"
ZONE = "topology.kubernetes.io/zone"
_CLASSES = "storageclasses.storage.k8s.io"


class Volumes(Controller):
    """Binds claims."""

    name = "persistent-volume-binder"
    storage = "persistentvolumeclaims"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.store.subscribe("persistentvolumes", self._volume_changed)
        self.store.subscribe("persistentvolumeclaims", self._claim_changed)
        self.released: WorkQueue[str] = WorkQueue(api.clock, "volume-reclaimer", self._reclaim)

    def reconcile(self, obj: Obj) -> None:
        """Bind the claim if its time has come."""
        if is_leaving(obj) or (obj.get("status") or {}).get("phase") == "Bound":
            return
        selected = annotations_of(obj).get(SELECTED_NODE)
        node = self.store.get("nodes", ("", selected)) if selected else None
        wanted = obj["spec"].get("volumeName")
        if wanted:
            volume = self.store.get("persistentvolumes", ("", wanted))
            if volume is not None:
                self._bind(obj, volume.object)
            return
        storage_class = self.store.get(_CLASSES, ("", obj["spec"].get("storageClassName") or ""))
        waits = (
            storage_class is not None and storage_class.object["volumeBindingMode"] != "Immediate"
        )
        if waits and node is None:
            return
        volume_object = self._existing(obj, node.object if node else None)
        if volume_object is None and storage_class is not None:
            volume_object = self._provision(
                obj, storage_class.object, node.object if node else None
            )
        if volume_object is not None:
            self._bind(obj, volume_object)

    def _existing(self, claim: Obj, node: Obj | None) -> Obj | None:
        fitting = [
            one for one in self.store.objects("persistentvolumes") if fits_claim(one, claim, node)
        ]
        return min(
            fitting,
            key=lambda one: amount("storage", one["spec"]["capacity"]["storage"]),
            default=None,
        )

    def _provision(self, claim: Obj, storage_class: Obj, node: Obj | None) -> Obj | None:
        if storage_class["provisioner"] == "kubernetes.io/no-provisioner":
            return None
        zone = labels_of(node).get(ZONE) if node else self._any_zone(storage_class)
        asked = claim["spec"]["resources"]["requests"]["storage"]
        name = f"pvc-{claim['metadata']['uid']}"
        spec: Obj = {
            "capacity": {"storage": asked},
            "accessModes": claim["spec"].get("accessModes") or ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": storage_class["metadata"]["name"],
            "csi": {
                "driver": "ebs.csi.aws.com",
                "volumeHandle": f"vol-{claim['metadata']['uid'][:8]}",
            },
        }
        if zone:
            term = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
        volume: Obj = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.create("persistentvolumes", volume)
        found = self.store.get("persistentvolumes", ("", name))
        return found.object if found else None

    def _any_zone(self, storage_class: Obj) -> str | None:
        for topology in storage_class.get("allowedTopologies") or ():
            for one in topology.get("matchLabelExpressions") or ():
                if one["key"] == ZONE and one["values"]:
                    zone: str = one["values"][0]
                    return zone
        zones = sorted(
            {labels_of(node).get(ZONE, "") for node in self.store.objects("nodes")} - {""}
        )
        return zones[0] if zones else None

    def _bind(self, claim: Obj, volume: Obj) -> None:
        namespace, name = key_of(claim)
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": namespace,
            "name": name,
            "uid": claim["metadata"]["uid"],
        }
        self.modify(
            "persistentvolumes",
            volume,
            lambda one: {**one, "spec": {**one["spec"], "claimRef": reference}},
        )
        self.modify(
            "persistentvolumes", volume, lambda one: {**one, "status": {"phase": "Bound"}}, "status"
        )
        volume_name = volume["metadata"]["name"]
        self.modify(
            self.storage,
            claim,
            lambda one: {**one, "spec": {**one["spec"], "volumeName": volume_name}},
        )
        status = {
            "phase": "Bound",
            "accessModes": volume["spec"].get("accessModes"),
            "capacity": volume["spec"]["capacity"],
        }
        self.set_status(claim, status)

    def _claim_changed(self, change: Change) -> None:
        volume = change.entry.object["spec"].get("volumeName")
        if change.type == "DELETED" and volume:
            self.released.add(volume)

    def _reclaim(self, name: str) -> None:
        """Delete a volume whose claim is gone, or release it, as its policy says."""
        found = self.store.get("persistentvolumes", ("", name))
        if found is None:
            return
        if found.object["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            self.remove("persistentvolumes", found.object)
            return
        self.modify(
            "persistentvolumes",
            found.object,
            lambda one: {**one, "status": {"phase": "Released"}},
            "status",
        )

    def _volume_changed(self, change: Change) -> None:
        if change.type == "ADDED":
            for claim in self.store.objects(self.storage):
                if (claim.get("status") or {}).get("phase") != "Bound":
                    self.queue.add(key_of(claim))


def fits_claim(volume: Obj, claim: Obj, node: Obj | None) -> bool:
    """Tell whether the free *volume* can serve *claim* on *node* (or on any, for None)."""
    spec, wanted = volume["spec"], claim["spec"]
    reference = spec.get("claimRef")
    if reference and (reference.get("namespace"), reference.get("name")) != key_of(claim):
        return False
    asked = ((wanted.get("resources") or {}).get("requests") or {}).get("storage", "0")
    required = (spec.get("nodeAffinity") or {}).get("required")
    return (
        (spec.get("storageClassName") or "") == (wanted.get("storageClassName") or "")
        and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and amount("storage", spec["capacity"]["storage"]) >= amount("storage", asked)
        and (node is None or required is None or node_selector(required)(node))
    )
