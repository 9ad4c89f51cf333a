"""The cost strategy: the cheapest plan that can be found in time, never dearer than first fit.

Decides which of several solutions to one problem is taken: the one that places the most important
pods, then the one that is cheapest to plan with (`worth`: Spot at its usual price, every node a
little), unless it is paid more than first fit's. Packers come from cheap to thorough, and stop as
soon as the price meets the bound or time is up: `patterns` hands classes and offerings to the
packing kernel (`core.packing`), where it is installed; `greedy` asks of every pod where it adds
least to the bill. A further packer is one more line in `_rivals`. The bound is of the problem that
every plan must respect (`relaxation`). Refuses to know how nodes are filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from outrider.apis.labels import CAPACITY_TYPE, SPOT
from outrider.core.scheduling import queue
from outrider.core.scheduling.bins import Contents
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.optimise import places
from outrider.core.scheduling.optimise.bound import lower_bound
from outrider.core.scheduling.optimise.greedy import Greedy
from outrider.core.scheduling.optimise.places import Filled
from outrider.core.scheduling.optimise.worth import planned_price, shown_price
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Run

__all__ = ["Solution", "best", "shown_price", "with_bound"]

Expired = Callable[[], bool]

_CLOSE = 1e-9
_FEW = 4
"""So few pods are left to greedy: the kernel costs more to load than it could save."""
_MANY = 400
"""So many pods are left to the kernel: greedy takes longer and is dearer."""
_LOOSE = 1.003
"""A price so much above its bound is worth a proof of its own."""


@dataclass(frozen=True, slots=True)
class Solution:
    """One complete answer: a run, who is left with which ask, who found it, the bound, and what
    first fit is paid for the same pods."""

    run: Run
    left: Mapping[int, Ask]
    stage: str
    bound: float | None = None
    first_fit: float | None = None

    @property
    def missing(self) -> tuple[int, ...]:
        """Return how many pods are left out, by priority, the most important first."""
        pods = self.run.problem.pods
        counts = dict.fromkeys(sorted({-pod.priority for pod in pods}), 0)
        for pod in self.left:
            counts[-pods[pod].priority] += 1
        return tuple(counts.values())

    @property
    def order(self) -> tuple[tuple[int, ...], float, int]:
        """Return what is compared: important pods left out first, then price, then nodes."""
        return self.missing, round(planned_price(self.run), 9), len(self.run.bins)


def best(
    problem: Problem,
    contents: Contents,
    order: Sequence[int],
    plain: Solution,
    expired: Expired,
) -> Solution:
    """Return the best solution found before *expired* says stop; *plain* is first fit's."""
    found = plain
    ceiling = (plain.missing, shown_price(plain.run) + _CLOSE)
    bound = lower_bound(problem, _placed(plain))
    settled = False  # the bound is of the whole problem, at the prices that are paid
    for rival in _rivals(problem, contents, order, expired):
        if rival.order < found.order and (rival.missing, shown_price(rival.run)) <= ceiling:
            found = rival
        if rival.bound is not None and not rival.left:
            bound = max(bound, rival.bound)
            settled = _is_planned_as_paid(problem)
        if (found.run.price_per_hour <= bound + _CLOSE and not found.left) or expired():
            break
    # The bound is over plans that place the same pods as the one that is taken.
    same = found.left.keys() == plain.left.keys()
    if not same:
        bound = lower_bound(problem, _placed(found))
        settled = False
    is_loose = len(order) > _FEW and found.run.price_per_hour > bound * _LOOSE
    if problem.policy.prove and is_loose and not settled and not expired():
        bound = max(bound, _proven(found, expired))
    return replace(
        found,
        bound=min(bound, found.run.price_per_hour),
        first_fit=shown_price(plain.run) if same else None,
    )


def with_bound(solution: Solution) -> Solution:
    """Return *solution* with a bound that comes cheap."""
    bound = lower_bound(solution.run.problem, _placed(solution))
    return replace(solution, bound=min(bound, solution.run.price_per_hour))


