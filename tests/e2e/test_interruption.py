"""What an interruption may do and what not, beside the walk that `test_stories` tells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outrider.apis import labels
from tests.support.story import Story, closed_budget, deployment

pytestmark = pytest.mark.e2e

PROTECTED = {labels.DO_NOT_DISRUPT: "true"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Story]:
    """One cloud for the whole chapter, without voluntary disruption."""
    with Story(Mode="provision") as told:
        yield told


@pytest.fixture
def story(cloud: Story) -> Iterator[Story]:
    """The cloud, empty again after each test."""
    yield cloud
    cloud.forget()


def test_protection_holds_until_the_deadline_and_no_longer(story: Story) -> None:
    """do-not-disrupt and a closed budget keep their pods until deadline - grace - margin; then
    they get a SIGTERM and all of their grace.
    """
    story.apply(
        deployment("train", 1, "2", grace=40, **PROTECTED),
        deployment("held", 1, "2", grace=40),
        closed_budget("held"),
    )
    story.run(120, "train", 1)
    story.run(120, "held", 1)
    for app in ("train", "held"):
        doomed = story.instance_of(story.running(app)[0])
        at = story.put("spot-interruption", doomed)
        story.cloud.run(119)
        asked = [entry for entry in story.told("evict", at) if f"/{app}-" in entry["pod"]]
        assert [entry["grace"] for entry in asked] == [40], story.tail()
        assert 66 <= asked[0]["at"] - at <= 72
        assert doomed not in story.instances()
        story.run(60, app, 1)


def test_a_rebalance_never_forces_anybody(story: Story) -> None:
    """A recommendation leaves a protected pod alone for as long as it runs."""
    story.apply(deployment("notebook", 1, "2", **PROTECTED))
    story.run(120, "notebook", 1)
    at = story.put("rebalance-recommendation", story.instance_of(story.running("notebook")[0]))
    story.cloud.run(900)
    assert story.told("evict", at) == []
    assert len(story.instances()) == 1


@pytest.mark.parametrize("call", [3, 14])
def test_a_killed_function_loses_nothing(story: Story, call: int) -> None:
    """The interrupt function dies before one of its calls; the pods move in time all the same."""
    story.apply(deployment("web", 2, "1500m"))
    story.run(120, "web", 2)
    doomed = story.instance_of(story.running("web")[0])
    story.cloud.faults.set({"killAtCall": {"function": "interrupt", "call": call}})
    at = story.put("spot-interruption", doomed)
    story.cloud.run(119)
    assert doomed not in story.instances()
    assert {entry["how"] for entry in story.told("podGone", at)} == {"exited after SIGTERM"}
    story.run(90, "web", 2)


def test_an_instance_that_just_goes_is_replaced(story: Story) -> None:
    """Without any warning: the state change alone brings the pods back."""
    story.apply(deployment("web", 2, "1500m"))
    story.run(120, "web", 2)
    doomed = story.instance_of(story.running("web")[0])
    story.cloud.client("ec2").terminate_instances(InstanceIds=[doomed])
    story.cloud.run(10)
    story.run(120, "web", 2)
    story.cloud.run(120)
    nodes = story.objects("nodes")
    providers = {node["spec"]["providerID"].rpartition("/")[2] for node in nodes}
    assert providers == set(story.instances())
    assert len(story.objects("nodeclaims.karpenter.sh")) == len(providers)


def test_others_instances_are_left_alone(story: Story) -> None:
    """A warning for an instance that is not ours changes nothing."""
    story.apply(deployment("web", 2, "1500m"))
    story.run(120, "web", 2)
    at = story.put("spot-interruption", "i-00000000000000bad")
    story.cloud.run(30)
    for kind in ("taint", "createFleet", "evict", "terminate", "execution"):
        assert story.told(kind, at) == []
