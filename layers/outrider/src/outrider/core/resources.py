"""Amounts of resources: cpu in milli-CPU, everything else in whole units, all of them integers.

kube-scheduler compares `MilliValue` for cpu and `Value` (rounded up) for everything else; so do we.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Resources = Mapping[str, int]
"""Resource name -> amount: `cpu` in milli-CPU, bytes, devices, `pods`."""


def total(amounts: Iterable[Resources]) -> dict[str, int]:
    """Return the sum of *amounts*, name by name."""
    result: dict[str, int] = {}
    for amount in amounts:
        for name, value in amount.items():
            result[name] = result.get(name, 0) + value
    return result


def minus(left: Resources, right: Resources) -> dict[str, int]:
    """Return *left* less *right*, name by name; a name only in *right* goes below zero."""
    result = dict(left)
    for name, value in right.items():
        result[name] = result.get(name, 0) - value
    return result


def allocatable(capacity: Resources, overhead: Resources) -> dict[str, int]:
    """Return what pods can have of a node's *capacity* beside its *overhead*.

    Huge pages are set apart from the node's memory, so they are missing from it.
    """
    left = minus(capacity, overhead)
    if pages := huge_pages(capacity):
        left["memory"] = left.get("memory", 0) - pages
    return left


def huge_pages(capacity: Resources) -> int:
    """Return the bytes of *capacity* that are huge pages of any size."""
    return sum(value for name, value in capacity.items() if name.startswith("hugepages-"))


def fits(request: Resources, room: Resources) -> bool:
    """Return whether *room* holds *request*; what is not asked for does not matter."""
    return all(value <= room.get(name, 0) for name, value in request.items() if value > 0)
