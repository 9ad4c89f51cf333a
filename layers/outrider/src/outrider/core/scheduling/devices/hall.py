"""Counts of devices as amounts of resources: when many requests can be served at once.

Requests for exact counts, each content with its own set of devices, can all be served on a node if
and only if for every set of them together the counts do not exceed the devices that any of them
takes (Hall's condition). Requests of one kind take the same devices, so it is enough to look at
sets of kinds; and a set that another dominates on every node and type, or that falls into parts
that share no device anywhere, says nothing new. What remains is linear: every such set becomes one
more resource. A pod asks of it what it asks of its kinds, a node has as many as the kinds together
take there, and packing, bounds and first fit need to know no more.

Kinds that overlap with more than MOST_OVERLAPPING others are refused: there would be too many sets.

Refuses to know claims and selectors: it is given which devices each kind takes where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

MOST_OVERLAPPING = 8

Taken = Sequence[frozenset[int]]
"""For one supply, the groups of devices that each kind takes."""


@dataclass(frozen=True, slots=True)
class Set:
    """Kinds that compete for devices, and how many devices they find together in each supply."""

    kinds: frozenset[int]
    devices: tuple[int, ...]


def components(kinds: int, supplies: Sequence[Taken]) -> list[frozenset[int]]:
    """Return the groups of kinds that share a device somewhere, directly or through others."""
    parent = list(range(kinds))

    def root(kind: int) -> int:
        while parent[kind] != kind:
            parent[kind] = parent[parent[kind]]
            kind = parent[kind]
        return kind

    for taken in supplies:
        first: dict[int, int] = {}
        for kind, groups in enumerate(taken):
            for group in groups:
                other = first.setdefault(group, kind)
                parent[root(kind)] = root(other)
    found: dict[int, set[int]] = {}
    for kind in range(kinds):
        found.setdefault(root(kind), set()).add(kind)
    return [frozenset(found[key]) for key in sorted(found, key=lambda key: min(found[key]))]


def sets(
    component: frozenset[int], supplies: Sequence[Taken], counts: Sequence[Sequence[int]]
) -> list[Set]:
    """Return the sets of kinds that bind; *counts* gives the size of each supply's groups."""
    members = sorted(component)
    found = [
        (frozenset(chosen), _union(chosen, supplies))
        for size in range(1, len(members) + 1)
        for chosen in combinations(members, size)
    ]
    result = []
    for chosen, union in found:
        if _grows(chosen, union, members, supplies) or _falls_apart(chosen, supplies):
            continue
        result.append(
            Set(
                chosen,
                tuple(
                    sum(size[group] for group in groups)
                    for groups, size in zip(union, counts, strict=True)
                ),
            )
        )
    return result


def _union(chosen: Sequence[int], supplies: Sequence[Taken]) -> list[frozenset[int]]:
    return [frozenset().union(*(taken[kind] for kind in chosen)) for taken in supplies]


def _grows(
    chosen: frozenset[int],
    union: Sequence[frozenset[int]],
    members: Sequence[int],
    supplies: Sequence[Taken],
) -> bool:
    """Return whether a further kind adds no device anywhere: then the larger set binds."""
    return any(
        all(taken[kind] <= groups for taken, groups in zip(supplies, union, strict=True))
        for kind in members
        if kind not in chosen
    )


def _falls_apart(chosen: frozenset[int], supplies: Sequence[Taken]) -> bool:
    """Return whether the kinds of a set share no devices: then its parts bind as well."""
    if len(chosen) == 1:
        return False
    order = sorted(chosen)
    parts = components(len(order), [[taken[kind] for kind in order] for taken in supplies])
    return len(parts) > 1
