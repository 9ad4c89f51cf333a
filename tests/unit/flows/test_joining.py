"""Opening: a NodePool's pods are promised their room, its nodes open, then the next one's turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels
from outrider.apis.node import NodeCondition
from outrider.apis.placement import Taint
from outrider.core.joining import Arrival
from outrider.flows import joining
from tests.support import estate
from tests.support.world import FakeWorld

CLOSED = Taint(labels.UNREGISTERED_TAINT, effect="NoExecute")


def _arrival(world: FakeWorld, name: str, pod: str) -> Arrival:
    """A node that has been Ready for long, and its NodeClaim, planned for one pod."""
    since = estate.NOW - timedelta(seconds=30)
    node = replace(
        estate.node(name, of=f"pool-{name}", initialized=False),
        taints=(CLOSED,),
        ready=True,
        conditions=(NodeCondition("Ready", "True", since=since),),
    )
    claim = estate.claim(node, annotations={labels.PODS: f"default/{pod}"})
    world.cluster.put(node, claim)
    return Arrival(claim, node)


def _deeds(world: FakeWorld) -> list[tuple[Any, ...]]:
    """What was nominated and opened, in order."""
    shown = {"nominate": lambda pod, node: (pod, node), "taint": lambda node, *_: ("open", node)}
    return [shown[name](*given) for _, name, given, _ in world.recorder.calls if name in shown]


def test_each_nodepool_has_its_turn() -> None:
    """Nominated, opened, and only then the next; who is promised to another node keeps that."""
    fake = FakeWorld()
    fake.world.clock.at = estate.NOW
    arrivals = [_arrival(fake, "a", "one"), _arrival(fake, "b", "two"), _arrival(fake, "c", "else")]
    elsewhere = replace(estate.pod("else"), nominated_node_name="d")
    fake.cluster.put(estate.pod("one"), estate.pod("two"), elsewhere)
    joining.receive(fake.world, arrivals, fake.cluster.current, {})
    assert _deeds(fake) == [
        ("default/one", "a"),
        ("open", "a"),
        ("default/two", "b"),
        ("open", "b"),
        ("open", "c"),
    ]


def test_a_nodepool_opens_when_its_promises_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler is busy with what woke it before and forgets: promised again, a few times."""
    fake = FakeWorld()
    fake.world.clock.at = estate.NOW
    arrivals = [_arrival(fake, "a", "one")]
    fake.cluster.put(estate.pod("one"))
    forgets = iter([True, True, False])
    nominate = fake.cluster.nominate_all

    def forgetful(homes: Mapping[str, str]) -> Mapping[str, str]:
        failed = nominate(homes)
        if next(forgets, False):
            fake.cluster.put(estate.pod("one"))
        return failed

    monkeypatch.setattr(fake.cluster, "nominate_all", forgetful)
    joining.receive(fake.world, arrivals, fake.cluster.current, {})
    assert _deeds(fake) == [*[("default/one", "a")] * 3, ("open", "a")]


def test_a_nodepool_opens_though_no_promise_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that is never at rest keeps no node closed."""
    fake = FakeWorld()
    fake.world.clock.at = estate.NOW
    arrivals = [_arrival(fake, "a", "one")]
    fake.cluster.put(estate.pod("one"))
    monkeypatch.setattr(fake.cluster, "nominate_all", lambda _homes: {})
    joining.receive(fake.world, arrivals, fake.cluster.current, {})
    assert _deeds(fake) == [("open", "a")]
