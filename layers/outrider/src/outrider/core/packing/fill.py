"""Fill many bins at once: every array operation works on all bins, one class after the other.

The bins are independent trials: each has a type and what it holds so far. Classes are offered in
an order, each bin takes as many pods as fit and as there are. The order is one for all, or one
for each type. Pods are never objects: a trial is a column.
"""

from __future__ import annotations

import numpy as np

from outrider.core.packing.problem import Floats, Ints, Problem

COMMON = 0.1  # a resource that so large a share of the classes ask for


def in_one_order(
    problem: Problem, types: Ints, order: Ints, available: Floats, forced: Ints | None = None
) -> Floats:
    """Return what bins of *types* hold after taking classes in *order*, [P, S].

    A bin takes at most the *available* pods of a class; with *forced*, one pod of that class first.
    """
    counts = np.zeros((len(available), len(types)))
    room = problem.allocatable[types].T.copy()
    if forced is not None:
        counts[forced, np.arange(len(types))] = 1.0
        room -= problem.requests[forced].T
    compatible = problem.compatible[:, types]
    for pod_class in order:
        if available[pod_class] <= 0:
            continue
        request = problem.requests[pod_class]
        take = available[pod_class] - counts[pod_class]
        resources = request.nonzero()[0]
        for resource in resources:
            np.minimum(take, np.floor(room[resource] / request[resource]), out=take)
        np.maximum(take, 0.0, out=take)
        take *= compatible[pod_class]
        if not take.any():
            continue
        counts[pod_class] += take
        for resource in resources:
            room[resource] -= take * request[resource]
    return counts.T


def in_own_order(problem: Problem, types: Ints, order: Ints, most: Floats, start: Floats) -> Floats:
    """Return what bins of *types* hold after taking classes in each one's own order, [P, S].

    *order* has one row a bin; -1 ends it. *most* is how many pods of a class each bin may hold at
    all, [S, P]; *start* is what each holds to begin with, [P, S].
    """
    trials = np.arange(len(types))
    counts = np.ascontiguousarray(start.T)
    room = problem.allocatable[types].T - problem.requests.T @ counts
    requests = np.ascontiguousarray(problem.requests.T)
    # Division by NaN is NaN, and fmin passes over it: what is not asked for sets no bound.
    divisors = np.where(requests > 0, requests, np.nan)
    asked = requests > 0
    # Most classes ask for CPU and memory; what few ask for is looked at when one of them comes.
    common = np.flatnonzero(asked.mean(axis=1) > COMMON)
    rare = np.setdiff1d(np.flatnonzero(asked.any(axis=1)), common)
    left = most - counts
    for step in range(order.shape[1]):
        pod_class = order[:, step]
        take = np.where(pod_class >= 0, left[pod_class, trials], 0.0)
        for resource in common:
            np.fmin(take, np.floor(room[resource] / divisors[resource, pod_class]), out=take)
        if len(rare):
            for resource in rare[asked[np.ix_(rare, np.unique(pod_class))].any(axis=1)]:
                np.fmin(take, np.floor(room[resource] / divisors[resource, pod_class]), out=take)
        np.maximum(take, 0.0, out=take)
        if not take.any():
            continue
        counts[pod_class, trials] += take
        left[pod_class, trials] -= take
        room -= take * requests[:, pod_class]
    return counts.T
