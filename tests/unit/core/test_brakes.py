"""Brakes: what holds a NodePool's launches back, what does not, and how each is released."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outrider.apis import labels, manifest
from outrider.apis.nodepool import NodePool
from outrider.core import brakes
from outrider.core.brakes import Brake, Hold
from outrider.core.clusterstate import ClusterState
from tests.support.builders import nodepool

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def pool(**annotations: str) -> NodePool:
    """Return a NodePool with annotations of ours."""
    named = {f"outrider.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    read = manifest.parse(nodepool("gpu", annotations=named))
    assert isinstance(read, NodePool)
    return read


def claim(name: str, minutes: float, *, registered: bool = False, pool: str = "gpu") -> Any:
    """Return a NodeClaim that was made *minutes* ago."""
    at = (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = "True" if registered else "Unknown"
    condition = {"type": "Registered", "status": status, "lastTransitionTime": at}
    return manifest.parse(
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodeClaim",
            "metadata": {
                "name": name,
                "labels": {labels.NODEPOOL: pool},
                "creationTimestamp": at,
            },
            "spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "x"},
                "requirements": [],
            },
            "status": {"conditions": [{**condition, "reason": "R", "message": ""}]},
        }
    )


def state(*claims: Any) -> ClusterState:
    """Return a cluster with *claims*."""
    return ClusterState.of(claims)


@pytest.mark.parametrize(
    ("limit", "recent", "wanted", "holds"),
    [
        (None, 99, 9, False),
        ("10", 8, 2, False),
        ("10", 9, 2, True),
        ("0", 0, 1, True),
        ("many", 9, 9, False),
        ("-1", 9, 9, False),
    ],
)
def test_launches_a_minute(limit: str | None, recent: int, wanted: int, *, holds: bool) -> None:
    """Over the annotation's limit nothing is launched; what is no number brakes nothing."""
    held = pool(**({"max_launches_per_minute": limit} if limit else {}))
    hold = brakes.by_launches(held, recent, wanted)
    assert (hold is not None) is holds
    assert hold is None or labels.MAX_LAUNCHES in hold.release


def test_dollars_an_hour() -> None:
    """What the pool would cost afterwards is compared, not what it costs."""
    held = pool(max_dollars_per_hour="12.5")
    assert brakes.by_dollars(held, 12.5) is None
    hold = brakes.by_dollars(held, 12.51)
    assert hold is not None
    assert hold.brake is Brake.DOLLARS
    assert hold.message == (
        "NodePool gpu would cost $12.51 an hour, over its $12.5. To release: let nodes go, or raise"
        " its annotation outrider.dev/max-dollars-per-hour"
    )
    assert brakes.by_dollars(pool(), 1e6) is None


def test_the_stack_s_brakes_say_which() -> None:
    """Cost is named where it is over, launches otherwise."""
    assert brakes.of_stack(10, 50.0, 51.0).brake is Brake.DOLLARS
    assert brakes.of_stack(10, 50.0, 49.0).brake is Brake.LAUNCHES
    assert brakes.of_stack(10, None, 99.0).brake is Brake.LAUNCHES


def test_three_late_nodes_are_too_many() -> None:
    """Two may be bad luck; a pool's own nodes count, and only those that are late."""
    late = [claim(f"c{number}", 6 + number) for number in range(3)]
    assert brakes.late("gpu", state(*late), NOW) == ("c0", "c1", "c2")
    assert brakes.late("gpu", state(*late[:2], claim("new", 2)), NOW) == ()
    assert brakes.late("gpu", state(*late[:2], claim("other", 9, pool="cpu")), NOW) == ()


def test_a_node_that_registers_meanwhile_is_a_good_sign() -> None:
    """Then something else than the pool is to blame; one that registered before says nothing."""
    late = [claim(f"c{number}", 6 + number) for number in range(3)]
    assert brakes.late("gpu", state(*late, claim("ok", 7, registered=True)), NOW) == ()
    before = claim("old", 60, registered=True)
    assert len(brakes.late("gpu", state(*late, before), NOW)) == 3


def test_one_node_at_a_time_is_tried() -> None:
    """While one joins, or where more than one is wanted, the brake holds and says why."""
    assert brakes.on_trial("gpu", state(), 1) is None
    assert brakes.on_trial("gpu", state(claim("x", 1, registered=True)), 1) is None
    for hold in (
        brakes.on_trial("gpu", state(), 2),
        brakes.on_trial("gpu", state(claim("x", 1)), 1),
    ):
        assert isinstance(hold, Hold)
        assert hold.brake is Brake.UNREGISTERED
        assert "outrider doctor" in hold.release


def test_a_trial_that_registers_ends_it() -> None:
    """A node that was launched since and has registered releases the brake."""
    since = NOW - brakes.TRIAL
    assert brakes.has_registered("gpu", state(claim("x", 5, registered=True)), since)
    assert not brakes.has_registered("gpu", state(claim("x", 45, registered=True)), since)


def test_a_pause_says_how_it_ends() -> None:
    """On the NodePool or on its class."""
    hold = brakes.paused(pool(paused="true"), state())
    assert hold is not None
    assert hold.release == "kubectl annotate nodepool gpu outrider.dev/paused-"
    assert brakes.paused(pool(), state()) is None
