"""What the caller may choose about planning: strategy, preferences, tolerance and spare.

Decides nothing; defaults are the command line's. `strategy` is cost or first-fit;
`preference_policy` Respect or Ignore; `min_values_policy` Strict or BestEffort.
`node_cost_per_hour` is what one more node is taken to cost beside its price (addresses, root
volume, agents billed by host); it is never shown.
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


DEFAULT = Policy()
