"""The cost strategy: the cheapest plan that can be found in time, never dearer than first fit.

Decides which of several solutions to one problem is taken: the one that places the most important
pods, then the cheapest, then the one with fewer nodes. Packers come from cheap to thorough, and
stop as soon as the price meets the bound or time is up: `greedy` asks of every pod where it adds
least to the bill; `patterns` hands classes and offerings to the packing kernel (`core.packing`),
where it is installed. A further packer is one more line in `_rivals`. Refuses to know how nodes
are filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from outrider.core.scheduling import queue
from outrider.core.scheduling.bins import Contents
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.optimise.bound import lower_bound
from outrider.core.scheduling.optimise.greedy import Greedy
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.run import Run

Expired = Callable[[], bool]

_CLOSE = 1e-9
_FEW = 4
"""So few pods are left to greedy: the kernel costs more to load than it could save."""
_MANY = 400
"""So many pods are left to the kernel: greedy takes longer and is dearer."""


@dataclass(frozen=True, slots=True)
class Solution:
    """One complete answer: a run, who is left with which ask, who found it, and the bound."""

    run: Run
    left: Mapping[int, Ask]
    stage: str
    bound: float | None = None

    @property
    def order(self) -> tuple[list[tuple[int, int]], float, int]:
        """Return what is compared: important pods left out first, then price, then nodes."""
        missing: dict[int, int] = {}
        for pod in self.left:
            priority = -self.run.problem.pods[pod].priority
            missing[priority] = missing.get(priority, 0) + 1
        return sorted(missing.items()), round(self.run.price_per_hour, 9), len(self.run.bins)


def best(
    problem: Problem,
    contents: Contents,
    order: Sequence[int],
    plain: Solution,
    expired: Expired,
) -> Solution:
    """Return the best solution found before *expired* says stop; *plain* is first fit's."""
    found = plain
    bound = lower_bound(problem, _placed(plain))
    for rival in _rivals(problem, contents, order, expired):
        if rival.order < found.order:
            found = rival
        if rival.bound is not None and not rival.left:
            bound = max(bound, rival.bound)
        if (found.run.price_per_hour <= bound + _CLOSE and not found.left) or expired():
            break
    # The bound is over plans that place the same pods as the one that is taken.
    bound = bound if len(found.left) == len(plain.left) else lower_bound(problem, _placed(found))
    return replace(found, bound=min(bound, found.run.price_per_hour))


def _placed(solution: Solution) -> dict[int, Ask]:
    """Return the pods that have a place, each with the least that it asks."""
    run = solution.run
    pods = [*run.placements, *(pod for known in run.bins for pod, _ in known.pods)]
    return {pod: run.problem.classes[pod].asks[-1] for pod in pods}


def _rivals(
    problem: Problem, contents: Contents, order: Sequence[int], expired: Expired
) -> Iterator[Solution]:
    many = len(order) > _MANY
    for careful in (False, True) if len(order) > _FEW else ():
        own = Contents(problem) if many else contents
        solution = _by_patterns(problem, own, order, expired, careful=careful)
        if solution is None:
            break
        yield solution
        if many:
            return
    for orders in (order, queue.by_accelerators(problem.pods, order)):
        run = Run.of(problem, contents)
        greedy = Greedy(run, problem.policy.node_cost_per_hour)
        left = queue.drain(orders, problem.classes, greedy.place, problem.hopeless, expired)
        yield Solution(run, left, "greedy")


def _by_patterns(
    problem: Problem,
    contents: Contents,
    order: Sequence[int],
    expired: Expired,
    *,
    careful: bool,
) -> Solution | None:
    """Return the kernel's solution, greedy placing what it leaves; None without a solver."""
    try:
        from outrider.core.scheduling.optimise.patterns import Patterns  # noqa: PLC0415 (a layer of its own; costs 0.3 s)
    except ModuleNotFoundError:
        return None
    run = Run.of(problem, contents)
    waiting: dict[int, Ask] = {}
    for pod in order:
        ask = _first_hopeful(problem, pod)
        if not run.place_on_node(pod, ask):
            waiting[pod] = ask
    patterns = Patterns(run, problem.policy.node_cost_per_hour, careful)
    patterns.fill(waiting, expired)
    done = {pod for known in run.bins for pod, _ in known.pods}
    rest = [pod for pod in waiting if pod not in done]
    greedy = Greedy(run, problem.policy.node_cost_per_hour)
    left = queue.drain(rest, problem.classes, greedy.place, problem.hopeless, expired)
    return Solution(run, left, "patterns", patterns.bound)


def _first_hopeful(problem: Problem, pod: int) -> Ask:
    """Return the first ask of a pod's ladder that anything could meet, else the last."""
    asks = problem.classes[pod].asks
    return next((ask for ask in asks if not problem.hopeless(ask)), asks[-1])
