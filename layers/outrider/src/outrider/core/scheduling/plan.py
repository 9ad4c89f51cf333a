"""plan: what to launch for pods that wait, on a value and to a value. The only public door.

Decides which pods are pending or leaving (`pending`), compiles the problem, runs the strategies,
keeps gangs whole, and puts the answer into words. The same input gives the same plan, byte for
byte, whatever the order of its objects; no clock is read, `expired()` is asked. Matches cli.md's
rules and Karpenter's provisioner; first fit is the baseline that the cost strategy may never
exceed. Refuses to act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from itertools import islice
from operator import lt

from outrider.apis.labels import DECISION
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.protection import Budgets, forbids_disruption
from outrider.core.scheduling import devices, firstfit, optimise, queue
from outrider.core.scheduling.bins import Contents
from outrider.core.scheduling.compile import Compiled, compiled, usable
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.gang import Gang, gangs, in_one_zone
from outrider.core.scheduling.launches import launches
from outrider.core.scheduling.nodes import is_leaving
from outrider.core.scheduling.optimise import Solution
from outrider.core.scheduling.policy import COST, DEFAULT, FIRST_FIT, Policy
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.reasons import why
from outrider.core.scheduling.result import Code, Placement, Plan, Reason, Rejection
from outrider.core.scheduling.run import Run

__all__ = ["COST", "FIRST_FIT", "Policy", "pending", "plan"]

Expired = Callable[[], bool]
_MANY = 2000
"""So many pods are not planned twice for the sake of a few that neighbours kept out."""
EMPTY = Plan((), (), (), COST, "optimal", 0.0)


def pending(state: ClusterState, now: datetime) -> tuple[Pod, ...]:
    """Return the pods that wait for a node, and those on nodes that are leaving, sorted by key."""
    leaving = {node.name for node in state.nodes if is_leaving(node, state.claim_of(node))}
    budgets = Budgets(state.pdbs)
    found = [
        pod
        for pod in state.pods
        if (
            _must_leave(pod, budgets, now)
            if pod.node_name in leaving
            else not pod.node_name and _waits(state, pod)
        )
    ]
    return tuple(sorted(found, key=lambda pod: pod.key))


def _waits(state: ClusterState, pod: Pod) -> bool:
    return not (
        pod.finished
        or pod.deleted is not None
        or pod.scheduling_gates
        or pod.from_daemon
        or pod.from_node
        or (pod.nominated_node_name and not _is_ours(state, pod.nominated_node_name))
    )


def _is_ours(state: ClusterState, name: str) -> bool:
    """Return whether a nominated node was nominated by us: it carries one of our decisions."""
    node, claim = state.node(name), state.nodeclaim(name) or state.claim_of(name)
    return (node is not None and DECISION in {**node.labels, **node.annotations}) or (
        claim is not None and DECISION in {**claim.metadata.labels, **claim.metadata.annotations}
    )


def _must_leave(pod: Pod, budgets: Budgets, now: datetime) -> bool:
    return not (
        pod.from_daemon
        or pod.from_node
        or pod.finished
        or pod.deleted is not None
        or forbids_disruption(pod, now)
        or budgets.holding(pod)
    )


def plan(
    state: ClusterState,
    pods: Iterable[Pod],
    catalog: Catalog,
    policy: Policy = DEFAULT,
    now: datetime | None = None,
    expired: Expired = lambda: False,
) -> Plan:
    """Return where *pods* go in *state*: on what exists, on what to launch, or nowhere and why.

    *expired* is asked when the first complete plan stands and between steps from then on; once it
    says so, the best complete plan so far is returned.
    """
    del now  # offerings are available or not; reservations that end are the catalogue's business
    wanted = _each_once(pods)
    if not wanted:
        return replace(EMPTY, strategy=policy.strategy)
    found = gangs(state, wanted)
    solve = partial(_whole, state, wanted, catalog, policy, found)
    answer = solve(expired)
    if answer.gave_up and policy.strategy != FIRST_FIT:
        # What one strategy gives up for a gang that it broke, first fit may have kept.
        plain = solve(expired, plain=True)
        if _loss(plain, wanted) < _loss(answer, wanted):
            answer = plain
    return _worded(state, answer, found, answer.left_out, policy)


def _whole(
    state: ClusterState,
    wanted: Sequence[Pod],
    catalog: Catalog,
    policy: Policy,
    found: Mapping[str, Gang],
    expired: Expired,
    *,
    plain: bool = False,
) -> _Answer:
    """Return an answer in which every gang is whole or left out; *plain* asks first fit alone."""
    left_out: dict[str, str] = {
        gang.name: _too_few(gang) for gang in found.values() if len(gang.members) < gang.missing
    }
    hopeless = len(left_out)
    tried = _Tried()
    while True:
        answer = _solved(
            state, wanted, catalog, policy, expired, found, left_out, tried, plain=plain
        )
        if _chose_again(answer, tried.choice):
            continue
        broken = _broken(answer, found, left_out)
        if broken is None:
            gave_up = len(left_out) > hopeless or bool(tried.zones)
            return replace(answer, left_out=left_out, gave_up=gave_up)
        zone = _zone_tried(answer, broken)
        if broken.same_zone and zone:
            tried.zones.setdefault(broken.name, set()).add(zone)
        else:
            left_out[broken.name] = (
                f"gang {broken.name} needs {broken.missing} members placed together;"
                f" {_placed_of(answer, broken)} fit"
            )


def _loss(answer: _Answer, wanted: Sequence[Pod]) -> tuple[tuple[int, ...], float]:
    """Return how many pods have no place, the most important first, and what the rest cost."""
    problem, index = answer.compiled.problem, answer.index
    counts = dict.fromkeys(sorted({-pod.priority for pod in wanted}), 0)
    unplannable = set(_unplannable(problem))
    for pod in wanted:
        place = index.get(pod.key)
        if place is None or place in answer.left or place in unplannable:
            counts[-pod.priority] += 1
    return tuple(counts.values()), optimise.shown_price(answer.run)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What was tried in vain: zones, by gang; and how far pods are among their device requests."""

    zones: dict[str, set[str]] = field(default_factory=dict)
    choice: dict[str, int] = field(default_factory=dict)


