"""Manifests: what is read of each kind, and what the CRDs would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import manifest
from outrider.apis.nodeclass import EC2NodeClass
from outrider.apis.nodepool import NodePool
from outrider.apis.pod import Pod
from outrider.errors import InvalidManifest
from tests.support import builders


def read(document: dict[str, Any]) -> Any:
    """Parse *document*."""
    return manifest.parse(document)


def requests(spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, int]:
    """Return the effective request of a pod with *spec*."""
    return dict(read(builders.pod(cpu=None, spec=spec, status=status)).requests)


def asking(**amounts: str) -> dict[str, Any]:
    """Return a container that asks for *amounts*."""
    return {"name": "c", "resources": {"requests": amounts}}


def test_requests_add_up() -> None:
    """Containers add up, and every pod takes one of pods."""
    assert requests({"containers": [asking(cpu="1"), asking(cpu="500m", memory="1Mi")]}) == {
        "cpu": 1500,
        "memory": 2**20,
        "pods": 1,
    }


def test_init_containers_count_by_their_peak() -> None:
    """Init containers run one by one; sidecars stay (KEP-753)."""
    sidecar = {**asking(cpu="2"), "restartPolicy": "Always"}
    spec = {
        "initContainers": [asking(cpu="4"), sidecar, asking(cpu="5")],
        "containers": [asking(cpu="3")],
    }
    assert requests(spec)["cpu"] == 7000


def test_limits_stand_in_for_requests() -> None:
    """A limit without a request is the request."""
    container = {"name": "c", "resources": {"limits": {"cpu": "2"}, "requests": {"memory": "1Mi"}}}
    assert requests({"containers": [container]}) == {"cpu": 2000, "memory": 2**20, "pods": 1}


def test_pod_level_resources_replace_the_sum() -> None:
    """Resources at pod level win, and fill in from limits what no container asks."""
    spec = {
        "containers": [asking(cpu="1")],
        "resources": {"requests": {"cpu": "4"}, "limits": {"memory": "2Mi"}},
    }
    assert requests(spec) == {"cpu": 4000, "memory": 2 * 2**20, "pods": 1}


def test_overhead_is_added() -> None:
    """Overhead written by admission counts."""
    assert requests({"containers": [asking(cpu="1")], "overhead": {"cpu": "250m"}})["cpu"] == 1250


def test_resize_in_place_counts_the_larger() -> None:
    """A running pod asks for the larger of what it says and what it was given."""
    status = {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "3"}}]}
    spec = {"containers": [asking(cpu="1")], "nodeName": "n"}
    assert requests(spec, status)["cpu"] == 3000


def test_equal_pods_share_what_they_say() -> None:
    """Pods of one owner share one parsed request and one set of constraints."""
    shape = {"spread": [builders.spread(builders.ZONE, {"app": "a"})], "cpu": "1"}
    first, second = read(builders.pod("a", **shape)), read(builders.pod("b", **shape))
    assert isinstance(first, Pod)
    assert first.requests is second.requests
    assert first.constraints is second.constraints


def test_host_network_takes_container_ports() -> None:
    """On the host's network every container port is a host port."""
    container = {**asking(cpu="1"), "ports": [{"containerPort": 8080}]}
    read_pod = read(builders.pod(spec={"hostNetwork": True, "containers": [container]}))
    assert [port.port for port in read_pod.host_ports] == [8080]


def test_beta_labels_are_translated() -> None:
    """Labels of old are read under today's names, the old ones kept."""
    labels = {"failure-domain.beta.kubernetes.io/zone": "z9", builders.ZONE: None}
    document = builders.node(labels={key: value for key, value in labels.items() if value})
    del document["metadata"]["labels"][builders.ZONE]
    assert read(document).labels[builders.ZONE] == "z9"


def test_unknown_kinds_are_none() -> None:
    """A kind that is not read is none, whoever's it is."""
    assert read({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}) is None
    assert read({"apiVersion": "example.com/v1", "kind": "Pod", "metadata": {"name": "s"}}) is None


def test_unknown_fields_are_kept() -> None:
    """A newer field of a Karpenter kind survives reading and writing."""
    document = builders.nodeclass(brandNew={"a": 1})
    node_class = read(document)
    assert isinstance(node_class, EC2NodeClass)
    assert node_class.spec.to_json()["brandNew"] == {"a": 1}


def test_hash_ignores_requirements() -> None:
    """A NodePool drifts by its template, not by its requirements, limits or weight."""
    plain = read(builders.nodepool())
    assert isinstance(plain, NodePool)
    narrowed = read(
        builders.nodepool(
            requirements=[builders.expression("a", "Exists")], weight=3, limits={"cpu": 4}
        )
    )
    assert plain.hash == narrowed.hash
    assert plain.hash != read(builders.nodepool(labels={"a": "b"})).hash


def test_class_hash_ignores_selectors() -> None:
    """An EC2NodeClass drifts by everything but its selectors and ipPrefixCount."""
    plain = read(builders.nodeclass())
    other = [{"id": "subnet-1"}]
    assert plain.hash == read(builders.nodeclass(subnetSelectorTerms=other, ipPrefixCount=4)).hash
    assert plain.hash != read(builders.nodeclass(userData="echo")).hash


