"""Two clusters, two stacks, one account and region: neither touches what is the other's.

Both launch, both lose a Spot node; a recommendation and a pushed image are for all to hear and for
one to answer; both sweep for half an hour. Every call that a function makes is read; a foreign
touch is one that changes what the other stack owns. There are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from outrider.local.account import NODE_ROLE
from outrider.local.cloud import STACK
from outrider.local.demo.push import announce, put_image, reference
from tests.support.neighbours import OTHER_STACK, Neighbour, Watch, beside
from tests.support.stage import Stage, node_class, pod, pool, staged

pytestmark = pytest.mark.e2e

LAYERS = (3_000_000_000, 2_000_000_000)
INSTANCE = re.compile(r"i-[0-9a-f]{17}")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Give the first stack."""
    with staged() as running:
        yield running


@pytest.fixture(scope="module")
def watch(stage: Stage) -> Watch:
    """Read every call of a function from the beginning."""
    return Watch(stage.cloud)


@pytest.fixture(scope="module")
def neighbour(stage: Stage, watch: Watch) -> Iterator[Neighbour]:
    """Give the second stack beside it."""
    del watch
    with beside(stage) as second:
        second.apply(node_class())
        stage.cloud.run(65)
        yield second


def machine(stage: Stage, stack: str) -> str:
    """Return the running node's instance of a stack."""
    (found,) = (
        one["InstanceId"]
        for one in stage.machines()
        if {"Key": "outrider.dev/managed-by", "Value": stack} in one["Tags"]
    )
    return str(found)


def test_a_day_together_without_a_touch(stage: Stage, neighbour: Neighbour, watch: Watch) -> None:
    """Launches, warnings, recommendations, pushes, sweeps: each stack minds its own."""
    put_image(stage.cloud, "ml/mine", "v1", LAYERS)
    put_image(stage.cloud, "ml/yours", "v1", LAYERS)
    stage.apply(pool("gpu", capacity=("spot",)), pod("a", "gpu", image=reference("ml/mine", "v1")))
    neighbour.apply(
        pool("gpu", capacity=("spot",)), pod("b", "gpu", image=reference("ml/yours", "v1"))
    )
    stage.expect("both run", 300, lambda: stage.run_now("a") and neighbour.runs("b"))
    mine, yours = machine(stage, STACK), machine(stage, OTHER_STACK)

    stage.cloud.reclaim.interrupt(yours)
    stage.cloud.run(180)
    assert machine(stage, STACK) == mine, "the neighbour's interruption is not ours"
    assert stage.run_now("a")

    digest = put_image(stage.cloud, "ml/mine", "v2", LAYERS)
    announce(stage.cloud, "ml/mine", "v2", digest)
    stage.cloud.run(1800)
    seeds = watch.owned(STACK, "snap-"), watch.owned(OTHER_STACK, "snap-")
    assert (len(seeds[0]), len(seeds[1])) == (1, 0), "only who runs an image seeds it"

    recommend = {
        "source": "aws.ec2",
        "detail-type": "EC2 Instance Rebalance Recommendation",
        "detail": {"instance-id": mine},
    }
    stage.cloud.put_event(recommend)
    stage.cloud.run(300)
    assert machine(stage, STACK) != mine, "our own recommendation is followed"
    stage.cloud.reclaim.interrupt(machine(stage, STACK))
    stage.cloud.run(600)
    assert watch.calls[STACK] > 200
    assert watch.calls[OTHER_STACK] > 200
    assert watch.foreign() == []


def test_no_cluster_knows_the_other_s_nodes(
    stage: Stage, neighbour: Neighbour, watch: Watch
) -> None:
    """NodeClaims, Nodes and decisions speak of instances of their own stack only."""
    theirs = watch.owned(OTHER_STACK, "i-")
    ours = watch.owned(STACK, "i-")
    assert theirs
    assert ours
    for storage in ("nodes", "nodeclaims.karpenter.sh", "events"):
        assert not theirs & set(INSTANCE.findall(str(stage.all(storage)))), storage
        assert not ours & set(INSTANCE.findall(str(neighbour.all(storage)))), storage


def test_decisions_go_to_the_cluster_s_own_bus(stage: Stage, watch: Watch) -> None:
    """Each bus carries what one stack decided about its own instances."""
    owned = {"local": watch.owned(STACK, "i-"), "other": watch.owned(OTHER_STACK, "i-")}
    seen = {"local": 0, "other": 0}
    for _, name, detail in stage.decisions:
        cluster = detail["cluster"]
        seen[cluster] += 1
        named = {
            one for one in INSTANCE.findall(str(detail)) if one in owned["local"] | owned["other"]
        }
        assert named <= owned[cluster], (name, detail)
    assert min(seen.values()) >= 5


def test_a_token_of_one_opens_nothing_of_the_other(stage: Stage, neighbour: Neighbour) -> None:
    """The functions' access entries are their own cluster's."""
    mine = set(stage.cloud.eks._entries)
    names = [name for name in mine if OTHER_STACK in name]
    assert names == []
    listed = stage.cloud.client("eks").list_access_entries(clusterName="other")["accessEntries"]
    assert not [name for name in listed if f"/{STACK}-" in name and NODE_ROLE not in name]
    assert len(listed) >= 7
    del neighbour
