"""Does a device match a selector: CEL as kube-scheduler evaluates it, or why that cannot be said.

A selector sees one variable, `device`, with `driver`, `attributes` and `capacity`; the maps are
grouped by domain, an unqualified name belonging to the driver's, and an unknown domain is an empty
map. Attributes are booleans, integers, strings and semantic versions, capacities are quantities;
both bring the functions of Kubernetes' libraries (`compareTo`, `isGreaterThan`, `semver`,
`quantity` …). As in Kubernetes an expression that is not boolean, or fails on a device (a missing
attribute), is an error, not a mismatch.

What the planner does not know of a device that does not exist yet is neither there nor missing: an
expression whose answer depends on it has none. `cel.bind` is read as the map of a list of one; what
the library lacks (optional fields) has no answer either. The expression's length is limited as in
the API; its cost by how its comprehensions nest, as the API server has refused the expensive ones.

The library (cel-python) costs a quarter of a second: whoever imports this module does so with the
first claim.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import celpy
from celpy.celtypes import (
    BoolType,
    DoubleType,
    IntType,
    ListType,
    MapType,
    StringType,
    UintType,
)
from celpy.evaluation import CELEvalError

from outrider.apis import quantity
from outrider.apis.devices import Attribute, Device, Version
from outrider.errors import InvalidManifest

LONGEST = 10 * 1024
MOST_STEPS = 20_000
_MOST_ATTRIBUTES = 32  # of one device, in all
_COMPREHENSION = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map|reduce)\s*\(")
_LOOKS_FOR_KEYS = re.compile(r"\bhas\s*\(|\bin\b|\bsize\s*\(")


class Unjudgeable(Exception):
    """A selector has no answer for a device; says why."""


class Selector:
    """One compiled CEL expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._looks_for_keys = bool(_LOOKS_FOR_KEYS.search(text) or _COMPREHENSION.search(text))
        self._program = _compile(text)
        self._known: dict[object, bool | str] = {}

    def matches(self, driver: str, device: Device) -> bool:
        """Return whether *device* matches; raise Unjudgeable where that cannot be said."""
        key = self._identity(driver, device)
        answer = self._known.get(key)
        if answer is None:
            try:
                answer = self._judged(driver, device)
            except Unjudgeable as why:
                answer = str(why)
            self._known[key] = answer
        if isinstance(answer, str):
            raise Unjudgeable(answer)
        return answer

    def _identity(self, driver: str, device: Device) -> object:
        """Return what the answer depends on: a hundred nodes have devices that differ in uuid."""
        every = self._looks_for_keys or "+" in self.text

        def looked_at(name: str) -> bool:
            return every or name.rpartition("/")[2] in self.text

        return (
            driver,
            tuple(
                sorted(
                    (name, type(value).__name__, str(value))
                    for name, value in (*device.attributes.items(), *device.capacity.items())
                    if looked_at(name)
                )
            ),
            tuple(sorted(filter(looked_at, device.unknown))),
        )

    def _judged(self, driver: str, device: Device) -> bool:
        seen: set[str] = set()
        try:
            answer = self._program.evaluate({"device": _variable(driver, device, seen)})
        except CELEvalError as error:
            raise Unjudgeable(_before_launch(seen) if seen else _said(error)) from None
        except Exception as error:  # noqa: BLE001 (the library leaks Python's errors)
            raise Unjudgeable(f"{type(error).__name__}: {error}") from None
        if seen and self._looks_for_keys:
            raise Unjudgeable(_before_launch(seen))
        if not isinstance(answer, BoolType):
            raise Unjudgeable("it is not boolean")
        return bool(answer)


@lru_cache(maxsize=4096)
def selector(text: str) -> Selector:
    """Return *text* compiled; raise Unjudgeable where it cannot be."""
    if len(text.encode()) > LONGEST:
        raise Unjudgeable(f"it is longer than {LONGEST} bytes")
    if _steps(text) > MOST_STEPS:
        raise Unjudgeable("its comprehensions cost too much")
    return Selector(text)


def _steps(text: str) -> int:
    """Return how often the innermost of nested comprehensions may be evaluated, at most.

    Each goes over a device's attributes or over a list in the expression itself.
    """
    longest = max(text.count(",") + 1, _MOST_ATTRIBUTES)
    return int(longest ** len(_COMPREHENSION.findall(text)))


def _compile(text: str) -> Any:
    try:
        program = _environment().compile(_unbound(text))
        return _environment().program(program, functions=_functions())
    except celpy.CELParseError as error:
        raise Unjudgeable(f"it does not compile at column {error.column}") from None
    except RecursionError:
        raise Unjudgeable("it is nested too deeply") from None


_BIND = "cel.bind("
_PIECE = re.compile(r"""r?"(?:[^"\\]|\\.)*"|r?'(?:[^'\\]|\\.)*'|cel\.bind\(|.""", re.DOTALL)


