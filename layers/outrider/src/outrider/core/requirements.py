"""The algebra of node requirements: which values a label may have, and whether it may be missing.

A `Requirement` is a set of states of one label: "absent" and any text. In, NotIn, Exists,
DoesNotExist and the bounds Gt, Lt, Gte, Lte are such sets, and so are their intersections,
exactly; NotIn and DoesNotExist admit a node without the label, the others do not (as
kube-scheduler has it). A bound is met by integers only. `Requirements` is a conjunction over
keys; a key that it does not name is free. minValues travels along: the largest one stated for a
key wins (F4).

Karpenter's distinction between well-known and custom labels (F60) is the caller's: `compatible`
takes the keys that may be undefined on the node's side because something later defines them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from outrider.apis.labels import normalise
from outrider.apis.meta import (
    DOES_NOT_EXIST,
    EXISTS,
    GT,
    GTE,
    IN,
    LT,
    LTE,
    NOT_IN,
)
from outrider.errors import InvalidManifest

_NONE: frozenset[str] = frozenset()


@lru_cache(maxsize=65536)
def _integer(value: str) -> int | None:
    body = value[1:] if value[:1] in {"-", "+"} else value
    return int(value) if body.isascii() and body.isdigit() and len(body) <= 18 else None


@dataclass(frozen=True, slots=True)
class Requirement:
    """The states of one label that are allowed.

    `values` are the only ones allowed, or with `complement` the only ones not; `least` and `most`
    bound a complement to integers; `absent` allows a node without the label.
    """

    key: str
    values: frozenset[str] = _NONE
    complement: bool = False
    absent: bool = False
    least: int | None = None
    most: int | None = None
    min_values: int | None = None

    @classmethod
    def of(
        cls, key: str, operator: str, values: Collection[str] = (), min_values: int | None = None
    ) -> Requirement:
        """Return the requirement *key* *operator* *values*, the key under today's name."""
        key = normalise(key)
        chosen = frozenset(values)
        if operator == IN:
            return cls(key, chosen, min_values=min_values)
        if operator == NOT_IN:
            return cls(key, chosen, complement=True, absent=True, min_values=min_values)
        if operator == EXISTS:
            return cls(key, complement=True, min_values=min_values)
        if operator == DOES_NOT_EXIST:
            return cls(key, absent=True, min_values=min_values)
        least, most = _bounds(operator, chosen)
        return cls(key, complement=True, least=least, most=most, min_values=min_values)

    @property
    def empty(self) -> bool:
        """Return whether nothing is allowed at all: a conflict."""
        return not self.absent and not self.complement and not self.values

    @property
    def single(self) -> str | None:
        """Return the only value allowed, None where there are more or the label may be missing."""
        if self.complement or self.absent or len(self.values) != 1:
            return None
        return next(iter(self.values))

    @property
    def settled(self) -> str | None:
        """Return the value that a node gets where nobody asks for one, None where none is needed.

        The first of a list; of a rule that only bounds or excludes, the least whole number that it
        allows (Karpenter takes a random one); nothing where the label may be missing.
        """
        if self.absent or self.empty:
            return None
        if not self.complement:
            return min(self.values)
        number = max(self.least or 0, 0)
        while str(number) in self.values:
            number += 1
        return str(number)

    @property
    def stated(self) -> frozenset[str]:
        """Return the values that nodes may get: those listed, else the one that is `settled`."""
        if not self.complement:
            return self.values
        value = self.settled
        return frozenset() if value is None else frozenset((value,))

    def has(self, value: str | None) -> bool:
        """Return whether a label of this *value* is allowed; None is a missing label."""
        if value is None:
            return self.absent
        if (value in self.values) == self.complement:
            return False
        return self._within(value)

    def _within(self, value: str) -> bool:
        if self.least is None and self.most is None:
            return True
        number = _integer(value)
        return (
            number is not None
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
        )

    def intersect(self, other: Requirement) -> Requirement:
        """Return what both allow."""
        absent = self.absent and other.absent
        min_values = max(self.min_values or 0, other.min_values or 0) or None
        if self.complement and other.complement:
            least = _larger(self.least, other.least)
            most = _smaller(self.most, other.most)
            if least is not None and most is not None and least > most:
                return Requirement(self.key, absent=absent, min_values=min_values)
            values = self.values | other.values
            if least is not None or most is not None:
                bounded = Requirement(self.key, complement=True, least=least, most=most)
                values = frozenset(value for value in values if bounded.has(value))
            return Requirement(self.key, values, True, absent, least, most, min_values)  # noqa: FBT003 (complement)
        concrete, rule = (other, self) if self.complement else (self, other)
        values = frozenset(value for value in concrete.values if rule.has(value))
        return Requirement(self.key, values, absent=absent, min_values=min_values)

    def intersects(self, other: Requirement) -> bool:
        """Return whether both allow a state in common."""
        met = self.intersect(other)
        if not met.complement or met.least is None or met.most is None:
            return not met.empty
        return met.absent or met.most - met.least >= len(met.values)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the requirement as entries of `requirements`; free ones give none."""
        entries: list[dict[str, Any]] = []
        if not self.complement:
            operator = IN if self.values or not self.absent else DOES_NOT_EXIST
            entries.append({"key": self.key, "operator": operator})
            if operator == IN:
                entries[0]["values"] = sorted(self.values)
        else:
            if self.least is not None:
                entries.append({"key": self.key, "operator": GTE, "values": [str(self.least)]})
            if self.most is not None:
                entries.append({"key": self.key, "operator": LTE, "values": [str(self.most)]})
            if self.values:
                entries.append({"key": self.key, "operator": NOT_IN, "values": sorted(self.values)})
            if not self.absent and self.least is None and self.most is None:
                entries.append({"key": self.key, "operator": EXISTS})
        if self.min_values is not None and entries:
            entries[0]["minValues"] = self.min_values
        return entries

    def __str__(self) -> str:
        """Return the requirement as a person would say it."""
        words = [
            f"{entry['operator']} {', '.join(entry['values'])}"
            if entry.get("values")
            else str(entry["operator"])
            for entry in self.to_json()
        ]
        return f"{self.key} {' and '.join(words) or 'is free'}"


@lru_cache(maxsize=65536)
def exactly(key: str, value: str) -> Requirement:
    """Return the requirement that label *key* is *value*; equal ones are one object."""
    return Requirement(key, frozenset((value,)))


def _bounds(operator: str, values: frozenset[str]) -> tuple[int | None, int | None]:
    number = _integer(next(iter(values))) if len(values) == 1 else None
    if operator not in {GT, LT, GTE, LTE}:
        raise InvalidManifest(f"{operator!r} is not an operator", path="operator")
    if number is None:
        raise InvalidManifest(f"must be one integer with {operator}", path="values")
    return {
        GT: (number + 1, None),
        GTE: (number, None),
        LT: (None, number - 1),
        LTE: (None, number),
    }[operator]


def _larger(left: int | None, right: int | None) -> int | None:
    return max((value for value in (left, right) if value is not None), default=None)


def _smaller(left: int | None, right: int | None) -> int | None:
    return min((value for value in (left, right) if value is not None), default=None)


class Requirements(Mapping[str, Requirement]):
    """A conjunction of requirements, one a key; immutable, hashable."""

    __slots__ = ("_by_key", "_hash")

    def __init__(self, by_key: Mapping[str, Requirement] | None = None) -> None:
        self._by_key: dict[str, Requirement] = dict(by_key or {})
        self._hash: int | None = None

    @classmethod
    def of(cls, entries: Iterable[Any] = ()) -> Requirements:
        """Return the conjunction of *entries*: mappings or objects with key, operator, values."""
        by_key: dict[str, Requirement] = {}
        for entry in entries:
            requirement = _entry(entry)
            known = by_key.get(requirement.key)
            by_key[requirement.key] = known.intersect(requirement) if known else requirement
        return cls(by_key)

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> Requirements:
        """Return the requirements that a node with exactly these *labels* meets."""
        return cls({normalise(key): exactly(normalise(key), labels[key]) for key in labels})

    def __getitem__(self, key: str) -> Requirement:
        """Return the requirement on *key*."""
        return self._by_key[key]

    def __iter__(self) -> Iterator[str]:
        """Return the keys that are not free."""
        return iter(self._by_key)

    def __len__(self) -> int:
        """Return how many keys are not free."""
        return len(self._by_key)

    def __hash__(self) -> int:
        """Return a hash of the whole conjunction."""
        if self._hash is None:
            self._hash = hash(frozenset(self._by_key.values()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Return whether *other* says the same."""
        return isinstance(other, Requirements) and self._by_key == other._by_key

    def __repr__(self) -> str:
        """Return the conjunction in words."""
        return f"Requirements({'; '.join(str(self._by_key[key]) for key in sorted(self))})"

    def intersect(self, other: Requirements) -> Requirements:
        """Return what both allow, key by key; see `conflict` for whether that is anything."""
        if not other or other is self:
            return self
        if not self:
            return other
        by_key = dict(self._by_key)
        for key, requirement in other.items():
            known = by_key.get(key)
            by_key[key] = known.intersect(requirement) if known else requirement
        return Requirements(by_key)

    @property
    def conflict(self) -> Requirement | None:
        """Return the first requirement, by key, that allows nothing."""
        return next((self[key] for key in sorted(self) if self[key].empty), None)

    def clash(self, other: Requirements, definable: Collection[str] = ()) -> str | None:
        """Return the first key, sorted, on which a node made by *self* cannot meet *other*.

        A key that *self* does not name is missing on the node, unless it is *definable*.
        """
        for key in sorted(other):
            asked = other[key]
            offered = self._by_key.get(key)
            if offered is not None:
                if not offered.intersects(asked):
                    return key
            elif not asked.absent and key not in definable:
                return key
        return None

    def compatible(self, other: Requirements, definable: Collection[str] = ()) -> bool:
        """Return whether a node made by *self* can meet *other* (see `clash`)."""
        return self.clash(other, definable) is None

    def admits(self, labels: Mapping[str, str]) -> bool:
        """Return whether a node with exactly these *labels* meets everything."""
        return all(requirement.has(labels.get(key)) for key, requirement in self._by_key.items())

    def only(self, key: str, values: Collection[str]) -> Requirements:
        """Return the same with *key* narrowed to *values*."""
        return self.intersect(Requirements({key: Requirement(key, frozenset(values))}))

    def without_min_values(self) -> Requirements:
        """Return the same without any minValues."""
        return Requirements(
            {key: replace(item, min_values=None) for key, item in self._by_key.items()}
        )

    def labels(self) -> dict[str, str]:
        """Return the labels that are settled: keys with one value left."""
        settled = ((key, self._by_key[key].single) for key in sorted(self._by_key))
        return {key: value for key, value in settled if value is not None}

    def to_json(self) -> list[dict[str, Any]]:
        """Return the conjunction as a list of entries, sorted by key."""
        return [entry for key in sorted(self._by_key) for entry in self._by_key[key].to_json()]


ANY = Requirements()


def _entry(entry: Any) -> Requirement:
    if isinstance(entry, Requirement):
        return entry
    if isinstance(entry, Mapping):
        return Requirement.of(
            entry["key"], entry["operator"], entry.get("values") or (), entry.get("minValues")
        )
    return Requirement.of(
        entry.key, entry.operator, entry.values, getattr(entry, "min_values", None)
    )
