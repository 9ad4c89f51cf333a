"""The embedded cloud is worth testing on because it repeats itself.

Alone in its module: a process runs one cloud at a time, and this needs two of them.
"""

from __future__ import annotations

import json

import pytest

from tests.support.stage import spot_node, staged

pytestmark = pytest.mark.e2e


def tell() -> str:
    """Tell a story with faults and an interruption on a new cloud; return all that happened."""
    with staged(seed=11) as stage:
        stage.cloud.faults.set({"duplicateEvents": 2, "reorderEvents": True})
        stage.cloud.reclaim.interrupt(spot_node(stage, "again"))
        stage.cloud.run(135)
        assert stage.decided("NodeTerminated")
        return json.dumps([stage.entries(), stage.decisions], indent=0)


def test_the_same_seed_tells_the_same_story() -> None:
    """Two clouds with one seed agree to the millisecond, through faults and an interruption."""
    assert tell() == tell()
