"""Where a NodeClaim stands and what is due: each stage, each limit, each thing left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outrider.apis import duration, labels, manifest
from outrider.apis.node import Node
from outrider.apis.nodeclaim import NodeClaim
from outrider.core.clusterstate import ClusterState
from outrider.core.lifecycle import (
    Due,
    Limits,
    Stage,
    judge,
    missing,
    orphans,
    release_order,
    taints_to_add,
)
from outrider.core.records import Instance
from outrider.core.taints import Taint

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
LIMITS = Limits()
ID = "i-0b662ef9931388ba0"
PROVIDER = f"aws:///us-east-1a/{ID}"


def _claim(
    *true: str, age: float = 60, deleted: bool = False, launched: bool = True, **spec: Any
) -> NodeClaim:
    """Return a NodeClaim created *age* seconds ago whose conditions *true* became so at once."""
    made = duration.stamp(NOW - timedelta(seconds=age))
    metadata: dict[str, Any] = {
        "name": "gpu-1",
        "labels": {labels.NODEPOOL: "gpu"},
        "creationTimestamp": made,
        "finalizers": [labels.TERMINATION_FINALIZER],
    }
    if deleted:
        metadata["deletionTimestamp"] = made
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": made}
        for kind in (("Launched",) if launched else ()) + true
    ]
    parsed = manifest.parse(
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodeClaim",
            "metadata": metadata,
            "spec": {
                "nodeClassRef": {
                    "group": labels.NODECLASS_GROUP,
                    "kind": "EC2NodeClass",
                    "name": "gpu",
                },
                "resources": {"requests": {"cpu": "1", "nvidia.com/gpu": "1"}},
                **spec,
            },
            "status": {"conditions": conditions} | ({"providerID": PROVIDER} if launched else {}),
        }
    )
    assert isinstance(parsed, NodeClaim)
    return parsed


def _node(**changes: Any) -> Node:
    given: dict[str, Any] = {
        "name": "n1",
        "labels": {labels.NODEPOOL: "gpu", labels.REGISTERED: "true"},
        "provider_id": PROVIDER,
        "ready": True,
        "allocatable": {"cpu": 4000, "nvidia.com/gpu": 1},
        "created": NOW - timedelta(hours=1),
    }
    return Node(**{**given, **changes})


def _instance(name: str = ID, age: float = 300, state: str = "running", **tags: str) -> Instance:
    found = {labels.NODEPOOL: "gpu", labels.DECISION: "d"} | tags
    launched = NOW - timedelta(seconds=age)
    return Instance(name, "g6.xlarge", "us-east-1a", "spot", state, launched, tags=found)


UNREGISTERED = Taint(labels.UNREGISTERED_TAINT, "", "NoExecute")
STARTUP = {"startupTaints": [{"key": "cilium", "effect": "NoSchedule"}]}


@pytest.mark.parametrize(
    ("claim", "node", "stage", "due"),
    [
        (_claim(launched=False), None, Stage.LAUNCHING, Due.NOTHING),
        (_claim(launched=False, age=301), None, Stage.LAUNCHING, Due.GIVE_UP),
        (_claim(), None, Stage.JOINING, Due.NOTHING),
        (_claim(age=901), None, Stage.JOINING, Due.GIVE_UP),
        (_claim(), _node(labels={}), Stage.JOINING, Due.REGISTER),
        (_claim("Registered"), _node(taints=(UNREGISTERED,)), Stage.JOINING, Due.REGISTER),
        (_claim("Registered"), _node(ready=False), Stage.INITIALIZING, Due.NOTHING),
        (_claim("Registered"), _node(), Stage.INITIALIZING, Due.INITIALIZE),
        (
            _claim("Registered", age=1801),
            _node(allocatable={"nvidia.com/gpu": 0}),
            Stage.INITIALIZING,
            Due.GIVE_UP,
        ),
        (_claim("Registered", "Initialized", age=9999), _node(), Stage.SERVING, Due.NOTHING),
        (_claim(deleted=True), _node(), Stage.LEAVING, Due.DRAIN),
        (_claim("Registered"), _node(deleted=NOW), Stage.LEAVING, Due.DRAIN),
        (_claim(deleted=True), None, Stage.LEAVING, Due.TERMINATE),
    ],
)
def test_every_stage(claim: NodeClaim, node: Node | None, stage: Stage, due: Due) -> None:
    """From launching to serving, each stage with its limit, and a deletion at any of them."""
    instance = _instance() if claim.status.provider_id else None
    verdict = judge(claim, node, instance, NOW, LIMITS)
    assert (verdict.stage, verdict.due) == (stage, due)
    assert verdict.reason


def test_a_gpu_that_never_shows_is_found() -> None:
    """Karpenter waits for ever for a device plugin; here the reason is said when time is up."""
    claim = _claim("Registered", age=1801)
    verdict = judge(claim, _node(allocatable={"cpu": 4000}), _instance(), NOW, LIMITS)
    assert (
        verdict.reason
        == "not initialised within 30 min: the resource nvidia.com/gpu is not registered"
    )


def test_a_pool_that_is_gone_takes_its_nodes() -> None:
    """A NodeClaim without its NodePool leaves."""
    verdict = judge(_claim(), _node(), _instance(), NOW, LIMITS, pool_exists=False)
    assert verdict.due is Due.GIVE_UP


def test_a_lost_instance_is_cleared_away() -> None:
    """Absence is believed after a minute, and not while the Node says that it is Ready."""
    assert judge(_claim(age=30), None, None, NOW, LIMITS).due is Due.NOTHING
    assert judge(_claim(age=90), None, None, NOW, LIMITS).due is Due.CLEAR
    assert judge(_claim(age=90), _node(ready=False), None, NOW, LIMITS).due is Due.CLEAR
    assert judge(_claim(age=90), _node(), None, NOW, LIMITS).due is Due.NOTHING
    assert judge(_claim(deleted=True), _node(), None, NOW, LIMITS).due is Due.CLEAR


@pytest.mark.parametrize(
    ("taint", "said"),
    [
        (Taint("cilium", "", "NoSchedule"), "startup taint cilium"),
        (Taint("node.kubernetes.io/not-ready", "", "NoSchedule"), "not-ready"),
        (Taint("mine", "", "NoSchedule"), ""),
    ],
)
def test_taints_that_hold_a_node_back(taint: Taint, said: str) -> None:
    """Startup and ephemeral taints are waited for, a user's own taint is not."""
    found = missing(_claim("Registered", **STARTUP), _node(taints=(taint,)))
    assert said in found
    assert bool(found) == bool(said)


