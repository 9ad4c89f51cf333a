"""How long planning takes: first fit over Karpenter's own mix, and the cost strategy beside it.

Karpenter's published figures for the same mix are 93 ms, 0.89 s, 5.1 s and 12.1 s for 100, 1,000,
5,000 and 10,000 pods. Reading the manifests is not counted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import Policy
from tests.benchmarks.karpenter_mix import cluster, goods

pytestmark = pytest.mark.bench
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("strategy", "pods"),
    [("first-fit", size) for size in (1, 100, 1000, 5000, 10000)]
    + [("cost", size) for size in (1, 100, 1000, 10000)],
)
def test_plan(benchmark: Any, strategy: str, pods: int) -> None:
    """Every pod of the mix gets a place, in the time that is measured."""
    state, catalogue = cluster(pods), goods()
    waiting = pending(state, NOW)
    answer = benchmark.pedantic(
        plan,
        args=(state, waiting, catalogue, Policy(strategy=strategy), NOW),
        rounds=1 if pods > 1000 else 3,
        warmup_rounds=int(pods <= 1000),
    )
    assert answer.placed == pods
