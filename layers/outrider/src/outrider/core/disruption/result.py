"""A disruption Decision: which nodes go, what replaces them, and why the others stay.

Values only; `outrider disrupt` prints them, `flows.disrupt` carries them out. Reasons and codes are
the command line's contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from outrider.core.scheduling.result import Launch, Placement


class Reason(StrEnum):
    """Why nodes go."""

    EMPTY = "Empty"
    UNDERUTILIZED = "Underutilized"
    DRIFTED = "Drifted"
    EXPIRED = "Expired"


class Code(StrEnum):
    """Why a node stays."""

    DO_NOT_DISRUPT = "DoNotDisrupt"
    POD_DISRUPTION_BUDGET = "PodDisruptionBudget"
    BUDGET = "Budget"
    CONSOLIDATE_AFTER = "ConsolidateAfter"
    NOT_INITIALIZED = "NotInitialized"
    NOT_CHEAPER = "NotCheaper"
    BELOW_THRESHOLD = "BelowThreshold"
    PODS_UNSCHEDULABLE = "PodsUnschedulable"
    SPOT_FLEXIBILITY = "SpotFlexibility"
    POLICY_FORBIDS = "PolicyForbids"
    NO_PRICE = "NoPrice"
    INVALID_NODEPOOL = "InvalidNodePool"
    STATIC_POOL = "StaticPool"
    NOMINATED = "Nominated"
    DELETING = "Deleting"
    PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A node that stays, with the one reason that says most."""

    node: str
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Command:
    """Nodes that go together, what is launched first, and where their pods are expected.

    `deadline` is when terminationGracePeriod ends their drain; None drains in peace.
    """

    reason: Reason
    nodes: tuple[str, ...]
    launches: tuple[Launch, ...] = ()
    placements: tuple[Placement, ...] = ()
    savings_per_hour: float = 0.0
    why: str = ""
    deadline: datetime | None = None

    @property
    def price_per_hour(self) -> float:
        """Return the price of what is launched."""
        return sum(launch.price_per_hour for launch in self.launches)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one method wants, and whom it would have liked to take but may not."""

    commands: tuple[Command, ...] = ()
    blocked: tuple[Blocked, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What one pass does: commands that go together, and every other node of ours with its code."""

    commands: tuple[Command, ...]
    blocked: tuple[Blocked, ...]
    price_per_hour_before: float
    price_per_hour_after: float
