"""Kinds that the kernel cannot tell apart are packed as one class, and every pod gets its own."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.packing.problem import Pattern
from outrider.core.scheduling.optimise.alike import Classes


def classes(*signs: str) -> Classes:
    """Return the classes of kinds of which those with the same letter are alike."""
    requests = np.array([[float(ord(sign))] for sign in signs])
    return Classes.of(requests, np.ones((len(signs), 3), bool))


def test_same_amounts_and_same_types_are_one_class() -> None:
    """Kinds are told apart by what they ask for and by which types they may use."""
    requests = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0], [1.0, 2.0]])
    compatible = np.array([[True, True], [True, True], [True, True], [True, False]])
    assert Classes.of(requests, compatible).kinds == ((0, 2), (1,), (3,))


def test_a_pattern_over_a_class_is_given_to_its_kinds_in_turn() -> None:
    """Pods of the kind that came first are taken first, and a bin may hold two kinds."""
    shared = list(classes("a", "a").shared_out([Pattern(7, ((0, 2),), 4)], [5, 3]))
    assert shared == [
        Pattern(7, ((0, 2),), 2),
        Pattern(7, ((0, 1), (1, 1)), 1),
        Pattern(7, ((1, 2),), 1),
    ]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=8),
    st.data(),
)
def test_nothing_is_lost_and_nothing_is_given_twice(
    kinds: list[tuple[str, int]], data: st.DataObject
) -> None:
    """Patterns that hold the pods of every class hold, shared out, the pods of every kind."""
    found = classes(*(sign for sign, _ in kinds))
    pods = [count for _, count in kinds]
    patterns = []
    for one, members in enumerate(found.kinds):
        left = sum(pods[kind] for kind in members)
        while left:
            count = data.draw(st.integers(1, left))
            times = data.draw(st.integers(1, left // count))
            patterns.append(Pattern(one, ((one, count),), times))
            left -= count * times
    given_to: Counter[int] = Counter()
    for pattern in found.shared_out(patterns, pods):
        for kind, count in pattern.counts:
            assert kind in found.kinds[pattern.bin_type]
            given_to[kind] += count * pattern.times
    assert given_to == Counter(dict(enumerate(pods)))
