"""The best contents of a bin, searched class by class, with a proof.

A relaxed knapsack values a full bin at more than any whole contents reach; what contents lose
against it is the sum of what each pod is worth less than the room it takes, and of the room left
over. The search adds classes from the largest down to all partial contents at once and drops what
has already lost more than may be lost: the relaxed value less the target to beat. Room that the
classes still to come cannot fill to its full worth is charged at once. A bounded number of
partial contents is kept; what is dropped for lack of places is remembered in the bound.

This is enumeration with bounds, narrow on purpose: it clears most types in a millisecond each. What
it leaves loose goes to HiGHS (`exact`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider.core.packing.pricing import Contents, Relaxed
from outrider.core.packing.problem import Floats, Ints, Problem

KEPT = 5  # contents returned for each type
MADE = 8  # making partial contents is so many times the work of looking at some
WAYS = 4  # orders in which room is cut
AT_ONCE = 200_000  # partial contents made at a time: bounds the memory
NARROW = 50  # partial contents kept once the work is used up
TRIFLE = 1e-12


@dataclass(frozen=True, slots=True)
class Found:
    """Contents above their targets, for each type a bound that no contents exceed [A], and the
    work.
    """

    contents: Contents
    bound: Floats
    work: int


def search(
    problem: Problem,
    types: Ints,
    most: Floats,
    worth: Floats,
    relaxed: Relaxed,
    target: Floats,
    width: int,
    most_work: float = np.inf,
) -> Found:
    """Return contents worth more than *target* [A], and bounds; *width* partial contents are kept.

    A type whose relaxed value does not exceed its target is not searched. The work is the number of
    partial contents looked at.
    """
    bound = relaxed.value.copy()
    budget = relaxed.value - target
    kinds: list[Ints] = []
    counts: list[Floats] = []
    work = 0
    for which in np.flatnonzero(budget > TRIFLE * np.maximum(1.0, relaxed.value)):
        kind = types[which]
        knapsack = _Knapsack(
            problem, kind, most[:, kind], worth, relaxed.resource[which], float(budget[which])
        )
        found, least = knapsack.searched(problem.allocatable[kind], width, most_work - work)
        bound[which] = max(target[which], relaxed.value[which] - least)
        work += knapsack.work
        kinds.append(np.full(len(found), kind))
        counts.append(found)
    if not kinds:
        return Found(Contents(np.zeros(0, dtype=np.int64), np.zeros((0, len(worth)))), bound, 0)
    return Found(Contents(np.concatenate(kinds), np.vstack(counts)), bound, work)


@dataclass(slots=True)
class _Level:
    """Partial contents: what each is made of, the room left [R, N], and the loss so far."""

    node: Ints
    room: Floats
    loss: Floats

    def take(self, rows: Ints) -> _Level:
        """Return those in *rows*."""
        return _Level(self.node[rows], self.room[:, rows], self.loss[rows])

    def plus(self, other: _Level) -> _Level:
        """Return these and the *other* ones."""
        if not len(other.node):
            return self
        return _Level(
            np.concatenate([self.node, other.node]),
            np.hstack([self.room, other.room]),
            np.concatenate([self.loss, other.loss]),
        )


class _Knapsack:
    """One type's knapsack: classes from the largest down, what they lose, and partial contents."""

    def __init__(
        self,
        problem: Problem,
        kind: int,
        most: Floats,
        worth: Floats,
        resource: Floats,
        budget: float,
    ) -> None:
        """Look up what the search needs; *resource* is what a unit of each resource is worth."""
        size = problem.requests @ resource
        loss = size - worth
        usable = worth_a_place(problem, kind, most, worth, loss, budget)
        self.order = usable[np.argsort(-size[usable], kind="stable")]
        self.classes, self.resource, self.budget = len(worth), resource, budget
        self.requests, self.loss = problem.requests[self.order], loss[self.order]
        self.most = most[self.order]
        self.waste = _waste(self.requests, resource, self.loss)
        self.work = 0
        self.dropped = np.inf  # the least loss of what was dropped for lack of places
        # The partial contents made so far: each is another one with some pods of one class added.
        self.parents: list[Ints] = []
        self.added: list[tuple[int, Floats]] = []

    def searched(self, allocatable: Floats, width: int, most_work: float) -> tuple[Floats, float]:
        """Return the best contents, [P, S], and the least that any lose, known or dropped.

        After *most_work* the search goes on with few partial contents, to come to an end.
        """
        level = _Level(np.zeros(1, dtype=np.int64), allocatable[:, None].copy(), np.zeros(1))
        for depth in range(len(self.order)):
            if self.work > most_work:
                width = min(width, NARROW)
            level, count = self._affordable(depth, level)
            grown = self._grown(depth, level, count)
            if self.loss[depth] < 0:
                # A class with a profit beyond its room is in the relaxed value as often as allowed.
                level.loss = level.loss - self.loss[depth] * self.most[depth]
            level = level.plus(grown)
            if len(level.node) > width or depth % 4 == 3:
                level = self._narrowed(depth, level, width)
        total = level.loss + self.resource @ level.room
        good = np.flatnonzero(total < self.budget)
        best = good[np.argsort(total[good], kind="stable")[:KEPT]]
        least = float(total[best[0]]) if len(best) else np.inf
        return self._contents(level.node[best]), min(self.dropped, least)

    def _affordable(self, depth: int, level: _Level) -> tuple[_Level, Floats]:
        """Return how many pods of the class at *depth* each of *level* may take.

        Where that would make too many at once, only the most promising of *level* are returned.
        """
        request, lost = self.requests[depth], self.loss[depth]
        count = np.full(len(level.node), self.most[depth])
        for resource in request.nonzero()[0]:
            np.minimum(count, np.floor(level.room[resource] / request[resource]), out=count)
        if lost > 0:
            np.minimum(count, np.floor((self.budget - level.loss) / lost), out=count)
        np.maximum(count, 0.0, out=count)
        self.work += len(count)
        if count.sum() <= AT_ONCE:
            return level, count
        total = self._total(depth, level)
        order = np.argsort(total, kind="stable")
        kept = max(1, int(np.searchsorted(np.cumsum(count[order]), AT_ONCE)))
        if kept < len(order):
            self.dropped = min(self.dropped, float(total[order[kept]]))
        order = np.sort(order[:kept])
        return level.take(order), count[order]

    def _grown(self, depth: int, level: _Level, count: Floats) -> _Level:
        """Return the partial contents that take up to *count* pods of the class at *depth*."""
        request, lost, allowed = self.requests[depth], self.loss[depth], self.most[depth]
        takers = np.flatnonzero(count > 0)
        choices = count[takers].astype(np.int64)
        which = np.repeat(np.arange(len(takers)), choices)
        taken = np.arange(len(which)) - (np.cumsum(choices) - choices)[which] + 1.0
        parent = takers[which]
        self.work += MADE * len(parent)
        loss = level.loss[parent] + (lost * taken if lost >= 0 else -lost * (allowed - taken))
        room = level.room[:, parent] - request[:, None] * taken
        total = loss + (self.waste[depth + 1] @ room).max(axis=0, initial=0.0)
        kept = np.flatnonzero(total < self.budget)
        nodes = 1 + sum(len(parents) for parents in self.parents)
        self.parents.append(level.node[parent[kept]])
        self.added.append((depth, taken[kept]))
        return _Level(np.arange(nodes, nodes + len(kept)), room[:, kept], loss[kept])

    def _narrowed(self, depth: int, level: _Level, width: int) -> _Level:
        """Return those of *level* that may still be worth it after *depth*, at most *width*."""
        total = self._total(depth + 1, level)
        alive = np.flatnonzero(total < self.budget)
        if len(alive) > width:
            ranked = alive[np.argsort(total[alive], kind="stable")]
            self.dropped = min(self.dropped, float(total[ranked[width]]))
            alive = np.sort(ranked[:width])
        return level.take(alive)

    def _total(self, depth: int, level: _Level) -> Floats:
        """Return what each of *level* has lost, with the room that is wasted from *depth* on."""
        wasted = (self.waste[depth] @ level.room).max(axis=0, initial=0.0)
        return np.asarray(level.loss + wasted)

    def _contents(self, nodes: Ints) -> Floats:
        """Return the contents that *nodes* stand for, [P, S]."""
        counts = np.zeros((len(nodes), self.classes))
        starts = np.cumsum([1, *(len(parents) for parents in self.parents)])
        for line, last in enumerate(nodes):
            node = int(last)
            while node:
                step = int(np.searchsorted(starts, node, side="right")) - 1
                depth, taken = self.added[step]
                counts[line, self.order[depth]] += taken[node - starts[step]]
                node = int(self.parents[step][node - starts[step]])
        return counts


