"""What is kept though no pod waits: pools of fixed size and headroom, in provision and disrupt."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import labels
from outrider.core.scheduling.result import Plan
from outrider.flows import disrupt, launch, pools, provision
from outrider.flows.launch import Launched
from tests.support import estate
from tests.support.world import FakeWorld

TICK: dict[str, Any] = {"source": "outrider.ticks", "detail-type": "Tick"}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that were launched."""
    made: list[Plan] = []

    def launched(world: Any, plan: Plan, *_: Any, **__: Any) -> Launched:
        made.append(plan)
        return Launched({one.name: one.pods for one in plan.launches})

    monkeypatch.setattr(launch, "launch", launched)
    return made


@pytest.fixture
def fake(plans: list[Plan]) -> FakeWorld:
    """A cluster without NodePools."""
    world = FakeWorld()
    world.clock.at = estate.NOW
    world.ledger.stored = estate.catalog()
    return world


def test_disrupt_lets_provision_know_and_provision_launches(
    fake: FakeWorld, plans: list[Plan]
) -> None:
    """A pool of fixed size gets its nodes although no pod waits, after the next pass at most."""
    fake.cluster.put(estate.pool(replicas=3))
    provision.provision(TICK, fake.world)
    assert plans == []
    disrupt.disrupt(TICK, fake.world)
    provision.provision(TICK, fake.world)
    assert [len(plan.launches) for plan in plans] == [3]


def test_headroom_is_launched_without_a_pod_that_waits(fake: FakeWorld, plans: list[Plan]) -> None:
    """Room to be kept free is a reason to launch, named by nobody."""
    fake.cluster.put(estate.pool(annotations={labels.HEADROOM: "cpu=4"}))
    disrupt.disrupt(TICK, fake.world)
    provision.provision(TICK, fake.world)
    assert plans[0].launches
    assert all(one.headroom and not one.pods for one in plans[0].launches)
    assert fake.bus.of("PlanMade")[0]["pods"] == 0


def test_observe_keeps_nothing(fake: FakeWorld, plans: list[Plan]) -> None:
    """In mode observe no pool is brought to its size."""
    fake.mode = "observe"
    fake.cluster.put(estate.pool(replicas=3))
    disrupt.disrupt(TICK, fake.world)
    provision.provision(TICK, fake.world)
    assert plans == []


def test_a_pool_that_is_too_large_is_drained_in_peace(fake: FakeWorld, plans: list[Plan]) -> None:
    """What is too much goes after two looks, the empty node first, without a deadline."""
    fake.cluster.put(estate.pool(replicas=1))
    for name in ("n1", "n2"):
        one = estate.node(name)
        fake.cluster.put(estate.claim(one))
        fake.join(one, *([estate.pod("a", on=name)] if name == "n1" else []))
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 1}
    (payload,) = fake.workflows.started.values()
    assert (payload["node"], payload["reason"], payload["deadline"]) == ("n2", "Empty", None)
    assert disrupt.disrupt(TICK, fake.world) == {"commands": 0}
    assert plans == []


def test_a_claim_that_nobody_needs_any_more_is_deleted(fake: FakeWorld, plans: list[Plan]) -> None:
    """A pool that was made smaller before its machine came gives the NodeClaim back."""
    coming = estate.claim(estate.node("n9"), status={"providerID": "", "nodeName": ""})
    fake.cluster.put(estate.pool(replicas=0), coming)
    disrupt.disrupt(TICK, fake.world)
    assert fake.recorder.of("delete_nodeclaim") == [("claim-n9",)]


def test_what_is_malformed_is_said_on_its_pool_alone(fake: FakeWorld) -> None:
    """A headroom that cannot be read is in the status of its NodePool, which stays as ready."""
    fake.cluster.put(estate.pool(annotations={labels.HEADROOM: "cpu=many"}), estate.pool("other"))
    pools.report(fake.world, fake.cluster.current)
    said = {
        name: {one["type"]: (one["status"], one["message"]) for one in status["conditions"]}
        for _, name, status in fake.recorder.of("patch_status")
    }
    status, message = said["pool"]["ValidationSucceeded"]
    assert (status, "outrider.dev/headroom" in message) == ("False", True)
    assert said["other"]["ValidationSucceeded"][0] == "True"
    assert said["pool"]["Ready"] == said["other"]["Ready"]
