"""The shadow report, once a day while outrider may not consolidate: as a decision and as metrics.

In mode `observe`, and beside a live Karpenter, it says what the nodes cost as they are, what our
plan for the same pods would cost, which nodes differ, and what each family of constraints costs.
`outrider report` makes the same comparison as a page. It holds no lease and writes nothing, and
what goes wrong with it is logged: nobody's pods wait for a report.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from outrider.core.report.compare import Comparison, compare
from outrider.core.report.lines import Verdict
from outrider.errors import OutriderError
from outrider.flows.decisions import LISTED, decision_id, publish
from outrider.flows.mode import Standing
from outrider.flows.planning import policy_of
from outrider.flows.ports import World

PATIENCE = timedelta(seconds=40)
"""What a report may take of an invocation; families that it leaves no time for have no cost."""
REMEMBERED = timedelta(days=2)


def daily(world: World, standing: Standing) -> None:
    """Publish the report of the day unless that was done; *standing* says why we only watch."""
    now = world.clock.now()
    day = now.date().isoformat()
    try:
        if not world.ledger.once(f"report/{day}", now + REMEMBERED):
            return
        # As it is bought in good times: pools that are short for minutes are not marked off.
        catalog = world.ledger.catalog()
        until = now + PATIENCE
        found = compare(
            world.cluster.state(),
            catalog,
            policy_of(world),
            now,
            lambda: world.clock.now() >= until,
        )
    except OutriderError as error:
        world.telemetry.log("no report today", problem=str(error))
        return
    world.telemetry.count("ShadowPricePerHour", found.price_per_hour)
    world.telemetry.count("ShadowPlannedPricePerHour", found.planned_price_per_hour)
    decision = decision_id(world.settings.cluster, "report", day)
    publish(world, "ReportMade", decision, **_told(found), watching=standing.reason)


def _told(found: Comparison) -> dict[str, Any]:
    gone = [line for line in found.nodes if line.verdict is Verdict.GONE]
    new = [line for line in found.planned if line.verdict is Verdict.NEW]
    return {
        "pricePerHour": _money(found.price_per_hour),
        "plannedPricePerHour": _money(found.planned_price_per_hour),
        "firstFitPricePerHour": _money(found.first_fit_price_per_hour),
        "lowerBoundPerHour": _money(found.lower_bound_per_hour),
        "savingsPerHour": _money(found.saving_per_hour),
        "nodesAsIs": len(found.nodes),
        "nodesPlanned": len(found.nodes) - _compared(found) + len(found.planned),
        "nodes": [line.name for line in gone[:LISTED]],
        "instead": [
            {
                "nodePool": line.node_pool,
                "instanceType": line.instance_type,
                "zone": line.zone,
                "capacityType": line.capacity_type,
                "pricePerHour": line.price_per_hour,
                "pods": line.pods,
            }
            for line in new[:LISTED]
        ],
        "constraints": [
            {"family": cost.family, "costsPerHour": _money(cost.costs_per_hour)}
            for cost in found.costs
        ],
        "notes": list(found.notes),
    }


def _money(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 9)


def _compared(found: Comparison) -> int:
    return sum(line.verdict is not Verdict.KEPT for line in found.nodes)
