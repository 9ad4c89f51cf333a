"""Bins: nodes that are planned, as values that grow.

A `Content` is what a planned node holds, with every row that could still be launched for it. It
is a value: adding a pod gives another Content, and the step is remembered, so that filling the
thousandth node with the same pods costs a look-up. Adding only ever narrows the rows; whichever
of them EC2 picks, the pods fit beside the daemons, the ports and the volumes, and every label
that a neighbour's constraint looks at has one value (F59, F82). Refuses to choose: strategies do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from outrider.apis.pod import HostPort
from outrider.apis.storage import EBS_DRIVER
from outrider.core.requirements import ANY, Requirement, Requirements
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.hostports import conflict
from outrider.core.scheduling.policy import BEST_EFFORT
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.result import Code
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Amounts, Mask, distinct, holding
from outrider.core.scheduling.terms import NodeRule

Domains = tuple[tuple[str, str], ...]
"""The values that topology keys settle on, by key."""


@dataclass(eq=False, slots=True)
class Content:
    """What a planned node holds, and the rows that hold it.

    `rows` are all rows left, `live` those that count: without accelerated and bare-metal ones while
    the pods ask for neither and others remain (`plain`).
    """

    shelf: Shelf
    rows: Mask
    live: Mask
    plain: bool
    used: Amounts
    claims: Requirements  # labels that the row alone does not settle
    local: tuple[tuple[int, int], ...]  # hosted tally -> pods
    ports: tuple[HostPort, ...]
    shared: frozenset[tuple[str, str]]
    own_volumes: int
    pods: int
    best: int  # the cheapest live row
    price: float
    head: Amounts  # the most that any row still takes, by resource
    steps: dict[tuple[int, Domains], Content | Code] = field(default_factory=dict)
    values: dict[str, frozenset[str]] = field(default_factory=dict)

    def count(self, tally: int) -> int:
        """Return how many pods on the node a hosted *tally* counts."""
        return next((count for index, count in self.local if index == tally), 0)


class _Refused(Exception):
    """A pod does not fit; the code says why."""

    def __init__(self, code: Code) -> None:
        self.code = code
        super().__init__(code)


def _some(rows: Mask, code: Code) -> None:
    if not rows.any():
        raise _Refused(code)


@dataclass(eq=False)
class Contents:
    """Makes contents, each distinct one once."""

    problem: Problem
    _known: dict[tuple[object, ...], Content] = field(default_factory=dict)
    _masks: dict[bytes, Mask] = field(default_factory=dict)
    _spans: dict[tuple[int, int], tuple[Amounts, Amounts]] = field(default_factory=dict)
    _bares: dict[tuple[int, Domains, int, int], list[int] | None] = field(default_factory=dict)
    _hosted: tuple[bool, ...] = ()
    exotic: Mask = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        """Remember which tallies are by hostname, and which rows CPU pods are kept off."""
        self._hosted = tuple(tally.hosted for tally in self.problem.tallies.items)
        self.exotic = self.problem.market.accelerated | self.problem.market.metal

    def empty(self, shelf: Shelf, rows: Mask) -> Content | None:
        """Return a planned node of *shelf* with nothing on it, None where no row is left."""
        return self._make(
            Content(
                shelf=shelf,
                rows=rows,
                live=rows,
                plain=False,
                used=self.problem.axis.vector({}),
                claims=ANY,
                local=(),
                ports=(),
                shared=frozenset(),
                own_volumes=0,
                pods=0,
                best=0,
                price=0.0,
                head=shelf.room[0],
            )
        )

    def domains(self, content: Content, key: str) -> frozenset[str]:
        """Return the values that label *key* can still have."""
        known = content.values.get(key)
        if known is None:
            known = self.problem.values(content.shelf, key, content.live)
            claimed = content.claims.get(key)
            if claimed is not None and key not in self.problem.market.keys:
                known = claimed.stated
            elif claimed is not None:
                known = frozenset(value for value in known if claimed.has(value))
            content.values[key] = known
        return known

    def after(self, content: Content, ask: Ask, domains: Domains) -> Content | Code:
        """Return *content* with one pod of *ask* on it, keys settled on *domains*; or why not."""
        key = (ask.index, domains)
        known = content.steps.get(key)
        if known is None:
            try:
                known = self._roomy(content, ask, domains) or self._grown(content, ask, domains)
            except _Refused as refusal:
                known = refusal.code
            content.steps[key] = known
        return known

    def narrowed(self, content: Content, rows: Mask) -> Content | None:
        """Return *content* with no rows but *rows*; None where none is left."""
        return self._make(replace(content, rows=content.rows & rows, steps={}, values={}))

    def _roomy(self, content: Content, ask: Ask, domains: Domains) -> Content | None:
        """Return *content* with one pod of *ask* on it where no row is ruled out by that; None
        where one may be, or more than the room and the counts change."""
        if not content.pods or (content.plain and ask.accelerated):
            return None
        counted = self._bare(content, ask, domains)
        if counted is None:
            return None
        used = content.used + ask.request
        least, most = self._span(content.shelf, content.rows)
        if (used > least).any():
            return None
        grown = Content(
            shelf=content.shelf,
            rows=content.rows,
            live=content.live,
            plain=content.plain,
            used=used,
            claims=content.claims,
            local=self._local(content.local, counted),
            ports=content.ports,
            shared=content.shared,
            own_volumes=content.own_volumes,
            pods=content.pods + 1,
            best=content.best,
            price=content.price,
            head=most - used,
        )
        return self._known.setdefault(self._identity(grown), grown)

    def _bare(self, content: Content, ask: Ask, domains: Domains) -> list[int] | None:
        """Return the hosted tallies that count a pod of *ask*; None unless every row of *content*
        admits it as it is, on *domains*, and it brings nothing but its requests."""
        key = (ask.index, domains, content.shelf.index, id(content.rows))
        if key not in self._bares:
            is_bare = not (
                ask.ports
                or ask.volumes.own
                or ask.volumes.shared
                or self._may_narrow(content, ask, domains)
            )
            counted = [tally for tally in ask.counted if self._hosted[tally]]
            self._bares[key] = counted if is_bare else None
        return self._bares[key]

    def _may_narrow(self, content: Content, ask: Ask, domains: Domains) -> bool:
        """Return whether labels or counts of *ask* on *domains* may rule out a row of *content*."""
        shelf, problem = content.shelf, self.problem
        if shelf.floating({*ask.rule.keys(), *(key for key, _ in domains)}) or any(
            problem.eligible_rows(shelf, problem.tallies.items[tally].nodes) is not None
            for tally in ask.counted
        ):
            return True
        admitted = problem.rows(ask, shelf)
        for key, value in domains:
            if problem.market.column(key) is None:
                return True
            admitted = admitted & shelf.allow(Requirement(key, frozenset((value,))))
        return bool((content.rows & ~admitted).any())

    def _span(self, shelf: Shelf, rows: Mask) -> tuple[Amounts, Amounts]:
        """Return the least and the most room, by resource, that any of *rows* has."""
        key = (shelf.index, id(rows))
        known = self._spans.get(key)
        if known is None:
            room = shelf.room[distinct(shelf.shape[rows])]
            known = self._spans[key] = (room.min(axis=0), room.max(axis=0))
        return known

    def _grown(self, content: Content, ask: Ask, domains: Domains) -> Content:
        shelf = content.shelf
        if ask.ports and conflict(ask.ports, content.ports) is not None:
            raise _Refused(Code.HOST_PORT)
        rows = content.rows & self.problem.rows(ask, shelf)
        claims, rows = self._claims(content, ask, domains, rows)
        if claims.conflict is not None:
            raise _Refused(Code.INCOMPATIBLE_REQUIREMENTS)
        _some(rows, Code.INCOMPATIBLE_REQUIREMENTS)
        for key, value in domains:
            if self.problem.market.column(key) is not None:
                rows = rows & shelf.allow(Requirement(key, frozenset((value,))))
        _some(rows, Code.TOPOLOGY_SPREAD)
        used = content.used + ask.request
        rows = rows & holding(shelf.room, used)[shelf.shape]
        _some(rows, Code.INSUFFICIENT_RESOURCES)
        shared, own, rows = self._attached(content, ask, rows)
        rows, counted = self._counted(shelf, ask, rows)
        grown = self._make(
            Content(
                shelf=shelf,
                rows=rows,
                live=rows,
                plain=self._plain(content, ask, rows),
                used=used,
                claims=claims,
                local=self._local(content.local, counted),
                ports=(*content.ports, *ask.ports),
                shared=shared,
                own_volumes=own,
                pods=content.pods + 1,
                best=0,
                price=0.0,
                head=content.head,
            )
        )
        if grown is None:
            raise _Refused(Code.INSUFFICIENT_RESOURCES)
        if not self.keeps_variety(grown):
            raise _Refused(Code.MIN_VALUES)
        return grown

    def _attached(
        self, content: Content, ask: Ask, rows: Mask
    ) -> tuple[frozenset[tuple[str, str]], int, Mask]:
        """Return the volumes attached with those of *ask*, and the rows that attach so many."""
        if not (ask.volumes.own or ask.volumes.shared):
            return content.shared, content.own_volumes, rows
        shared = content.shared | ask.volumes.shared
        own = content.own_volumes + dict(ask.volumes.own).get(EBS_DRIVER, 0)
        attached = own + sum(1 for driver, _ in shared if driver == EBS_DRIVER)
        rows = rows & (content.shelf.volume_slots >= attached)[self.problem.market.row_type]
        _some(rows, Code.VOLUME_LIMITS)
        return shared, own, rows

    def _claims(
        self, content: Content, ask: Ask, domains: Domains, rows: Mask
    ) -> tuple[Requirements, Mask]:
        """Return what the claim itself must settle, and the rows that go with it."""
        shelf = content.shelf
        keys = shelf.floating({*ask.rule.keys(), *(key for key, _ in domains)})
        if not keys:
            return content.claims, rows
        asked = {key: ask.rule.always[key] for key in keys if key in ask.rule.always}
        own = {key: shelf.requirements[key] for key in keys if key in shelf.requirements}
        claims = content.claims.intersect(Requirements(own)).intersect(Requirements(asked))
        for key, value in domains:
            if key in keys:
                claims = claims.only(key, (value,))
        for terms in ask.rule.either:
            claims, rows = self._first_term(shelf, claims, rows, terms, keys)
        return claims, rows

    def _first_term(
        self,
        shelf: Shelf,
        claims: Requirements,
        rows: Mask,
        terms: tuple[Requirements, ...],
        keys: tuple[str, ...],
    ) -> tuple[Requirements, Mask]:
        """Return *claims* and *rows* under the first of *terms* that they can meet."""
        if not any(key in term for term in terms for key in keys):
            return claims, rows
        for term in terms:
            met = claims.intersect(Requirements({key: term[key] for key in keys if key in term}))
            left = rows & self.problem.rule_rows(shelf, NodeRule(term))
            if met.conflict is None and left.any():
                return met, left
        return claims, np.zeros_like(rows)

    def _counted(self, shelf: Shelf, ask: Ask, rows: Mask) -> tuple[Mask, list[int]]:
        """Return *rows* on which it is settled which tallies count the pod, and those hosted."""
        hosted = []
        for tally in ask.counted:
            eligible = self.problem.eligible_rows(shelf, self.problem.tallies.items[tally].nodes)
            counts = True
            if eligible is not None:
                inside = rows & eligible
                counts = bool(eligible[self._cheapest(rows)])
                rows = inside if counts else rows & ~eligible
            if counts and self._hosted[tally]:
                hosted.append(tally)
        return rows, hosted

    def counts(self, content: Content, tally: int) -> bool:
        """Return whether pods on *content* are on a node that *tally* looks at."""
        nodes = self.problem.tallies.items[tally].nodes
        eligible = self.problem.eligible_rows(content.shelf, nodes)
        return eligible is None or bool(eligible[content.best])

    def _plain(self, content: Content, ask: Ask, rows: Mask) -> bool:
        if ask.accelerated or content.shelf.min_values:
            return False
        if content.pods:
            return content.plain
        return bool((rows & ~self.exotic).any())

    @staticmethod
    def _local(
        local: tuple[tuple[int, int], ...], counted: list[int]
    ) -> tuple[tuple[int, int], ...]:
        if not counted:
            return local
        numbers = dict(local)
        for tally in counted:
            numbers[tally] = numbers.get(tally, 0) + 1
        return tuple(sorted(numbers.items()))

    def _cheapest(self, rows: Mask) -> int:
        found = np.flatnonzero(rows)
        return int(found[np.argmin(self.problem.market.rank[found])])

    def _make(self, draft: Content) -> Content | None:
        """Complete *draft*, and return it or its equal that is kept; None where no row is left."""
        rows = self._masks.setdefault(np.packbits(draft.rows).tobytes(), draft.rows)
        draft.rows = rows
        key = self._identity(draft)
        known = self._known.get(key)
        if known is not None:
            return known
        live = rows & ~self.exotic if draft.plain else rows
        if not live.any():
            return None
        draft.live = live
        draft.best = self._cheapest(live)
        draft.price = float(self.problem.market.price[draft.best])
        draft.head = self._span(draft.shelf, rows)[1] - draft.used
        self._known[key] = draft
        return draft

    @staticmethod
    def _identity(content: Content) -> tuple[object, ...]:
        """Return what makes a content, its rows being the one mask kept for all that are equal."""
        return (
            content.shelf.index,
            id(content.rows),
            content.plain,
            content.used.tobytes(),
            content.claims,
            content.local,
            content.ports,
            content.shared,
            content.own_volumes,
        )

    def keeps_variety(self, content: Content) -> bool:
        """Return whether the rows left keep every minValues of the pool (F4, F5)."""
        shelf = content.shelf
        if not shelf.min_values or self.problem.policy.min_values_policy == BEST_EFFORT:
            return True
        return all(len(self.domains(content, key)) >= least for key, least in shelf.min_values)
