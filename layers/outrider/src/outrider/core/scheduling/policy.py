"""What the caller may choose about planning: strategy, preferences, tolerance and spare.

Decides nothing; defaults are the command line's. `strategy` is cost or first-fit;
`preference_policy` Respect or Ignore; `min_values_policy` Strict or BestEffort.
`node_cost_per_hour` is what one more node is taken to cost beside its price (addresses, root
volume, agents billed by host); it is never shown. Where a node is cheapest on Spot it is taken to
cost the mean of its `spot_flexibility` cheapest offerings if there are so many, so that one scarce
bargain is not worth a whole plan; the price shown stays the first offering's.
`most_pods_per_node` bounds how many pods a new node takes with it when it goes. `thorough` plans
with the effort of twenty seconds; without `prove` no more is done for the lower bound than comes
with the plan.
"""

from __future__ import annotations

from dataclasses import dataclass

COST, FIRST_FIT = "cost", "first-fit"
RESPECT, IGNORE = "Respect", "Ignore"
STRICT, BEST_EFFORT = "Strict", "BestEffort"


@dataclass(frozen=True, slots=True)
class Policy:
    """How to plan."""

    strategy: str = COST
    preference_policy: str = RESPECT
    min_values_policy: str = STRICT
    node_cost_per_hour: float = 0.01
    spot_flexibility: int = 5
    most_pods_per_node: int | None = None
    thorough: bool = False
    prove: bool = True


DEFAULT = Policy()
