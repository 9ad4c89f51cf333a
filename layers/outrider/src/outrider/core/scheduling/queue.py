"""In which order pods are planned, and how their preferences give way.

Decides Karpenter's order (F56, F57) with pod priority in front: the more important pod first,
then those to whom a node in flight was promised (they keep it), the larger cpu, the larger memory,
the older, the name. A pod that finds no place goes to the
back; when a whole round has placed nothing, each pod left relaxes its next preference, so that
nobody gives up a wish for the sake of a neighbour who was only late. Refuses to know what a place
is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from outrider.apis.pod import Pod
from outrider.core.scheduling.demand import Ask, PodClass

Place = Callable[[int, Ask], bool]
"""Puts a pod somewhere; answers whether it could."""


def ordered(pods: Sequence[Pod], promised: Collection[int] = ()) -> list[int]:
    """Return the indices of *pods* in the order of planning, *promised* ones before their peers."""
    return sorted(
        range(len(pods)), key=lambda place: _importance(pods[place], is_new=place not in promised)
    )


def _importance(pod: Pod, *, is_new: bool) -> tuple[int, bool, int, int, float, str]:
    return (
        -pod.priority,
        is_new,
        -pod.requests.get("cpu", 0),
        -pod.requests.get("memory", 0),
        pod.created.timestamp() if pod.created else 0.0,
        pod.key,
    )


def drain(
    order: Sequence[int],
    class_of: Sequence[PodClass],
    place: Place,
    hopeless: Callable[[Ask], bool],
    expired: Callable[[], bool],
) -> dict[int, Ask]:
    """Place the pods of *order* with *place*; return those left, each with its last ask.

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
        for pod in waiting:
            asks = class_of[pod].asks
            while level[pod] + 1 < len(asks) and hopeless(asks[level[pod]]):
                level[pod] += 1
            ask = asks[level[pod]]
            if failed.get(ask.index) != placed and place(pod, ask):
                placed += 1
                continue
            failed[ask.index] = placed
            left.append(pod)
        waiting = left
        if placed == before and not _relaxed(waiting, class_of, level):
            break
    return {pod: class_of[pod].asks[level[pod]] for pod in waiting}


def _relaxed(waiting: Sequence[int], class_of: Sequence[PodClass], level: dict[int, int]) -> bool:
    """Relax one step of every pod that has one; return whether any had."""
    able = [pod for pod in waiting if level[pod] + 1 < len(class_of[pod].asks)]
    for pod in able:
        level[pod] += 1
    return bool(able)


def by_accelerators(pods: Sequence[Pod], order: Sequence[int]) -> list[int]:
    """Return *order* with the pods that ask for most devices first, within each priority."""

    def devices(place: int) -> int:
        return sum(
            value for name, value in pods[place].requests.items() if "/" in name and value > 0
        )

    return sorted(order, key=lambda place: (-pods[place].priority, -devices(place)))
