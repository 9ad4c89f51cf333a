"""Which devices of a supply a request can take.

Decides by the selectors of class and request, by taints, and by what the devices of several
requests must have in common. A selector that has no answer for a free device has none for the
supply: kube-scheduler aborts there. Devices that are not allocated whole (partitions, shares) are
left alone. Refuses to know how many anybody needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from outrider.apis.devices import Attribute, DeviceGroup
from outrider.core.scheduling.devices.cel import Unjudgeable, selector
from outrider.core.scheduling.devices.claims import Agreement, Filter, Wanted
from outrider.core.scheduling.devices.supply import Supply
from outrider.core.taints import tolerates

Groups = frozenset[int]
NO_GROUPS: Groups = frozenset()


def accepts(wanted: Filter, group: DeviceGroup) -> bool:
    """Return whether every selector takes the devices of *group*, taints aside."""
    return all(
        selector(expression).matches(group.driver, group.device)
        for expression in wanted.expressions
    )


def takes(wanted: Filter, group: DeviceGroup) -> bool:
    """Return whether *wanted* may be given the devices of *group*."""
    return accepts(wanted, group) and tolerates(group.device.taints, wanted.tolerations)


def usable(wanted: Wanted, supply: Supply, *, also_held: bool = False) -> Groups:
    """Return the groups of *supply* that *wanted* can take; raise Unjudgeable if none can say."""
    if wanted.counts:
        return _agreeing(wanted.agreements[0], supply, also_held=also_held)
    for earlier in wanted.before:
        _whole(earlier, supply, also_held=also_held)
    found = _whole(wanted.filter, supply, also_held=also_held)
    for agreement in wanted.agreements:
        found &= (
            _agreeing(agreement, supply, also_held=also_held)
            if agreement.members
            else frozenset(place for place in found if _has(agreement, supply.groups[place]))
        )
    return found


def every(wanted: Wanted, supply: Supply) -> Groups:
    """Return the groups of *supply* that a request for all has to get; NO_GROUPS if it cannot.

    All of them must be free, whole, tolerated and of one mind about the constraints.
    """
    if supply.unsure:
        raise Unjudgeable(supply.unsure)
    listed = frozenset(
        place for place, group in enumerate(supply.groups) if accepts(wanted.filter, group)
    )
    for place in sorted(listed):
        beyond = supply.groups[place].device.beyond
        if beyond:
            raise Unjudgeable(f"of device {supply.groups[place].device.name}: {beyond}")
    return listed if listed == usable(wanted, supply) else NO_GROUPS


def _whole(wanted: Filter, supply: Supply, *, also_held: bool) -> Groups:
    return frozenset(
        place
        for place, group in enumerate(supply.groups)
        if (supply.free[place] or also_held) and takes(wanted, group) and not group.device.beyond
    )


def _agreeing(agreement: Agreement, supply: Supply, *, also_held: bool) -> Groups:
    """Return what the members of *agreement* find that has the attribute.

    A single device agrees with itself, so an agreement without members asks for no more.
    """
    concerned = frozenset[int]().union(
        *(_whole(member, supply, also_held=also_held) for member in agreement.members)
    )
    having = sorted(place for place in concerned if _has(agreement, supply.groups[place]))
    values = {_value(agreement.attribute, supply.groups[place]) for place in having}
    if None in values or (len(values) > 1 and not agreement.bundled):
        told = "cannot be known here" if None in values else "differs among its devices"
        raise Unjudgeable(f"{agreement.attribute} {told}, and a constraint is on it")
    return frozenset(having)


def bundles(wanted: Wanted, supply: Supply) -> int | None:
    """Return how many bundles of *wanted* there are at once; None where all devices agree.

    Devices of one value make as many as Hall's condition allows: counts that do not exceed, for any
    of the members, what these find.
    """
    (agreement,) = wanted.agreements
    found = [
        [
            place
            for place in _whole(member, supply, also_held=False)
            if _has(agreement, supply.groups[place])
        ]
        for member in agreement.members
    ]
    by_value: dict[object, list[set[int]]] = {}
    for member, places in enumerate(found):
        for place in places:
            value = _value(agreement.attribute, supply.groups[place])
            by_value.setdefault(value, [set() for _ in found])[member].add(place)
    if len(by_value) <= 1:
        return None
    return sum(_complete(wanted.counts, members, supply) for members in by_value.values())


def _complete(counts: Sequence[int], members: Sequence[set[int]], supply: Supply) -> int:
    """Return how often *counts* devices can be taken for every one of *members*."""
    least = None
    for size in range(1, len(counts) + 1):
        for chosen in combinations(range(len(counts)), size):
            places = set[int]().union(*(members[member] for member in chosen))
            devices = sum(supply.groups[place].count for place in places)
            often = devices // sum(counts[member] for member in chosen)
            least = often if least is None else min(least, often)
    return least or 0


def _has(agreement: Agreement, group: DeviceGroup) -> bool:
    return any(
        name in group.device.attributes or name in group.device.unknown
        for name in _names(agreement.attribute, group.driver)
    )


def _value(attribute: str, group: DeviceGroup) -> tuple[type, Attribute] | None:
    for name in _names(attribute, group.driver):
        if name in group.device.attributes:
            value = group.device.attributes[name]
            return type(value), value
    return None


def _names(attribute: str, driver: str) -> Iterable[str]:
    """Return the names under which a device may have a fully qualified *attribute*."""
    domain, _, identity = attribute.partition("/")
    return (attribute, identity) if domain == driver else (attribute,)
