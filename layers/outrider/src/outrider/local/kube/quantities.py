"""Resource quantities as exact integers, and what a pod asks of a node.

The scheduler and the kubelets read quantities by this module and not by the planner's: two readings
that agree say more than one. CPU is in thousandths, everything else in whole units, rounded up.
Matches apimachinery's `resource.Quantity` and the scheduler's pod request rule: the sum of
containers and sidecars, the largest init container on top of the sidecars before it, and the
overhead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from outrider.local.kube.objects import Obj

_SUFFIX = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_FORM = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(\D{0,2}))$")

Amounts = dict[str, int]


@lru_cache(maxsize=8192)
def _value(text: str) -> Fraction:
    found = _FORM.match(text)
    if found is None or (found[3] or "") not in _SUFFIX:
        raise ValueError(f"quantities must match the regular expression: {text!r}")
    number = Fraction(found[1])
    if found[2]:
        return number * Fraction(10) ** int(found[2][1:])
    return number * _SUFFIX[found[3] or ""]


def amount(name: str, quantity: Any) -> int:
    """Return *quantity* of the resource *name* as an integer: thousandths for cpu, else units."""
    return _amount(name == "cpu", str(quantity))


@lru_cache(maxsize=8192)
def _amount(thousandths: bool, text: str) -> int:  # noqa: FBT001 - the cache's key
    return math.ceil(_value(text) * (1000 if thousandths else 1))


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """Return every one of *quantities* as an integer."""
    return {name: amount(name, quantity) for name, quantity in (quantities or {}).items()}


def add(total: Amounts, more: Mapping[str, int]) -> None:
    """Add *more* to *total* in place."""
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def raise_to(total: Amounts, least: Mapping[str, int]) -> None:
    """Raise *total* in place to at least *least*."""
    for name, value in least.items():
        if value > total.get(name, 0):
            total[name] = value


def pod_requests(pod: Obj) -> Amounts:
    """Return what *pod* asks of a node, without its one place among `pods`."""
    spec = pod["spec"]
    allocated = {
        status.get("name"): status.get("allocatedResources")
        for status in (pod.get("status") or {}).get("containerStatuses") or ()
    }
    total: Amounts = {}
    for container in spec.get("containers") or ():
        asked = _container_requests(container)
        raise_to(asked, amounts(allocated.get(container.get("name"))))
        add(total, asked)
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        asked = _container_requests(container)
        if container.get("restartPolicy") == "Always":
            add(sidecars, asked)
            add(total, asked)
            raise_to(peak, sidecars)
        else:
            add(asked, sidecars)
            raise_to(peak, asked)
    raise_to(total, peak)
    pod_level = spec.get("resources") or {}
    for name, value in _effective(pod_level).items():
        if name in {"cpu", "memory"} or name.startswith("hugepages-"):
            total[name] = value
    add(total, amounts(spec.get("overhead")))
    return total


def _container_requests(container: Obj) -> Amounts:
    return _effective(container.get("resources") or {})


def _effective(resources: Obj) -> Amounts:
    # A limit without a request is the request.
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def sum_of(many: Iterable[Mapping[str, int]]) -> Amounts:
    """Return the sum of *many* amounts."""
    total: Amounts = {}
    for one in many:
        add(total, one)
    return total


def text_of(name: str, value: int) -> str:
    """Write an integer amount of *name* back as a quantity."""
    if name == "cpu":
        return str(value // 1000) if value % 1000 == 0 else f"{value}m"
    if name in {"memory", "ephemeral-storage"} and value and value % 1024 == 0:
        return f"{value // 1024}Ki"
    return str(value)
