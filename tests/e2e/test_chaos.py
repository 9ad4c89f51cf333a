"""Twenty-four minutes of all that goes wrong: what tests/benchmarks/chaos.py does for a day."""

from __future__ import annotations

import pytest

from tests.support.chaos import Weather, run

pytestmark = pytest.mark.e2e

WEATHER = Weather(
    nodes=7,
    hours=0.4,
    seed=3,
    interruptions=1.0,
    recommendations=0.5,
    deaths=0.3,
    maintenance=0.3,
    foreign=2.0,
    garbled=1.0,
    kills_an_hour=30.0,
    throttles_an_hour=20.0,
    waves=1,
    wave_share=0.3,
    shortage_hours=0.2,
    settling_minutes=10.0,
)


def test_whatever_goes_wrong_no_promise_is_broken() -> None:
    """Every pod runs or says why not, nothing is left unowned, no pod ends without its SIGTERM or
    before its time, and every eviction is told once.
    """
    tally = run(WEATHER)
    assert not tally.broken, "\n".join([*tally.lines(), str(tally.broken)])
    assert tally.done["functions that died in the middle"] > 0
    assert tally.ends["exited after SIGTERM"] > 0
