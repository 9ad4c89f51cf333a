"""Ten thousand equal pods are one question: what is shared, asked once, and exact all the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from outrider.apis import manifest
from outrider.apis.duration import instant
from outrider.apis.pod import Pod
from outrider.core.catalog import codec
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling import firstfit, queue
from outrider.core.scheduling.bins import Contents
from outrider.core.scheduling.compile import compiled
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.run import Run
from tests.support.builders import (
    HOSTNAME,
    NOW,
    Json,
    catalog,
    instance_type,
    nodepool,
    pod,
    spread,
    term,
)
from tests.support.expect import planned

AT = instant(NOW)
MACHINES = catalog(
    instance_type("small", cpu="4", memory="16Gi", price=0.2),
    instance_type("large", cpu="16", memory="64Gi", price=0.9),
)


def crowd(count: int, name: str = "p", **shape: object) -> Iterator[Json]:
    """Yield so many equal pods."""
    for place in range(count):
        yield pod(f"{name}{place:04}", **shape)  # type: ignore[arg-type]


def state_of(*documents: Json) -> ClusterState:
    """Return the cluster that *documents* describe."""
    return ClusterState.of([manifest.parse(item) for item in documents])


class CountingContents(Contents):
    """Contents that count how often a step was worked out."""

    worked = 0

    def _grown(self, *given: object) -> object:  # type: ignore[override]
        self.worked += 1
        return super()._grown(*given)  # type: ignore[arg-type]


def test_equal_nodes_share_everything_but_name_and_pods() -> None:
    """A plan of many equal nodes holds their alternatives, requirements and labels once."""
    answer = planned(*crowd(200, cpu="3"), nodepool(), catalog=MACHINES).plan
    first, second = answer.launches[0], answer.launches[1]
    assert first.choices is second.choices
    assert first.requirements is second.requirements
    assert first.labels is second.labels
    assert first.requests is second.requests
    assert first.max_pods is second.max_pods
    assert len({launch.name for launch in answer.launches}) == len(answer.launches)
    assert sum(len(launch.pods) for launch in answer.launches) == 200


@pytest.mark.parametrize("count", [40, 400, 4000])
def test_work_grows_with_kinds_of_nodes_not_with_pods(count: int) -> None:
    """Filling the thousandth node like the first works nothing out anew."""
    state = state_of(*crowd(count, cpu="1"), nodepool())
    problem = compiled(state, pending(state, AT), codec.read(MACHINES), Policy(), {}).problem
    contents = CountingContents(problem)
    run = Run.of(problem, contents)
    order = queue.ordered(problem.pods)
    ask = problem.classes[0].asks[0]
    assert firstfit.place(run, order, ask) == count
    assert contents.worked <= 40


def test_pods_that_keep_apart_get_their_nodes_at_once() -> None:
    """Hostname anti-affinity opens a node a pod, and counts every one of them."""
    labels = {"app": "lonely"}
    state = state_of(
        *crowd(300, cpu="1", labels=labels, apart=[term(HOSTNAME, labels)]), nodepool()
    )
    problem = compiled(state, pending(state, AT), codec.read(MACHINES), Policy(), {}).problem
    run = Run.of(problem)
    assert firstfit.place(run, queue.ordered(problem.pods), problem.classes[0].asks[0]) == 300
    assert [len(known.members) for known in run.bins] == [1] * 300
    assert set(run.topology.counts.total) == {300}


def test_repeated_nodes_can_still_be_joined() -> None:
    """What is shared by equal nodes is not changed when one of them gets another pod."""
    labels = {"app": "even"}
    answer = planned(
        *crowd(60, "big", cpu="3", labels=labels, spread=[spread(HOSTNAME, labels)]),
        *crowd(31, "tiny", cpu="500m"),
        nodepool(),
        catalog=MACHINES,
        strategy="first-fit",
    )
    nodes = [[name[8:11] for name in launch.pods] for launch in answer.plan.launches]
    assert answer.plan.placed == 91
    assert all(members.count("big") <= 1 for members in nodes)
    for launch in answer.plan.launches:
        tiny = sum("tiny" in name for name in launch.pods)
        big = len(launch.pods) - tiny
        assert launch.requests["cpu"] == 3000 * big + 500 * tiny


def test_limits_end_a_run_of_repeated_nodes() -> None:
    """The kernel's patterns are repeated only as often as a limit has room for them."""
    answer = planned(
        *crowd(100, cpu="3"), nodepool(limits={"cpu": "40"}), catalog=MACHINES, strategy="cost"
    ).plan
    bought = [launch.choices[0].instance_type for launch in answer.launches]
    assert sum(4 if kind == "small" else 16 for kind in bought) <= 40
    assert answer.placed >= 10
    assert len(answer.rejections) == 100 - answer.placed


def pod_at(name: str, seconds: int, **requests: int) -> Pod:
    """Return a Pod created *seconds* after the epoch of these tests."""
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return Pod("default", name, created=created, requests={"pods": 1, **requests})


def test_the_queue_s_order() -> None:
    """Larger cpu, larger memory, older, name; whatever the order of arrival."""
    pods = [
        pod_at("young", 9, cpu=1000),
        pod_at("b", 5, cpu=1000),
        pod_at("fat", 9, cpu=1000, memory=5),
        pod_at("a", 5, cpu=1000),
        pod_at("large", 9, cpu=2000),
    ]
    found = [pods[place].name for place in queue.ordered(pods)]
    assert found == ["large", "fat", "a", "b", "young"]


def test_a_promise_goes_before_size_but_not_before_priority() -> None:
    """Who was promised a node in flight is planned before larger pods of its own priority."""
    pods = [pod_at("large", 1, cpu=4000), pod_at("promised", 1, cpu=1000)]
    assert [pods[place].name for place in queue.ordered(pods, {1})] == ["promised", "large"]


def test_pods_twice_are_planned_once() -> None:
    """The same pod given twice gets one place."""
    state = state_of(pod("a"), pod("b"), nodepool())
    waiting = pending(state, AT)
    answer = plan(state, (*waiting, *waiting), codec.read(MACHINES), Policy(), AT)
    assert answer.placed == 2


def test_expired_is_asked_when_the_first_plan_stands() -> None:
    """A deadline that is over at once still gives the whole first-fit plan."""
    asked = []

    def expired() -> bool:
        asked.append(True)
        return True

    state = state_of(*crowd(500, cpu="1"), nodepool())
    answer = plan(state, pending(state, AT), codec.read(MACHINES), Policy(), AT, expired)
    assert (answer.placed, answer.stage) == (500, "first-fit")
    assert asked
