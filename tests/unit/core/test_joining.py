"""Which joined nodes open now, and whose room is held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.apis import duration, labels, manifest
from outrider.apis.node import Node, NodeCondition
from outrider.apis.nodeclaim import NodeClaim
from outrider.core import joining
from outrider.core.clusterstate import ClusterState
from outrider.core.joining import Arrival

CLASS = {"group": labels.NODECLASS_GROUP, "kind": "EC2NodeClass"}
NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)


def _claim(name: str, decision: str = "d1", *, registered: bool = False, **spec: Any) -> NodeClaim:
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
                "labels": {labels.NODEPOOL: "general"},
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
    return [one.claim.name for one in joining.opened(arrivals, state, NOW)]


def test_a_decision_opens_when_it_is_whole() -> None:
    """All Ready: opened together, the small one first."""
    arrivals = [
        Arrival(_claim("big"), _node("big", cpu=8000)),
        Arrival(_claim("small"), _node("small")),
    ]
    assert _opened(arrivals) == ["small", "big"]


def test_nobody_opens_while_one_is_booting() -> None:
    """A sibling without a Node keeps the others closed; another decision's does not."""
    arrivals = [_arrival("a", 2.0)]
    assert _opened(arrivals, _claim("boots")) == []
    assert _opened(arrivals, _claim("boots", "d2")) == ["a"]
    assert _opened(arrivals, _claim("serves", registered=True)) == ["a"]


def test_patience_ends_for_each_node_alone() -> None:
    """Who was Ready for long opens; who became Ready just now waits on."""
    arrivals = [
        Arrival(_claim("old"), _node("old", 5.0)),
        Arrival(_claim("new"), _node("new", 1.0)),
    ]
    assert _opened(arrivals, _claim("boots")) == ["old"]


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
