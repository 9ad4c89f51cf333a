"""What a launch may list: every alternative that EC2 may pick for a planned node, nothing that it
may not.

Decides which of a bin's rows go on the list (rules 3, 8, 9, 13): all that hold its pods; one that a
settled domain rules out comes back where the bin is the only one that the constraint sees; those
that a limit would not carry are left off, cheapest kept; Spot dearer than the cheapest on-demand
goes, unless minValues wants variety. A bin on a reservation lists that reservation, and others that
nobody uses. Refuses to move pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from outrider.apis.labels import CAPACITY_TYPE, ON_DEMAND, SPOT
from outrider.core.scheduling.bins import Content
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Bin, Run
from outrider.core.scheduling.supply import Amounts, Mask, distinct, holding
from outrider.core.scheduling.tally import Counts
from outrider.core.scheduling.topology import Topology


def listed(run: Run) -> list[Mask]:
    """Return for every bin of *run* the rows that go on its list."""
    alone = _seen_alone(run)
    slots = dict(run.slots)
    budgets = [budget.copy() for budget in run.budgets]
    usual: dict[int, Mask] = {}
    lists = []
    for known in run.bins:
        content = known.content
        if known.reservation is None and not alone[known.index] and not content.shelf.limited:
            rows = usual.get(id(content))
            if rows is None:
                rows = usual[id(content)] = _affordable(run.problem, content, content.live)
            lists.append(rows)
            continue
        rows = content.live
        if known.reservation is not None:
            rows = rows | _spare_reservations(run, known, slots)
        elif alone[known.index]:
            rows = rows | _widened(run, known, alone[known.index])
        if content.shelf.limited:
            rows = _within_limits(run, known, rows, budgets)
        lists.append(_affordable(run.problem, content, rows))
    return lists


def _affordable(problem: Problem, content: Content, rows: Mask) -> Mask:
    return rows if content.shelf.min_values else _without_dear_spot(problem, rows)


def _seen_alone(run: Run) -> list[tuple[str, ...]]:
    """Return for every bin the settled keys on which no other bin is seen by the same tallies."""
    seen: Counter[int] = Counter()
    looks: list[frozenset[int]] = []
    items = run.problem.tallies.items
    if all(item.hosted for item in items):
        return [()] * len(run.bins)
    of_ask: dict[int, frozenset[int]] = {}
    for known in run.bins:
        mine: frozenset[int] = frozenset()
        for ask in dict.fromkeys(known.asks):
            if ask.index not in of_ask:
                of_ask[ask.index] = frozenset(
                    tally for tally in _tallies(ask) if not items[tally].hosted
                )
            mine |= of_ask[ask.index]
        looks.append(mine)
        seen.update(mine)
    found = []
    for mine in looks:
        keys = {items[tally].key for tally in mine}
        crowded = {items[tally].key for tally in mine if seen[tally] > 1}
        found.append(tuple(sorted(keys - crowded)))
    return found


def _tallies(ask: Ask) -> set[int]:
    return {
        *ask.counted,
        *ask.apart,
        *ask.repelled,
        *(use.tally for use in ask.spreads),
        *(tally for near in ask.near for tally in near.tallies),
    }


def _widened(run: Run, known: Bin, keys: Sequence[str]) -> Mask:
    """Return the rows of other domains on which the bin's pods would be just as well."""
    problem, content = run.problem, known.content
    kept = {
        key: run.contents.domains(content, key)
        for key in sorted({key for ask in known.asks for key in ask.keys} - set(keys))
    }
    counts = _without(run, known)
    wide = np.zeros(problem.market.size, bool)
    start = content.shelf.rows & ~problem.reservations.held
    for key in keys:
        others = {name: run.contents.domains(content, name) for name in keys if name != key}
        for value in sorted(problem.values(content.shelf, key, start)):
            fixed = {**kept, **others, key: frozenset((value,))}
            wide |= _replayed(run, known, start, fixed, counts)
    return wide


def _without(run: Run, known: Bin) -> Counts:
    """Return the run's counts as if the bin's pods were not there."""
    counts = run.topology.counts.copy()
    items = run.problem.tallies.items
    for ask in known.asks:
        for tally in ask.counted:
            if run.contents.counts(known.content, tally):
                key = items[tally].key
                values = () if items[tally].hosted else run.contents.domains(known.content, key)
                counts.total[tally] -= 1
                for value in values:
                    counts.by_domain[tally][value] -= 1
    return counts


def _replayed(
    run: Run, known: Bin, start: Mask, fixed: Mapping[str, frozenset[str]], counts: Counts
) -> Mask:
    """Return the rows left when the bin's pods come one by one with keys *fixed*, none if they
    cannot."""
    nothing = np.zeros(run.problem.market.size, bool)
    content: Content | None = run.contents.empty(known.content.shelf, start)
    topology = Topology(run.problem, counts.copy())
    for ask in known.asks:
        if content is None or topology.refuses(ask, content) is not None:
            return nothing
        admitted = topology.admitted(ask)
        domains = []
        for key in ask.keys:
            values = fixed.get(key, frozenset())
            if len(values) == 1:
                value = next(iter(values))
                if not admitted[key].has(value):
                    return nothing
                domains.append((key, value))
        grown = run.contents.after(content, ask, tuple(domains))
        if not isinstance(grown, Content):
            return nothing
        content = grown
        counting = [tally for tally in ask.counted if run.contents.counts(content, tally)]
        topology.placed_in_bin(ask, dict(domains), counting)
    return nothing if content is None else content.live


def _spare_reservations(run: Run, known: Bin, slots: dict[str, int]) -> Mask:
    """Return the rows of reservations with an instance to spare that hold the bin as well."""
    spare = np.zeros(run.problem.market.size, bool)
    problem, shelf = run.problem, known.content.shelf
    if any(ask.keys for ask in known.asks):
        return spare
    for reservation in problem.reservations.items:
        if slots[reservation.id] <= 0 or reservation.id == known.reservation:
            continue
        if shelf.limited:
            continue
        fixed: Mapping[str, frozenset[str]] = {}
        start = shelf.rows & reservation.rows
        if known.content.plain:
            start = start & ~run.contents.exotic
        rows = _replayed(run, known, start, fixed, run.topology.counts) if start.any() else start
        if rows.any():
            slots[reservation.id] -= 1
            spare |= rows
    return spare


def _within_limits(run: Run, known: Bin, rows: Mask, budgets: list[Amounts]) -> Mask:
    """Return the *rows* that what is left of the limits carries, and take the largest off it."""
    shelf = known.content.shelf
    row_type = run.problem.market.row_type
    ceiling = budgets[shelf.index] + known.committed
    kept = rows & holding(ceiling, shelf.capacity)[row_type]
    largest = shelf.capacity[distinct(row_type[kept])].max(axis=0)
    budgets[shelf.index] = ceiling - np.maximum(largest, known.committed)
    return kept


def _without_dear_spot(problem: Problem, rows: Mask) -> Mask:
    market = problem.market
    column = market.column(CAPACITY_TYPE)
    if column is None:
        return rows
    on_demand = rows & column.where(lambda item: item.single == ON_DEMAND)
    if not on_demand.any():
        return rows
    cheapest = market.price[on_demand].min()
    spot = column.where(lambda item: item.single == SPOT)
    dear: Mask = spot & (market.price > cheapest)
    return rows & ~dear
