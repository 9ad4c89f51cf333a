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

from outrider.core.packing.bins import Bins, distinct_rows
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
        _, where = distinct_rows(np.hstack([fits, steps]))
        group = _kept_apart(problem, where)
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


def refined(problem: Problem, coarse: Coarse, bins: Bins, worth: Floats) -> Bins:
    """Return *bins* of the coarse problem as bins of *problem*: members take the places in turn.

    Where they leave room, other pods come in, those of most *worth* first; bins that nobody is left
    for at the end are not bought.
    """
    if coarse.problem is problem:
        return bins
    seats = _Seats(problem, coarse, worth)
    types: list[int] = []
    patterns: list[Floats] = []
    times: list[float] = []
    for kind, counts, copies in zip(bins.types, bins.counts, bins.times, strict=True):
        remaining = float(copies)
        while remaining > 0:
            pattern, repeat = seats.taken(int(kind), counts, remaining)
            remaining -= repeat
            if pattern.any():
                types.append(int(kind))
                patterns.append(pattern)
                times.append(repeat)
    if not types:
        return Bins.none(len(problem.demand))
    return Bins(np.array(types, dtype=np.int64), np.array(patterns), np.array(times)).merged()


class _Seats:
    """Who still has to find a place: the members of each group, and how many pods of each."""

    def __init__(self, problem: Problem, coarse: Coarse, worth: Floats) -> None:
        """Queue the members of each group."""
        self.problem, self.left = problem, problem.demand.copy()
        self.queues: list[list[int]] = [[] for _ in coarse.problem.demand]
        for member in np.lexsort((*problem.requests.T, worth))[::-1]:
            self.queues[coarse.group[member]].append(int(member))
        self.order = np.argsort(-worth, kind="stable")

    def taken(self, kind: int, counts: Floats, most: float) -> tuple[Floats, float]:
        """Return the pods for one bin of *kind* with places for *counts*, and for how many bins."""
        pattern, repeat = np.zeros(len(self.left)), most
        for group in np.flatnonzero(counts):
            queue, places = self.queues[group], counts[group]
            while queue and self.left[queue[0]] <= 0:
                queue.pop(0)
            for member in queue:
                taken = min(places, self.left[member])
                pattern[member] = taken
                places -= taken
                if taken > 0:
                    repeat = min(repeat, float(self.left[member] // taken))
                if places <= 0:
                    break
        repeat = max(1.0, repeat)
        self.left -= pattern * repeat
        self._topped_up(kind, pattern, repeat)
        return pattern, repeat

    def _topped_up(self, kind: int, pattern: Floats, repeat: float) -> None:
        """Add to *pattern* what room it leaves in *repeat* bins of *kind*."""
        problem = self.problem
        room = problem.allocatable[kind] - pattern @ problem.requests
        waiting = self.order[
            (self.left[self.order] >= repeat) & problem.compatible[self.order, kind]
        ]
        while len(waiting):
            waiting = waiting[(problem.requests[waiting] <= room).all(axis=1)]
            if not len(waiting):
                return
            first, waiting = waiting[0], waiting[1:]
            request = problem.requests[first]
            asked = request > 0
            fits = float(np.floor(room[asked] / request[asked]).min(initial=np.inf))
            more = min(fits, float(self.left[first] // repeat))
            pattern[first] += more
            self.left[first] -= more * repeat
            room = room - more * request
