"""In which order pods are planned, and how their preferences give way.

Decides Karpenter's order (F56, F57) with pod priority in front: the more important pod first,
then those to whom a node in flight was promised (they keep it), the larger cpu, the larger memory,
the older, the name. A pod that finds no place goes to the
back; when a whole round has placed nothing, each pod left relaxes its next preference, so that
nobody gives up a wish for the sake of a neighbour who was only late. Refuses to know what a place
is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import le

import numpy as np

from outrider.apis.pod import Pod
from outrider.core.scheduling.demand import Ask, PodClass

Place = Callable[[list[int], Ask], int]
"""Puts pods that ask the same somewhere, one after the other; answers how many, from the first
on."""


def ordered(pods: Sequence[Pod], promised: Collection[int] = ()) -> list[int]:
    """Return the indices of *pods* in the order of planning, *promised* ones before their peers."""
    grades: dict[tuple[int, bool, int], int] = {}
    importance: list[tuple[int, bool, int, int]] = []
    grade_of = np.empty(len(pods), np.int64)
    for place, pod in enumerate(pods):
        key = (pod.priority, place not in promised, id(pod.requests))
        grade = grades.get(key)
        if grade is None:
            grade = grades[key] = len(importance)
            importance.append(_importance(pod, is_new=key[1]))
        grade_of[place] = grade
    ranks = {value: rank for rank, value in enumerate(sorted(set(importance)))}
    rank = np.array([ranks[value] for value in importance], np.int64)[grade_of]
    names = [pod.key for pod in pods]
    by_name = np.arange(len(pods))
    if not all(map(le, names, islice(names, 1, None))):
        by_name = np.array(sorted(by_name.tolist(), key=names.__getitem__), np.int64)
    created = np.array([pod.created.timestamp() if pod.created else 0.0 for pod in pods])
    order = by_name[np.lexsort((created[by_name], rank[by_name]))]
    found: list[int] = order.tolist()
    return found


def _importance(pod: Pod, *, is_new: bool) -> tuple[int, bool, int, int]:
    return (
        -pod.priority,
        is_new,
        -pod.requests.get("cpu", 0),
        -pod.requests.get("memory", 0),
    )


def drain(
    order: Sequence[int],
    class_of: Sequence[PodClass],
    place: Callable[[int, Ask], bool],
    hopeless: Callable[[Ask], bool],
    expired: Callable[[], bool],
) -> dict[int, Ask]:
    """Place the pods of *order* one by one with *place*, which answers whether it could; return
    those left, each with its last ask (see `drain_runs`)."""

    def placed(pods: list[int], ask: Ask) -> int:
        return next((at for at, pod in enumerate(pods) if not place(pod, ask)), len(pods))

    return drain_runs(order, class_of, placed, hopeless, expired)


def drain_runs(
    order: Sequence[int],
    class_of: Sequence[PodClass],
    place: Place,
    hopeless: Callable[[Ask], bool],
    expired: Callable[[], bool],
) -> dict[int, Ask]:
    """Place the pods of *order* with *place*, neighbours that ask the same together; return those
    left, each with its last ask.

    An ask that failed is not tried again before something else was placed. Preferences that are
    *hopeless* whatever happens give way at once, the others when a round has placed nothing.
    """
    level = dict.fromkeys(order, 0)
    failed: dict[int, int] = {}
    waiting = list(order)
    placed = 0
    while waiting and not expired():
        before = placed
        left: list[int] = []
        for ask, pods in _runs(waiting, class_of, level, hopeless):
            done = 0
            if failed.get(ask.index) != placed:
                done = place(pods, ask)
                placed += done
            if done < len(pods):
                failed[ask.index] = placed
                left += pods[done:]
        waiting = left
        if placed == before and not _relaxed(waiting, class_of, level):
            break
    return {pod: class_of[pod].asks[level[pod]] for pod in waiting}


def _runs(
    waiting: Sequence[int],
    class_of: Sequence[PodClass],
    level: dict[int, int],
    hopeless: Callable[[Ask], bool],
) -> Iterator[tuple[Ask, list[int]]]:
    """Yield the pods of *waiting* in runs that ask the same, with what they ask."""
    for _, members in groupby(waiting, key=lambda pod: (class_of[pod].index, level[pod])):
        pods = list(members)
        asks, step = class_of[pods[0]].asks, level[pods[0]]
        first = step
        while step + 1 < len(asks) and hopeless(asks[step]):
            step += 1
        if step != first:
            level.update(dict.fromkeys(pods, step))
        yield asks[step], pods


def _relaxed(waiting: Sequence[int], class_of: Sequence[PodClass], level: dict[int, int]) -> bool:
    """Relax one step of every pod that has one; return whether any had."""
    able = [pod for pod in waiting if level[pod] + 1 < len(class_of[pod].asks)]
    for pod in able:
        level[pod] += 1
    return bool(able)


def promoted(
    pods: Sequence[Pod], order: Sequence[int], class_of: Sequence[PodClass], left: Mapping[int, Ask]
) -> list[int]:
    """Return *order* with the pods that neighbours kept out before those that they wait for.

    Who was late to a node that its neighbours filled, or to a domain that they closed, comes first
    the next time, and with it the pods that it must be near: both within their own priority.
    """
    wanted = {tally for ask in left.values() for near in ask.near for tally in near.tallies}
    company = {
        pod
        for pod in (order if wanted else ())
        if any(not wanted.isdisjoint(ask.counted) for ask in class_of[pod].asks)
    }

    def turn(place: int) -> tuple[int, bool, bool]:
        return -pods[place].priority, place not in company, place not in left

    return sorted(order, key=turn)


def by_accelerators(pods: Sequence[Pod], order: Sequence[int]) -> list[int]:
    """Return *order* with the pods that ask for most devices first, within each priority."""

    def devices(place: int) -> int:
        return sum(
            value for name, value in pods[place].requests.items() if "/" in name and value > 0
        )

    return sorted(order, key=lambda place: (-pods[place].priority, -devices(place)))
