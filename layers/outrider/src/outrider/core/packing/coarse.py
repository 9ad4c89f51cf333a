"""Fewer classes: similar ones are packed as if all of them were as large as the largest.

Some resources come in hundreds of amounts (CPU, memory), others in a few (GPUs, pods, ports).
Classes that fit the same types and agree on the few are put together when the others agree to
within a few percent; the grid grows until there are few enough classes. Whatever a bin holds for
the largest it holds for each, so the packing stays valid; what it costs is bounded by the grid,
and most of it comes back when spare room is filled at the end. Bounds are never taken from the
coarse problem.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from outrider.core.packing.bins import Bins
from outrider.core.packing.problem import Floats, Ints, Problem

FEW = 24  # distinct amounts up to which a resource is never rounded
GRIDS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.3, 0.5)


@dataclass(frozen=True, slots=True)
class Coarse:
    """The problem with fewer classes, and the coarse class of each class."""

    problem: Problem
    group: Ints


def coarsened(problem: Problem, most: int) -> Coarse:
    """Return *problem* with at most about *most* classes."""
    classes = len(problem.demand)
    if classes <= most:
        return Coarse(problem, np.arange(classes))
    fits = np.packbits(problem.compatible, axis=1)
    many = np.array([len(np.unique(column)) > FEW for column in problem.requests.T])
    group = np.arange(classes)
    for grid in GRIDS:
        steps = np.zeros_like(problem.requests)
        asked = problem.requests > 0
        np.log(problem.requests, out=steps, where=asked)
        steps = np.where(many & asked, np.ceil(steps / np.log1p(grid)), problem.requests)
        _, where = np.unique(np.hstack([fits, steps]), axis=0, return_inverse=True)
        group = _kept_apart(problem, where.reshape(-1))
        if group.max() < most:
            break
    return Coarse(_grouped(problem, group), group)


def _largest(problem: Problem, group: Ints) -> Floats:
    """Return, per group, the largest request for each resource."""
    largest = np.zeros((int(group.max()) + 1, problem.requests.shape[1]))
    np.maximum.at(largest, group, problem.requests)
    return largest


def _kept_apart(problem: Problem, group: Ints) -> Ints:
    """Return *group* with those split up whose largest fits fewer types than its members."""
    largest = _largest(problem, group)
    fits = (largest[group][:, None, :] <= problem.allocatable[None]).all(axis=2)
    lost = (problem.compatible & ~fits).any(axis=1)
    apart = np.zeros(int(group.max()) + 1, dtype=np.bool_)
    apart[group[lost]] = True
    split = np.flatnonzero(apart[group])
    group = group.copy()
    group[split] = int(group.max()) + 1 + np.arange(len(split))
    return np.unique(group, return_inverse=True)[1].reshape(-1)


def _grouped(problem: Problem, group: Ints) -> Problem:
    """Return the problem whose classes are the groups."""
    _, first = np.unique(group, return_index=True)
    return replace(
        problem,
        requests=_largest(problem, group),
        demand=np.asarray(np.bincount(group, weights=problem.demand), dtype=np.float64),
        compatible=problem.compatible[first],
    )


def refined(problem: Problem, coarse: Coarse, bins: Bins) -> Bins:
    """Return *bins* of the coarse problem as bins of *problem*: members take the places in turn."""
    if coarse.problem is problem:
        return bins
    queues: list[list[int]] = [[] for _ in coarse.problem.demand]
    for member, group in enumerate(coarse.group):
        queues[group].append(member)
    for members in queues:
        members.sort(key=lambda member: tuple(problem.requests[member]), reverse=True)
    left = problem.demand.copy()
    types: list[int] = []
    patterns: list[Floats] = []
    times: list[float] = []
    for kind, counts, copies in zip(bins.types, bins.counts, bins.times, strict=True):
        remaining = float(copies)
        while remaining > 0:
            pattern, repeat = _next(np.flatnonzero(counts), counts, queues, left, remaining)
            remaining -= repeat
            if pattern.any():
                left -= pattern * repeat
                types.append(int(kind))
                patterns.append(pattern)
                times.append(repeat)
    if not types:
        return Bins.none(len(problem.demand))
    return Bins(np.array(types, dtype=np.int64), np.array(patterns), np.array(times)).merged()


def _next(
    inside: Ints, counts: Floats, queues: list[list[int]], left: Floats, most: float
) -> tuple[Floats, float]:
    """Return the members for one bin with *counts*, and for how many bins in a row they last."""
    pattern, repeat = np.zeros(len(left)), most
    for group in inside:
        queue = queues[group]
        places = counts[group]
        while queue and left[queue[0]] <= 0:
            queue.pop(0)
        for member in queue:
            taken = min(places, left[member])
            pattern[member] = taken
            places -= taken
            if taken > 0:
                repeat = min(repeat, float(left[member] // taken))
            if places <= 0:
                break
    return pattern, max(1.0, repeat)
