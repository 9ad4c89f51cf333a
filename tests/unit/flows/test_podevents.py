"""When pods last came or went is written down, pass by pass, where consolidateAfter asks for it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from outrider.apis import labels
from outrider.core.clusterstate import ClusterState
from outrider.flows import podevents
from tests.support import estate
from tests.support.world import FakeWorld


def looked(fake: FakeWorld, *pods: str, after: str = "5m", seen: str = "") -> ClusterState:
    """Return what a look at one node with *pods* on it makes of the state."""
    one = estate.node("n1")
    fake.cluster.current = ClusterState.of(
        (
            estate.pool(disruption={"consolidateAfter": after}),
            one,
            estate.claim(one, annotations={labels.PODS_SEEN: seen} if seen else {}),
            *(estate.pod(name, on="n1") for name in pods),
        )
    )
    return podevents.note(fake.cluster.current, fake.world)


def digest(fake: FakeWorld) -> str:
    """Return the digest that the last look wrote."""
    _, patch = fake.recorder.of("patch_nodeclaim")[-1]
    found: str = patch["metadata"]["annotations"][labels.PODS_SEEN]
    return found


def test_the_first_look_only_remembers() -> None:
    """Nothing is known of what was before, so no time is written."""
    fake = FakeWorld()
    looked(fake, "a")
    assert len(fake.recorder.of("patch_nodeclaim")) == 1
    assert fake.recorder.of("patch_nodeclaim_status") == []


def test_a_pod_that_left_is_noticed() -> None:
    """The next look sees another set, writes when, and counts from there at once."""
    fake = FakeWorld()
    looked(fake, "a", "b")
    fake.clock.sleep(120)
    state = looked(fake, "a", seen=digest(fake))
    assert state.nodeclaims[0].status.last_pod_event_time == fake.clock.now()
    assert len(fake.recorder.of("patch_nodeclaim_status")) == 1
    before = len(fake.recorder.calls)
    looked(fake, "a", seen=digest(fake))
    assert len(fake.recorder.calls) == before


@pytest.mark.parametrize("after", ["0s", "Never"])
def test_who_does_not_ask_does_not_pay(after: str) -> None:
    """Without a span there is nothing to count and nothing is written."""
    fake = FakeWorld()
    looked(fake, "a", after=after)
    assert fake.recorder.calls == []


def test_consolidate_after_counts_from_the_last_event() -> None:
    """An old pod's start does not hide that another one left a minute ago."""
    recent = {"lastPodEventTime": estate.stamp(estate.NOW - timedelta(minutes=1))}
    one = estate.node("n1")
    found = estate.Estate(
        estate.pool(disruption={"consolidateAfter": "5m"}),
        one,
        estate.claim(one, status=recent),
    )
    assert found.code("n1") == "ConsolidateAfter"
    assert found.command(estate.NOW + timedelta(minutes=5)).nodes == ("n1",)
