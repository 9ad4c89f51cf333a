"""Which joined nodes open now, and whose room is held."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.apis import duration, labels, manifest
from outrider.apis.node import Node, NodeCondition
from outrider.apis.nodeclaim import NodeClaim
from outrider.apis.pod import Pod
from outrider.core import joining
from outrider.core.clusterstate import ClusterState
from outrider.core.joining import Arrival

CLASS = {"group": labels.NODECLASS_GROUP, "kind": "EC2NodeClass"}
NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)


def _claim(
    name: str,
    decision: str = "d1",
    *,
    pool: str = "general",
    registered: bool = False,
    **spec: Any,
) -> NodeClaim:
    at = duration.stamp(NOW - timedelta(minutes=1))
    conditions = [{"type": "Launched", "status": "True", "lastTransitionTime": at}]
    if registered:
        conditions.append({"type": "Registered", "status": "True", "lastTransitionTime": at})
    found = manifest.parse(
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodeClaim",
            "metadata": {
                "name": name,
                "uid": name,
                "labels": {labels.NODEPOOL: pool},
                "annotations": {labels.DECISION: decision, labels.PODS: f"default/of-{name}"},
            },
            "spec": {
                "nodeClassRef": {
                    "group": labels.NODECLASS_GROUP,
                    "kind": "EC2NodeClass",
                    "name": "c",
                },
                "requirements": [],
                **spec,
            },
            "status": {"providerID": f"aws:///us-east-1a/i-{name}", "conditions": conditions},
        }
    )
    assert isinstance(found, NodeClaim)
    return found


def _node(name: str, ready_for: float | None = 0.0, **room: int) -> Node:
    since = NOW - timedelta(seconds=ready_for or 0.0)
    ready = ready_for is not None
    return Node(
        name=f"node-{name}",
        provider_id=f"aws:///us-east-1a/i-{name}",
        ready=ready,
        conditions=(NodeCondition("Ready", "True" if ready else "False", since=since),),
        created=NOW - timedelta(seconds=10),
        allocatable={"cpu": 1000, **room},
    )


def _arrival(name: str, ready_for: float = 0.0, **room: int) -> Arrival:
    return Arrival(_claim(name), _node(name, ready_for, **room))


def _opened(arrivals: list[Arrival], *others: object) -> list[str]:
    state = ClusterState.of([*(x for one in arrivals for x in (one.claim, one.node)), *others])
    return [one.claim.name for pool in joining.opened(arrivals, state, NOW) for one in pool]


def test_a_decision_opens_when_it_is_whole() -> None:
    """All Ready: opened together, the small one first."""
    arrivals = [
        Arrival(_claim("big"), _node("big", cpu=8000)),
        Arrival(_claim("small"), _node("small")),
    ]
    assert _opened(arrivals) == ["small", "big"]


def test_one_nodepool_opens_at_a_look() -> None:
    """The one that has waited longest; who may wait no longer comes with it, pool by pool."""
    a_small = Arrival(_claim("a-small", pool="a"), _node("a-small", 1.0))
    a_big = Arrival(_claim("a-big", pool="a"), _node("a-big", 1.0, cpu=8000))
    b_small = Arrival(_claim("b-small", pool="b"), _node("b-small", 2.0, cpu=2000))
    b_big = Arrival(_claim("b-big", pool="b"), _node("b-big", 2.0, cpu=4000))
    assert _opened([a_small, a_big, b_small, b_big]) == ["b-small", "b-big"]
    assert _opened([a_small, a_big]) == ["a-small", "a-big"]
    late = Arrival(_claim("c", pool="c"), _node("c", 5.0, cpu=3000))
    assert _opened([late, b_small, b_big], _claim("boots", pool="c")) == ["b-small", "b-big", "c"]


def test_another_nodepool_s_nodes_are_not_waited_for() -> None:
    """A decision's nodes open NodePool by NodePool."""
    assert _opened([_arrival("a", 2.0)], _claim("boots", pool="other")) == ["a"]


def test_a_pod_that_is_promised_to_another_node_keeps_it() -> None:
    """Whose hold is lost gets it anew; who has one keeps it, here or elsewhere."""
    waiting = [
        Pod(namespace="default", name="held", nominated_node_name="n1"),
        Pod(namespace="default", name="lost"),
        Pod(namespace="default", name="elsewhere", nominated_node_name="n2"),
        Pod(namespace="default", name="stranger"),
    ]
    homes = {f"default/{name}": "n1" for name in ("held", "lost", "elsewhere", "bound")}
    assert joining.nominations(homes, waiting) == {"default/lost": "n1"}


def test_nobody_opens_while_one_is_booting() -> None:
    """A sibling without a Node keeps the others closed; another decision's does not."""
    arrivals = [_arrival("a", 2.0)]
    assert _opened(arrivals, _claim("boots")) == []
    assert _opened(arrivals, _claim("boots", "d2")) == ["a"]
    assert _opened(arrivals, _claim("serves", registered=True)) == ["a"]


def test_patience_ends_for_all_that_are_ready() -> None:
    """One was Ready for long: it opens, and who is Ready by now with it; who boots comes later."""
    arrivals = [
        Arrival(_claim("old"), _node("old", 5.0)),
        Arrival(_claim("new"), _node("new", 1.0)),
        Arrival(_claim("boots"), _node("boots", None)),
    ]
    assert _opened(arrivals) == ["new", "old"]


def test_who_is_not_ready_brings_nobody() -> None:
    """A node that opens unready, in the end, is no reason for its siblings to open one by one."""
    unready = replace(_node("unready", None), created=NOW - timedelta(seconds=30))
    arrivals = [Arrival(_claim("unready"), unready), Arrival(_claim("new"), _node("new", 1.0))]
    assert _opened(arrivals) == ["unready"]


def test_patience_of_one_nodepool_is_not_another_s() -> None:
    """What is due in one NodePool opens nothing that still waits for company in another."""
    old = Arrival(_claim("old", pool="a"), _node("old", 5.0))
    new = Arrival(_claim("new", pool="b"), _node("new", 1.0))
    booting = [_claim("boots-a", pool="a"), _claim("boots-b", pool="b")]
    assert _opened([old, new], *booting) == ["old"]


def test_a_node_waits_for_its_devices() -> None:
    """A GPU that was asked for and is not registered would cost its pod the nomination."""
    wanted = {"resources": {"requests": {"nvidia.com/gpu": "1"}}}
    bare = Arrival(_claim("g", **wanted), _node("g", 1.0))
    assert _opened([bare]) == []
    assert _opened([Arrival(bare.claim, _node("g", 5.0))]) == ["g"]
    assert _opened([Arrival(bare.claim, _node("g", 1.0, **{"nvidia.com/gpu": 1}))]) == ["g"]


def test_seconds_count_only_near_the_end() -> None:
    """A claim without a Node is not near; one that opens is; one that serves is while it fills."""
    closed, booting, open_ = _claim("a"), _claim("b"), _claim("c", registered=True)
    state = ClusterState.of([closed, booting, open_, _node("a"), _node("c")])
    assert joining.near([closed, booting, open_], state, set()) == {"a"}
    assert joining.near([closed, booting, open_], state, {"node-c"}) == {"a", "c"}


def test_a_decision_is_looked_at_whole() -> None:
    """Siblings of a watched claim are looked at with it."""
    state = ClusterState.of([_claim("a"), _claim("b"), _claim("c", "d2"), _claim("lone", "")])
    assert joining.with_siblings({"a"}, state) == {"a", "b"}
    assert joining.with_siblings({"lone"}, state) == {"lone"}
