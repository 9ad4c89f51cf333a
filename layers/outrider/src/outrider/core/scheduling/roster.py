"""The planned nodes of one run, found by what they can still take.

Decides which of them a pod is worth asking of, fewest pods first (F58): what every bin still takes
is kept as an array, and a bin that once refused an ask for good is never offered to it again, since
bins only narrow. `first` keeps for every ask a queue of the bins, sorted into the domains they
settled on, and looks at an entry only when it comes to the front; so placing a pod costs what
changed since the last of its kind, not what is planned. Both ways name the same bin. Refuses to
judge: whether a bin takes a pod, the run is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from outrider.core.scheduling.bins import Content, Contents
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.supply import Amounts, Mask, holding
from outrider.core.scheduling.topology import Admitted

_FEW = 8
"""So few new bins are put in a queue unseen: looking costs more than asking in vain."""

_RARE = 16
"""So often all bins are looked at for an ask before it is worth a queue."""

Settled = tuple[str | None, ...]
"""The domain a bin settled on, by key; None while there are several, or none."""

Way = TypeVar("Way")


@dataclass(eq=False, slots=True)
class Bin:
    """One planned node; `asks` are those of its `members`, in the same order."""

    index: int
    content: Content
    members: list[int]
    asks: tuple[Ask, ...]
    reservation: str | None
    committed: Amounts  # of its pool's limits

    @property
    def pods(self) -> Iterator[tuple[int, Ask]]:
        """Return the pods with what they ask."""
        return zip(self.members, self.asks, strict=True)


@dataclass(eq=False, slots=True)
class _Queue:
    """The bins that may take a pod of one ask: by settled domain, (pods, index), fewest first.

    Bins only gain pods, so the number in an entry may be out of date but is never too large.
    """

    asked: int = 0
    seen: int = 0
    heaps: dict[Settled, list[tuple[int, int]]] = field(default_factory=dict)


@dataclass(eq=False)
class Roster:
    """The *bins* of one run over resources of the problem's axis."""

    contents: Contents
    bins: list[Bin] = field(default_factory=list)
    _head: Amounts = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    _pods: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _known: int = 0  # so many bins are in the arrays, those in _stale with old numbers
    _stale: set[int] = field(default_factory=set)
    _dead: dict[int, Mask] = field(default_factory=dict)
    _codes: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    _names: dict[str, dict[str, int]] = field(default_factory=dict)
    _queues: dict[int, _Queue] = field(default_factory=dict)

    def changed(self, known: Bin) -> None:
        """Take note that *known* holds something else now."""
        self._stale.add(known.index)

    def bury(self, ask: Ask, known: Bin) -> None:
        """Remember that a bin will never take a pod of *ask*."""
        self._dead_of(ask)[known.index] = True

    def _dead_of(self, ask: Ask) -> Mask:
        dead = self._dead.get(ask.index)
        if dead is None or len(dead) < len(self.bins):
            dead = _longer(dead if dead is not None else np.zeros(0, bool), len(self.bins))
            self._dead[ask.index] = dead
        return dead

    def is_buried(self, ask: Ask, known: Bin) -> bool:
        """Return whether a bin will never take a pod of *ask*."""
        dead = self._dead.get(ask.index)
        return dead is not None and len(dead) > known.index and bool(dead[known.index])

    # All of them at once.

    def candidates(self, ask: Ask, admitted: Mapping[str, Admitted]) -> NDArray[np.int64]:
        """Return the bins that may take a pod of *ask*, fewest pods first; each is to be asked."""
        count = len(self.bins)
        if not count:
            return np.zeros(0, np.int64)
        self._refresh()
        mask = holding(self._head[:count], ask.request)
        dead = self._dead.get(ask.index)
        if dead is not None:
            known = min(len(dead), count)
            mask[:known] &= ~dead[:known]
        for key, domains in admitted.items():
            if domains.only is None and not domains.never:
                continue
            if domains.shut:
                return np.zeros(0, np.int64)
            mask &= self._where_open(key, domains)[:count]
        found = np.flatnonzero(mask)
        return found[np.argsort(self._pods[found], kind="stable")]

    def _refresh(self) -> None:
        """Bring the arrays up to date."""
        count = len(self.bins)
        if count > len(self._pods):
            width = len(self.contents.problem.axis.names)
            self._head = _longer(self._head.reshape(-1, width), count)
            self._pods = _longer(self._pods, count)
            for key, codes in self._codes.items():
                self._codes[key] = _longer(codes, count, -1)
        changed = [*self._stale, *range(self._known, count)]
        if changed:
            bins = [self.bins[index] for index in changed]
            self._head[changed] = [known.content.head for known in bins]
            self._pods[changed] = [known.content.pods for known in bins]
            for key in self._codes:
                for known in bins:
                    self._settle(key, known)
        self._known = count
        self._stale.clear()

    def _where_open(self, key: str, domains: Admitted) -> Mask:
        """Return the bins that are not settled on a domain that is shut."""
        if key not in self._codes:
            self._codes[key] = np.full(len(self._pods), -1, np.int32)
            self._names[key] = {}
            for known in self.bins:
                self._settle(key, known)
        names = self._names[key]
        table = np.ones(len(names) + 1, bool)
        for value, code in names.items():
            table[code] = domains.has(value)
        return table[self._codes[key]]

    def _settle(self, key: str, known: Bin) -> None:
        value = self._settled_on(known.content, key)
        if value is not None:
            names = self._names[key]
            self._codes[key][known.index] = names.setdefault(value, len(names))

    def _settled_on(self, content: Content, key: str) -> str | None:
        values = self.contents.domains(content, key)
        return next(iter(values)) if len(values) == 1 else None

    # One after the other.

    def first(
        self, ask: Ask, admitted: Mapping[str, Admitted], way: Callable[[Bin], Way | None]
    ) -> tuple[Bin, Way] | None:
        """Return the first of the candidates into which there is a *way*, and the way."""
        if any(domains.shut for domains in admitted.values()):
            return None
        queue = self._queues.setdefault(ask.index, _Queue())
        queue.asked += 1
        if queue.asked <= _RARE:
            return self.first_of(self.candidates(ask, admitted), way)
        self._catch_up(queue, ask)
        closed: dict[Settled, bool] = {}
        waiting: list[tuple[list[tuple[int, int]], tuple[int, int]]] = []
        found: tuple[Bin, Way] | None = None
        while found is None:
            front = self._front(queue, admitted, closed)
            if front is None:
                break
            heap, known = front
            move = way(known)
            if move is not None:
                found = (known, move)
            elif self.is_buried(ask, known):
                heappop(heap)
            else:
                waiting.append((heap, heappop(heap)))
        for heap, entry in waiting:
            heappush(heap, entry)
        return found

    def first_of(
        self, candidates: NDArray[np.int64], way: Callable[[Bin], Way | None]
    ) -> tuple[Bin, Way] | None:
        """Return the first of *candidates* into which there is a *way*, and the way."""
        for index in candidates.tolist():
            known = self.bins[index]
            move = way(known)
            if move is not None:
                return known, move
        return None

    def _front(
        self, queue: _Queue, admitted: Mapping[str, Admitted], closed: dict[Settled, bool]
    ) -> tuple[list[tuple[int, int]], Bin] | None:
        """Return the heap whose front is the bin with the fewest pods, entries out of date
        mended."""
        while True:
            best: tuple[tuple[int, int], Settled] | None = None
            for settled, heap in queue.heaps.items():
                if settled not in closed:
                    closed[settled] = not _is_open(settled, admitted)
                if heap and not closed[settled] and (best is None or heap[0] < best[0]):
                    best = (heap[0], settled)
            if best is None:
                return None
            (pods, index), settled = best
            known = self.bins[index]
            now = self._settled(known, tuple(admitted)) if admitted else ()
            if pods == known.content.pods and settled == now:
                return queue.heaps[settled], known
            heappop(queue.heaps[settled])
            heappush(queue.heaps.setdefault(now, []), (known.content.pods, index))

    def _settled(self, known: Bin, keys: tuple[str, ...]) -> Settled:
        return tuple([self._settled_on(known.content, key) for key in keys])

    def _catch_up(self, queue: _Queue, ask: Ask) -> None:
        """Put the bins that were opened since *ask* was last asked into its *queue*."""
        count = len(self.bins)
        if queue.seen == count:
            return
        fresh: range | list[int] = range(queue.seen, count)
        if len(fresh) > _FEW:
            self._refresh()
            takes = holding(self._head[queue.seen : count], ask.request)
            fresh = (np.flatnonzero(takes) + queue.seen).tolist()
        for index in fresh:
            known = self.bins[index]
            settled = self._settled(known, ask.keys) if ask.keys else ()
            heappush(queue.heaps.setdefault(settled, []), (known.content.pods, index))
        queue.seen = count

    def all_full(self, ask: Ask, first: int) -> None:
        """Take note that no bin from the one of index *first* on takes another pod of *ask*."""
        queue = self._queues.get(ask.index)
        if queue is not None and queue.seen == first:
            queue.seen = len(self.bins)
        self._dead_of(ask)[first : len(self.bins)] = True


def _is_open(settled: Settled, admitted: Mapping[str, Admitted]) -> bool:
    return all(
        value is None or domains.has(value)
        for value, domains in zip(settled, admitted.values(), strict=True)
    )


def _longer(old: NDArray[Any], count: int, fill: int = 0) -> NDArray[Any]:
    """Return *old* with room for *count* and as many again."""
    new = np.full((2 * count, *old.shape[1:]), fill, old.dtype)
    new[: len(old)] = old
    return new
