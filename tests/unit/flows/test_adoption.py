"""Adoption: what Karpenter left behind is ours from the next tick, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import labels
from outrider.core.records import Instance
from outrider.flows import adoption
from tests.support import estate
from tests.support.world import FakeWorld

THEIRS = {
    "eks:eks-cluster-name": "test",
    labels.NODEPOOL: "pool",
    labels.NODECLASS_LABEL: "default",
    labels.NODECLAIM_TAG: "claim-n1",
}


@pytest.fixture
def fake() -> FakeWorld:
    """A cluster with one node that Karpenter launched."""
    world = FakeWorld()
    node = estate.node("n1")
    world.cluster.put(estate.pool(), node, estate.claim(node))
    return world


def instance(fake: FakeWorld, **tags: str) -> Instance:
    """Put the node's instance into EC2, with Karpenter's *tags* and more."""
    (node,) = fake.cluster.current.nodes
    cluster = {"eks:eks-cluster-name": fake.world.settings.cluster}
    one = Instance(
        node.instance_id,
        "m5.xlarge",
        estate.ZONES[0],
        "on-demand",
        "running",
        estate.NOW,
        tags={**THEIRS, **cluster, **tags},
    )
    fake.cloud.found[one.id] = one
    return one


def adopted(fake: FakeWorld, *ours: Instance) -> tuple[Any, ...]:
    """Adopt, and return what was tagged."""
    adoption.adopt(fake.world, fake.cluster.current, ours)
    return tuple(args[0] for args in fake.recorder.of("adopt_instance"))


def test_karpenters_instance_is_adopted(fake: FakeWorld) -> None:
    """It gets the stack's tag, and the ledger knows it: signals for it count, drains may end it."""
    one = instance(fake)
    assert adopted(fake) == (one.id,)
    assert one.id in fake.world.ledger.ours([one.id])


def test_our_own_is_not_asked_for(fake: FakeWorld) -> None:
    """A tick without strangers costs no call."""
    one = instance(fake)
    assert adopted(fake, one) == ()
    assert fake.recorder.of("instances") == []


@pytest.mark.parametrize(
    "tags",
    [{labels.MANAGED_BY: "another-stack"}, {"eks:eks-cluster-name": "another-cluster"}],
    ids=["another stack's", "another cluster's"],
)
def test_what_is_somebodys_is_left_alone(fake: FakeWorld, tags: dict[str, str]) -> None:
    """Whatever a NodeClaim says, which anybody may write."""
    instance(fake, **tags)
    assert adopted(fake) == ()


def test_what_is_not_a_node_is_left_alone(fake: FakeWorld) -> None:
    """An instance without a NodePool's tag was launched by no provisioner."""
    one = instance(fake)
    tags = {key: value for key, value in one.tags.items() if key != labels.NODEPOOL}
    fake.cloud.found[one.id] = Instance(
        one.id, one.instance_type, one.zone, one.capacity_type, one.state, one.launched, tags=tags
    )
    assert adopted(fake) == ()
