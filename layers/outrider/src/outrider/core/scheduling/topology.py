"""Topology spread and pod affinity: into which domains a pod may go, as the counts stand.

Decides as kube-scheduler does at the moment of placement: a spread admits the domains in which
count + self - minimum stays within maxSkew (minDomains and rule 4 settle the minimum); an
affinity those that hold a match, or any at all for the first of pods that match themselves; an
anti-affinity, one's own and that of pods already placed, those that hold none. Hostname
constraints are judged node by node. Refuses to choose among what is admitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from outrider.core.scheduling.bins import Content
from outrider.core.scheduling.demand import Ask, NearUse, SpreadUse
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.result import Code
from outrider.core.scheduling.supply import Mask
from outrider.core.scheduling.tally import Counts


@dataclass(frozen=True, slots=True)
class Admitted:
    """The domains of one key that are open: `only` these (None: all, or no label), less `never`."""

    only: frozenset[str] | None
    never: frozenset[str]

    def has(self, value: str | None) -> bool:
        """Return whether the domain *value* is open; None is a node without the label."""
        if value is None:
            return self.only is None
        return value not in self.never and (self.only is None or value in self.only)

    @property
    def shut(self) -> bool:
        """Return whether no domain at all is open."""
        return self.only is not None and not self.only - self.never


@dataclass(eq=False)
class Topology:
    """The counts of one run, and what they admit."""

    problem: Problem
    counts: Counts
    version: int = 0
    _cache: dict[int, tuple[int, dict[str, Admitted]]] = field(default_factory=dict)

    def admitted(self, ask: Ask) -> dict[str, Admitted]:
        """Return the open domains by key, for every key but the hostname that *ask* looks at."""
        if not ask.keys:
            return {}
        known = self._cache.get(ask.index)
        if known is not None and known[0] == self.version:
            return known[1]
        found = {key: self._admitted(ask, key) for key in ask.keys}
        self._cache[ask.index] = (self.version, found)
        return found

    def _admitted(self, ask: Ask, key: str) -> Admitted:
        only: frozenset[str] | None = None
        for use in ask.spreads:
            if self._key(use.tally) == key:
                only = _both(only, self._evenly(ask, use))
        for near in ask.near:
            only = self._nearby(near, key, only)
        never = frozenset(
            domain
            for tally in (*ask.apart, *ask.repelled)
            if self._key(tally) == key
            for domain, count in self.counts.by_domain[tally].items()
            if count
        )
        return Admitted(only, never)

    def _key(self, tally: int) -> str:
        return self.problem.tallies.items[tally].key

    def _evenly(self, ask: Ask, use: SpreadUse) -> frozenset[str]:
        numbers = self.counts.by_domain[use.tally]
        domains = self.problem.universe(ask, use)
        planned = {domain for domain, count in numbers.items() if count}
        if not planned <= domains:  # nodes that are planned for others are domains as well
            domains = domains | planned
        least = min((numbers.get(domain, 0) for domain in domains), default=0)
        if use.min_domains is not None and len(domains) < use.min_domains:
            least = 0
        most = use.max_skew + least - use.counts_itself
        return frozenset(domain for domain in domains if numbers.get(domain, 0) <= most)

    def _nearby(
        self, near: NearUse, key: str, only: frozenset[str] | None
    ) -> frozenset[str] | None:
        if self._is_first(near):
            return only
        for tally in near.tallies:
            if self._key(tally) == key:
                numbers = self.counts.by_domain[tally]
                only = _both(only, frozenset(item for item, count in numbers.items() if count))
        return only

    def _is_first(self, near: NearUse) -> bool:
        """Return whether a pod may open the first domain of its own affinity."""
        return near.matches_itself and not any(self.counts.total[item] for item in near.tallies)

    def needs_label(self, ask: Ask, key: str) -> bool:
        """Return whether a node without label *key* is out of the question."""
        return any(self._key(use.tally) == key for use in ask.spreads) or any(
            self._key(tally) == key for use in ask.near for tally in use.tallies
        )

    # Hostname: every node is a domain.

    def node_minimum(self, ask: Ask, use: SpreadUse) -> int:
        """Return the least count over the nodes that a hostname spread looks at (rule 4)."""
        if self.problem.launchable(ask):
            return 0
        eligible = self.problem.eligible_places(use.nodes)
        if use.min_domains is not None and int(eligible.sum()) < use.min_domains:
            return 0
        return self._least_loaded(use)

    def _least_loaded(self, use: SpreadUse) -> int:
        numbers = self.counts.by_node[use.tally]
        eligible = self.problem.eligible_places(use.nodes)
        if numbers is None or not eligible.any():
            return 0
        return int(numbers[eligible].min())

    def open_places(self, ask: Ask) -> Mask:
        """Return the existing places whose neighbours admit a pod of *ask*."""
        table = self.problem.table
        mask = np.ones(table.size, bool)
        for key, admitted in self.admitted(ask).items():
            needed = self.needs_label(ask, key)
            verdicts = {
                value: admitted.has(value) and not (needed and value is None)
                for value in set(table.values(key))
            }
            mask &= np.fromiter((verdicts[value] for value in table.values(key)), bool, table.size)
        for use in ask.spreads:
            numbers = self.counts.by_node[use.tally]
            if numbers is not None:
                most = use.max_skew + self.node_minimum(ask, use) - use.counts_itself
                mask &= numbers <= most
        for near in ask.near:
            if not self._is_first(near):
                for tally in near.tallies:
                    numbers = self.counts.by_node[tally]
                    if numbers is not None:
                        mask &= numbers > 0
        for tally in (*ask.apart, *ask.repelled):
            numbers = self.counts.by_node[tally]
            if numbers is not None:
                mask &= numbers == 0
        return mask

    def refuses(self, ask: Ask, content: Content) -> Code | None:
        """Return why the neighbours on a planned node do not admit a pod of *ask*, if so."""
        items = self.problem.tallies.items
        for tally in (*ask.apart, *ask.repelled):
            if items[tally].hosted and content.count(tally):
                return Code.POD_ANTI_AFFINITY
        for use in ask.spreads:
            if items[use.tally].hosted:
                most = use.max_skew + self.node_minimum(ask, use) - use.counts_itself
                if content.count(use.tally) > most:
                    return Code.TOPOLOGY_SPREAD
        for near in ask.near:
            if not self._is_first(near) and any(
                items[tally].hosted and not content.count(tally) for tally in near.tallies
            ):
                return Code.POD_AFFINITY
        return None

    def score(self, ask: Ask, domains: tuple[tuple[str, str], ...]) -> int:
        """Return how many pods the spreads of *ask* count in *domains*: fewer is more even."""
        settled = dict(domains)
        return sum(
            self.counts.by_domain[use.tally].get(settled[key], 0)
            for use in ask.spreads
            if (key := self._key(use.tally)) in settled
        )

    def placed_on_node(self, ask: Ask, node: int) -> None:
        """Count a pod of *ask* on an existing place."""
        for tally in ask.counted:
            item = self.problem.tallies.items[tally]
            if self.problem.eligible_places(item.nodes)[node]:
                domain = self.problem.table.values(item.key)[node]
                self.counts.add_on_node(tally, node, domain)
        self.version += bool(ask.counted)

    def placed_in_bin(
        self, ask: Ask, domains: dict[str, str], counting: list[int], times: int = 1
    ) -> None:
        """Count *times* a pod of *ask* on planned nodes in *domains*, for the tallies *counting*
        it."""
        for tally in counting:
            item = self.problem.tallies.items[tally]
            if item.hosted:
                self.counts.add_in_bin(tally, times)
            elif item.key in domains:
                self.counts.add(tally, domains[item.key], times)
        self.version += bool(ask.counted)


def _both(left: frozenset[str] | None, right: frozenset[str]) -> frozenset[str]:
    return right if left is None else left & right