def pool(**spec: Any) -> dict[str, Any]:
    """Return a NodePool with *spec* laid over."""
    document = builders.nodepool()
    document["spec"].update(spec)
    return document


def template(**spec: Any) -> dict[str, Any]:
    """Return a NodePool with *spec* laid over its template's spec."""
    document = builders.nodepool()
    document["spec"]["template"]["spec"].update(spec)
    return document


TAINT = builders.taint("x")
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "weight": (pool(weight=101), "spec.weight"),
    "a negative limit": (pool(limits={"cpu": "-1"}), "spec.limits"),
    "weight of a static pool": (pool(replicas=2, weight=3), "spec"),
    "limits of a static pool": (pool(replicas=2, limits={"cpu": "4"}), "spec"),
    "a budget's nodes": (
        pool(disruption={"budgets": [{"nodes": "101%"}]}),
        "spec.disruption.budgets[0].nodes",
    ),
    "a budget's schedule": (
        pool(disruption={"budgets": [{"nodes": "1", "schedule": "x", "duration": "1h"}]}),
        "spec.disruption.budgets[0].schedule",
    ),
    "a schedule without duration": (
        pool(disruption={"budgets": [{"nodes": "1", "schedule": "@daily"}]}),
        "spec.disruption.budgets[0]",
    ),
    "expireAfter": (template(expireAfter="1d"), "spec.template.spec.expireAfter"),
    "a taint twice": (template(taints=[TAINT], startupTaints=[TAINT]), "spec.template.spec"),
    "an effect": (
        template(taints=[{"key": "x", "effect": "Sometimes"}]),
        "spec.template.spec.taints[0].effect",
    ),
    "a restricted requirement": (
        template(requirements=[builders.expression(builders.HOSTNAME, "Exists")]),
        "spec.template.spec.requirements",
    ),
    "minValues beyond the values": (
        template(requirements=[{**builders.expression("a", "In", "b"), "minValues": 2}]),
        "spec.template.spec.requirements[0]",
    ),
    "a bound that is no number": (
        template(requirements=[builders.expression("a", "Gt", "b")]),
        "spec.template.spec.requirements[0]",
    ),
    "a restricted label": (
        builders.nodepool(labels={builders.NODEPOOL: "x"}),
        "spec.template.metadata.labels",
    ),
    "role and profile": (builders.nodeclass(instanceProfile="p"), "spec"),
    "no family": (builders.nodeclass(amiSelectorTerms=[{"id": "ami-1"}]), "spec"),
    "an alias of nobody": (
        builders.nodeclass(amiSelectorTerms=[{"alias": "beos@latest"}]),
        "spec.amiSelectorTerms[0]",
    ),
    "a selector of nothing": (
        builders.nodeclass(subnetSelectorTerms=[{}]),
        "spec.subnetSelectorTerms[0]",
    ),
    "a reserved tag": (
        builders.nodeclass(tags={"karpenter.sh/nodepool": "x"}),
        "spec.tags",
    ),
    "two roots": (
        builders.nodeclass(
            blockDeviceMappings=[{"rootVolume": True, "ebs": {"volumeSize": "9Gi"}}] * 2
        ),
        "spec.blockDeviceMappings",
    ),
    "a spread without skew": (
        builders.pod(spread=[{"topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
        "spec.topologySpreadConstraints[0].maxSkew",
    ),
    "a toleration": (
        builders.pod(tolerations=[{"operator": "Equal"}]),
        "spec.tolerations[0].operator",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_api_server_would_refuse(name: str) -> None:
    """What a CRD or the API server refuses is refused here, with the object and the field."""
    document, path = REFUSED[name]
    with pytest.raises(InvalidManifest) as refused:
        manifest.parse(document)
    assert refused.value.path.startswith(path)
    assert refused.value.thing.startswith(document["kind"])


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"replicas": 1}, "spec"),
        ({"podTemplateRef": {"name": "t"}}, "spec"),
        ({"podTemplateRef": {"name": ""}, "replicas": 1}, "spec.podTemplateRef.name"),
        ({"scalableRef": {"name": "d"}}, "spec.scalableRef.kind"),
        ({"scalableRef": {"name": "d", "kind": "Deployment"}, "replicas": -1}, "spec.replicas"),
        (
            {"scalableRef": {"name": "d", "kind": "Deployment"}, "refillStrategy": "often"},
            "spec.refillStrategy",
        ),
        (
            {"scalableRef": {"name": "d", "kind": "Deployment"}, "fillDeadlineSeconds": 0},
            "spec.fillDeadlineSeconds",
        ),
    ],
)
def test_capacity_buffers_are_held_to_their_definition(spec: dict[str, Any], path: str) -> None:
    """What the CapacityBuffer CRD refuses is refused, and a source is asked for."""
    document = {
        "apiVersion": "autoscaling.x-k8s.io/v1beta1",
        "kind": "CapacityBuffer",
        "metadata": {"name": "b"},
        "spec": spec,
    }
    with pytest.raises(InvalidManifest) as refused:
        manifest.parse(document)
    assert refused.value.path == path