def _each_once(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Return *pods* sorted by key, the last of those with the same key."""
    found = tuple(pods)
    keys = [pod.key for pod in found]
    if all(map(lt, keys, islice(keys, 1, None))):
        return found
    return tuple({pod.key: pod for pod in sorted(found, key=lambda pod: pod.key)}.values())


def _too_few(gang: Gang) -> str:
    return (
        f"gang {gang.name} needs {gang.least} members;"
        f" {len(gang.members) + gang.running} of them exist"
    )


@dataclass(frozen=True)
class _Answer:
    """The best run over a problem, and who is left with which ask."""

    compiled: Compiled
    solution: Solution
    left_out: Mapping[str, str] = field(default_factory=dict)  # gangs, and why
    gave_up: bool = False  # a gang was broken on the way

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Return the index of every pod that takes part, by key."""
        return {pod.key: place for place, pod in enumerate(self.compiled.problem.pods)}

    @property
    def run(self) -> Run:
        """Return the run that placed most for least."""
        return self.solution.run

    @property
    def left(self) -> Mapping[int, Ask]:
        """Return who has no place, each with its last ask."""
        return self.solution.left


def _solved(
    state: ClusterState,
    wanted: Sequence[Pod],
    catalog: Catalog,
    policy: Policy,
    expired: Expired,
    found: Mapping[str, Gang],
    left_out: Mapping[str, str],
    tried: _Tried,
    *,
    plain: bool,
) -> _Answer:
    of_pod = {key: gang.name for gang in found.values() for key in gang.members}
    taking_part = (
        [pod for pod in wanted if of_pod.get(pod.key) not in left_out] if left_out else wanted
    )
    pods = in_one_zone(taking_part, found, tried.zones)
    allotted = devices.allot(state, pods, catalog, tried.choice)
    problem = compiled(state, pods, catalog, policy, of_pod, allotted)
    return _Answer(problem, _best(problem.problem, expired, only_plain=plain))


def _best(problem: Problem, expired: Expired, *, only_plain: bool) -> Solution:
    """Return the best solution that the policy's strategy finds, or first fit's."""
    unplannable = set(_unplannable(problem))
    order = [
        pod for pod in queue.ordered(problem.pods, problem.nominated) if pod not in unplannable
    ]
    contents = Contents(problem)
    run = Run.of(problem, contents)
    left = queue.drain_runs(
        order, problem.classes, partial(firstfit.place, run), problem.hopeless, lambda: False
    )
    plain = Solution(run, left, FIRST_FIT)
    if expired():
        return plain
    plain = _again(problem, contents, order, plain)
    if problem.policy.strategy == FIRST_FIT:
        return plain
    if only_plain:
        return optimise.with_bound(plain)
    return optimise.best(problem, contents, order, plain, expired)


def _again(problem: Problem, contents: Contents, order: Sequence[int], plain: Solution) -> Solution:
    """Return *plain*, or what comes of serving those first whom it left out for their neighbours.

    A pod that needs the company of another finds the node full that the other was given; one that
    keeps others away comes too late to do so. One more round settles most of this.
    """
    late = {pod: ask for pod, ask in plain.left.items() if ask.tied and not problem.hopeless(ask)}
    if not late or len(order) > _MANY:
        return plain
    run = Run.of(problem, contents)
    left = queue.drain_runs(
        queue.promoted(problem.pods, order, problem.classes, late),
        problem.classes,
        partial(firstfit.place, run),
        problem.hopeless,
        lambda: False,
    )
    again = Solution(run, left, FIRST_FIT)
    return again if again.order[0] < plain.order[0] else plain


def _chose_again(answer: _Answer, choice: dict[str, int]) -> bool:
    """Take the next combination of device requests for pods left; return whether one had any."""
    choices = answer.compiled.problem.devices.choices
    again = [
        key
        for key, number in choices.items()
        if choice.get(key, 0) + 1 < number and not _has_place(answer, key)
    ]
    choice.update((key, choice.get(key, 0) + 1) for key in again)
    return bool(again)


def _broken(answer: _Answer, found: Mapping[str, Gang], left_out: Mapping[str, str]) -> Gang | None:
    """Return the least important gang of which too few members have a place."""
    broken = [
        gang
        for gang in found.values()
        if gang.name not in left_out and _placed_of(answer, gang) < gang.missing
    ]

    def importance(gang: Gang) -> tuple[int, str]:
        pods = answer.compiled.problem.pods
        return max(pods[answer.index[key]].priority for key in gang.members), gang.name

    return min(broken, key=importance, default=None)


def _placed_of(answer: _Answer, gang: Gang) -> int:
    return sum(_has_place(answer, key) for key in gang.members)


def _has_place(answer: _Answer, key: str) -> bool:
    place = answer.index[key]
    own = answer.compiled.problem.classes[place]
    return place not in answer.left and not own.problem and not own.devices


def _zone_tried(answer: _Answer, gang: Gang) -> str | None:
    """Return the zone in which the placed members of *gang* are."""
    return answer.run.zone_of({answer.index[key] for key in gang.members})


def _worded(
    state: ClusterState,
    answer: _Answer,
    found: Mapping[str, Gang],
    left_out: Mapping[str, str],
    policy: Policy,
) -> Plan:
    problem, run = answer.compiled.problem, answer.run
    of_pod = {
        answer.index[key]: gang.name
        for gang in found.values()
        for key in gang.members
        if key in answer.index
    }
    placements = tuple(
        sorted(
            (
                Placement(problem.pods[pod].key, problem.table.places[node].name)
                for pod, node in run.placements.items()
            ),
            key=lambda item: item.pod,
        )
    )
    launched = launches(run, of_pod)
    bound = _bound(answer)
    price = sum(launch.price_per_hour for launch in launched)
    done = bound is not None and price <= bound + 1e-9
    return Plan(
        placements=placements,
        launches=launched,
        rejections=_rejections(state, answer, found, left_out),
        strategy=policy.strategy,
        stage="optimal" if done and policy.strategy != FIRST_FIT else answer.solution.stage,
        lower_bound_per_hour=None if bound is None else min(bound, price),
        first_fit_per_hour=answer.solution.first_fit,
    )


def _bound(answer: _Answer) -> float | None:
    if answer.compiled.problem.policy.strategy == FIRST_FIT:
        return None
    return answer.solution.bound


def _rejections(
    state: ClusterState,
    answer: _Answer,
    found: Mapping[str, Gang],
    left_out: Mapping[str, str],
) -> tuple[Rejection, ...]:
    gang_of = {
        key: left_out[gang.name]
        for gang in found.values()
        if gang.name in left_out
        for key in gang.members
    }
    names = sorted({*answer.compiled.unusable, *(pool.name for pool in usable(state)[0])})
    problem = answer.compiled.problem
    unplaced = {problem.pods[place].key: place for place in (*answer.left, *_unplannable(problem))}
    known: dict[object, tuple[Reason, ...]] = {}
    rejected = []
    for pod in sorted({*gang_of, *unplaced}):
        if pod in gang_of:
            message = gang_of[pod]
            reasons = tuple(Reason(name, message, Code.GANG) for name in names or [""])
        else:
            place = unplaced[pod]
            cause, ask = problem.classes[place], answer.left.get(place)
            key = (cause.index, ask.index if ask else None)
            if key not in known:
                known[key] = _reasons(answer, cause.problem, cause.devices, ask, names)
            reasons = _of_claims(problem, pod, known[key]) if ask else known[key]
        rejected.append(Rejection(pod, reasons))
    return tuple(rejected)


def _of_claims(problem: Problem, key: str, reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Return *reasons* with the pod's own claims in those that are about devices.

    Where the claims leave it only certain nodes, that is the reason of every NodePool in use.
    """
    if key not in problem.devices.words:
        return reasons
    tied = key in problem.devices.tied
    in_use = {shelf.name for shelf in problem.shelves}
    return tuple(
        replace(
            reason,
            message=problem.devices.told(key, reason.message),
            code=Code.DYNAMIC_RESOURCES,
        )
        if (tied and reason.node_pool in in_use) or reason.code == Code.DYNAMIC_RESOURCES
        else reason
        for reason in reasons
    )


def _unplannable(problem: Problem) -> list[int]:
    """Return the pods whose volumes or device claims keep them from being planned."""
    return [
        place
        for known in dict.fromkeys(problem.classes)
        if known.problem or known.devices
        for place in known.pods
    ]


def _reasons(
    answer: _Answer, problem: str, device_problem: str, ask: Ask | None, names: Sequence[str]
) -> tuple[Reason, ...]:
    if not names:
        return (Reason("", "there is no NodePool", Code.NODEPOOL_NOT_READY),)
    shelves = {shelf.name: shelf for shelf in answer.compiled.problem.shelves}
    found = []
    for name in names:
        if name in answer.compiled.unusable:
            found.append(answer.compiled.unusable[name])
        elif problem:
            found.append(Reason(name, problem, Code.INVALID_VOLUME))
        elif ask is None:
            found.append(Reason(name, device_problem, Code.DYNAMIC_RESOURCES))
        else:
            found.append(why(answer.run, ask, shelves[name]))
    return tuple(found)
