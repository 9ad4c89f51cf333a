"""Which of many choices a CreateFleet call names: the sixty cheapest types, flexibility kept.

Karpenter cuts to the 60 cheapest types and fails the launch where `minValues` no longer holds after
the cut (F110). Here the cut itself keeps it: types that bring a missing value are taken before
cheaper ones that bring nothing new. Refuses to know prices other than by order.
"""

from __future__ import annotations

from collections.abc import Sequence

from outrider.apis import labels
from outrider.core.requirements import Requirements
from outrider.core.scheduling.result import Choice

MAX_TYPES = 60


def flexible(choices: Sequence[Choice], requirements: Requirements) -> tuple[Choice, ...]:
    """Return *choices*, cheapest first, cut to 60 types that keep the *requirements*' minValues."""
    types = list(dict.fromkeys(choice.instance_type for choice in choices))
    if len(types) <= MAX_TYPES:
        return tuple(choices)
    kept = set(_needed(types, requirements))
    for name in types:
        if len(kept) >= MAX_TYPES:
            break
        kept.add(name)
    return tuple(choice for choice in choices if choice.instance_type in kept)


def _needed(types: Sequence[str], requirements: Requirements) -> list[str]:
    """Return the cheapest types that give each family-like key its minimum of distinct values."""
    needed: list[str] = []
    for entry in requirements.to_json():
        least = int(entry.get("minValues") or 0)
        if entry["key"] == labels.INSTANCE_TYPE:
            needed += types[:least]
        elif entry["key"].endswith("instance-family"):
            seen: dict[str, str] = {}
            for name in types:
                seen.setdefault(name.partition(".")[0], name)
            needed += list(seen.values())[:least]
    return needed[:MAX_TYPES]
