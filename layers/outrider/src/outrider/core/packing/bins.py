"""A set of bins while it is being worked on: patterns as rows of arrays, and how often each is
used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from outrider.core.packing.problem import Floats, Ints


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins by pattern: the type [P], the pods of each class [P, S], how many such bins [P]."""

    types: Ints
    counts: Floats
    times: Floats

    @classmethod
    def none(cls, classes: int) -> Self:
        """Return no bins."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, classes)), np.zeros(0))

    def packed(self) -> Floats:
        """Return how many pods of each class the bins have room for."""
        return np.asarray(self.times @ self.counts)

    def price(self, price: Floats) -> float:
        """Return what the bins cost at *price* by type."""
        return float(self.times @ price[self.types])

    def plus(self, other: Bins) -> Bins:
        """Return these bins and the *other* ones."""
        return Bins(
            np.concatenate([self.types, other.types]),
            np.vstack([self.counts, other.counts]),
            np.concatenate([self.times, other.times]),
        )

    def merged(self) -> Bins:
        """Return the same bins with equal patterns as one, in a fixed order, and without empty
        ones.
        """
        kept = (self.times > 0) & self.counts.any(axis=1)
        if not kept.any():
            return Bins.none(self.counts.shape[1])
        types, counts = self.types[kept], self.counts[kept]
        first, where = distinct_rows(np.column_stack([types, counts]))
        times = np.bincount(where, weights=self.times[kept], minlength=len(first))
        return Bins(types[first], counts[first], np.asarray(times, dtype=np.float64))


def distinct_rows(rows: Floats) -> tuple[Ints, Ints]:
    """Return where each distinct one of *rows* comes first, in a fixed order, and which each is.

    Rows are wide, so they are told apart as bytes; amounts of nothing or more are then in order.
    """
    width = rows.shape[1] * 8
    data = np.ascontiguousarray(rows, dtype=">f8").tobytes()
    keys = [data[start : start + width] for start in range(0, len(data), width)]
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    order = sorted(first)
    number = {key: place for place, key in enumerate(order)}
    return (
        np.array([first[key] for key in order], dtype=np.int64),
        np.array([number[key] for key in keys], dtype=np.int64),
    )


def trimmed(bins: Bins, demand: Floats) -> Bins:
    """Return *bins* without the pods that exceed *demand*, taken from the patterns that come
    last.
    """
    excess = bins.packed() - demand
    if not (excess > 0).any():
        return bins
    types, counts, times = list(bins.types), list(bins.counts), list(bins.times)
    for row in range(len(times) - 1, -1, -1):
        while True:
            over = np.flatnonzero((excess > 0) & (counts[row] > 0))
            if not len(over):
                break
            # Take the same cut from as many copies as the scarcest excess allows.
            cut = np.minimum(counts[row][over], excess[over])
            copies = min(times[row], float(np.floor((excess[over] / cut).min())))
            smaller = counts[row].copy()
            smaller[over] -= cut
            excess[over] -= cut * copies
            if copies == times[row]:
                counts[row] = smaller
            else:
                times[row] -= copies
                types.append(types[row])
                counts.append(smaller)
                times.append(copies)
    return Bins(np.array(types, dtype=np.int64), np.array(counts), np.array(times))
