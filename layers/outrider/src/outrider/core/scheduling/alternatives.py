"""From a planned node to a Launch: every alternative that EC2 may pick, and nothing that it may
not.

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
from numpy.typing import NDArray

from outrider.apis.labels import CAPACITY_TYPE, INSTANCE_TYPE, ON_DEMAND, SPOT, ZONE
from outrider.core.requirements import Requirements
from outrider.core.resources import total
from outrider.core.scheduling.bins import Content
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.result import Choice, Launch
from outrider.core.scheduling.run import Bin, Run
from outrider.core.scheduling.supply import Amounts, Mask, distinct, holding
from outrider.core.scheduling.tally import Counts
from outrider.core.scheduling.topology import Topology


def launches(run: Run, gangs: Mapping[int, str]) -> tuple[Launch, ...]:
    """Return a Launch for every bin of *run*, numbered by pool in the order of planning."""
    lists = listed(run)
    numbers: Counter[str] = Counter()
    found = []
    for known in run.bins:
        pool = known.content.shelf.name
        numbers[pool] += 1
        found.append(_launch(run, known, f"{pool}-{numbers[pool]}", lists[known.index], gangs))
    return tuple(found)


def listed(run: Run) -> list[Mask]:
    """Return for every bin of *run* the rows that go on its list."""
    alone = _seen_alone(run)
    slots = dict(run.slots)
    budgets = [budget.copy() for budget in run.budgets]
    lists = []
    for known in run.bins:
        content = known.content
        rows = content.live
        if known.reservation is not None:
            rows = rows | _spare_reservations(run, known, slots)
        elif alone[known.index]:
            rows = rows | _widened(run, known, alone[known.index])
        if content.shelf.limited and not content.shelf.min_values:
            rows = _within_limits(run, known, rows, budgets)
        if not content.shelf.min_values:
            rows = _without_dear_spot(run.problem, rows)
        lists.append(rows)
    return lists


def _seen_alone(run: Run) -> list[tuple[str, ...]]:
    """Return for every bin the settled keys on which no other bin is seen by the same tallies."""
    seen: Counter[int] = Counter()
    looks: list[set[int]] = []
    items = run.problem.tallies.items
    for known in run.bins:
        mine = {
            tally for _, ask in known.pods for tally in _tallies(ask) if not items[tally].hosted
        }
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
        for key in sorted({key for _, ask in known.pods for key in ask.keys} - set(keys))
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
    for _, ask in known.pods:
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
    for _, ask in known.pods:
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
    if any(ask.keys for _, ask in known.pods):
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


def _launch(run: Run, known: Bin, name: str, rows: Mask, gangs: Mapping[int, str]) -> Launch:
    problem, shelf = run.problem, known.content.shelf
    market, template = problem.market, shelf.pool.spec.template
    order = np.flatnonzero(rows)
    order = order[np.argsort(market.rank[order], kind="stable")]
    choices = tuple(_choice(problem, row) for row in order.tolist())
    kinds = sorted({int(kind) for kind in market.row_type[order]})
    requirements = (
        shelf.requirements.intersect(known.content.claims)
        .only(INSTANCE_TYPE, {choice.instance_type for choice in choices})
        .only(ZONE, {choice.zone for choice in choices})
        .only(CAPACITY_TYPE, {choice.capacity_type for choice in choices})
    )
    members = {gangs[pod] for pod, _ in known.pods if pod in gangs}
    return Launch(
        name=name,
        node_pool=shelf.name,
        node_class=shelf.pool.node_class,
        pods=tuple(sorted(problem.pods[pod].key for pod, _ in known.pods)),
        requirements=requirements,
        labels=_labels(run, known, requirements),
        annotations=dict(template.metadata.annotations),
        taints=shelf.pool.taints,
        startup_taints=shelf.pool.startup_taints,
        requests=_requests(run, known, order),
        choices=choices,
        max_pods={
            kind.name: kind.capacity["pods"]
            for index in kinds
            if (kind := shelf.types[index]) is not None and "pods" in kind.capacity
        },
        expire_after=template.spec.expire_after,
        termination_grace_period=template.spec.termination_grace_period,
        gang=min(members) if members else None,
    )


def _choice(problem: Problem, row: int) -> Choice:
    market = problem.market
    offering = market.offerings[row]
    return Choice(
        instance_type=market.types[market.row_type[row]].name,
        zone=offering.zone,
        capacity_type=offering.capacity_type,
        price_per_hour=float(market.price[row]),
        zone_id=offering.zone_id,
        reservation_id=offering.reservation_id,
    )


def _labels(run: Run, known: Bin, requirements: Requirements) -> dict[str, str]:
    """Return the labels of the template, and those custom ones that the claim settles."""
    shelf = known.content.shelf
    found = dict(shelf.pool.spec.template.metadata.labels)
    stated = {item.key for item in shelf.pool.spec.template.spec.requirements}
    for key in sorted(stated):
        requirement = requirements.get(key)
        if requirement is None or key in run.problem.market.keys or key in found:
            continue
        if not requirement.complement and requirement.values:
            found[key] = min(requirement.values)
    return found


def _requests(run: Run, known: Bin, order: NDArray[np.int64]) -> dict[str, int]:
    """Return what the pods ask, with the least that the daemons take on any listed type."""
    shelf, axis = known.content.shelf, run.problem.axis
    least = shelf.overhead[distinct(shelf.shape[order])].min(axis=0)
    asked = total((*(ask.requests for _, ask in known.pods), axis.amounts(least)))
    return {name: asked[name] for name in sorted(asked) if asked[name]}