def _unbound(text: str) -> str:
    """Return *text* with `cel.bind(name, value, body)` written as `([value].map(name, body)[0])`.

    The two mean the same; the library knows the second. Text in quotes is left alone.
    """
    if _BIND not in text:
        return text
    stack: list[list[str]] = [[""]]
    opened: list[bool] = []  # for every open bracket, whether it is a bind's
    for piece in _PIECE.findall(text):
        if piece == _BIND:
            opened.append(True)
            stack.append([""])
        elif piece in "([{":
            opened.append(False)
            stack[-1][-1] += piece
        elif piece in ")]}" and opened and opened.pop():
            stack[-2][-1] += _mapped(stack.pop())
        elif piece == "," and opened and opened[-1]:
            stack[-1].append("")
        else:
            stack[-1][-1] += piece
    if len(stack) > 1:
        raise Unjudgeable("it does not compile: a bracket is not closed")
    return stack[0][0]


def _mapped(arguments: list[str]) -> str:
    if len(arguments) != 3 or not arguments[0].strip().isidentifier():
        raise Unjudgeable("it does not compile: cel.bind takes a name, a value and an expression")
    name, value, body = arguments
    return f"([{value}].map({name.strip()}, {body})[0])"


@lru_cache(maxsize=1)
def _environment() -> Any:
    depth = sys.getrecursionlimit()
    try:
        return celpy.Environment()
    finally:
        sys.setrecursionlimit(depth)  # the library raises it for the whole process


def _before_launch(seen: set[str]) -> str:
    return f"{', '.join(sorted(seen))} cannot be known here"


def _said(error: Exception) -> str:
    text = str(error.args[0]) if error.args else str(error)
    return text.partition(" (in activation")[0]


class Quantity:
    """A Kubernetes quantity as CEL has it: equal or not, ordered by functions only."""

    def __init__(self, value: Fraction) -> None:
        self.value = self.order = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
    r"(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


class SemanticVersion:
    """A version of Semantic Versioning 2.0.0: build metadata does not order."""

    def __init__(self, text: str) -> None:
        found = _SEMVER.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no semantic version")
        self.parts = (int(found[1]), int(found[2]), int(found[3]))
        before = tuple(
            (0, int(item), "") if item.isdigit() else (1, 0, item)
            for item in (found[4] or "").split(".")
            if item
        )
        self.order = (self.parts, not before, before)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SemanticVersion) and self.order == other.order

    def __hash__(self) -> int:
        return hash(self.order)


def _variable(driver: str, device: Device, seen: set[str]) -> Any:
    """Return the `device` of an expression; *seen* takes the unknown names it asks for."""
    unknown: dict[str, dict[str, str]] = {}
    for name in device.unknown:
        domain, identity = _qualified(name, driver)
        unknown.setdefault(domain, {})[identity] = name
    attributes = {name: _value(value) for name, value in device.attributes.items()}
    capacity = {name: Quantity(_exact(value)) for name, value in device.capacity.items()}
    return MapType(
        {
            StringType("driver"): StringType(driver),
            StringType("attributes"): _domains(attributes, driver, unknown, seen),
            StringType("capacity"): _domains(capacity, driver, unknown, seen),
            StringType("allowMultipleAllocations"): BoolType(False),  # noqa: FBT003 (a value)
        }
    )


def _exact(value: str) -> Fraction:
    try:
        return quantity.exact(value)
    except InvalidManifest as error:
        raise Unjudgeable(error.problem) from None


def _value(value: Attribute) -> Any:
    if isinstance(value, bool):
        return BoolType(value)
    if isinstance(value, int):
        return IntType(value)
    if isinstance(value, Version):
        try:
            return SemanticVersion(value)
        except ValueError as error:
            raise Unjudgeable(str(error)) from None
    return StringType(value)


def _qualified(name: str, driver: str) -> tuple[str, str]:
    domain, slash, identity = name.partition("/")
    return (domain, identity) if slash else (driver, name)


def _domains(
    values: Mapping[str, Any],
    driver: str,
    unknown: Mapping[str, Mapping[str, str]],
    seen: set[str],
) -> Any:
    found: dict[str, dict[Any, Any]] = {domain: {} for domain in unknown}
    for name, value in values.items():
        domain, identity = _qualified(name, driver)
        found.setdefault(domain, {})[StringType(identity)] = value
    return _Domains(
        {
            StringType(domain): _Names(inner, unknown.get(domain, {}), seen)
            for domain, inner in found.items()
        }
    )


