"""explain: the reasoning for one pod, placed or not.

Decides which constraints dropped which NodePools, types, zones and capacity types, in the order in
which they bite, what was chosen in the end, and why no other pool was. It plans all pods as `plan`
does and looks at one: the funnels are that pod's alone, before anything else takes room. Refuses to
plan differently for being watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from outrider.apis.labels import CAPACITY_TYPE, ZONE
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.resources import Resources
from outrider.core.scheduling import devices
from outrider.core.scheduling.compile import compiled
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.plan import plan
from outrider.core.scheduling.policy import DEFAULT, Policy
from outrider.core.scheduling.reasons import Step, steps
from outrider.core.scheduling.result import Choice, Launch, Placement, Plan, Reason, Rejection
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Market, Mask, distinct, holding


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a pool's offerings after one constraint, and what fell to it.

    `reason` names the nearest miss where nothing is left.
    """

    constraint: str
    types: int
    offerings: int
    zones: tuple[str, ...]
    capacity_types: tuple[str, ...]
    dropped_types: tuple[str, ...]
    dropped_zones: tuple[str, ...]
    dropped_capacity_types: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PoolStory:
    """One NodePool: why it takes no part, or what each constraint left of it.

    `cheapest` is the cheapest offering that is left for this pod, alone on a node.
    """

    node_pool: str
    reason: Reason | None
    steps: tuple[Left, ...] = ()
    weight: int = 0
    cheapest: Choice | None = None


@dataclass(frozen=True, slots=True)
class Existing:
    """Nodes and NodeClaims in flight: all, those the pod may run on, those with room for it."""

    nodes: int
    suitable: int
    roomy: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """One pod: its place, its launch or its rejection, and the pools' stories."""

    pod: str
    requests: Resources
    existing: Existing
    types: int  # in the catalogue
    pools: tuple[PoolStory, ...]
    relaxed: int
    placement: Placement | None = None
    launch: Launch | None = None
    rejection: Rejection | None = None


def explain(
    state: ClusterState,
    pods: Iterable[Pod],
    key: str,
    catalog: Catalog,
    policy: Policy = DEFAULT,
    now: datetime | None = None,
    expired: Callable[[], bool] = lambda: False,
) -> Explanation | None:
    """Return the reasoning for the pod *key* among *pods*; None where it is not among them."""
    waiting = tuple(pods)
    pod = next((item for item in waiting if item.key == key), None)
    if pod is None:
        return None
    answer = plan(state, waiting, catalog, policy, now, expired)
    alone = compiled(state, (pod,), catalog, policy, {}, devices.allot(state, (pod,), catalog))
    problem = alone.problem
    run = Run.of(problem)
    asks = problem.classes[0].asks
    level = next((place for place, ask in enumerate(asks) if not problem.hopeless(ask)), -1)
    ask = asks[level]
    stories = [PoolStory(name, reason) for name, reason in alone.unusable.items()]
    stories += [
        _story(run, ask, shelf, _reason_in(answer, key, shelf.name)) for shelf in problem.shelves
    ]
    suitable = problem.suitable_places(ask)
    return Explanation(
        pod=key,
        requests=ask.requests,
        existing=Existing(
            len(problem.table.places),
            int(suitable.sum()),
            int((suitable & holding(problem.table.room, ask.request)).sum()),
        ),
        types=len(problem.market.types),
        pools=tuple(sorted(stories, key=lambda story: story.node_pool)),
        relaxed=level % len(asks),
        placement=next((item for item in answer.placements if item.pod == key), None),
        launch=next((item for item in answer.launches if key in item.pods), None),
        rejection=next((item for item in answer.rejections if item.pod == key), None),
    )


def _reason_in(answer: Plan, key: str, node_pool: str) -> Reason | None:
    for rejection in answer.rejections:
        if rejection.pod == key:
            return next((item for item in rejection.reasons if item.node_pool == node_pool), None)
    return None


def _story(run: Run, ask: Ask, shelf: Shelf, reason: Reason | None) -> PoolStory:
    market = run.problem.market
    told = []
    before = shelf.base
    for step in steps(run, ask, shelf):
        told.append(_left(market, step, before))
        before = step.rows
        if not step.rows.any():
            break
    left = np.flatnonzero(before)
    cheapest = market.choices(left[np.argsort(market.rank[left])][:1])
    return PoolStory(
        shelf.name, reason, tuple(told), shelf.pool.weight, cheapest[0] if cheapest else None
    )


def _left(market: Market, step: Step, before: Mask) -> Left:
    after = step.rows
    return Left(
        constraint=step.constraint,
        types=len(distinct(market.row_type[after])),
        offerings=int(after.sum()),
        zones=_values(market, ZONE, after),
        capacity_types=_values(market, CAPACITY_TYPE, after),
        dropped_types=_fallen(_types(market, before), _types(market, after)),
        dropped_zones=_fallen(_values(market, ZONE, before), _values(market, ZONE, after)),
        dropped_capacity_types=_fallen(
            _values(market, CAPACITY_TYPE, before), _values(market, CAPACITY_TYPE, after)
        ),
        reason=None if after.any() else step.message(),
    )


def _types(market: Market, rows: Mask) -> tuple[str, ...]:
    return tuple(market.types[kind].name for kind in distinct(market.row_type[rows]).tolist())


def _values(market: Market, key: str, rows: Mask) -> tuple[str, ...]:
    column = market.column(key)
    if column is None:
        return ()
    codes = distinct(column.codes[rows]).tolist()
    return tuple(sorted(value for code in codes for value in column.states[code].values))


def _fallen(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    kept = set(after)
    return tuple(item for item in before if item not in kept)
