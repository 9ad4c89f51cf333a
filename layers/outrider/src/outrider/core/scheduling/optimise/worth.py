"""What a planned node is taken to cost when plans are compared: not only what is shown.

Decides the price to plan with: a Spot node costs the mean of its cheapest offerings where it has
enough of them, far dearer ones at twice its price, so that a single scarce bargain does not decide;
every node costs a little beside its price. Refuses to change what is shown or paid.
"""

from __future__ import annotations

import numpy as np

from outrider.apis.labels import CAPACITY_TYPE, SPOT
from outrider.core.packing.flexible import FAR
from outrider.core.scheduling.alternatives import listed
from outrider.core.scheduling.bins import Content
from outrider.core.scheduling.run import Run


def shown_price(run: Run) -> float:
    """Return what the planned nodes of *run* will be shown to cost: their first offerings.

    Where pods are tied to domains the list of a node may hold cheaper ones than the domain that was
    settled on: any that would have done as well.
    """
    if all(tally.hosted for tally in run.problem.tallies.items):
        return run.price_per_hour
    price = run.problem.market.price
    return sum(float(price[rows].min()) for rows in listed(run) if rows.any())


def planned_price(run: Run) -> float:
    """Return what the planned nodes of *run* are taken to cost per hour."""
    policy = run.problem.policy
    known: dict[int, float] = {}
    total = policy.node_cost_per_hour * len(run.bins)
    for item in run.bins:
        content = item.content
        if id(content) not in known:
            known[id(content)] = usual_price_of(run, content)
        total += known[id(content)]
    return total


def usual_price_of(run: Run, content: Content) -> float:
    """Return the usual price of a node: for Spot the mean of its cheapest offerings."""
    market, offers = run.problem.market, run.problem.policy.spot_flexibility
    if offers <= 1 or market.value(content.best, CAPACITY_TYPE) != SPOT:
        return content.price
    prices = market.price[content.live]
    if len(prices) < offers:
        return content.price
    cheapest = np.partition(prices, offers - 1)[:offers]
    return float(np.minimum(cheapest, FAR * content.price).mean())
