"""Laws of first fit at scale: what is done for many equal pods at once is what would have been done
pod by pod.

The rival here is written out plainly: it looks at every bin for every pod, in the order of fewest
pods, and opens bins one at a time.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.apis import manifest
from outrider.apis.duration import instant
from outrider.core.catalog import codec
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling import firstfit, queue
from outrider.core.scheduling.compile import compiled
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.plan import pending
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Run
from tests.properties.test_plan_laws import VOLUMES, catalogues, daemons, nodes, pods, pools
from tests.support.builders import NOW


@st.composite
def crowds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw owners with up to some dozens of equal pods each."""
    found = []
    for model in draw(pods()):
        for copies in range(draw(st.sampled_from([1, 2, 5, 24]))):
            twin = copy.deepcopy(model)
            twin["metadata"]["name"] += f"-{copies}"
            found.append(twin)
    return found


def problem_of(documents: list[dict[str, Any]], goods: dict[str, Any]) -> Problem:
    """Return the planning problem of *documents*."""
    state = ClusterState.of([manifest.parse(item) for item in documents])
    waiting = pending(state, instant(NOW))
    return compiled(state, waiting, codec.read(goods), Policy(), {}).problem


def one_at_a_time(run: Run, pod: int, ask: Ask) -> bool:
    """Put *pod* on the first node that takes it, looking at all of them."""
    if run.place_on_node(pod, ask):
        return True
    for index in run.candidates(ask).tolist():
        move = run.into(ask, run.bins[index])
        if move is not None:
            run.join(pod, ask, run.bins[index], move)
            return True
    openings = run.openings(ask)
    if not openings:
        return False
    names = {move.content.shelf.name for move in openings}
    best = min(openings, key=lambda move: (move.order, -sorted(names).index(shelf_name(move))))
    run.open(pod, ask, best)
    return True


def shelf_name(move: Any) -> str:
    """Return the NodePool that a move opens a node in."""
    name: str = move.content.shelf.name
    return name


def seen(run: Run) -> tuple[object, ...]:
    """Return everything that a plan could show of *run*."""
    return (
        [
            (
                known.members,
                [ask.index for ask in known.asks],
                known.content.shelf.name,
                known.content.rows.tolist(),
                known.content.used.tolist(),
                known.reservation,
                known.committed.tolist(),
            )
            for known in run.bins
        ],
        run.placements,
        [budget.tolist() for budget in run.budgets],
        run.slots,
        run.topology.counts.by_domain,
        run.topology.counts.total,
        run.room.tolist(),
    )


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(crowds(), pools(), nodes(), catalogues(), daemons)
def test_runs_of_equal_pods_go_where_they_would_go_one_by_one(
    waiting: list[dict[str, Any]],
    shelves: list[dict[str, Any]],
    existing: list[dict[str, Any]],
    goods: dict[str, Any],
    system: tuple[dict[str, Any], ...],
) -> None:
    """Bins, counts, limits, reservations and the pods left are the same either way."""
    problem = problem_of([*waiting, *shelves, *existing, *system, *VOLUMES], goods)
    order = queue.ordered(problem.pods, problem.nominated)
    together, alone = Run.of(problem), Run.of(problem)

    def place(pods: list[int], ask: Ask) -> int:
        return firstfit.place(together, pods, ask)

    def place_one(pod: int, ask: Ask) -> bool:
        return one_at_a_time(alone, pod, ask)

    left = queue.drain_runs(order, problem.classes, place, problem.hopeless, lambda: False)
    others = queue.drain(order, problem.classes, place_one, problem.hopeless, lambda: False)
    assert seen(together) == seen(alone)
    assert left == others
