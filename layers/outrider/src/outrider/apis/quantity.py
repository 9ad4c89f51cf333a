"""Kubernetes quantities, exact: text or number in, integers out.

Decides what `100m`, `1.5Gi`, `2e3` and `0.5` mean, as `resource.Quantity` parses them; cpu comes
out in milli-CPU and everything else in whole units, rounded up, which is what kube-scheduler
compares (`MilliValue` and `Value`). No float is ever used. Refuses to know which resources exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

from outrider.errors import InvalidManifest

Resources = Mapping[str, int]
"""Resource name -> amount: `cpu` in milli-CPU, bytes, devices, `pods`."""

CPU = "cpu"

_SHAPE = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:(?P<exponent>[eE][+-]?[0-9]{1,3})|(?P<suffix>[KMGTPE]i|[numkMGTPE])?)"
)
_BINARY = {
    suffix: 2 ** (10 * power)
    for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)
}
_SCALE: dict[str, Fraction] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(10 ** (3 * power)) for power, suffix in enumerate("kMGTPE", 1)},
    **{suffix: Fraction(factor) for suffix, factor in _BINARY.items()},
}
LARGEST = 2**62
"""Amounts above this are cut to it: the API's own ceiling is 2^63-1, and sums must stay in
int64."""
_LONGEST = 64


def exact(value: object) -> Fraction:
    """Return *value* as an exact number; raise InvalidManifest where it is no quantity."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InvalidManifest(f"{_shown(value)} is not a quantity")
    text = value if isinstance(value, str) else repr(value)
    match = _SHAPE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise InvalidManifest(f"{_shown(value)} is not a quantity")
    number = Fraction(match["digits"])
    if match["exponent"]:
        number *= Fraction(10) ** int(match["exponent"][1:])
    else:
        number *= _SCALE[match["suffix"] or ""]
    return -number if match["sign"] == "-" else number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


@lru_cache(maxsize=65536)
def _whole(value: str, scale: int) -> int:
    return _up(exact(value) * scale)


def _up(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)


def whole(value: object) -> int:
    """Return *value* in whole units, rounded up: bytes, devices, pods."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _whole(value, 1)
    return _up(exact(value))


def milli(value: object) -> int:
    """Return *value* in thousandths, rounded up: milli-CPU."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * 1000
    if isinstance(value, str):
        return _whole(value, 1000)
    return _up(exact(value) * 1000)


def amount(resource: str, value: object) -> int:
    """Return *value* of *resource* in its unit; negative amounts are refused."""
    result = milli(value) if resource == CPU else whole(value)
    if result < 0:
        raise InvalidManifest(f"{_shown(value)} is negative")
    return min(result, LARGEST)


def resources(listing: object, path: str = "") -> dict[str, int]:
    """Return a resource list (`{"cpu": "1", …}`) as amounts; *path* names it in errors."""
    if listing is None:
        return {}
    if not isinstance(listing, Mapping):
        raise InvalidManifest("must be an object", path=path)
    result = {}
    for name, value in listing.items():
        try:
            result[str(name)] = amount(name, value)
        except InvalidManifest as error:
            raise InvalidManifest(error.problem, path=f"{path}.{name}" if path else name) from None
    return result


def text(resource: str, value: int) -> str:
    """Return an amount as Kubernetes prints it: `3100m`, `4`, `15155Mi`."""
    if resource == CPU:
        return f"{value}m" if value % 1000 else str(value // 1000)
    if resource in {"memory", "ephemeral-storage"} or resource.startswith("hugepages-"):
        for suffix, factor in reversed(_BINARY.items()):
            if value and value % factor == 0:
                return f"{value // factor}{suffix}"
    return str(value)


def listing(amounts: Resources) -> dict[str, str]:
    """Return *amounts* as a resource list in JSON, sorted by name."""
    return {name: text(name, amounts[name]) for name in sorted(amounts)}
