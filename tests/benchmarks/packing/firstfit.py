"""First-fit on one open pool, as Karpenter packs: the rival in every table, re-created plainly.

Pods by CPU, then memory, largest first. Each goes to the in-flight claim with the fewest pods
that still has one instance type to hold everything, else to a new claim that may be any type.
Prices are looked at only at the end: every claim becomes the cheapest type left, a generic one if
there is any.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.packing.batches import Pods
from tests.benchmarks.packing.pools import Pool


def first_fit(pods: Pods, pool: Pool, seed: int = 0) -> tuple[float, int]:
    """Return what first-fit pays per hour for *pods*, and on how many nodes; *seed* breaks ties."""
    tie = np.random.default_rng(seed).permutation(len(pods))
    order = np.lexsort((tie, -pods[:, 1], -pods[:, 0]))
    largest = _front(pool.allocatable)
    used = np.zeros((len(pods) + 1, pods.shape[1]))
    count = np.full(len(pods) + 1, len(pods) + 1)
    opened = 0
    for pod in pods[order]:
        ahead = np.argsort(count[:opened], kind="stable")
        fits = ((used[ahead, None] + pod) <= largest).all(axis=2).any(axis=1)
        if fits.any():
            claim = ahead[int(fits.argmax())]
        elif (pod <= largest).all(axis=1).any():
            claim, opened = opened, opened + 1
            count[claim] = 0
        else:
            continue
        used[claim] += pod
        count[claim] += 1
    return float(sum(_cheapest(claim, pool) for claim in used[:opened])), opened


def _front(allocatable: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the types that no other type exceeds everywhere: those that decide whether a pod
    fits.
    """
    distinct = np.unique(allocatable, axis=0)
    above = (distinct[:, None] <= distinct[None]).all(axis=2)
    return distinct[above.sum(axis=1) == 1]


def _cheapest(used: NDArray[np.float64], pool: Pool) -> float:
    """Return the price of the cheapest type that holds *used*; types with GPUs come last."""
    holds = (used <= pool.allocatable).all(axis=1)
    generic = holds & (pool.allocatable[:, 3] == 0)
    return float(pool.price[generic if generic.any() else holds].min())
