"""Which faults are taken, and which are not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from outrider.local.clock import DiscreteClock
from outrider.local.faults import BadFault, Faults
from outrider.local.timeline import Timeline


def faults() -> Faults:
    """Return a set of no faults."""
    return Faults(Timeline(DiscreteClock(datetime(2026, 1, 1, tzinfo=UTC))))


GOOD: dict[str, Any] = {
    "insufficientCapacity": [{"instanceType": "g6.xlarge", "zone": "*", "capacityType": "spot"}],
    "throttle": {"ec2:CreateFleet": 3},
    "fail": {"ec2:CreateSnapshot": {"code": "InternalError", "times": 1}},
    "kill": {"function": "drain", "afterSeconds": 1},
    "killAtCall": {"function": "provision", "call": 7},
    "joinDelaySeconds": 40,
    "neverJoin": ["g6.xlarge"],
    "neverInitialize": ["g6.xlarge"],
    "duplicateEvents": 3,
    "reorderEvents": True,
}


@pytest.mark.parametrize("key", GOOD)
def test_every_fault_of_the_contract_is_taken(key: str) -> None:
    """Each key, as the contract writes it; the next set replaces it."""
    some = faults()
    some.set({key: GOOD[key]})
    assert some.current == {key: GOOD[key]}
    some.set({})
    assert some.current == {}


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"unknown": 1},
        {"throttle": {"CreateFleet": 1}},
        {"throttle": {"ec2:CreateFleet": -1}},
        {"fail": {"ec2:X": {"times": 1}}},
        {"insufficientCapacity": [{"type": "g6.xlarge"}]},
        {"kill": {"function": "drain"}},
        {"duplicateEvents": 0},
        {"reorderEvents": "yes"},
        {"joinDelaySeconds": "soon"},
    ],
)
def test_a_bad_set_changes_nothing(bad: Any) -> None:
    """An unknown key or a bad value is said, and what was set stays."""
    some = faults()
    some.set({"duplicateEvents": 2})
    with pytest.raises(BadFault):
        some.set(bad)
    assert some.current == {"duplicateEvents": 2}
