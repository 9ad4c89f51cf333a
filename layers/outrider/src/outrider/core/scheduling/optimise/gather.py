"""Pods as the kernel's kinds: who is equal, and who goes where before anything is packed.

Decides which pods the kernel may pack. A pod whose neighbours in other zones matter is given its
zone first, one by one in the queue's order, as the counts then stand; pods that must share a node
become one demand with the room of all of them; what a node holds only so often is left to `units`.
Refuses those that no amount describes, which stay for `greedy`: pods that keep off others but not
off their like, and pods that want the company of pods that do not want theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from outrider.core.requirements import Requirement
from outrider.core.scheduling.bins import Domains
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.optimise.realise import Kind
from outrider.core.scheduling.optimise.units import quarrelling
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Amounts, Mask, holding
from outrider.core.scheduling.topology import Topology

Option = tuple[float, Domains]
"""Where a pod's topology keys may settle, and what the cheapest node there costs."""


@dataclass(eq=False)
class Gatherer:
    """Gathers the pods of one round into kinds, keeping its own counts of who goes where."""

    run: Run
    careful: bool
    zonal: bool = (
        True  # settle pods on zones; those whose neighbours there matter are left out else
    )
    _topology: Topology = field(init=False)
    _shelves: dict[int, tuple[Shelf, ...]] = field(default_factory=dict)
    _options: dict[tuple[int, bytes], tuple[Option, ...]] = field(default_factory=dict)
    _doubts: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Count from where the run stands."""
        self._topology = Topology(self.run.problem, self.run.topology.counts.copy())

    def gathered(self, asks: Mapping[int, Ask]) -> list[Kind]:
        """Return the kinds of the pods of *asks* that the kernel may pack, in their order."""
        company = _company(self.run, asks)
        refused = quarrelling(self.run.problem, asks)
        followers = {pod for group in company.values() for pod in group[1:]}
        found: dict[tuple[object, ...], Kind] = {}
        free: dict[int, Kind] = {}  # of asks that nothing ties to others: one kind for all
        for pod, ask in asks.items():
            if ask.index in free:
                free[ask.index].pods.append(pod)
                continue
            if pod in followers or ask.index in refused or not self._is_packable(ask):
                continue
            if self._is_doubtful(ask):
                continue
            group = company.get(pod)
            if group is None and _wants_company(self.run.problem, ask):
                continue
            members = tuple((other, asks[other]) for other in (group or (pod,))[1:])
            kind = self._settled_kind(pod, ask, members, found)
            if kind is not None:
                kind.pods.append(pod)
                if not ask.tied:
                    free[ask.index] = kind
        return list(found.values())

    def _settled_kind(
        self,
        pod: int,
        ask: Ask,
        members: tuple[tuple[int, Ask], ...],
        found: dict[tuple[object, ...], Kind],
    ) -> Kind | None:
        """Return the kind of *pod* with the *members* that follow it, counted where they go."""
        request = sum((member.request for _, member in members), ask.request)
        domains = self._settled(ask, request)
        if domains is None:
            return None
        if any(not set(member.keys) <= set(ask.keys) for _, member in members):
            return None
        for each in (ask, *(member for _, member in members)):
            if each.counted:
                self._topology.placed_in_bin(each, dict(domains), list(each.counted))
        key = (ask.index, domains, tuple(member.index for _, member in members))
        kind = found.get(key)
        if kind is None:
            kind = found[key] = Kind(ask, domains, deque())
        if members:
            kind.followers[pod] = members
        return kind

    def _is_packable(self, ask: Ask) -> bool:
        """Return whether a careful round takes the pod: nobody else's hostname spread counts it."""
        if ask.keys and not self.zonal:
            return False
        if not self.careful:
            return True
        items = self.run.problem.tallies.items
        hosted = {tally for tally in ask.counted if items[tally].hosted}
        limiting = {tally for tally in ask.apart if items[tally].hosted}
        limiting |= {use.tally for use in ask.spreads if items[use.tally].hosted}
        return {tally for tally in hosted if not items[tally].owners} <= limiting

    def _is_doubtful(self, ask: Ask) -> bool:
        """Return whether it depends on the node if another's spread over domains counts the pod."""
        known = self._doubts.get(ask.index)
        if known is None:
            problem = self.run.problem
            known = False
            for tally in ask.counted:
                item = problem.tallies.items[tally]
                for shelf in () if item.hosted else self.shelves(ask):
                    eligible = problem.eligible_rows(shelf, item.nodes)
                    rows = self.rows(ask, shelf)
                    known = known or (eligible is not None and not eligible[rows].all())
            self._doubts[ask.index] = known
        return known

    def _settled(self, ask: Ask, request: Amounts) -> Domains | None:
        """Return the domains a pod goes to, the least crowded and cheapest; None without any."""
        if not ask.keys:
            return ()
        admitted = self._topology.admitted(ask)
        best: tuple[int, float, Domains] | None = None
        for price, domains in self._options_of(ask, request):
            if all(admitted[key].has(value) for key, value in domains):
                offer = (self._topology.score(ask, domains), price, domains)
                if best is None or offer < best:
                    best = offer
        return None if best is None else best[2]

    def _options_of(self, ask: Ask, request: Amounts) -> tuple[Option, ...]:
        key = (ask.index, request.tobytes())
        known = self._options.get(key)
        if known is None:
            cheapest: dict[Domains, float] = {}
            for shelf in self.shelves(ask):
                for price, domains in self._on_shelf(ask, shelf, request):
                    cheapest[domains] = min(price, cheapest.get(domains, np.inf))
            known = tuple((price, domains) for domains, price in cheapest.items())
            self._options[key] = known
        return known

    def _on_shelf(self, ask: Ask, shelf: Shelf, request: Amounts) -> Iterable[Option]:
        """Yield the cheapest way to launch for *ask* in each combination of its topology keys."""
        market = self.run.problem.market
        order = np.flatnonzero(self.rows(ask, shelf) & holding(shelf.room, request)[shelf.shape])
        order = order[np.argsort(market.rank[order], kind="stable")]
        codes = np.zeros(len(order), np.int64)
        for key in ask.keys:
            column = market.column(key)
            if column is not None:
                codes = codes * len(column.states) + column.codes[order]
        _, first = np.unique(codes, return_index=True)
        for row in order[first].tolist():
            domains = tuple(
                (key, value) for key in ask.keys if (value := market.value(row, key)) is not None
            )
            if len(domains) == len(ask.keys):
                yield float(market.price[row]), domains

    def shelves(self, ask: Ask) -> tuple[Shelf, ...]:
        """Return the shelves of the heaviest weight that can still hold a pod alone (rule 2)."""
        known = self._shelves.get(ask.index)
        if known is None:
            found: list[Shelf] = []
            for shelf in self.run.problem.shelves:
                if found and shelf.pool.weight < found[0].pool.weight:
                    break
                if self.rows(ask, shelf).any():
                    found.append(shelf)
            known = self._shelves[ask.index] = tuple(found)
        return known

    def rows(self, ask: Ask, shelf: Shelf) -> Mask:
        """Return the rows of *shelf* that hold a pod of *ask* and that its limits still allow."""
        problem = self.run.problem
        rows = problem.rows(ask, shelf) & ~self._used_up()
        if shelf.limited:
            within = holding(self.run.budgets[shelf.index], shelf.capacity)
            rows = rows & within[problem.market.row_type]
        return rows & holding(shelf.room, ask.request)[shelf.shape]

    def _used_up(self) -> Mask:
        """Return the rows of reservations of which no instance is left."""
        used_up = self.run.problem.reservations.held
        for reservation in self.run.problem.reservations.items:
            if self.run.slots[reservation.id] > 0:
                used_up = used_up & ~reservation.rows
        return used_up

    def tables(self, kinds: Iterable[Kind]) -> list[Table]:
        """Return, for each shelf, kinds x rows: which a kind may open or join."""
        problem = self.run.problem
        many = list(kinds)
        tables = [np.zeros((len(many), problem.market.size), bool) for _ in problem.shelves]
        for place, kind in enumerate(many):
            for shelf in self.shelves(kind.ask):
                rows = problem.rows(kind.ask, shelf)
                for member in kind.party[1:]:
                    rows = rows & problem.rows(member, shelf)
                for key, value in kind.domains:
                    if problem.market.column(key) is not None:
                        rows = rows & shelf.allow(Requirement(key, frozenset((value,))))
                tables[shelf.index][place] = rows
        return tables


