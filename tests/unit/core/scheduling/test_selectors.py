"""CEL selectors of devices: what kube-scheduler would answer, or that nobody can tell."""

from __future__ import annotations

import sys

import pytest

from outrider.apis.devices import Device, Version
from outrider.core.scheduling.devices.cel import LONGEST, Unjudgeable, selector

DRIVER = "gpu.example.com"
DEVICE = Device(
    name="d0",
    attributes={
        "model": "a",
        "slot": 3,
        "healthy": True,
        "driverVersion": Version("1.2.3"),
        "other.example.com/color": "red",
    },
    capacity={"memory": "40Gi", "other.example.com/cores": "8"},
    unknown=frozenset({"uuid", "resource.kubernetes.io/pcieRoot", "secret"}),
)
OWN, OTHER = f'device.attributes["{DRIVER}"]', 'device.attributes["other.example.com"]'
MEMORY = f'device.capacity["{DRIVER}"].memory'


def matches(expression: str) -> bool:
    """Return whether the expression takes the device."""
    return selector(expression).matches(DRIVER, DEVICE)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f'device.driver == "{DRIVER}"', True),
        (f'{OWN}.model == "a"', True),
        (f'{OWN}["model"] == "b"', False),
        (f"{OWN}.slot > 2 && {OWN}.slot <= 3", True),
        (f"{OWN}.healthy", True),
        (f'{OTHER}.color in ["red", "blue"]', True),
        (f'{OWN}.model.matches("^[ab]$") && {OWN}.model.startsWith("a")', True),
        (f"has({OWN}.model) && !has({OWN}.nothing)", True),
        ('has(device.attributes["nowhere.example.com"].thing)', False),
        (f'"model" in {OWN}', True),
        (f"{OWN}.slot == 3.0", True),
        (f'{OWN}.slot == "3"', False),
        (f"{OWN}.slot != true", True),
        (f'{OWN}.healthy ? {OWN}.model == "a" : false', True),
        (f'["x", "a"].exists(each, each == {OWN}.model)', True),
        (f'cel.bind(own, {OWN}, own.healthy && own.model == "a")', True),
        (f'cel.bind(a, {OWN}, cel.bind(b, a.slot, b == 4)) || "cel.bind(" == "x"', False),
    ],
)
def test_attributes(expression: str, expected: bool) -> None:
    """Attributes are read by domain; an unqualified name belongs to the driver's."""
    assert matches(expression) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f'{MEMORY}.compareTo(quantity("40Gi")) == 0', True),
        (f'{MEMORY}.isGreaterThan(quantity("32Gi"))', True),
        (f'{MEMORY}.isLessThan(quantity("40960Mi"))', False),
        (f'{MEMORY} == quantity("40960Mi")', True),
        (f'{MEMORY}.sub(quantity("8Gi")).add(quantity("1Gi")) == quantity("33Gi")', True),
        (f'{MEMORY}.sign() == 1 && quantity("100m").isInteger() == false', True),
        ('device.capacity["other.example.com"].cores.asInteger() == 8', True),
        ('isQuantity("3Gi") && !isQuantity("three")', True),
    ],
)
def test_capacity(expression: str, expected: bool) -> None:
    """Capacities are quantities, compared exactly."""
    assert matches(expression) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f'{OWN}.driverVersion.compareTo(semver("1.2.0")) > 0', True),
        (f'{OWN}.driverVersion.isLessThan(semver("1.10.0"))', True),
        (f"{OWN}.driverVersion.major() == 1 && {OWN}.driverVersion.patch() == 3", True),
        ('semver("1.0.0-rc.1").isLessThan(semver("1.0.0"))', True),
        ('semver("1.0.0-alpha").isLessThan(semver("1.0.0-alpha.1"))', True),
        ('semver("1.0.0-2").isLessThan(semver("1.0.0-11"))', True),
        ('semver("1.0.0+one") == semver("1.0.0+two")', True),
        ('semver("v1.02", true) == semver("1.2.0")', True),
        ('isSemver("1.2") || isSemver("01.2.3")', False),
    ],
)
def test_versions(expression: str, expected: bool) -> None:
    """Versions are ordered as Semantic Versioning has it."""
    assert matches(expression) is expected


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (f'{OWN}.nothing == "a"', "no such member"),
        ('device.attributes["nowhere.example.com"].thing == 1', "no such member"),
        ("device.driver", "not boolean"),
        (f"{OWN}.model > {MEMORY}", "no matching overload"),
        (f'{MEMORY} > quantity("1Gi")', "no matching overload"),
        (f'{MEMORY}.compareTo(semver("1.0.0")) > 0', "no such overload"),
        ("frobnicate(device.driver)", "undeclared reference"),
        ("((", "does not compile"),
        ("cel.bind(x, 1, true", "not closed"),
        ("cel.bind(1, 2, true)", "takes a name"),
        ("1 / 0 == 1", "divide by zero"),
        ('"' + "x" * LONGEST + '" == device.driver', "longer than"),
        ("[1].all(a, [1].all(b, [1].all(c, [1].all(d, [1].all(e, true)))))", "comprehensions"),
    ],
)
def test_errors_are_no_mismatch(expression: str, words: str) -> None:
    """An expression that fails, or is none, has no answer, and says why."""
    with pytest.raises(Unjudgeable, match=words):
        matches(expression)


@pytest.mark.parametrize(
    "expression",
    [
        f'{OWN}.uuid == "GPU-1"',
        f"has({OWN}.uuid)",
        f"!has({OWN}.uuid)",
        f'"uuid" in {OWN}',
        f'cel.bind(own, {OWN}, own.uuid == "GPU-1")',
        f"size({OWN}) > 3",
        'device.attributes["resource.kubernetes.io"].pcieRoot == "pci0000:10"',
        f'device.capacity["{DRIVER}"].secret.isGreaterThan(quantity("1"))',
    ],
)
def test_what_cannot_be_known_has_no_answer(expression: str) -> None:
    """What depends on a value that only the running node has is neither true nor false."""
    with pytest.raises(Unjudgeable, match="cannot be known here"):
        matches(expression)


def test_what_does_not_depend_on_it_has() -> None:
    """An unknown value on the side that does not matter leaves the answer as it is."""
    assert matches(f'{OWN}.uuid == "GPU-1" || {OWN}.model == "a"')
    assert not matches(f'{OWN}.uuid == "GPU-1" && {OWN}.model == "b"')


def test_the_interpreter_is_left_as_it_was() -> None:
    """Compiling leaves the recursion limit of the process alone."""
    depth = sys.getrecursionlimit()
    assert matches('device.driver != "another"')
    assert sys.getrecursionlimit() == depth


def test_deep_nesting_is_refused() -> None:
    """An expression nested beyond reason is refused, not fatal."""
    with pytest.raises(Unjudgeable):
        matches("(" * 3000 + "true" + ")" * 3000)
