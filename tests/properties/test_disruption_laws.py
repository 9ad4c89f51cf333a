"""Laws of moving pods: a Round breaks no promise, budgets of nodes are never exceeded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from outrider.apis import labels
from outrider.apis.meta import IN, Expression, LabelSelector
from outrider.apis.node import Node
from outrider.apis.nodepool import NodePool
from outrider.apis.nodepool import parse as parse_nodepool
from outrider.apis.pod import Owner, Pod
from outrider.apis.policy import PodDisruptionBudget
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.budgets import Allowance, allowed
from outrider.core.eviction import MARGIN, SOON, Drain, next_round, tier
from outrider.core.protection import drainable, forbids_disruption

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
APPS = ("a", "b")


@st.composite
def pods(draw: st.DrawFn) -> tuple[Pod, ...]:
    """Some pods of two apps, some of them daemons, critical, protected, leaving or ill."""
    return tuple(
        Pod(
            namespace="default",
            name=f"p{number}",
            uid=f"u{number}",
            node_name="n1",
            labels={"app": draw(st.sampled_from(APPS))},
            annotations=draw(st.sampled_from([{}, {}, {labels.DO_NOT_DISRUPT: "true"}])),
            owners=draw(st.sampled_from([(), (), (Owner("DaemonSet", "d", controller=True),)])),
            priority_class_name=draw(st.sampled_from(["", "", "system-node-critical"])),
            grace_seconds=draw(st.integers(0, 300)),
            ready=draw(st.booleans()),
            deleted=draw(st.sampled_from([None, None, None, NOW + timedelta(seconds=9)])),
        )
        for number in range(draw(st.integers(0, 8)))
    )


@st.composite
def budgets(draw: st.DrawFn) -> tuple[PodDisruptionBudget, ...]:
    """At most one budget for each app."""
    return tuple(
        PodDisruptionBudget(
            "default",
            app,
            selector=LabelSelector((Expression("app", IN, (app,)),)),
            disruptions_allowed=draw(st.integers(0, 3)),
        )
        for app in APPS
        if draw(st.booleans())
    )


deadlines = st.one_of(st.none(), st.integers(-10, 600).map(lambda s: NOW + timedelta(seconds=s)))


@given(pods(), budgets(), deadlines, st.booleans(), st.integers(0, 3000))
def test_a_round_keeps_every_promise(
    around: tuple[Pod, ...],
    over: tuple[PodDisruptionBudget, ...],
    deadline: datetime | None,
    replaced: bool,
    number: int,
) -> None:
    """Evictions stay within every PodDisruptionBudget and leave do-not-disrupt alone; force waits
    for the last safe start, and always leaves a second at least.
    """
    state = ClusterState.of((*around, *over))
    drain = Drain("n1", NOW - timedelta(minutes=1), deadline, number, replaced)
    found = next_round(state, drain, NOW)
    by_key = {pod.key: pod for pod in around}
    asked = [by_key[one.pod] for one in found.departures if not one.forced]
    for budget in over:
        covered = [pod for pod in asked if budget.covers(pod.namespace, pod.labels)]
        assert len(covered) <= budget.disruptions_allowed
    assert not any(forbids_disruption(pod, NOW) for pod in asked)
    assert len({tier(pod) for pod in asked}) <= 1
    for departure in found.departures:
        pod = by_key[departure.pod]
        assert pod.deleted is None
        if departure.forced:
            assert deadline is not None
            assert departure.grace_seconds is not None
            assert departure.grace_seconds >= 1
            start = deadline - timedelta(seconds=pod.grace_seconds) - MARGIN
            assert start <= NOW + SOON
    if found.done and found.departures:
        assert deadline is not None
        assert deadline <= NOW
    assert found.done or found.wait_seconds >= 1
    if found.done and deadline is not None and deadline > NOW:
        assert not any(drainable(pod, NOW) for pod in around)


def pool_with(*entries: dict[str, str]) -> NodePool:
    """Return a NodePool with these disruption budgets."""
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "c"}
    return parse_nodepool(
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodePool",
            "metadata": {"name": "pool"},
            "spec": {
                "template": {"spec": {"nodeClassRef": reference}},
                "disruption": {"budgets": list(entries)},
            },
        }
    )


shares = st.one_of(
    st.integers(0, 30).map(str), st.integers(0, 100).map(lambda percent: f"{percent}%")
)


@given(
    st.lists(shares, min_size=1, max_size=4),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_node_budgets_are_never_exceeded(entries: list[str], nodes: int, wanted: int) -> None:
    """However many nodes ask, no more go than the strictest budget allows, its percentage rounded
    up; those that are not ready count as gone.
    """
    pool = pool_with(*({"nodes": entry} for entry in entries))
    members = [
        Node(
            f"n{number}",
            labels={labels.NODEPOOL: "pool", labels.INITIALIZED: "true"},
            ready=number % 7 != 3,
        )
        for number in range(nodes)
    ]
    allowance = Allowance(ClusterState.of((pool, *members)), NOW)
    ill = sum(not node.ready for node in members)
    gone = 0
    for _ in range(wanted):
        if allowance.left("pool", None) > 0:
            allowance.spend("pool")
            gone += 1
    strictest = min(
        -(-nodes * int(entry[:-1]) // 100) if entry.endswith("%") else int(entry)
        for entry in entries
    )
    assert allowed(pool, nodes, None, NOW) == strictest
    assert gone + ill <= max(strictest, ill)