Table = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def _wants_company(problem: Problem, ask: Ask) -> bool:
    items = problem.tallies.items
    return any(items[tally].hosted for use in ask.near for tally in use.tallies)


def _company(run: Run, asks: Mapping[int, Ask]) -> dict[int, tuple[int, ...]]:
    """Return the groups that must share one node, by the pod that comes first.

    All of a group match the affinity that they hold, nobody else who waits matches it, and no pod
    that runs does: then the first opens a node and the others can go nowhere else.
    """
    problem = run.problem
    wanting: dict[int, list[int]] = {}
    for pod, ask in asks.items():
        if _wants_company(problem, ask):
            hosts = _hosted_terms(problem, ask)
            if len(hosts) == 1:
                wanting.setdefault(hosts[0], []).append(pod)
    found: dict[int, tuple[int, ...]] = {}
    for tally, pods in wanting.items():
        if not run.topology.counts.total[tally] and _among_themselves(problem, asks, tally, pods):
            found[pods[0]] = tuple(pods)
    return found


def _hosted_terms(problem: Problem, ask: Ask) -> list[int]:
    items = problem.tallies.items
    return sorted({tally for use in ask.near for tally in use.tallies if items[tally].hosted})


def _among_themselves(
    problem: Problem, asks: Mapping[int, Ask], tally: int, pods: Collection[int]
) -> bool:
    mine = set(pods)
    others = any(tally in ask.counted for pod, ask in asks.items() if pod not in mine)
    keen = all(
        use.matches_itself
        and not any(problem.tallies.items[each].hosted for each in asks[pod].apart)
        for pod in pods
        for use in asks[pod].near
    )
    return keen and not others
