"""Laws of planning against every plan there is, on clusters small enough to look through them all.

`tests.support.exhaustive` tries each assignment and judges it with the laws of
`tests.support.feasible`; it shares no code with the planner. Cases that it cannot search in time
are passed over, and a law that saw too few of them fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.crowd import terms_of, tied
from tests.support.exhaustive import Search, TooLarge
from tests.support.expect import planned
from tests.support.feasible import World
from tests.support.fits import Json
from tests.support.hunt import STRATEGIES
from tests.support.scenario import Scenario, scenario

SEEDS = range(120)
MOST_PODS = 4
CLOSE = 1e-6


def _small() -> Iterator[tuple[int, Scenario, Search]]:
    for seed in SEEDS:
        case = scenario(seed, tiny=True)
        search = Search(case)
        if search.suits() and len(search.world.pending()) <= MOST_PODS:
            yield seed, case, search


def test_nobody_is_left_out_who_could_have_a_place() -> None:
    """Where some plan places every pod, both strategies leave none out."""
    seen = 0
    for seed, case, search in _small():
        pods = search.world.pods
        able = {key for key in search.world.pending() if not search.world.storage.broken(pods[key])}
        for strategy in STRATEGIES:
            plan = planned(*case.documents, catalog=case.catalog, strategy=strategy, **case.policy)
            left = {item["pod"] for item in plan.json["unschedulable"]} & able
            if left:
                try:
                    assert search.cheapest(able) is None, (seed, strategy, sorted(left))
                except TooLarge:
                    continue
            seen += 1
    assert seen > 50


def test_no_plan_is_cheaper_than_the_bound() -> None:
    """The bound is below every plan that places the same pods, found or not."""
    seen = 0
    for seed, case, search in _small():
        plan = planned(*case.documents, catalog=case.catalog, strategy="cost", **case.policy).json
        bound = plan["summary"]["lowerBoundPerHour"]
        placed = search.world.pending() - {item["pod"] for item in plan["unschedulable"]}
        try:
            better = search.cheapest(placed, below=bound - CLOSE)
        except TooLarge:
            continue
        assert better is None, (seed, bound, better)
        seen += 1
    assert seen > 25


def _is_free(world: World, pod: Json) -> bool:
    """Return whether no other pod can matter to where *pod* goes."""
    if tied(pod) or "outrider.dev/gang" in pod["metadata"]["annotations"]:
        return False
    others = [other for other in world.pods.values() if other is not pod]
    return not any(
        world.storage.unbound(pod) & world.storage.unbound(other)
        or any(world.crowd.meant(it, other, pod) for it in terms_of(other, "podAntiAffinity"))
        for other in others
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_pod_that_fits_alone_is_never_left_out(strategy: str) -> None:
    """A pod without ties to others that some NodePool without limits could hold has a place."""
    seen = 0
    for seed in SEEDS:
        case = scenario(seed)
        world = Search(case).world
        plan = planned(*case.documents, catalog=case.catalog, strategy=strategy, **case.policy).json
        for item in plan["unschedulable"]:
            pod = world.pods[item["pod"]]
            if not _is_free(world, pod):
                continue
            for pool in world.goods.usable():
                free = not pool["spec"].get("limits") and not world.goods.varied(pool)
                assert not (free and world.alone(pool, pod)), (seed, item)
            seen += 1
    assert seen > 50
