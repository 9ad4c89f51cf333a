"""Gangs: together or not at all."""

from __future__ import annotations

from typing import Any

from tests.support.builders import (
    ZONE,
    catalog,
    expression,
    instance_type,
    node,
    nodepool,
    offering,
    pod,
)
from tests.support.expect import planned

BIG = catalog(instance_type("p", cpu="96", gpu=8, price=30.0))


def workers(count: int, name: str = "g", **more: Any) -> list[dict[str, Any]]:
    """Return *count* pods of one gang, eight GPUs each."""
    marks = {"outrider.dev/gang": name, **more.pop("annotations", {})}
    return [pod(f"{name}{index}", gpu=8, annotations=marks, **more) for index in range(count)]


def test_whole_gang_or_nothing() -> None:
    """A limit that leaves room for three of four leaves all four out, with the reason."""
    answer = planned(*workers(4), nodepool(limits={"nodes": 3}), catalog=BIG)
    assert not answer.launched()
    assert set(map(tuple, answer.rejected().values())) == {("Gang",)}
    assert "needs 4 members placed together; 3 fit" in answer.reason("g0")


def test_a_gang_that_is_left_out_makes_room() -> None:
    """What a broken gang does not use goes to others."""
    answer = planned(*workers(4), pod("lone", gpu=8), nodepool(limits={"nodes": 3}), catalog=BIG)
    assert answer.placed_on("lone")


def test_size_says_how_many_are_needed() -> None:
    """With a size of three, three of four are enough."""
    size = {"outrider.dev/gang-size": "3"}
    answer = planned(*workers(4, annotations=size), nodepool(limits={"nodes": 3}), catalog=BIG)
    assert len(answer.launched()) == 3


def test_too_few_members() -> None:
    """A gang whose members are not all there yet waits."""
    answer = planned(*workers(2, annotations={"outrider.dev/gang-size": "4"}), catalog=BIG)
    assert "2 of them exist" in answer.reason("g0")


def test_running_members_count() -> None:
    """Members that run already count towards the size."""
    marks = {"outrider.dev/gang": "g", "outrider.dev/gang-size": "2"}
    running = pod("g9", node="n", annotations=marks)
    answer = planned(
        *workers(1, annotations={"outrider.dev/gang-size": "2"}), running, node("n"), catalog=BIG
    )
    assert answer.launched() == ["default"]


def test_gang_in_one_zone() -> None:
    """A gang that shares a zone is planned into one that holds all of it."""
    goods = catalog(
        instance_type(
            "p",
            cpu="96",
            gpu=8,
            offerings=[
                offering("test-zone-1", "reserved", 0.0, reservation="cr-1", count=1),
                offering("test-zone-2", price=30.0),
            ],
        )
    )
    pool = nodepool(
        requirements=[expression("karpenter.sh/capacity-type", "In", "on-demand", "reserved")]
    )
    same = {"outrider.dev/gang-zone": "same"}
    answer = planned(*workers(3, annotations=same), pool, catalog=goods)
    assert answer.skew(ZONE) == [3]
    assert answer.zones("g0") == {"test-zone-2"}


def test_gang_from_its_owners_template() -> None:
    """The owner's template may carry the marks."""
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "default"},
        "spec": {
            "template": {
                "metadata": {
                    "annotations": {"outrider.dev/gang": "g", "outrider.dev/gang-size": "3"}
                }
            }
        },
    }
    pods = [pod(f"g{index}", gpu=8, owner=("Job", "train")) for index in range(2)]
    assert "needs 3 members" in planned(*pods, job, catalog=BIG).reason("g0")


def test_coscheduling_pod_group() -> None:
    """A coscheduling PodGroup is read by its label."""
    group = {
        "apiVersion": "scheduling.x-k8s.io/v1alpha1",
        "kind": "PodGroup",
        "metadata": {"name": "pg", "namespace": "default"},
        "spec": {"minMember": 2},
    }
    label = {"scheduling.x-k8s.io/pod-group": "pg"}
    pods = [pod(f"g{index}", gpu=8, labels=label) for index in range(2)]
    answer = planned(*pods, group, nodepool(limits={"nodes": 1}), catalog=BIG)
    assert set(map(tuple, answer.rejected().values())) == {("Gang",)}


def test_pod_group_of_the_pod_itself() -> None:
    """A PodGroup that `spec.schedulingGroup` names (Kubernetes 1.36) holds its pods together."""
    group = {
        "apiVersion": "scheduling.k8s.io/v1alpha2",
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 3}}},
    }
    members = [
        pod(f"p{index}", spec={"schedulingGroup": {"podGroupName": "g"}}) for index in range(3)
    ]
    assert planned(group, *members[:2]).rejected() == {"p0": {"Gang"}, "p1": {"Gang"}}
    assert not planned(group, *members).rejected()
