"""What is to be packed, as arrays: classes of pods, types of bins, what fits where and what it
costs.

Amounts are whole numbers kept in float64, exact up to 2**53, so that a comparison is never a
matter of rounding. Whatever a node can hold only so often (a host port, one pod of an
anti-affinity group, maxSkew pods of a hostname spread, pods) is one more resource. Refuses to
know what the resources, the classes and the types stand for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

UNBOUNDED = np.inf
"""The supply of a type that may be bought without end."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Classes of equal pods [S] over resources [R], and types of bins [T] under limits [L].

    `allocatable` is what a bin of the type holds for pods, daemons already taken off. `price` is
    what is minimised (cost per node included, the mean of several offerings where the caller
    wants it); `list_price` is what is paid, and what the bound bounds. `supply` is how many bins
    of the type there are; `usage` is what one bin takes of every limit, `limits` how much there
    is to take.
    """

    requests: Floats  # [S, R]
    demand: Floats  # [S]
    allocatable: Floats  # [T, R]
    price: Floats  # [T]
    list_price: Floats  # [T]
    compatible: Bools  # [S, T]
    supply: Floats  # [T]
    usage: Floats  # [T, L]
    limits: Floats  # [L]

    @classmethod
    def of(
        cls,
        *,
        requests: Floats,
        demand: Floats | Ints,
        allocatable: Floats,
        price: Floats,
        list_price: Floats | None = None,
        compatible: Bools | None = None,
        supply: Floats | None = None,
        usage: Floats | None = None,
        limits: Floats | None = None,
        cost_per_node: float = 0.0,
    ) -> Self:
        """Return the problem with what is left out filled in: all compatible, no bound, no limit.

        *cost_per_node* is added to what is minimised, not to what is paid. A price that is missing
        (NaN), negative or infinite closes its type; so does a supply of nothing. An infinite limit
        is none, one that is overdrawn leaves nothing.
        """
        requests = np.ascontiguousarray(requests, dtype=np.float64)
        allocatable = np.ascontiguousarray(allocatable, dtype=np.float64)
        classes, types = len(requests), len(allocatable)
        minimised = np.array(price, dtype=np.float64)
        paid = minimised.copy() if list_price is None else np.array(list_price, dtype=np.float64)
        minimised = minimised + cost_per_node
        bound = np.full(types, UNBOUNDED) if supply is None else np.floor(supply).astype(np.float64)
        bound[~(np.isfinite(minimised) & np.isfinite(paid) & (minimised >= 0) & (paid >= 0))] = 0.0
        bound[~(bound > 0)] = 0.0
        minimised[bound == 0] = paid[bound == 0] = 0.0
        taken = np.zeros((types, 0)) if usage is None else np.array(usage, dtype=np.float64)
        caps = np.zeros(taken.shape[1]) if limits is None else np.array(limits, dtype=np.float64)
        taken[:, ~np.isfinite(caps)] = 0.0
        caps = np.where(np.isfinite(caps), np.maximum(caps, 0.0), 0.0)
        return cls(
            requests=requests,
            demand=np.floor(np.asarray(demand, dtype=np.float64)),
            allocatable=allocatable,
            price=minimised,
            list_price=paid,
            compatible=np.ones((classes, types), dtype=np.bool_)
            if compatible is None
            else np.asarray(compatible, dtype=np.bool_),
            supply=bound,
            usage=np.ascontiguousarray(taken),
            limits=caps,
        )

    @property
    def pods(self) -> float:
        """Return how many pods there are."""
        return float(self.demand.sum())


class Shortage(StrEnum):
    """What keeps pods of a class out."""

    NO_TYPE = "NoType"  # no type that may be bought holds one pod, even empty
    SUPPLY = "Supply"  # every type that holds one is sold out
    LIMIT = "Limit"  # a limit leaves no room for one more bin that holds one


@dataclass(frozen=True, slots=True)
class Left:
    """Pods of one class that stay out: how many, why, and the limits that were in the way."""

    pod_class: int
    count: int
    shortage: Shortage
    limits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pattern:
    """A bin of one type, what it holds (class -> pods), and how many such bins to buy."""

    bin_type: int
    counts: tuple[tuple[int, int], ...]
    times: int


@dataclass(frozen=True, slots=True)
class Packing:
    """A complete answer: every pod is in a pattern or among the left.

    `price` is what was minimised, `list_price` what is paid, and no packing of the same pods is
    paid less than `bound`. `stage` is the last stage that improved the answer.
    """

    patterns: tuple[Pattern, ...]
    left: tuple[Left, ...]
    price: float
    list_price: float
    bound: float
    stage: str
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def bins(self) -> int:
        """Return how many bins are bought."""
        return sum(pattern.times for pattern in self.patterns)

    @property
    def gap(self) -> float:
        """Return how far above the bound the price is, as a share of the bound."""
        if self.list_price <= self.bound:
            return 0.0
        return self.list_price / self.bound - 1.0 if self.bound > 0 else np.inf
