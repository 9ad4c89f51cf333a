"""What a node in flight was launched for stays with it, plan after plan."""

from __future__ import annotations

from tests.support.builders import nodeclaim, nodepool, pod
from tests.support.expect import planned


def promised(name: str, *pods: str) -> dict[str, object]:
    """Return a NodeClaim in flight that was launched for *pods*."""
    meta = {"annotations": {"outrider.dev/pods": ",".join(f"default/{one}" for one in pods)}}
    return {**nodeclaim(name), "metadata": {**nodeclaim(name)["metadata"], **meta}}


def test_a_pod_keeps_the_node_that_was_launched_for_it() -> None:
    """Two plans in a row put a pod on the same NodeClaim, though another would do as well."""
    answer = planned(pod("late", cpu="2"), nodepool(), promised("a"), promised("b", "late"))
    assert answer.placed_on("late") == "b"


def test_a_larger_pod_does_not_take_the_promised_room() -> None:
    """Who was promised a place goes first among its peers, and a newcomer gets what is left."""
    answer = planned(
        pod("small", cpu="2"),
        pod("large", cpu="4"),
        nodepool(),
        promised("a", "small"),
    )
    assert answer.placed_on("small") == "a"
    assert answer.placed_on("large") != "a"


def test_a_more_important_pod_does() -> None:
    """Priority goes before a promise: the scheduler would preempt for it anyway."""
    answer = planned(
        pod("small", cpu="2"),
        pod("urgent", cpu="4", priority=1000),
        nodepool(),
        promised("a", "small"),
    )
    assert answer.placed_on("urgent") == "a"
