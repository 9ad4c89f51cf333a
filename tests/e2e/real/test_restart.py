"""The API server dies in the middle, and nothing is lost or done twice.

It is killed without a word, right after the plan of a provision and during the rounds of a drain,
and comes back a moment later on the same address with the same etcd.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.probe import MERGE
from tests.e2e.real.test_story import (
    GPU_CLASS,
    GPU_POOL,
    asked,
    clear,
    gone,
    home_of,
    initialized,
    service,
)
from tests.e2e.real.town import Town

BUDGET = "held"
APP = "second"


@pytest.fixture(scope="module")
def served(town: Town) -> Iterator[Town]:
    """Give the town with a pool of GPU nodes, and take its pods away at the end."""
    town.admin.apply(GPU_CLASS)
    town.admin.apply(GPU_POOL)
    yield town
    clear(town)


def test_a_provision_survives_it(served: Town) -> None:
    """The pod gets its node, and exactly one."""
    since = served.mark()
    served.admin.must("POST", served.admin.in_group("apps/v1", "deployments"), service(APP))
    served.until("the fleet request", lambda: served.seen("createFleet", since))
    served.plane.restart_apiserver()
    home = home_of(served, APP)
    initialized(served, home)
    launched = [one for fleet in served.seen("createFleet", since) for one in fleet["launched"]]
    assert len(launched) == 1
    assert home.instance == launched[0]["id"]


def test_a_drain_survives_it(served: Town) -> None:
    """The budget is respected before and after, then the pod moves and the machine goes."""
    old = home_of(served, APP)
    budgets = served.admin.in_group("policy/v1", "poddisruptionbudgets")
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": APP}}}
    served.admin.must("POST", budgets, {"metadata": {"name": BUDGET}, "spec": spec})
    served.admin.until(budgets, lambda one: one.get("status", {}).get("currentHealthy") == 1)
    since = served.mark()
    rounds = asked(served, "drain", "poddisruptionbudgets")
    served.cloud.reclaim.interrupt(old.instance)
    served.until(
        "rounds of the drain",
        lambda: asked(served, "drain", "poddisruptionbudgets") > rounds + 2,
    )
    assert not served.seen("podGone", since)
    served.plane.restart_apiserver()
    assert not served.seen("podGone", since)
    served.admin.must("PATCH", f"{budgets}/{BUDGET}", {"spec": {"maxUnavailable": 1}}, MERGE)
    assert home_of(served, APP, but=old).instance != old.instance
    gone(served, old)
    assert served.seen("terminate", since, instance=old.instance)
    served.admin.must("DELETE", f"{budgets}/{BUDGET}")
