"""Nodes on their way in and out, as the join watch, the tick and events see them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.core.catalog.bundled import bundled
from outrider.core.launch import nodeclaim
from outrider.core.records import Reaction
from outrider.core.scheduling.plan import pending, plan
from outrider.core.taints import Taint
from outrider.errors import Unreachable
from outrider.flows import launch, lifecycle
from outrider.flows.planning import catalog_now, policy_of
from tests.support.launches import nodeclass
from tests.support.market import MarketWorld, pool, some_types, waiting

UNREGISTERED = Taint(labels.UNREGISTERED_TAINT, "", "NoExecute")
TICK = {"source": "outrider.ticks", "detail-type": "Tick", "detail": {"flow": "lifecycle"}}


@pytest.fixture
def made() -> MarketWorld:
    """Return a world in which a GPU node was launched for a pod."""
    world = MarketWorld()
    pod = waiting("p0", **{"nvidia.com/gpu": "1"})
    world.furnish(some_types(bundled(), "g6.xlarge"), nodeclass(), pool(), pod)
    held = world.world.ledger.acquire("test", 45)
    assert held is not None
    now = world.clock.now()
    wanted = plan(
        world.state,
        pending(world.state, now),
        catalog_now(world.world, now),
        policy_of(world.world),
        now,
    )
    assert launch.launch(world.world, wanted, world.state, held, "d1").claims
    return world


def _claim(made: MarketWorld) -> Any:
    return made.state.nodeclaims[0]


def _join(made: MarketWorld, **changes: Any) -> None:
    """Let the Node of the only NodeClaim appear, or change."""
    given: dict[str, Any] = {
        "name": "n1",
        "uid": "uid-n1",
        "provider_id": _claim(made).status.provider_id,
        "taints": (UNREGISTERED,),
        "ready": True,
        "capacity": {"cpu": 4000},
        "allocatable": {"cpu": 4000, "nvidia.com/gpu": 0},
        "created": made.clock.now(),
    }
    made.cluster.put(Node(**{**given, **changes}))


def _watch(made: MarketWorld) -> Any:
    body = json.dumps({"claims": [_claim(made).name]})
    return lifecycle.lifecycle({"Records": [{"messageId": "m", "body": body}]}, made.world)


def _node(made: MarketWorld) -> Node:
    found = made.state.node("n1")
    assert found is not None
    return found


def _is_closed(made: MarketWorld) -> bool:
    return any(taint.key == labels.UNREGISTERED_TAINT for taint in _node(made).taints)


def test_a_node_is_opened_and_then_serves(made: MarketWorld) -> None:
    """Labels and nominations first, the taint last; initialised when its GPU shows."""
    name = _claim(made).name
    _watch(made)
    assert made.recorder.of("watch_join")[-1] == ((name,),)
    _join(made)
    _watch(made)
    assert _is_closed(made)  # its GPU may yet come in time
    made.pass_time(5)
    _watch(made)
    node = _node(made)
    assert node.labels[labels.REGISTERED] == "true"
    assert node.labels[labels.NODEPOOL] == "gpu"
    assert not any(taint.key == labels.UNREGISTERED_TAINT for taint in node.taints)
    pod = made.state.pod("default/p0")
    assert pod is not None
    assert pod.nominated_node_name == "n1"
    calls = [(method, args) for _, method, args, _ in made.recorder.calls]
    nominated = calls.index(("nominate", ("default/p0", "n1")))
    lifted = calls.index(("taint", ("n1", labels.UNREGISTERED_TAINT, False)))
    assert nominated < lifted
    assert _claim(made).status.is_true("Registered")
    assert _claim(made).status.node_name == "n1"
    assert made.cloud.named == {}  # a lone launch was named by CreateFleet itself

    _watch(made)
    assert not _claim(made).status.is_true("Initialized")
    made.cluster.put(replace(pod, node_name="n1"))
    _join(made, labels=node.labels, taints=(), allocatable={"cpu": 4000, "nvidia.com/gpu": 1})
    _watch(made)
    assert _claim(made).status.is_true("Initialized")
    assert _claim(made).status.is_true("Ready")
    assert made.bus.of("NodeRegistered")[0]["node"] == "n1"
    assert made.bus.of("NodeInitialized")[0]["decision"] == "d1"
    before = len(made.recorder.of("watch_join"))
    _watch(made)
    assert made.recorder.of("watch_join")[before:] == [((),)]


def test_a_node_with_its_devices_opens_at_once(made: MarketWorld) -> None:
    """Nobody else is expected, and pods can start on it: there is nothing to wait for."""
    _join(made, allocatable={"cpu": 4000, "nvidia.com/gpu": 1})
    _watch(made)
    assert not _is_closed(made)


def test_a_tick_sees_to_it_that_somebody_watches(made: MarketWorld) -> None:
    """Whoever watched a node that is about to open may have died: the next look is at once."""
    _join(made)
    lifecycle.lifecycle(TICK, made.world)
    assert made.recorder.of("watch_join")[-1] == ((_claim(made).name,),)
    assert made.workflows.delays[-1] == 0


def test_a_node_that_is_not_ready_opens_in_the_end(made: MarketWorld) -> None:
    """What makes it Ready may not tolerate our taint."""
    _join(made, ready=False)
    _watch(made)
    made.pass_time(19)
    _watch(made)
    assert _is_closed(made)
    made.pass_time(1)
    _watch(made)
    assert not _is_closed(made)


def test_a_lost_nomination_is_made_again(made: MarketWorld) -> None:
    """The scheduler forgets a nomination when its pod fails a cycle; the next look restores it."""
    _join(made)
    made.pass_time(5)
    _watch(made)
    pod = made.state.pod("default/p0")
    assert pod is not None
    made.cluster.put(replace(pod, nominated_node_name=""))
    _watch(made)
    held = made.state.pod("default/p0")
    assert held is not None
    assert held.nominated_node_name == "n1"
    made.cluster.put(replace(pod, nominated_node_name="elsewhere"))
    _watch(made)
    elsewhere = made.state.pod("default/p0")
    assert elsewhere is not None
    assert elsewhere.nominated_node_name == "elsewhere"


def test_who_lost_its_hold_while_nodes_opened_gets_it_back_at_once(
    made: MarketWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node opened first, the scheduler tried, failed and forgot: no look is waited for."""
    _join(made)
    made.pass_time(5)
    lift = made.cluster.untaint_all

    def lift_slowly(*wanted: Any) -> Any:
        done = lift(*wanted)
        pod = made.state.pod("default/p0")
        assert pod is not None
        made.cluster.put(replace(pod, nominated_node_name=""))
        return done

    monkeypatch.setattr(made.cluster, "untaint_all", lift_slowly)
    _watch(made)
    held = made.state.pod("default/p0")
    assert held is not None
    assert held.nominated_node_name == "n1"


