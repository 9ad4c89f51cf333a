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
    compatible = problem.compatible[:, types].astype(float)  # multiplied by: no cast at each class
    part = np.empty(len(types))
    offered = (available > 0) & compatible.any(axis=1)
    for pod_class in order[offered[order]].tolist():
        request = problem.requests[pod_class]
        asked = [(room[at], request[at]) for at in request.nonzero()[0].tolist()]
        take = available[pod_class] - counts[pod_class]
        for free, amount in asked:
            np.minimum(take, np.divide(free, amount, out=part), out=take)
        # The least of whole parts is the whole part of the least; of room that is a rounding error
        # below nothing it is nothing.
        np.trunc(take, out=take)
        take *= compatible[pod_class]
        if not np.count_nonzero(take):
            continue
        counts[pod_class] += take
        for free, amount in asked:
            np.subtract(free, np.multiply(take, amount, out=part), out=free)
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
    common, rare = common_and_rare(requests)
    left = most - counts
    for step in range(order.shape[1]):
        pod_class = order[:, step]
        take = np.where(pod_class >= 0, left[pod_class, trials], 0.0)
        for resource in common:
            np.fmin(take, room[resource] / divisors[resource, pod_class], out=take)
        for which in rare:
            resource = which[pod_class]
            rows = np.flatnonzero((resource >= 0) & (take > 0))
            one, kind = resource[rows], pod_class[rows]
            take[rows] = np.minimum(take[rows], room[one, rows] / requests[one, kind])
        np.floor(take, out=take)
        np.maximum(take, 0.0, out=take)
        if not take.any():
            continue
        counts[pod_class, trials] += take
        left[pod_class, trials] -= take
        for resource in common:
            room[resource] -= take * requests[resource, pod_class]
        for which in rare:
            resource = which[pod_class]
            rows = np.flatnonzero((resource >= 0) & (take > 0))
            room[resource[rows], rows] -= take[rows] * requests[resource[rows], pod_class[rows]]
    return counts.T


def common_and_rare(requests: Floats) -> tuple[Ints, list[Ints]]:
    """Return the resources that many classes ask for, and lists of one other for each class.

    Everyone asks for CPU and memory; a host port or a spread group is asked for by few, and there
    may be dozens of such. A list names for every class its first, its second and so on, or -1.
    """
    asked = requests > 0
    common = np.flatnonzero(asked.mean(axis=1) > COMMON)
    asked[common] = False
    place = np.cumsum(asked, axis=0) * asked
    rare = []
    for turn in range(1, int(place.max(initial=0)) + 1):
        here = place == turn
        rare.append(np.where(here.any(axis=0), here.argmax(axis=0), -1))
    return common, rare
