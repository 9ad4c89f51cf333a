"""Kinds of devices, as resources: what a need asks and what a supply has.

Decides which kinds are one (they take the same devices everywhere), which compete (`hall`), and
four sorts of resources. For exact counts, one for each set of kinds that binds. For all devices of
a kind, one of which such a need takes everything and everybody whose kind overlaps takes a little,
so that they exclude each other. For requests that must agree on an attribute which differs among
the devices of a node, one that counts the bundles to be had there, if nobody else may take parts of
them. For administrators, who look at devices without holding them, one that is there or not. A
kind that cannot be judged at all is a problem in words; one that cannot be judged on some supply
finds nothing there.

Refuses to know pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from outrider.apis.devices import DeviceGroup
from outrider.apis.quantity import Resources
from outrider.core.scheduling.devices.cel import Unjudgeable, selector
from outrider.core.scheduling.devices.claims import (
    ADMIN,
    BUNDLE,
    EVERY,
    EXACT,
    MOST_DEVICES,
    Need,
    Wanted,
)
from outrider.core.scheduling.devices.hall import MOST_OVERLAPPING, components, sets
from outrider.core.scheduling.devices.matching import (
    NO_GROUPS,
    Groups,
    accepts,
    bundles,
    every,
    usable,
)
from outrider.core.scheduling.devices.supply import Supply
from outrider.core.scheduling.shelf import DEVICES

ALL_OF_THEM = 4096
"""What a request for all devices asks; more pods than this share no node."""

_SHOWN = 60


@dataclass(eq=False)
class Kinds:
    """The kinds that somebody asks for, over every supply there is."""

    supplies: tuple[Supply, ...]
    problems: dict[Wanted, str] = field(default_factory=dict)
    _taken: dict[tuple[Wanted, int, bool], Groups | str] = field(default_factory=dict)
    _sets: list[tuple[str, frozenset[Wanted]]] = field(default_factory=list)
    _every: dict[Wanted, str] = field(default_factory=dict)
    _admin: dict[tuple[Wanted, int], str] = field(default_factory=dict)
    _bundles: dict[Wanted, str] = field(default_factory=dict)
    _rivals: dict[Wanted, tuple[Wanted, ...]] = field(default_factory=dict)
    _overlaps: dict[Wanted, frozenset[Wanted]] = field(default_factory=dict)
    _rooms: dict[int, Resources] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        needs: Mapping[str, Sequence[Need]],
        types: Mapping[str, Supply],
        nodes: Mapping[str, Sequence[Supply]],
        anywhere: Iterable[DeviceGroup],
    ) -> Kinds:
        """Return the kinds in *needs*; devices that are *anywhere* are no node's own."""
        listed = [types[name] for name in sorted(types)]
        listed += [supply for name in sorted(nodes) for supply in nodes[name]]
        made = cls(tuple({id(supply): supply for supply in listed}.values()))
        asked = {need for mine in needs.values() for need in mine}
        for wanted in sorted({need.wanted for need in asked}, key=lambda item: item.order):
            problem = _problem(wanted, anywhere)
            if problem:
                made.problems[wanted] = problem
        able = sorted(
            (need for need in asked if need.wanted not in made.problems),
            key=lambda need: (need.wanted.order, need.count, need.mode),
        )
        made._name(able)
        return made

    def _name(self, needs: Sequence[Need]) -> None:
        """Give every set of kinds, and every other sort of need, its resource."""
        exact = list(dict.fromkeys(need.wanted for need in needs if need.mode == EXACT))
        for position, kinds in enumerate(self._binding(exact)):
            self._sets.append((f"{DEVICES}exact-{position:03d}", kinds))
        for need in needs:
            if need.mode == EVERY and need.wanted not in self._every:
                self._every[need.wanted] = f"{DEVICES}every-{len(self._every):03d}"
            if need.mode == ADMIN and (need.wanted, need.count) not in self._admin:
                self._admin[need.wanted, need.count] = f"{DEVICES}admin-{len(self._admin):03d}"
            if need.mode == BUNDLE and need.wanted not in self._bundles:
                self._bundles[need.wanted] = f"{DEVICES}bundle-{len(self._bundles):03d}"
        for wanted in self._bundles:
            self._rivals[wanted] = tuple(
                need.wanted
                for need in needs
                if need.mode != ADMIN and need.wanted != wanted and not _is_part(need)
            )
        for wanted in self._every:
            self._overlaps[wanted] = frozenset(
                need.wanted
                for need in needs
                if need.mode in {EXACT, EVERY}
                and need.wanted != wanted
                and self._meet(wanted, need.wanted)
            )

    def _binding(self, wanted: Sequence[Wanted]) -> list[frozenset[Wanted]]:
        """Return the sets of exact kinds that bind; too many that overlap are a problem."""
        alike: dict[tuple[Groups, ...], list[Wanted]] = {}
        for item in wanted:
            alike.setdefault(
                tuple(self._groups(item, supply) for supply in self.supplies), []
            ).append(item)
        signatures = list(alike)
        distinct: dict[tuple[object, ...], tuple[list[Groups], list[int]]] = {}
        for place, supply in enumerate(self.supplies):
            taken = [signature[place] for signature in signatures]
            counts = [group.count for group in supply.groups]
            distinct.setdefault((tuple(taken), tuple(counts)), (taken, counts))
        rows = [taken for taken, _ in distinct.values()]
        sizes = [counts for _, counts in distinct.values()]
        found = []
        for component in components(len(signatures), rows):
            members = [alike[signatures[kind]] for kind in sorted(component)]
            if len(members) > MOST_OVERLAPPING:
                told = f"more than {MOST_OVERLAPPING} kinds of devices overlap"
                self.problems.update(
                    (item, f"{told}, which cannot be judged") for each in members for item in each
                )
                continue
            for one in sets(component, rows, sizes):
                names = (item for kind in one.kinds for item in alike[signatures[kind]])
                found.append(frozenset(names))
        return sorted(found, key=lambda kinds: (len(kinds), sorted(item.order for item in kinds)))

    def _meet(self, one: Wanted, two: Wanted) -> bool:
        return any(
            self._groups(one, supply, also_held=True) & self._groups(two, supply, also_held=True)
            for supply in self.supplies
        )

    def problem(self, needs: Sequence[Need]) -> str:
        """Return why *needs* of one pod cannot be judged, "" where they can."""
        for need in needs:
            if need.wanted in self.problems:
                return self.problems[need.wanted]
        whole = [need.wanted for need in needs if need.mode == EVERY]
        others = [need.wanted for need in needs if need.mode != ADMIN]
        for wanted in whole:
            if others.count(wanted) > 1 or not self._overlaps[wanted].isdisjoint(others):
                return "asks for all devices of a kind and for some of them, which cannot be judged"
        return ""

    def amounts(self, needs: Sequence[Need]) -> dict[str, int]:
        """Return what *needs* ask, by resource."""
        exact = [need for need in needs if need.mode == EXACT]
        found = {
            name: sum(need.count for need in exact if need.wanted in kinds)
            for name, kinds in self._sets
        }
        for wanted, name in self._every.items():
            overlaps = self._overlaps[wanted]
            found[name] = sum(
                ALL_OF_THEM if need.wanted == wanted and need.mode == EVERY else 1
                for need in needs
                if need.mode != ADMIN and (need.wanted == wanted or need.wanted in overlaps)
            )
        for wanted, name in self._bundles.items():
            found[name] = sum(need.wanted == wanted for need in needs)
        for (wanted, count), name in self._admin.items():
            found[name] = sum(
                need.mode == ADMIN and (need.wanted, need.count) == (wanted, count)
                for need in needs
            )
        return {name: amount for name, amount in found.items() if amount}

    def room(self, options: Sequence[Supply]) -> Resources:
        """Return what a node has that may have any of *options*."""
        rooms = [self._room(supply) for supply in options]
        shared = set(rooms[0]).intersection(*rooms)
        return {name: min(room[name] for room in rooms) for name in sorted(shared)}

    def _room(self, supply: Supply) -> Resources:
        known = self._rooms.get(id(supply))
        if known is None:
            known = dict(self._filled(supply))
            self._rooms[id(supply)] = known
        return known

    def _filled(self, supply: Supply) -> Iterable[tuple[str, int]]:
        def size(groups: Iterable[int]) -> int:
            return sum(supply.groups[group].count for group in groups)

        for name, kinds in self._sets:
            amount = size(NO_GROUPS.union(*(self._groups(wanted, supply) for wanted in kinds)))
            if amount:
                yield name, amount
        for wanted, name in self._every.items():
            complete = 0 < size(_every(wanted, supply)) <= MOST_DEVICES
            yield name, ALL_OF_THEM if complete else ALL_OF_THEM - 1
        for wanted, name in self._bundles.items():
            yield name, self._bundles_in(wanted, supply)
        for (wanted, count), name in self._admin.items():
            if size(self._groups(wanted, supply, also_held=True)) >= count:
                yield name, ALL_OF_THEM

    def _bundles_in(self, bundle: Wanted, supply: Supply) -> int:
        """Return how many of *bundle* a node with *supply* has.

        As many as it likes where all devices agree: then counting each kind is enough. Where they
        differ, and others may take some of them, nobody can tell.
        """
        try:
            number = bundles(bundle, supply)
        except Unjudgeable:
            return 0
        if number is None:
            return ALL_OF_THEM
        own = self._groups(bundle, supply)
        if any(own & self._groups(rival, supply) for rival in self._rivals[bundle]):
            return 0
        return number

    def unjudged(self, types: Mapping[str, Supply]) -> dict[str, dict[str, str]]:
        """Return, by resource and type, why devices of the type could not be counted."""
        found: dict[str, dict[str, str]] = {}
        for resource, kinds in self._sets:
            for wanted in sorted(kinds, key=lambda item: item.order):
                for name in sorted(types):
                    why = self._tried(wanted, types[name])
                    if isinstance(why, str):
                        found.setdefault(resource, {}).setdefault(name, why)
        return found

    def _groups(self, wanted: Wanted, supply: Supply, *, also_held: bool = False) -> Groups:
        found = self._tried(wanted, supply, also_held=also_held)
        return NO_GROUPS if isinstance(found, str) else found

    def _tried(self, wanted: Wanted, supply: Supply, *, also_held: bool = False) -> Groups | str:
        key = (wanted, id(supply), also_held)
        known = self._taken.get(key)
        if known is None:
            try:
                known = usable(wanted, supply, also_held=also_held)
            except Unjudgeable as why:
                known = str(why)
            self._taken[key] = known
        return known


def _every(wanted: Wanted, supply: Supply) -> Groups:
    try:
        return every(wanted, supply)
    except Unjudgeable:
        return NO_GROUPS


def _is_part(need: Need) -> bool:
    """Return whether a need is one of a bundle's own, with which it is counted."""
    return need.mode == EXACT and any(item.bundled for item in need.wanted.agreements)


def _problem(wanted: Wanted, anywhere: Iterable[DeviceGroup]) -> str:
    """Return why *wanted* cannot be judged on any node, "" where it can on some."""
    for expression in sorted(wanted.expressions):
        try:
            selector(expression)
        except Unjudgeable as why:
            return f"selector {_short(expression)} cannot be judged: {why}"
    for group in anywhere:
        try:
            reached = accepts(wanted.filter, group)
        except Unjudgeable as why:
            return f"cannot be judged on a device of {group.driver} that is no node's own: {why}"
        if reached:
            return f"devices of {group.driver} that are no node's own cannot be judged"
    return ""


def _short(expression: str) -> str:
    text = " ".join(expression.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
