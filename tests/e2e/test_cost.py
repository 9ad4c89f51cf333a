"""What the stack costs: the figure that docs/deploy.md promises, counted small."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from tests.benchmarks import stack_cost
from tests.support.stack import ROOT

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def bill() -> Iterator[stack_cost.Bill]:
    """Give a bill that is counted from ten idle minutes and two launches."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield stack_cost.measure(10, 2)
    finally:
        logging.disable(level)


def test_an_idle_cluster_costs_little(bill: stack_cost.Bill) -> None:
    """Fifteen dollars a month at most, every component counted, free tiers left out."""
    assert sum(bill.idle.values()) <= stack_cost.LIMIT
    assert bill.idle["Lambda"] > 0
    assert bill.idle["CloudWatch metrics, alarms, dashboard"] > 0


def test_work_is_paid_by_the_piece(bill: stack_cost.Bill) -> None:
    """A launch with its end costs less than a tenth of a cent, an interruption less than half a
    cent; a busy day is dearer than an idle one in every component that it uses.
    """
    assert 0 < bill.launch < 0.001
    assert 0 < bill.interruption < 0.005
    assert all(bill.busy[name] >= cost for name, cost in bill.idle.items())


def test_the_page_says_what_is_counted(bill: stack_cost.Bill) -> None:
    """docs/deploy.md names every component, and its sums are those of its rows."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    found = {
        name: (float(idle), float(busy))
        for name, idle, busy in re.findall(
            r"^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE
        )
    }
    total = found.pop("all")
    assert set(found) == set(bill.idle)
    for column in (0, 1):
        assert sum(row[column] for row in found.values()) == pytest.approx(total[column], abs=0.05)
