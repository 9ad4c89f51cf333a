"""What a pod, or a volume, requires of a node's labels: AND over keys, OR over terms.

Decides how nodeSelector, required node affinity, volume topology and allowedTopologies read as
requirements. A term without expressions and fields matches nothing; required terms are
alternatives; `matchFields` knows metadata.name. Refuses to know nodes and offerings: they bring
their labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from outrider.apis.labels import HOSTNAME
from outrider.apis.placement import Constraints, NodeTerm
from outrider.core.requirements import ANY, Requirement, Requirements
from outrider.core.scheduling.supply import Mask

NODE_NAME = "metadata.name"
"""The only field that matchFields may name; kept as a key of its own."""

Allow = Callable[[Requirement], Mask]
"""Evaluates one requirement over all rows of a table."""


@dataclass(frozen=True, slots=True)
class NodeRule:
    """`always` must hold, and of each group of alternatives one."""

    always: Requirements = ANY
    either: tuple[tuple[Requirements, ...], ...] = ()

    @property
    def free(self) -> bool:
        """Return whether the rule asks for nothing."""
        return not self.always and not self.either

    def keys(self) -> frozenset[str]:
        """Return every label the rule looks at."""
        return frozenset(self.always).union(*(term for terms in self.either for term in terms))

    def also(self, other: NodeRule) -> NodeRule:
        """Return the rule that demands both."""
        if other.free:
            return self
        return NodeRule(self.always.intersect(other.always), self.either + other.either)

    def where(self, size: int, allow: Allow) -> Mask:
        """Return the rows, of *size*, that the rule admits."""
        mask = conjunction(self.always, size, allow)
        for terms in self.either:
            mask = mask & disjunction(terms, size, allow)
        return mask

    def holds(self, meets: Callable[[Requirement], bool]) -> bool:
        """Return whether one node, on which *meets* judges a requirement, is admitted."""
        return all(meets(item) for item in self.always.values()) and all(
            any(all(meets(item) for item in term.values()) for term in terms)
            for terms in self.either
        )


def conjunction(requirements: Requirements, size: int, allow: Allow) -> Mask:
    """Return the rows that meet all *requirements*."""
    mask = np.ones(size, bool)
    for key in requirements:
        mask &= allow(requirements[key])
    return mask


def disjunction(terms: Iterable[Requirements], size: int, allow: Allow) -> Mask:
    """Return the rows that meet one of *terms*."""
    mask = np.zeros(size, bool)
    for term in terms:
        mask |= conjunction(term, size, allow)
    return mask


def term_requirements(term: NodeTerm) -> Requirements | None:
    """Return a node selector term as requirements; None where it matches nothing."""
    if not term.expressions and not term.fields:
        return None
    return Requirements.of((*term.expressions, *term.fields))


def node_rule(constraints: Constraints) -> NodeRule:
    """Return what nodeSelector and required node affinity demand."""
    always = Requirements.from_labels(dict(constraints.node_selector))
    if constraints.required_nodes is None:
        return NodeRule(always)
    terms = tuple(
        requirements
        for term in constraints.required_nodes
        if (requirements := term_requirements(term)) is not None
    )
    if len(terms) == 1:
        return NodeRule(always.intersect(terms[0]))
    return NodeRule(always, (terms,))


def without_hostname(rule: NodeRule) -> NodeRule:
    """Return *rule* with every demand on the hostname dropped: a local volume's node is gone."""

    def strip(requirements: Requirements) -> Requirements:
        return Requirements({key: requirements[key] for key in requirements if key != HOSTNAME})

    return NodeRule(
        strip(rule.always), tuple(tuple(strip(term) for term in terms) for terms in rule.either)
    )
