"""Room kept free: what asks for it, how it is planned, and that nobody mistakes it for pods."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import labels, manifest
from outrider.apis.buffer import headroom as amounts
from outrider.core import headroom
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling.plan import plan
from outrider.errors import InvalidManifest
from tests.support.estate import NOW, Estate, catalog, node, pod, pool

CALM = {"consolidateAfter": "Never"}


def roomy(text: str, **more: Any) -> Any:
    """Return a NodePool that keeps this room."""
    return pool(annotations={labels.HEADROOM: text}, **more)


def buffer(**spec: Any) -> Any:
    """Return a CapacityBuffer called web."""
    return manifest.parse(
        {
            "apiVersion": "autoscaling.x-k8s.io/v1beta1",
            "kind": "CapacityBuffer",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": spec,
        }
    )


def template(kind: str = "PodTemplate", replicas: int = 10, cpu: str = "1") -> Any:
    """Return what a buffer refers to: a PodTemplate or a Deployment called unit."""
    requests = {"cpu": cpu, "memory": "1Gi"}
    whole = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]},
    }
    metadata = {"name": "unit", "namespace": "shop"}
    if kind == "PodTemplate":
        document = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "template": whole}
    else:
        spec = {"replicas": replicas, "template": whole, "selector": {"matchLabels": {"app": "w"}}}
        document = {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}
    return manifest.parse(document)


def planned(*objects: object) -> Any:
    """Return the plan for the pods that wait in a cluster of *objects*, and the room it keeps."""
    state = ClusterState.of(objects)
    waiting = [item for item in state.pods if not item.node_name]
    made = plan(state, (*waiting, *headroom.placeholders(state)), catalog())
    return headroom.without_placeholders(made)


@pytest.mark.parametrize(
    ("text", "count", "each"),
    [
        ("cpu=8,memory=32Gi", 4, {"cpu": 2000, "memory": 8 * 1024**3, "pods": 1}),
        ('{"cpu": "1"}', 1, {"cpu": 1000, "pods": 1}),
        ("nvidia.com/gpu=3,cpu=12", 3, {"cpu": 4000, "nvidia.com/gpu": 1, "pods": 1}),
        ("pods=2,cpu=3", 2, {"cpu": 1500, "pods": 1}),
        ("", 0, {}),
    ],
)
def test_a_resource_list_becomes_placeholders(text: str, count: int, each: dict[str, int]) -> None:
    """A list is split into pieces that fit on nodes, and the pieces add up to it."""
    found = headroom.placeholders(ClusterState.of([roomy(text)]))
    assert len(found) == count
    assert all(item.requests == each for item in found)


@pytest.mark.parametrize("text", ["cpu", "cpu=", "cpu=x", "cpu=-1", "cpu=1,cpu=2", "{", "=1"])
def test_malformed_headroom_is_refused_and_keeps_nothing(text: str) -> None:
    """A list that cannot be read is a problem of its own NodePool, and of nobody else."""
    with pytest.raises(InvalidManifest):
        amounts(text)
    mine, other = roomy(text), pool("other", annotations={labels.HEADROOM: "cpu=1"})
    assert headroom.problem(mine).startswith("annotation outrider.dev/headroom")
    found = headroom.placeholders(ClusterState.of([mine, other]))
    assert [item.name for item in found] == ["other~0"]


@pytest.mark.parametrize(
    ("spec", "source", "count"),
    [
        ({"podTemplateRef": {"name": "unit"}, "replicas": 3}, template(), 3),
        ({"podTemplateRef": {"name": "unit"}, "limits": {"cpu": "2500m"}}, template(), 2),
        (
            {"podTemplateRef": {"name": "unit"}, "replicas": 9, "limits": {"memory": "4Gi"}},
            template(),
            4,
        ),
        (
            {"scalableRef": {"kind": "Deployment", "name": "unit"}, "percentage": 25},
            template("Deployment"),
            3,
        ),
        (
            {"scalableRef": {"kind": "Deployment", "name": "unit"}, "percentage": 1, "replicas": 2},
            template("Deployment"),
            2,
        ),
        (
            {"scalableRef": {"kind": "Deployment", "name": "unit"}, "percentage": 5},
            template("Deployment", replicas=0),
            1,
        ),
        ({"podTemplateRef": {"name": "other"}, "replicas": 3}, template(), 0),
        (
            {
                "podTemplateRef": {"name": "unit"},
                "replicas": 3,
                "provisioningStrategy": "buffer.gke.io/standby-capacity",
            },
            template(),
            0,
        ),
    ],
)
def test_buffers_are_counted_as_karpenter_does(
    spec: dict[str, Any], source: Any, count: int
) -> None:
    """Replicas and percentage by the larger, percentages up and at least one, limits cap (F28)."""
    found = headroom.placeholders(ClusterState.of([pool(), buffer(**spec), source]))
    assert len(found) == count
    assert all(item.key.startswith("shop/web~") for item in found)


def test_room_is_launched_and_no_pod_is_named() -> None:
    """A plan launches for headroom, and says so where no pod is expected to stand."""
    made = planned(roomy("cpu=4"))
    assert made.launches
    assert all(launch.pods == () for launch in made.launches)
    held = [key for launch in made.launches for key in launch.headroom]
    assert sorted(held) == ["headroom/pool~0", "headroom/pool~1"]
    assert (made.placements, made.rejections) == ((), ())


def test_room_that_is_there_is_enough() -> None:
    """Nothing is launched while existing nodes have the room, and nobody is placed on it."""
    made = planned(roomy("cpu=3"), node("n1"))
    assert (made.launches, made.placements) == ((), ())


def test_pods_come_before_room() -> None:
    """Where limits do not hold both, the pods are launched for."""
    made = planned(roomy("cpu=2", limits={"nodes": "1"}), pod("a", cpu="15"), pod("b", cpu="500m"))
    assert made.placed == 2
    assert made.rejections == ()


def test_an_empty_node_that_holds_room_stays() -> None:
    """Headroom blocks emptiness unless other nodes have the room (F29)."""
    kept = Estate(roomy("cpu=4"), node("n1"))
    assert kept.code("n1") == "PodsUnschedulable"
    spare = Estate(roomy("cpu=4"), node("n1"), node("n2"))
    assert len(spare.command().nodes) == 1


def test_room_is_simulated_in_consolidation() -> None:
    """A node is not emptied onto the room that is to be kept free, but without it it is."""
    pods = [pod("a", on="n1"), *(pod(f"b{place}", on="n2", cpu="700m") for place in range(4))]
    only = {
        "requirements": [
            {"key": labels.CAPACITY_TYPE, "operator": "In", "values": [labels.ON_DEMAND]},
            {"key": labels.INSTANCE_TYPE, "operator": "In", "values": ["m5.xlarge"]},
        ]
    }
    free = Estate(pool(template=only), node("n1"), node("n2"), *pods)
    assert [command.nodes for command in free.decide(NOW).commands] == [("n1",)]
    kept = Estate(roomy("cpu=2", template=only), node("n1"), node("n2"), *pods)
    assert kept.decide(NOW).commands == ()
