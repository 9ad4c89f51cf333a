"""Parity A: requirements and the choice of NodePool (karpenter-semantics.md, section 3 A).

Each test is one row; the number in its docstring is the row's.
"""

from __future__ import annotations

import pytest

from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    NODEPOOL,
    catalog,
    expression,
    instance_type,
    node,
    nodepool,
    pod,
    taint,
    tolerates,
)
from tests.support.expect import planned


def test_conflicting_label_is_named() -> None:
    """1: a selector that the pool's label contradicts leaves the pod out, and names the key."""
    answer = planned(pod(selector={"team": "b"}), nodepool(labels={"team": "a"}))
    assert answer.rejected() == {"pod": {"IncompatibleRequirements"}}
    assert "team" in answer.reason("pod")


def test_undefined_custom_key_fails() -> None:
    """2: a custom key that no pool defines cannot be selected."""
    assert planned(pod(selector={"team": "b"})).rejected() == {"pod": {"IncompatibleRequirements"}}


@pytest.mark.parametrize(
    "line", [expression("team", "NotIn", "a"), expression("team", "DoesNotExist")]
)
def test_absence_is_met_by_an_undefined_key(line: dict[str, object]) -> None:
    """3: NotIn and DoesNotExist hold on a node that lacks the key."""
    assert planned(pod(required=[line])).launched() == ["default"]


def test_exists_fails_on_an_undefined_key() -> None:
    """4: Exists on a custom key that no pool defines leaves the pod out."""
    answer = planned(pod(required=[expression("team", "Exists")]))
    assert answer.rejected() == {"pod": {"IncompatibleRequirements"}}


SIZES = catalog(
    *(
        instance_type(f"t{size}", cpu="4", labels={"size": str(size)}, price=size / 10)
        for size in (4, 8, 9, 16)
    )
)


@pytest.mark.parametrize(
    ("operator", "bound", "left"),
    [
        ("Gt", "8", {"t9", "t16"}),
        ("Lt", "8", {"t4"}),
        ("Gte", "8", {"t8", "t9", "t16"}),
        ("Lte", "8", {"t4", "t8"}),
    ],
)
def test_bounds(operator: str, bound: str, left: set[str]) -> None:
    """5, 6: Gt and Lt are strict, Gte and Lte inclusive."""
    pool = nodepool(requirements=[expression("size", operator, bound)])
    assert planned(pod(), pool, catalog=SIZES).types("pod") == left


def test_hostname_of_no_node_makes_no_node() -> None:
    """7: a hostname that no node has is never met by launching one."""
    answer = planned(pod(selector={HOSTNAME: "x"}))
    assert answer.rejected() == {"pod": {"IncompatibleRequirements"}}
    assert not answer.launched()


def test_restricted_label_cannot_be_selected() -> None:
    """8: a karpenter.sh label that is no node's from birth leaves the pod out."""
    answer = planned(pod(selector={"karpenter.sh/initialized": "true"}))
    assert answer.rejected() == {"pod": {"IncompatibleRequirements"}}


def test_conflicting_pods_get_a_node_each() -> None:
    """9: pods whose selectors conflict share no node."""
    answer = planned(
        pod("a", selector={CAPACITY_TYPE: "spot"}),
        pod("b", selector={CAPACITY_TYPE: "on-demand"}),
    )
    assert answer.placed_on("a") != answer.placed_on("b")
    assert answer.capacity_types("a") == {"spot"}


def test_compatible_pods_share_a_node() -> None:
    """10: two small pods share one new node."""
    answer = planned(pod("a"), pod("b"))
    assert answer.placed_on("a") == answer.placed_on("b")


def test_two_nodes_where_they_are_cheaper() -> None:
    """10: better than Karpenter, the cost strategy takes two nodes where one holds both pods but
    costs more (first-fit joins them)."""
    goods = catalog(
        instance_type("small", cpu="2", price=0.1, spot=None),
        instance_type("large", cpu="8", price=1.0, spot=None),
    )
    pods = [pod("a", cpu="1500m"), pod("b", cpu="1500m")]
    assert planned(*pods, catalog=goods, strategy="cost").cost() == 0.2
    assert len(planned(*pods, catalog=goods).launched()) == 1