def test_a_node_gets_the_taints_it_lacks() -> None:
    """Taints of the NodeClaim that the Node registered without are put on, unless it opts out."""
    claim = _claim(taints=[{"key": "gpu", "effect": "NoSchedule"}], **STARTUP)
    there = (Taint("gpu", "", "NoSchedule"),)
    assert [one.key for one in taints_to_add(claim, _node(taints=there))] == ["cilium"]
    opted = _node(labels={labels.DO_NOT_SYNC_TAINTS: "true"})
    assert taints_to_add(claim, opted) == ()


def _orphans(*instances: Instance, **state: Any) -> list[tuple[str, str]]:
    promised = state.pop("promised", ())
    found = orphans(ClusterState(**state), instances, NOW, promised=promised)
    return [(one.instance_id, one.node) for one in found]


def test_instances_that_nobody_stands_for() -> None:
    """Older than a minute, of a pool of ours, with no NodeClaim and no errand under way."""
    assert _orphans(_instance()) == [(ID, "")]
    assert _orphans(_instance(age=59)) == []
    assert _orphans(_instance(), nodeclaims=(_claim(),)) == []
    assert _orphans(_instance(), promised=("d",)) == []
    assert _orphans(_instance(state="shutting-down")) == []


def test_builders_are_not_nodes() -> None:
    """A seed builder is left alone until its time is over."""
    builder = _instance(**{labels.EXPIRES: "2026-03-02T15:00:00Z", labels.SEED: "k"})
    assert _orphans(builder) == []
    late = _instance(**{labels.EXPIRES: "2026-03-02T13:00:00Z", labels.SEED: "k"})
    assert _orphans(late) == [(ID, "")]


def test_nodes_that_nobody_stands_for() -> None:
    """A Node of ours without NodeClaim and instance goes; a foreign one is not touched."""
    alone = _node(ready=False)
    assert _orphans(nodes=(alone,)) == [("", "n1")]
    assert _orphans(nodes=(_node(),)) == []
    assert _orphans(nodes=(alone,), nodeclaims=(_claim(),)) == []
    assert _orphans(nodes=(_node(ready=False, labels={}),)) == []


def test_small_nodes_open_first() -> None:
    """A large node that is open early would draw the pods of the small ones."""
    rooms = {
        "large": {"cpu": 96000, "nvidia.com/gpu": 8},
        "small": {"cpu": 4000, "nvidia.com/gpu": 1},
        "plain": {"cpu": 8000},
    }
    assert release_order(rooms) == ("plain", "small", "large")
