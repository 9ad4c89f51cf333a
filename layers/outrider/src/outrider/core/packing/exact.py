"""The best contents of a bin by the solver, for the few types that the search leaves loose.

One integer program a type: the classes that may be in contents better than the target, whole pods,
the type's room. It ends at a gap that no longer matters to the bound, or after so many nodes; what
the solver has proven by then is used. A target that cannot be reached is a proof like any other.
"""

from __future__ import annotations

import numpy as np

from outrider.core.packing.linear import Sparse, whole
from outrider.core.packing.pricing import Contents, Relaxed
from outrider.core.packing.problem import Floats, Ints, Problem
from outrider.core.packing.search import Found, worth_a_place

GAP = 2e-4  # of the value: closer does not matter to a bound
NODES = 20_000  # of the solver's search for one type
STEP = 2_000  # units of work of one of the solver's steps
CALL = 60_000  # units of work of asking it at all
SLACK = 1e-7  # the solver's tolerances, taken into the bound


def exact(
    problem: Problem, types: Ints, most: Floats, worth: Floats, relaxed: Relaxed, target: Floats
) -> Found:
    """Return contents of *types* worth more than their *target* [A], and bounds [A].

    A bound is never below the target: contents below it were not looked for.
    """
    bound = relaxed.value.copy()
    kinds: list[int] = []
    counts: list[Floats] = []
    work = 0
    for kind in types.tolist():
        loss = problem.requests @ relaxed.resource[kind] - worth
        budget = float(relaxed.value[kind] - target[kind])
        classes = worth_a_place(problem, kind, most[:, kind], worth, loss, budget)
        room = problem.allocatable[kind]
        scale = np.where(room > 0, room, 1.0)
        answer = whole(
            worth[classes],
            Sparse.of(problem.requests[classes] / scale),
            np.where(room > 0, 1.0, 0.0),
            most[classes, kind],
            GAP,
            NODES,
        )
        work += CALL + STEP * answer.steps
        bound[kind] = min(bound[kind], max(target[kind], answer.bound * (1.0 + SLACK)))
        found = np.zeros(len(worth))
        found[classes] = answer.values
        if (found @ problem.requests <= room).all() and found @ worth > target[kind]:
            kinds.append(kind)
            counts.append(found)
    contents = Contents(
        np.array(kinds, dtype=np.int64), np.array(counts).reshape(len(kinds), len(worth))
    )
    return Found(contents, bound, work)
