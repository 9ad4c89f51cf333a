"""The planning problem, compiled: classes, shelves, places and the counts before the first pod.

Decides what is fixed before any packing: which rows of which shelf and which places suit an ask, by
labels, taints, volumes and the ports of daemons; over which domains a spread is measured (rule 4).
Every strategy works on the same problem and must leave it as it is. Refuses to place anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from outrider.apis.placement import Taint, Toleration
from outrider.apis.pod import Pod
from outrider.core.scheduling.demand import Ask, PodClass, SpreadUse
from outrider.core.scheduling.devices import Allotment
from outrider.core.scheduling.hostports import conflict
from outrider.core.scheduling.nodes import PlaceTable
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.reservations import Reservations
from outrider.core.scheduling.shelf import Axis, Shelf, names_a_sliver
from outrider.core.scheduling.supply import Market, Mask, distinct, holding
from outrider.core.scheduling.tally import Counts, NodeFilter, Tallies
from outrider.core.scheduling.terms import NodeRule
from outrider.core.taints import blocking, tolerates


@dataclass(eq=False)
class Problem:
    """One planning problem."""

    pods: tuple[Pod, ...]
    classes: tuple[PodClass, ...]  # by pod
    shelves: tuple[Shelf, ...]  # heaviest first
    table: PlaceTable
    market: Market
    axis: Axis
    tallies: Tallies
    start: Counts
    reservations: Reservations
    policy: Policy
    nominated: Mapping[int, int]  # pod -> place that was promised to it
    devices: Allotment = field(default_factory=lambda: Allotment(()))
    _rules: dict[tuple[int, NodeRule], Mask] = field(default_factory=dict)
    _rows: dict[tuple[int, int], Mask] = field(default_factory=dict)
    _place_rules: dict[NodeRule, Mask] = field(default_factory=dict)
    _place_masks: dict[int, Mask] = field(default_factory=dict)
    _tolerated: dict[tuple[tuple[Taint, ...], tuple[Toleration, ...]], bool] = field(
        default_factory=dict
    )
    _eligible: dict[NodeFilter, Mask] = field(default_factory=dict)
    _eligible_rows: dict[tuple[int, NodeFilter], Mask | None] = field(default_factory=dict)
    _launchable: dict[int, bool] = field(default_factory=dict)
    _hopeless: dict[int, bool] = field(default_factory=dict)
    _universes: dict[tuple[object, ...], frozenset[str]] = field(default_factory=dict)
    _domains: dict[int, frozenset[str]] = field(default_factory=dict)
    _universe_of: dict[tuple[int, int], frozenset[str]] = field(default_factory=dict)
    _servers: dict[tuple[object, ...], tuple[int, ...]] = field(default_factory=dict)

    def tolerated(self, taints: tuple[Taint, ...], tolerations: tuple[Toleration, ...]) -> bool:
        """Return whether all *taints* are tolerated."""
        if not taints:
            return True
        key = (taints, tolerations)
        known = self._tolerated.get(key)
        if known is None:
            known = tolerates(taints, tolerations)
            self._tolerated[key] = known
        return known

    def rule_rows(self, shelf: Shelf, rule: NodeRule) -> Mask:
        """Return the rows of *shelf* that *rule* admits."""
        key = (shelf.index, rule)
        known = self._rules.get(key)
        if known is None:
            known = rule.where(self.market.size, shelf.allow)
            self._rules[key] = known
        return known

    def rows(self, ask: Ask, shelf: Shelf) -> Mask:
        """Return the rows of *shelf* on which a pod of *ask* may run at all."""
        key = (ask.index, shelf.index)
        known = self._rows.get(key)
        if known is None:
            known = self._suitable(ask, shelf)
            self._rows[key] = known
        return known

    def _suitable(self, ask: Ask, shelf: Shelf) -> Mask:
        if not self.tolerated(shelf.pool.taints, ask.tolerations):
            return np.zeros(self.market.size, bool)
        mask = shelf.rows & self.rule_rows(shelf, ask.rule)
        if not ask.volumes.launch_rule.free:
            mask = mask & self.rule_rows(shelf, ask.volumes.launch_rule)
        if ask.ports:
            mask = mask & self.free_ports(ask, shelf)
        whole = not (ask.takes_slices or names_a_sliver(shelf.requirements))
        if ask.accelerated and whole and self.market.sliver.any():
            mask = mask & ~self.market.sliver
        return mask

    def launchable(self, ask: Ask) -> bool:
        """Return whether some NodePool could make a node for a pod of *ask*, size aside."""
        known = self._launchable.get(ask.index)
        if known is None:
            known = (
                any(self._serving(ask, use) for use in ask.spreads)
                if ask.spreads
                else any(bool(self.rows(ask, shelf).any()) for shelf in self.shelves)
            )
            self._launchable[ask.index] = known
        return known

    def hopeless(self, ask: Ask) -> bool:
        """Return whether no place and no offering could ever hold a pod of *ask*, even alone."""
        known = self._hopeless.get(ask.index)
        if known is None:
            known = not self._fits_somewhere(ask)
            self._hopeless[ask.index] = known
        return known

    def _fits_somewhere(self, ask: Ask) -> bool:
        if (self.suitable_places(ask) & holding(self.table.room, ask.request)).any():
            return True
        for shelf in self.shelves:
            holds = holding(shelf.room, ask.request)[shelf.shape]
            if (self.rows(ask, shelf) & holds).any():
                return True
        return False

    def free_ports(self, ask: Ask, shelf: Shelf) -> Mask:
        """Return the rows of *shelf* whose daemons leave the ports of *ask* alone."""
        free = np.array(
            [
                conflict(
                    ask.ports,
                    (port for place in places for port in shelf.daemons[place].host_ports),
                )
                is None
                for places in shelf.daemon_sets
            ],
            bool,
        )
        return free[shelf.daemon_codes]

    def place_rule(self, rule: NodeRule) -> Mask:
        """Return the places that *rule* admits."""
        known = self._place_rules.get(rule)
        if known is None:
            known = rule.where(self.table.size, self.table.allow)
            self._place_rules[rule] = known
        return known

    def suitable_places(self, ask: Ask) -> Mask:
        """Return the places on which a pod of *ask* may run, room and neighbours aside."""
        known = self._place_masks.get(ask.index)
        if known is None:
            known = self.place_rule(ask.rule) & self.place_rule(ask.volumes.rule)
            known = known & np.fromiter(
                (self.tolerated(place.taints, ask.tolerations) for place in self.table.places),
                bool,
                self.table.size,
            )
            self._place_masks[ask.index] = known
        return known

    def eligible_places(self, nodes: NodeFilter) -> Mask:
        """Return the places whose pods count under *nodes*."""
        known = self._eligible.get(nodes)
        if known is None:
            known = np.ones(self.table.size, bool)
            if nodes.rule is not None:
                known &= self.place_rule(nodes.rule)
            if nodes.tolerations is not None:
                accepted = nodes.tolerations
                known &= np.fromiter(
                    (self.tolerated(blocking(it.taints), accepted) for it in self.table.places),
                    bool,
                    self.table.size,
                )
            self._eligible[nodes] = known
        return known

    def eligible_rows(self, shelf: Shelf, nodes: NodeFilter) -> Mask | None:
        """Return the rows of *shelf* whose pods count under *nodes*; None means all of them."""
        if nodes.rule is None and nodes.tolerations is None:
            return None
        key = (shelf.index, nodes)
        if key not in self._eligible_rows:
            mask: Mask | None = None
            if nodes.rule is not None:
                mask = self.rule_rows(shelf, nodes.rule)
            if nodes.tolerations is not None and not self.tolerated(
                blocking(shelf.pool.taints), nodes.tolerations
            ):
                mask = np.zeros(self.market.size, bool)
            if mask is not None and bool(mask[shelf.rows].all()):
                mask = None
            self._eligible_rows[key] = mask
        return self._eligible_rows[key]

    def universe(self, ask: Ask, use: SpreadUse) -> frozenset[str]:
        """Return the domains over which a spread of *ask* is measured (rule 4)."""
        known = self._universe_of.get((ask.index, use.tally))
        if known is None:
            known = self._universe(ask, use) | self._held(use.tally)
            self._universe_of[ask.index, use.tally] = known
        return known

    def _universe(self, ask: Ask, use: SpreadUse) -> frozenset[str]:
        key = self.tallies.items[use.tally].key
        serving = self._serving(ask, use)
        identity = (key, use.nodes, serving)
        known = self._universes.get(identity)
        if known is None:
            found: set[str] = set()
            eligible = self.eligible_places(use.nodes)
            for value, counts in zip(self.table.values(key), eligible.tolist(), strict=True):
                if value is not None and counts:
                    found.add(value)
            for index in serving:
                shelf = self.shelves[index]
                mask = shelf.base & self.market.open
                limit = self.eligible_rows(shelf, use.nodes)
                found |= self.values(shelf, key, mask if limit is None else mask & limit)
            known = frozenset(found)
            self._universes[identity] = known
        return known

    def _serving(self, ask: Ask, use: SpreadUse) -> tuple[int, ...]:
        """Return the shelves that can serve a pod of *ask*, its size and its wishes aside.

        A preference that binds for now must not make domains disappear: kube-scheduler counts
        pods in them all the same.
        """
        identity = (use.rule, use.tolerations, ask.volumes.launch_rule)
        known = self._servers.get(identity)
        if known is None:
            known = tuple(
                shelf.index
                for shelf in self.shelves
                if self.tolerated(blocking(shelf.pool.taints), use.tolerations)
                and (
                    shelf.rows
                    & self.rule_rows(shelf, use.rule)
                    & self.rule_rows(shelf, ask.volumes.launch_rule)
                ).any()
            )
            self._servers[identity] = known
        return known

    def _held(self, tally: int) -> frozenset[str]:
        """Return the domains that pods are in already, also on nodes that are no places."""
        known = self._domains.get(tally)
        if known is None:
            known = frozenset(name for name, count in self.start.by_domain[tally].items() if count)
            self._domains[tally] = known
        return known

    def values(self, shelf: Shelf, key: str, rows: Mask) -> frozenset[str]:
        """Return the values that label *key* can have on nodes of *rows* of *shelf*."""
        column = self.market.column(key)
        own = shelf.requirements.get(key)
        if column is None:
            if own is None or not rows.any():
                return frozenset()
            return own.stated
        codes = distinct(column.codes[rows])
        found = frozenset(value for code in codes.tolist() for value in column.states[code].values)
        return found if own is None else frozenset(value for value in found if own.has(value))
