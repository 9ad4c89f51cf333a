"""Kinds that the kernel cannot tell apart: one class to it, shared out again afterwards.

Decides which kinds ask for the same amounts and may use the same types: labels that only other
pods' constraints look at make them different pods, but not different to pack. Fewer classes are
packed faster and better. Refuses to know what makes the kinds of one class different: where it
matters, `realise` finds out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider.core.packing.problem import Pattern


@dataclass(frozen=True, slots=True)
class Classes:
    """The kinds of each class, in the order in which they came."""

    kinds: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, requests: NDArray[np.float64], compatible: NDArray[np.bool_]) -> Classes:
        """Return the classes of kinds, given what each asks for and which types it may use."""
        found: dict[bytes, list[int]] = {}
        usable = np.packbits(compatible, axis=1)
        for kind, (asked, types) in enumerate(zip(requests, usable, strict=True)):
            found.setdefault(asked.tobytes() + types.tobytes(), []).append(kind)
        return cls(tuple(tuple(kinds) for kinds in found.values()))

    @property
    def first(self) -> list[int]:
        """Return one kind of each class."""
        return [kinds[0] for kinds in self.kinds]

    def shared_out(self, patterns: Iterable[Pattern], pods: Sequence[int]) -> Iterator[Pattern]:
        """Yield *patterns* over classes as patterns over kinds, which have so many *pods* each."""
        waiting = [deque([kind, pods[kind]] for kind in kinds) for kinds in self.kinds]
        for pattern in patterns:
            left = pattern.times
            while left:
                taken = [
                    (entry, count)
                    for one, wanted in pattern.counts
                    for entry, count in _taken(waiting[one], wanted)
                ]
                if not taken:
                    break
                times = min(left, *(entry[1] // count for entry, count in taken))
                left -= times
                for entry, count in taken:
                    entry[1] -= count * times
                counts = tuple((entry[0], count) for entry, count in taken)
                yield Pattern(pattern.bin_type, counts, times)


def _taken(waiting: deque[list[int]], wanted: int) -> Iterator[tuple[list[int], int]]:
    """Yield from which of the kinds *waiting* the first *wanted* pods are, and how many of each."""
    while waiting and not waiting[0][1]:
        waiting.popleft()
    for entry in waiting:
        if not wanted:
            return
        count = min(wanted, entry[1])
        if count:
            yield entry, count
            wanted -= count
