"""Volumes that do not exist until a node is chosen, with the real volume binder.

A claim of a class that waits for its first consumer has no zone. The plan has to choose one in
which the class makes volumes; kube-scheduler then writes its choice onto the claim and binds the
pod only once the volume is there. The test is the CSI driver's provisioner; everything else is
Kubernetes' own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.probe import Obj
from tests.e2e.real.karpenter import node_pool, wish
from tests.e2e.real.test_story import GPU_CLASS
from tests.e2e.real.town import POOL_LABEL, Town
from tests.support.builders import ZONE

POOL = "volumes"
CLASS = "waits"
WHERE = "us-east-1b"  # not the zone that a plan without the claim would take first
SELECTED = "volume.kubernetes.io/selected-node"
AMOUNT = {"storage": "5Gi"}


@pytest.fixture(scope="module")
def disks(town: Town) -> Iterator[Town]:
    """Give the town with a pool of plain nodes, a class that waits, and a claim of it."""
    admin = town.admin
    admin.apply(GPU_CLASS)
    wishes = [
        wish("karpenter.sh/capacity-type", "In", "on-demand"),
        wish("karpenter.k8s.aws/instance-category", "In", "c", "m"),
        wish("kubernetes.io/arch", "In", "amd64"),
    ]
    never = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "Never"}
    admin.apply(node_pool(POOL, wishes, node_class="gpu", disruption=never))
    topology = [{"matchLabelExpressions": [{"key": ZONE, "values": [WHERE]}]}]
    admin.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS},
            "provisioner": "ebs.csi.aws.com",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowedTopologies": topology,
        }
    )
    wanted = {"accessModes": ["ReadWriteOnce"], "storageClassName": CLASS}
    admin.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {**wanted, "resources": {"requests": AMOUNT}},
        }
    )
    town.tick("catalog")
    yield town
    admin.send("DELETE", admin.pods, {"gracePeriodSeconds": 0}, labelSelector="app=disk")
    town.clear_away(POOL)


def reader(name: str) -> Obj:
    """Return a pod that reads the claim."""
    main = {
        "name": "main",
        "image": "registry.example/app:1",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    chosen = {POOL_LABEL: POOL}
    return {
        "metadata": {"name": name, "labels": {"app": "disk"}},
        "spec": {"containers": [main], "volumes": [volume], "nodeSelector": chosen},
    }


def volume_for(claim: Obj, zone: str) -> Obj:
    """Return what the driver's provisioner makes for *claim* in a *zone*."""
    meta = claim["metadata"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    owner = {key: meta[key] for key in ("namespace", "name", "uid")}
    here = [{"matchExpressions": [wish(ZONE, "In", zone)]}]
    return {
        "metadata": {"name": f"pvc-{meta['uid']}"},
        "spec": {
            "capacity": AMOUNT,
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": f"vol-{meta['uid'][:8]}"},
            "claimRef": {**reference, **owner},
            "nodeAffinity": {"required": {"nodeSelectorTerms": here}},
        },
    }


def node_of(town: Town, pod: str) -> Obj:
    """Wait until *pod* runs and return its Node."""
    town.running(pod)
    return town.admin.must("GET", f"/api/v1/nodes/{town.node_of(pod)}")


def test_a_volume_is_made_where_the_plan_put_its_first_consumer(disks: Town) -> None:
    """The node lies in a zone of the class; the binder names it, and the pod follows its volume."""
    admin = disks.admin
    since = disks.mark()
    admin.must("POST", admin.pods, reader("first-reader"))
    claims = f"/api/v1/namespaces/{admin.namespace}/persistentvolumeclaims"
    claim = admin.until(
        claims,
        lambda one: SELECTED in one["metadata"].get("annotations", {}),
        seconds=90,
        fieldSelector="metadata.name=data",
    )
    chosen = admin.must("GET", f"/api/v1/nodes/{claim['metadata']['annotations'][SELECTED]}")
    zone = chosen["metadata"]["labels"][ZONE]
    assert zone == WHERE
    admin.must("POST", "/api/v1/persistentvolumes", volume_for(claim, zone))
    assert node_of(disks, "first-reader")["metadata"]["name"] == chosen["metadata"]["name"]
    assert len(disks.seen("nodeJoined", since)) == 1


def test_a_volume_that_is_there_draws_its_next_consumer(disks: Town) -> None:
    """With the first node gone, the next one is launched in the volume's zone."""
    admin = disks.admin
    admin.must("DELETE", f"{admin.pods}/first-reader", {"gracePeriodSeconds": 0})
    disks.clear_away(POOL)
    since = disks.mark()
    admin.must("POST", admin.pods, reader("next-reader"))
    assert node_of(disks, "next-reader")["metadata"]["labels"][ZONE] == WHERE
    assert len(disks.seen("nodeJoined", since)) == 1