def test_a_node_that_cannot_be_opened_is_opened_later(
    made: MarketWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its NodeClaim is not Registered before its taint is off."""
    _join(made)
    made.pass_time(5)
    with monkeypatch.context() as refusing:
        refusing.setattr(made.cluster, "untaint_all", lambda *_: {"n1": "refused"})
        _watch(made)
    assert not _claim(made).status.is_true("Registered")
    _watch(made)
    assert _claim(made).status.is_true("Registered")


def test_seconds_count_while_a_node_opens(made: MarketWorld) -> None:
    """A look every five seconds while machines boot, without a pause while a node opens."""
    _watch(made)
    _join(made)
    _watch(made)
    assert made.workflows.delays[-2] > 0
    assert made.workflows.delays[-1] == 0


def test_a_running_instance_is_watched(made: MarketWorld) -> None:
    """The state-change event of an instance of ours begins a watch; others' do nothing."""
    event = {"source": "aws.ec2", "detail": {"state": "running"}}
    other = {**event, "detail": {"instance-id": "i-00000000000000bad"}}
    assert lifecycle.lifecycle(other, made.world) == {"ours": False}
    assert made.recorder.of("watch_join")[-1] == ((),)
    ours = {**event, "detail": {"instance-id": _claim(made).instance_id}}
    assert lifecycle.lifecycle(ours, made.world) == {"ours": True}
    assert made.recorder.of("watch_join")[-1] == ((_claim(made).name,),)


@pytest.mark.parametrize("body", ["", "[]", "{", '{"claims": 1}', '{"claims": ["gone"]}'])
def test_odd_messages_are_acknowledged(made: MarketWorld, body: str) -> None:
    """A join message that says nothing, or names nobody, is done with."""
    event = {"Records": [{"messageId": "m", "body": body}]}
    assert lifecycle.lifecycle(event, made.world) == {"batchItemFailures": []}


def test_a_node_that_never_joins_is_given_up(made: MarketWorld) -> None:
    """After 15 minutes the instance is terminated, the NodeClaim gone and the reason said."""
    made.pass_time(901)
    lifecycle.lifecycle(TICK, made.world)
    assert made.state.nodeclaims == ()
    assert made.cloud.found == {}
    assert "not registered within 15 min" in made.bus.of("LaunchFailed")[0]["reason"]
    assert made.bus.of("NodeTerminated")


def test_a_gpu_that_never_shows_is_drained(made: MarketWorld) -> None:
    """After 30 minutes without its GPU the node is drained, which Karpenter never does."""
    _join(made)
    made.pass_time(5)
    _watch(made)
    made.pass_time(1801)
    _join(made, labels=_node(made).labels, taints=())
    lifecycle.lifecycle(TICK, made.world)
    assert made.telemetry.total("ClaimsNotInitialized") == 1
    (payload,) = made.workflows.started.values()
    assert payload["node"] == "n1"
    assert payload["claim"] == _claim(made).name
    assert _claim(made).metadata.deletion_timestamp is not None


def test_a_deleted_claim_is_drained_once(made: MarketWorld) -> None:
    """`kubectl delete` starts one drain, whatever else ticks; its deadline is the grace period."""
    _join(made)
    _watch(made)
    made.cluster.documents[_claim(made).name]["spec"]["terminationGracePeriod"] = "10m"
    made.cluster.delete_nodeclaim(_claim(made).name)
    lifecycle.lifecycle(TICK, made.world)
    lifecycle.lifecycle(TICK, made.world)
    (payload,) = made.workflows.started.values()
    assert payload["reason"] == "Deleted"
    assert payload["deadline"] == "2026-03-02T14:10:00Z"
    assert made.cloud.found


def test_a_deleted_claim_without_a_node(made: MarketWorld) -> None:
    """Deleted before it joined: the instance goes at once and nothing is stranded."""
    made.cluster.delete_nodeclaim(_claim(made).name)
    lifecycle.lifecycle(TICK, made.world)
    assert made.state.nodeclaims == ()
    assert made.cloud.found == {}
    assert made.ledger.known == {}


def test_a_lost_instance_is_cleared(made: MarketWorld) -> None:
    """The instance is gone and the Node says NotReady: both objects go, unless a drain is at it."""
    _join(made)
    _watch(made)
    made.cloud.found.clear()
    made.pass_time(61)
    _join(made, labels=_node(made).labels, taints=(), ready=False)
    row = Reaction(_claim(made).instance_id, "spot", "d", None, at=made.clock.now())
    made.ledger.rows[row.instance_id] = row
    lifecycle.lifecycle(TICK, made.world)
    assert made.state.nodeclaims
    made.ledger.rows.clear()
    lifecycle.lifecycle(TICK, made.world)
    assert made.state.nodeclaims == ()
    assert made.state.nodes == ()


def test_an_orphan_is_terminated(made: MarketWorld) -> None:
    """An instance of ours that no NodeClaim stands for ends after a minute."""
    made.cluster.release_nodeclaim(_claim(made).name)
    lifecycle.lifecycle(TICK, made.world)
    assert made.cloud.found
    made.pass_time(61)
    lifecycle.lifecycle(TICK, made.world)
    assert made.cloud.found == {}
    assert made.telemetry.total("InstancesOrphaned") == 1


def test_an_unreachable_api_stops_only_one(made: MarketWorld) -> None:
    """A claim that cannot be written now is tried again at the next look."""
    _join(made, allocatable={"cpu": 4000, "nvidia.com/gpu": 1})
    made.recorder.fail("patch_node", Unreachable("no answer"))
    _watch(made)
    assert not _claim(made).status.is_true("Registered")
    _watch(made)
    assert _claim(made).status.is_true("Registered")


def test_a_broken_drain_goes_on(made: MarketWorld) -> None:
    """An execution that failed gets a successor until its work is done; after five it is the
    sweep's.
    """
    row = Reaction("i-1", "spot", "d", None, execution="arn")
    made.ledger.rows["i-1"] = row

    def ended(successor: int) -> dict[str, Any]:
        given = {"instanceId": "i-1", "successor": successor}
        detail = {"name": "d-i-1", "status": "TIMED_OUT", "input": json.dumps(given)}
        return {"detail-type": lifecycle.DRAIN_ENDED, "source": "aws.states", "detail": detail}

    lifecycle.lifecycle(ended(0), made.world)
    assert made.workflows.started["d-i-1-s1"]["successor"] == 1
    assert made.ledger.rows["i-1"].execution == "arn"
    lifecycle.lifecycle(ended(5), made.world)
    assert len(made.workflows.started) == 1
    assert made.ledger.rows["i-1"].execution == ""
    made.ledger.rows["i-1"] = Reaction("i-1", "spot", "d", None, ended=True)
    lifecycle.lifecycle(ended(1), made.world)
    assert len(made.workflows.started) == 1


def test_observe_touches_nothing(made: MarketWorld) -> None:
    """In mode observe the tick reports pools and does nothing else."""
    made.mode = "observe"
    made.pass_time(901)
    lifecycle.lifecycle(TICK, made.world)
    assert made.state.nodeclaims
    assert made.recorder.of("patch_status")


def test_pools_know_what_they_have(made: MarketWorld) -> None:
    """A NodePool's status has its machines, each once, and follows its class's readiness."""
    lifecycle.lifecycle(TICK, made.world)
    kind, name, status = made.recorder.of("patch_status")[0]
    assert (kind, name) == ("NodePool", "gpu")
    assert status["nodes"] == 1
    assert status["resources"]["nvidia.com/gpu"] == "1"
    assert {one["type"]: one["status"] for one in status["conditions"]}["Ready"] == "True"
    assert nodeclaim.READY == "Ready"
