"""Counting pods by topology: the bookkeeping that spread and affinity share.

A `Tally` says which pods count (a matcher over namespace and labels, or "pods that hold this
anti-affinity term"), by which topology key, and on which nodes. `Tallies` hands each distinct one
an index; `Counts` holds the numbers of one planning run: by domain for labels such as the zone,
by node for the hostname (pods on nodes still to come are counted in their bins). Matches
kube-scheduler's PodTopologySpread and InterPodAffinity plugins. Refuses to judge: `topology` and
`affinity` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from outrider.apis.labels import HOSTNAME
from outrider.apis.meta import IN, NOT_IN, Expression, LabelSelector
from outrider.apis.placement import PodTerm, Spread, Toleration
from outrider.apis.policy import Namespace
from outrider.core.scheduling.supply import Amounts
from outrider.core.scheduling.terms import NodeRule


@dataclass(frozen=True, slots=True)
class Matcher:
    """Which pods count: those in `namespaces` (None: everywhere) that every selector selects.

    No selector at all matches nothing, as a nil labelSelector does.
    """

    namespaces: frozenset[str] | None
    selectors: tuple[LabelSelector, ...]

    def matches(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Return whether a pod in *namespace* with *labels* counts."""
        if not self.selectors or (self.namespaces is not None and namespace not in self.namespaces):
            return False
        return all(selector.matches(labels) for selector in self.selectors)


@dataclass(frozen=True, slots=True)
class NodeFilter:
    """Which nodes count for a spread: those its pod may run on, by its two policies."""

    rule: NodeRule | None = None  # nodeAffinityPolicy Honor
    tolerations: tuple[Toleration, ...] | None = None  # nodeTaintsPolicy Honor


EVERY_NODE = NodeFilter()


@dataclass(frozen=True, slots=True)
class Tally:
    """What is counted, and by which topology key; `owners` counts holders of the term instead."""

    key: str
    matcher: Matcher
    nodes: NodeFilter = EVERY_NODE
    owners: bool = False

    @property
    def hosted(self) -> bool:
        """Return whether every node is its own domain."""
        return self.key == HOSTNAME


@dataclass(eq=False)
class Tallies:
    """Every distinct tally of a planning problem, by index."""

    items: list[Tally] = field(default_factory=list)
    _index: dict[Tally, int] = field(default_factory=dict)
    _members: dict[tuple[str, frozenset[tuple[str, str]]], tuple[int, ...]] = field(
        default_factory=dict
    )

    def index(self, tally: Tally) -> int:
        """Return the index of *tally*, a new one if it is new."""
        known = self._index.get(tally)
        if known is None:
            known = len(self.items)
            self._index[tally] = known
            self.items.append(tally)
            self._members.clear()
        return known

    def members(self, namespace: str, labels: Mapping[str, str]) -> tuple[int, ...]:
        """Return the tallies in which a pod in *namespace* with *labels* is matched."""
        key = (namespace, frozenset(labels.items()))
        found = self._members.get(key)
        if found is None:
            found = tuple(
                index
                for index, tally in enumerate(self.items)
                if tally.matcher.matches(namespace, labels)
            )
            self._members[key] = found
        return found

    def matched(self, members: Iterable[int]) -> tuple[int, ...]:
        """Return those of *members* that count the pod itself."""
        return tuple(index for index in members if not self.items[index].owners)

    def repelling(self, members: Iterable[int]) -> tuple[int, ...]:
        """Return those of *members* whose holders do not want the pod near."""
        return tuple(index for index in members if self.items[index].owners)


@dataclass(eq=False, slots=True)
class Counts:
    """The numbers of one run, by tally."""

    by_domain: list[dict[str, int]]
    by_node: list[Amounts | None]  # for hosted tallies: by index of the existing node
    total: list[int]

    def copy(self) -> Counts:
        """Return the same numbers, to go on from independently."""
        return Counts(
            [dict(numbers) for numbers in self.by_domain],
            [None if numbers is None else numbers.copy() for numbers in self.by_node],
            list(self.total),
        )

    def add(self, tally: int, domain: str, times: int = 1) -> None:
        """Count one pod, or so many, in *domain*."""
        numbers = self.by_domain[tally]
        numbers[domain] = numbers.get(domain, 0) + times
        self.total[tally] += times

    def add_in_bin(self, tally: int, times: int = 1) -> None:
        """Count one pod, or so many, on planned nodes, which keep the number themselves."""
        self.total[tally] += times

    def add_on_node(self, tally: int, node: int, domain: str | None) -> None:
        """Count one pod on the existing node of index *node*, whose label has value *domain*."""
        numbers = self.by_node[tally]
        if numbers is not None:
            numbers[node] += 1
            self.total[tally] += 1
        elif domain is not None:
            self.add(tally, domain)


def fresh(tallies: Tallies, nodes: int) -> Counts:
    """Return counts of nothing, for *nodes* existing nodes."""
    return Counts(
        [{} for _ in tallies.items],
        [np.zeros(nodes, np.int64) if tally.hosted else None for tally in tallies.items],
        [0] * len(tallies.items),
    )


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The namespaces there are, with their labels."""

    labels: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, namespaces: Iterable[Namespace], mentioned: Iterable[str]) -> Namespaces:
        """Return the known namespaces, and those only *mentioned* by pods with their name alone."""
        found: dict[str, Mapping[str, str]] = {
            name: {"kubernetes.io/metadata.name": name} for name in mentioned
        }
        found.update((item.name, item.labels) for item in namespaces)
        return cls(found)

    def of_term(self, term: PodTerm, own: str) -> frozenset[str] | None:
        """Return the namespaces *term* of a pod in *own* means; None is every one."""
        if term.namespace_selector is None:
            return frozenset(term.namespaces or (own,))
        if not term.namespace_selector.expressions:
            return None
        return frozenset(term.namespaces).union(
            name for name, labels in self.labels.items() if term.namespace_selector.matches(labels)
        )


def term_matcher(
    term: PodTerm, namespace: str, labels: Mapping[str, str], namespaces: Namespaces
) -> Matcher:
    """Return which pods *term*, of a pod in *namespace* with *labels*, is about."""
    if term.selector is None:
        return Matcher(frozenset(), ())
    selector = term.selector.also(
        *_lines(term.match_label_keys, IN, labels),
        *_lines(term.mismatch_label_keys, NOT_IN, labels),
    )
    return Matcher(namespaces.of_term(term, namespace), (selector,))


def spread_matcher(spread: Spread, namespace: str, labels: Mapping[str, str]) -> Matcher:
    """Return which pods *spread*, of a pod in *namespace* with *labels*, counts."""
    if spread.selector is None:
        return Matcher(frozenset(), ())
    selector = spread.selector.also(*_lines(spread.match_label_keys, IN, labels))
    return Matcher(frozenset((namespace,)), (selector,))


def _lines(keys: Iterable[str], operator: str, labels: Mapping[str, str]) -> list[Expression]:
    return [Expression(key, operator, (labels[key],)) for key in keys if key in labels]