def worth_a_place(
    problem: Problem, kind: int, most: Floats, worth: Floats, loss: Floats, budget: float
) -> Ints:
    """Return the classes that contents of *kind* may hold if they lose less than *budget*."""
    usable = np.flatnonzero((most > 0) & (worth > 0) & (loss < budget))
    # Bargains are counted on in the relaxed value, and must be charged if they are not taken.
    bargains = usable[loss[usable] < 0]
    others = _unrivalled(problem.requests, problem.allocatable[kind], most, worth, usable)
    return np.union1d(bargains, others)


def _unrivalled(
    requests: Floats, allocatable: Floats, most: Floats, worth: Floats, classes: Ints
) -> Ints:
    """Return those of *classes* that no other is worth as much as and takes no more room than.

    Only a class of which there are enough pods to fill the bin makes another one superfluous.
    """
    asked, valued = requests[classes], worth[classes]
    capacity = np.floor(allocatable / np.where(asked > 0, asked, np.nan))
    enough = np.fmin.reduce(capacity, axis=1, initial=np.inf) <= most[classes]
    rival = (valued[:, None] >= valued[None, :]) & enough[:, None]
    same = valued[:, None] == valued[None, :]
    for resource in asked.T:
        rival &= resource[:, None] <= resource[None, :]
        same &= resource[:, None] == resource[None, :]
    rival &= ~(same & np.tri(len(classes), dtype=np.bool_))  # of equals the first stays
    return np.asarray(classes[~rival.any(axis=0)])


def _waste(requests: Floats, resource: Floats, loss: Floats) -> Floats:
    """Return, per level, by how much the worth of room may be cut with no class left a bargain.

    Room that is worth less to every class still to come loses the difference for certain. Cuts are
    made one resource after the other, in a few orders [I + 1, K, R]; the search takes the dearest.
    """
    classes, resources = requests.shape
    order = np.argsort(-resource * (requests > 0).mean(axis=0), kind="stable")
    ways = min(resources, WAYS)
    to_come = np.tri(classes + 1, classes, -1, dtype=np.bool_)
    spare = np.where(to_come, np.inf, np.maximum(loss, 0.0))
    asked = np.where(requests > 0, requests, np.nan)
    cuts = np.zeros((classes + 1, ways, resources))
    for first in range(ways):
        slack = spare
        for turn in range(resources):
            one = order[(first + turn) % resources]
            most = np.fmin.reduce(slack / asked[:, one], axis=1, initial=np.inf)
            cut = np.maximum(np.minimum(most, resource[one]), 0.0)
            cuts[:, first, one] = cut
            slack = slack - cut[:, None] * requests[:, one]
    return cuts