def _is_planned_as_paid(problem: Problem) -> bool:
    """Return whether prices to plan with are those that are paid: no Spot at its usual price."""
    column = problem.market.column(CAPACITY_TYPE)
    if column is None or problem.policy.spot_flexibility <= 1:
        return True
    spot = column.where(lambda item: item.single == SPOT)
    return not any((shelf.rows & spot).any() for shelf in problem.shelves)


def _proven(solution: Solution, expired: Expired) -> float:
    """Return the bound that the kernel proves for the pods that *solution* places."""
    try:
        from outrider.core.packing.effort import Effort  # noqa: PLC0415 (a layer of its own; costs 0.3 s)
        from outrider.core.packing.prove import proven  # noqa: PLC0415
        from outrider.core.scheduling.optimise.relaxation import relaxation  # noqa: PLC0415
    except ModuleNotFoundError:
        return 0.0
    placed = _placed(solution)
    if not placed:
        return 0.0
    problem = solution.run.problem
    thorough = problem.policy.thorough
    effort = Effort.thorough() if thorough else Effort.of(float(len(placed)))
    price = solution.run.price_per_hour
    return proven(relaxation(solution.run, placed), expired, effort, price)


def _placed(solution: Solution) -> dict[int, Ask]:
    """Return the pods that have a place, each with the least that it asks."""
    run = solution.run
    pods = [*run.placements, *(pod for known in run.bins for pod in known.members)]
    return {pod: run.problem.classes[pod].asks[-1] for pod in pods}


def _rivals(
    problem: Problem, contents: Contents, order: Sequence[int], expired: Expired
) -> Iterator[Solution]:
    many = len(order) > _MANY
    fillings = places.fillings(problem, contents, order)
    if many:
        fillings = [max(fillings, key=lambda filled: filled.worth)]
    for careful in (False, True) if len(order) > _FEW else ():
        if careful and (many or not _is_delicate(problem)):
            break
        own = Contents(problem) if many else contents
        for filled in fillings:
            solution = _by_patterns(problem, own, filled, expired, careful=careful)
            if solution is None:
                break
            yield solution
            if solution.bound is not None and not solution.left:
                return  # nothing ties the pods: greedy has not been seen to beat the kernel then
    if many:
        return
    for orders in (order, queue.by_accelerators(problem.pods, order)):
        yield _by_greed(Run.of(problem, contents), orders, expired)
        for filled in fillings[1:]:
            rest = [pod for pod in orders if pod in filled.waiting]
            yield _by_greed(filled.begun(problem, contents), rest, expired)


def _by_greed(run: Run, order: Sequence[int], expired: Expired) -> Solution:
    """Return what greedy makes of the pods of *order* where *run* stands."""
    problem = run.problem
    greedy = Greedy(run, problem.policy.node_cost_per_hour)
    left = queue.drain(order, problem.classes, greedy.place, problem.hopeless, expired)
    return Solution(run, left, "greedy")


def _is_delicate(problem: Problem) -> bool:
    """Return whether hostname spreads count pods that do not hold them: to be tried both ways."""
    items = problem.tallies.items
    return any(
        items[use.tally].hosted for known in problem.classes for use in known.asks[0].spreads
    )


def _by_patterns(
    problem: Problem,
    contents: Contents,
    filled: Filled,
    expired: Expired,
    *,
    careful: bool,
) -> Solution | None:
    """Return the kernel's solution, greedy placing what it leaves; None without a solver.

    Where pods that were given a zone found no place after all, those who share their spread are
    left to greedy in a second try: it looks at the counts as they are.
    """
    try:
        from outrider.core.scheduling.optimise.patterns import Patterns  # noqa: PLC0415 (a layer of its own; costs 0.3 s)
    except ModuleNotFoundError:
        return None
    for zonal in (True, False):
        run = filled.begun(problem, contents)
        patterns = Patterns(run, careful, zonal)
        patterns.fill(filled.waiting, expired)
        if not patterns.broken:
            break
    done = {pod for known in run.bins for pod in known.members}
    rest = [pod for pod in filled.waiting if pod not in done]
    greedy = Greedy(run, problem.policy.node_cost_per_hour)
    left = queue.drain(rest, problem.classes, greedy.place, problem.hopeless, expired)
    stage = "patterns" if len(rest) == len(left) else "patterns+greedy"
    return Solution(run, left, stage, patterns.bound)