def test_unready_pool_gets_nothing() -> None:
    """11: a pool that is not ready gets no pods."""
    assert planned(pod(), nodepool(ready=False)).rejected() == {"pod": {"NodePoolNotReady"}}


def test_deleted_pool_gets_nothing() -> None:
    """12: a pool that is being deleted is ignored."""
    pool = nodepool(metadata={"deletionTimestamp": "2026-11-23T11:00:00Z"})
    assert planned(pod(), pool).rejected() == {"pod": {"NodePoolNotReady"}}


@pytest.mark.parametrize("strategy", ["first-fit", "cost"])
def test_heavier_pool_wins(strategy: str) -> None:
    """13: pods go to the heaviest pool that fits, whatever it costs."""
    answer = planned(
        pod("a"),
        pod("b"),
        nodepool("light", weight=20, requirements=[expression(CAPACITY_TYPE, "In", "spot")]),
        nodepool("heavy", weight=100, requirements=[expression(CAPACITY_TYPE, "In", "on-demand")]),
        strategy=strategy,
    )
    assert set(answer.launched()) == {"heavy"}


def test_named_pool_beats_weight() -> None:
    """14: a pod that names a pool goes there."""
    answer = planned(
        pod(selector={NODEPOOL: "a"}), nodepool("a", weight=1), nodepool("b", weight=99)
    )
    assert answer.launched() == ["a"]


def test_soft_taint_repels_while_another_pool_serves() -> None:
    """15: PreferNoSchedule sends a pod to the pool without it."""
    answer = planned(
        pod(), nodepool("a", weight=9, taints=[taint("x", "PreferNoSchedule")]), nodepool("b")
    )
    assert answer.launched() == ["b"]


def test_taint_needs_a_toleration() -> None:
    """16: NoSchedule keeps pods out that do not tolerate it, and is on the node for the others."""
    pool = nodepool(taints=[taint("x", value="y")])
    assert planned(pod(), pool).rejected() == {"pod": {"UntoleratedTaint"}}
    answer = planned(pod(tolerations=[tolerates("x")]), pool)
    launch = answer.launch_of("pod")
    assert launch is not None
    assert [item.key for item in launch.taints] == ["x"]


def test_startup_taint_does_not_matter() -> None:
    """17: a startup taint keeps nobody off a new node."""
    assert planned(pod(), nodepool(startup_taints=[taint("x")])).launched() == ["default"]


def test_limit_used_up() -> None:
    """18: a pool whose cpu limit is used up launches nothing."""
    answer = planned(
        pod(cpu="1"),
        nodepool(limits={"cpu": "20"}),
        node("full", cpu="20", spec={"unschedulable": True}),
    )
    assert answer.rejected() == {"pod": {"LimitsExceeded"}}


def test_limit_for_one_of_two() -> None:
    """19: where a limit leaves room for one node, one pod is placed."""
    goods = catalog(instance_type("only", cpu="4"))
    answer = planned(
        pod("a", cpu="3"), pod("b", cpu="3"), nodepool(limits={"cpu": "4"}), catalog=goods
    )
    assert len(answer.launched()) == 1
    assert len(answer.rejected()) == 1


def test_limit_counts_the_whole_type() -> None:
    """20: a type is left off by its full capacity, not by what the pod asks."""
    answer = planned(pod(gpu=1), nodepool(limits={"cpu": "4"}))
    assert answer.rejected() == {"pod": {"LimitsExceeded"}}


def test_limit_on_nodes() -> None:
    """21: limits.nodes counts machines."""
    answer = planned(
        pod(cpu="1"), nodepool(limits={"nodes": "1"}), node("n", spec={"unschedulable": True})
    )
    assert answer.rejected() == {"pod": {"LimitsExceeded"}}


def test_static_pool_serves_no_pods() -> None:
    """22: a static pool makes no node for pending pods."""
    assert planned(pod(), nodepool(replicas=3)).rejected() == {"pod": {"StaticPool"}}
