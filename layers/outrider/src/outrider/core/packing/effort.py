"""How much work may go into a packing, in counted steps: by how many pods there are."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.core.packing.columns import Budget
from outrider.core.packing.retype import Repair


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work may go into a packing, in counted steps."""

    pricing: Budget
    deeper: tuple[Budget, ...]
    repair: Repair
    gap: float = 0.002
    classes: int = 120
    active: int = 20
    outside: int = 300  # partial contents kept when a type outside the active ones is searched
    all_types: int = 1500  # classes x types up to which all types are active

    @classmethod
    def of(cls, pods: float) -> Effort:
        """Return the default effort for so many *pods*."""
        if pods <= 30:
            return cls(Budget(100_000, (100,)), (), Repair(30))
        if pods <= 100:
            return cls(Budget(150_000, (100,)), (), Repair(6))
        if pods <= 1_000:
            return cls(Budget(3_800_000, (300, 3_000, 60_000)), (), Repair(10))
        return cls(Budget(12_000_000, (300, 3_000, 60_000)), (), Repair(5))

    @classmethod
    def thorough(cls) -> Effort:
        """Return the effort of a planner that has twenty seconds."""
        return cls(
            Budget(250_000_000, (300, 3_000, 60_000)),
            (Budget(2_000_000, (300, 3_000, 60_000)),) * 2,
            Repair(400),
            gap=5e-4,
            classes=160,
            active=30,
            all_types=4000,
        )