class _Names(MapType):  # type: ignore[misc]
    """Attributes of one domain; a look at an unknown one is noted."""

    def __init__(self, items: dict[Any, Any], unknown: Mapping[str, str], seen: set[str]) -> None:
        super().__init__(items)
        self._unknown, self._seen = unknown, seen

    def __getitem__(self, key: Any) -> Any:
        if str(key) in self._unknown:
            self._seen.add(self._unknown[str(key)])
        return super().__getitem__(key)

    def __contains__(self, key: Any) -> bool:
        if str(key) in self._unknown:
            self._seen.add(self._unknown[str(key)])
        return bool(super().__contains__(key))

    def __iter__(self) -> Iterator[Any]:
        self._seen.update(self._unknown.values())
        return iter(super().__iter__())

    def __len__(self) -> int:
        self._seen.update(self._unknown.values())
        return int(super().__len__())


class _Domains(MapType):  # type: ignore[misc]
    """Domains; one that is not there is empty."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if dict.__contains__(self, key) else _Names({}, {}, set())


@lru_cache(maxsize=1)
def _functions() -> dict[str, Callable[..., Any]]:
    def of_quantity(text: Any) -> Quantity:
        if not isinstance(text, StringType):
            raise TypeError("quantity() takes a string")
        try:
            return Quantity(quantity.exact(str(text)))
        except InvalidManifest as error:
            raise ValueError(error.problem) from None

    def of_semver(text: Any, normalize: Any = None) -> SemanticVersion:
        if not isinstance(text, StringType):
            raise TypeError("semver() takes a string")
        return SemanticVersion(_normalised(str(text)) if normalize else str(text))

    def is_valid(read: Callable[..., Any]) -> Callable[..., Any]:
        def check(*arguments: Any) -> Any:
            try:
                read(*arguments)
            except ValueError:
                return BoolType(False)  # noqa: FBT003 (a value)
            return BoolType(True)  # noqa: FBT003 (a value)

        return check

    def amount(value: Any) -> Fraction:
        return value.value if isinstance(value, Quantity) else Fraction(int(value))

    return {
        "quantity": of_quantity,
        "isQuantity": is_valid(of_quantity),
        "semver": of_semver,
        "isSemver": is_valid(of_semver),
        "_==_": lambda one, two: _equal(one, two, wanted=True),
        "_!=_": lambda one, two: _equal(one, two, wanted=False),
        "_in_": _contained,
        "compareTo": lambda one, two: IntType(_compared(one, two)),
        "isGreaterThan": lambda one, two: BoolType(_compared(one, two) > 0),
        "isLessThan": lambda one, two: BoolType(_compared(one, two) < 0),
        "major": lambda version: IntType(version.parts[0]),
        "minor": lambda version: IntType(version.parts[1]),
        "patch": lambda version: IntType(version.parts[2]),
        "sign": lambda one: IntType((one.value > 0) - (one.value < 0)),
        "isInteger": lambda one: BoolType(one.value.denominator == 1),
        "asInteger": lambda one: IntType(_whole(one.value)),
        "asApproximateFloat": lambda one: DoubleType(float(one.value)),
        "add": lambda one, two: Quantity(one.value + amount(two)),
        "sub": lambda one, two: Quantity(one.value - amount(two)),
        "lowerAscii": lambda text: StringType(str(text).lower()),
        "upperAscii": lambda text: StringType(str(text).upper()),
    }


def _compared(one: Any, two: Any) -> int:
    """Return -1, 0 or 1 for two quantities or two versions."""
    if type(one) is not type(two) or not isinstance(one, (Quantity, SemanticVersion)):
        raise TypeError("not comparable")
    return int(one.order > two.order) - int(one.order < two.order)


def _equal(one: Any, two: Any, *, wanted: bool) -> Any:
    """Return whether the equality of two values is *wanted*: of two types, they are not equal.

    The library makes an error of values of different types; CEL compares numbers as numbers and
    holds everything else to be unequal.
    """
    for value in (one, two):
        if isinstance(value, CELEvalError):
            return value
    numbers = (IntType, UintType, DoubleType)
    if isinstance(one, numbers) and isinstance(two, numbers):
        plain = [float(item) if isinstance(item, DoubleType) else int(item) for item in (one, two)]
        return BoolType((plain[0] == plain[1]) is wanted)
    if type(one) is not type(two):
        return BoolType(not wanted)
    return BoolType(bool(one == two) is wanted)


def _contained(item: Any, container: Any) -> Any:
    for value in (item, container):
        if isinstance(value, CELEvalError):
            return value
    if isinstance(container, MapType):
        return BoolType(item in container)
    if isinstance(container, ListType):
        return BoolType(any(_equal(item, each, wanted=True) for each in container))
    raise TypeError("in wants a list or a map")


def _whole(value: Fraction) -> int:
    if value.denominator != 1:
        raise ValueError("not an integer")
    return int(value)


def _normalised(text: str) -> str:
    """Return *text* as semver's normalisation has it: no `v`, three parts, no leading zeros."""
    bare = text.removeprefix("v")
    core, rest = re.match(r"([0-9.]*)(.*)", bare, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = [part.lstrip("0") or "0" for part in core.split(".")]
    if not rest:
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts) + rest
