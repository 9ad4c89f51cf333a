"""NodePools of fixed size: what they lack, what goes when they have too much, how they drift."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels
from outrider.core import staticpools
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.result import Reason
from outrider.core.scheduling.policy import Policy
from tests.support.estate import DAY, NOW, Estate, catalog, claim, node, pod, pool

PROTECTED: dict[str, Any] = {"metadata": {"annotations": {labels.DO_NOT_DISRUPT: "true"}}}
OLD = {labels.NODEPOOL_HASH: "1", labels.NODEPOOL_HASH_VERSION: "v3"}
NEW = {labels.NODEPOOL_HASH: "2", labels.NODEPOOL_HASH_VERSION: "v3"}


def fixed(size: int, **more: Any) -> Any:
    """Return a NodePool that keeps so many nodes."""
    return pool(replicas=size, **more)


def state_of(*objects: object) -> ClusterState:
    """Return the cluster of *objects*."""
    return ClusterState.of(objects)


@pytest.mark.parametrize(
    ("size", "limit", "standing", "lacks"),
    [
        (3, None, 1, 2),
        (3, 2, 1, 1),
        (3, None, 3, 0),
        (0, None, 0, 0),
        (2, None, 3, 0),
        (3, 1, 2, 0),
    ],
)
def test_what_is_missing_is_launched_within_limits(
    size: int, limit: int | None, standing: int, lacks: int
) -> None:
    """A pool of fixed size lacks what is not there, and no more than limits.nodes allows."""
    limits = {} if limit is None else {"limits": {"nodes": str(limit)}}
    mine = fixed(size, **limits)
    state = state_of(mine, *(node(f"n{place}") for place in range(standing)))
    assert staticpools.missing(state, mine) == lacks


def test_a_claim_on_its_way_counts_and_a_leaving_node_does_not() -> None:
    """What was launched is not launched again; what leaves has to be replaced."""
    mine, leaving = fixed(2), node("n1", deletionTimestamp="2026-03-02T14:00:00Z")
    coming = node("n2")
    assert staticpools.missing(state_of(mine, claim(coming)), mine) == 1
    assert staticpools.missing(state_of(mine, leaving, coming, claim(coming)), mine) == 1


def test_a_launch_is_for_nobody_and_may_be_any_type_of_the_pool() -> None:
    """The launches of a pool of fixed size name no pod, and carry its requirements and taints."""
    only = {
        "requirements": [{"key": labels.INSTANCE_TYPE, "operator": "In", "values": ["g6.xlarge"]}],
        "taints": [{"key": "gpu", "effect": "NoSchedule"}],
    }
    mine = fixed(2, template=only, limits={"nodes": "5"})
    made = staticpools.launches(state_of(mine), mine, 2, catalog(), Policy(), NOW)
    assert [launch.name for launch in made] == ["pool-1", "pool-2"]
    for launch in made:
        assert (launch.pods, launch.instance_types) == ((), ("g6.xlarge",))
        assert [taint.key for taint in launch.taints] == ["gpu"]


def test_a_pool_without_a_type_launches_nothing() -> None:
    """Requirements that no type meets are no exception."""
    only = {"requirements": [{"key": labels.INSTANCE_TYPE, "operator": "In", "values": ["x9"]}]}
    mine = fixed(2, template=only)
    assert staticpools.launches(state_of(mine), mine, 2, catalog(), Policy(), NOW) == ()


def test_the_order_in_which_too_many_go() -> None:
    """Claims without an instance, empty nodes, then the cheapest to disrupt, the protected last."""
    names = ("empty", "few", "many", "held", "first")
    nodes = {name: node(name) for name in names}
    marked: dict[str, Any] = {"annotations": {staticpools.PRIORITY: "10"}}
    objects = [
        *nodes.values(),
        *(claim(nodes[name]) for name in names[:4]),
        claim(nodes["first"], **marked),
        claim(node("none"), status={"providerID": "", "nodeName": ""}),
        pod("a", on="few"),
        *(pod(f"b{place}", on="many") for place in range(3)),
        pod("c", on="held", **PROTECTED),
        *(pod(f"d{place}", on="first") for place in range(5)),
    ]
    gone: list[str] = []
    for size in range(5, -1, -1):
        (found,) = staticpools.surplus(state_of(fixed(size), *objects), NOW)
        fresh = [name for name in (*found.claims, *found.nodes) if name not in gone]
        gone.extend(fresh)
    assert gone == ["claim-none", "empty", "first", "few", "many", "held"]


def test_the_more_lifetime_is_left_the_later_a_node_goes() -> None:
    """Between nodes with the same pods the one that expires sooner goes first."""
    old, young = node("n1"), node("n2")
    objects = (
        claim(old, expireAfter="48h", age=DAY * 1.5),
        claim(young, expireAfter="48h", age=timedelta(hours=1)),
        old,
        young,
        pod("a", on="n1"),
        pod("b", on="n2"),
    )
    (found,) = staticpools.surplus(state_of(fixed(1), *objects), NOW)
    assert found.nodes == ("n1",)


def test_drift_replaces_one_for_one() -> None:
    """A drifted node of a pool of fixed size goes once another of the pool is up (F20)."""
    one = node("n1")
    mine = fixed(1, annotations=NEW)
    command = Estate(mine, one, claim(one, annotations=OLD), pod("a", on="n1")).command()
    assert (command.reason, command.nodes) == (Reason.DRIFTED, ("n1",))
    assert [launch.node_pool for launch in command.launches] == ["pool"]


def test_drift_keeps_within_limits_and_budgets() -> None:
    """Without room for one more machine, or a budget, a drifted node stays and says so."""
    one = node("n1")
    full = fixed(1, annotations=NEW, limits={"nodes": "1"})
    objects = (one, claim(one, annotations=OLD))
    assert Estate(full, *objects).code("n1") == "StaticPool"
    shut = fixed(1, annotations=NEW, disruption={"budgets": [{"nodes": "0"}]})
    assert Estate(shut, *objects).decide().commands == ()


def test_no_pod_opens_a_node_of_it_and_nothing_consolidates_it() -> None:
    """Neither an empty nor an oversized node of a pool of fixed size is consolidated."""
    estate = Estate(fixed(2), node("n1", "m5.4xlarge"), node("n2"), pod("a", on="n1"))
    assert estate.decide().commands == ()
    assert [estate.code(name) for name in ("n1", "n2")] == ["StaticPool"] * 2
