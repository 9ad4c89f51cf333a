"""Preferences and the order in which they give way.

A preference binds like a requirement until it makes its pod infeasible, even where that is dearer
(rule 5). Then one step is taken at a time, in Karpenter's order (F63): the heaviest preferred pod
affinity, then the heaviest preferred anti-affinity, then the heaviest preferred node affinity,
then a ScheduleAnyway spread, and last PreferNoSchedule taints are tolerated. Karpenter's first
step, dropping required node affinity terms, is not needed: terms are alternatives from the start.
`Ignore` begins without any preference. Refuses to know what is feasible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from outrider.apis.meta import EXISTS
from outrider.apis.placement import (
    DO_NOT_SCHEDULE,
    PREFER_NO_SCHEDULE,
    Constraints,
    PodTerm,
    Spread,
    Toleration,
)
from outrider.core.requirements import Requirements
from outrider.core.scheduling.terms import NodeRule, node_rule, term_requirements

TOLERATE_PREFERENCES = Toleration(operator=EXISTS, effect=PREFER_NO_SCHEDULE)


@dataclass(frozen=True, slots=True)
class Bound:
    """Constraints with every preference either turned into a requirement or dropped."""

    nodes: NodeRule
    tolerations: tuple[Toleration, ...]
    affinity: tuple[PodTerm, ...] = ()
    wanted_affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    wanted_anti_affinity: tuple[PodTerm, ...] = ()
    spread: tuple[Spread, ...] = ()
    wanted_spread: tuple[Spread, ...] = ()
    company: tuple[PodTerm, ...] = ()


def ladder(
    constraints: Constraints, *, ignore: bool = False, soft_taints: bool = False
) -> tuple[Bound, ...]:
    """Return *constraints* as they bind at first, and after each relaxation.

    *ignore* drops preferences at once; *soft_taints* says that PreferNoSchedule taints exist.
    """
    steps = list(_relaxed(without_wishes(constraints) if ignore else constraints))
    bound = [_bind(step) for step in steps]
    if soft_taints and TOLERATE_PREFERENCES not in constraints.tolerations:
        last = bound[-1]
        bound.append(replace(last, tolerations=(*last.tolerations, TOLERATE_PREFERENCES)))
    return tuple(bound)


def without_wishes(constraints: Constraints) -> Constraints:
    """Return *constraints* with every preference dropped."""
    return replace(
        constraints,
        preferred_nodes=(),
        preferred_affinity=(),
        preferred_anti_affinity=(),
        spread=tuple(
            item for item in constraints.spread if item.when_unsatisfiable == DO_NOT_SCHEDULE
        ),
    )


def _relaxed(constraints: Constraints) -> Iterator[Constraints]:
    """Yield *constraints* and what is left of them after each step."""
    constraints = replace(
        constraints,
        preferred_nodes=tuple(sorted(constraints.preferred_nodes, key=lambda item: -item.weight)),
        preferred_affinity=tuple(
            sorted(constraints.preferred_affinity, key=lambda item: -item.weight)
        ),
        preferred_anti_affinity=tuple(
            sorted(constraints.preferred_anti_affinity, key=lambda item: -item.weight)
        ),
    )
    yield constraints
    while constraints.preferred_affinity:
        rest = constraints.preferred_affinity[1:]
        constraints = replace(constraints, preferred_affinity=rest)
        yield constraints
    while constraints.preferred_anti_affinity:
        fewer = constraints.preferred_anti_affinity[1:]
        constraints = replace(constraints, preferred_anti_affinity=fewer)
        yield constraints
    while constraints.preferred_nodes:
        constraints = replace(constraints, preferred_nodes=constraints.preferred_nodes[1:])
        yield constraints
    while True:
        soft = [item for item in constraints.spread if item.when_unsatisfiable != DO_NOT_SCHEDULE]
        if not soft:
            return
        kept = list(constraints.spread)
        kept.remove(soft[0])
        constraints = replace(constraints, spread=tuple(kept))
        yield constraints


def _bind(constraints: Constraints) -> Bound:
    nodes = node_rule(constraints)
    if constraints.preferred_nodes:
        wish = term_requirements(constraints.preferred_nodes[0].term)
        if wish is not None:
            nodes = nodes.also(NodeRule(wish))
    return Bound(
        nodes=nodes.also(NodeRule(Requirements.of(constraints.confined))),
        tolerations=constraints.tolerations,
        affinity=constraints.affinity,
        wanted_affinity=tuple(item.term for item in constraints.preferred_affinity),
        anti_affinity=constraints.anti_affinity,
        wanted_anti_affinity=tuple(item.term for item in constraints.preferred_anti_affinity),
        spread=tuple(
            item for item in constraints.spread if item.when_unsatisfiable == DO_NOT_SCHEDULE
        ),
        wanted_spread=tuple(
            item for item in constraints.spread if item.when_unsatisfiable != DO_NOT_SCHEDULE
        ),
        company=constraints.company,
    )
