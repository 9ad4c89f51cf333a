"""What a node keeps for itself: kube-reserved, system-reserved and the eviction thresholds.

The figures are Karpenter's (F97 to F99): memory 11 MiB a pod and 255 MiB, cpu in falling bands, 1
GiB of ephemeral storage, eviction at 100 MiB of memory and a tenth of ephemeral storage. A node
class's kubelet settings replace them resource by resource; `evictionSoft` is never counted; a
threshold of 100 % switches eviction off, as the kubelet reads it.

Refuses to know instance types: cpu, memory, storage and pods come in as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from outrider.apis import quantity
from outrider.core.resources import Resources, total

MI = 1024**2
GI = 1024**3
MEMORY_A_POD = 11 * MI
MEMORY_BASE = 255 * MI
EPHEMERAL = GI
EVICTION_MEMORY = 100 * MI
EVICTION_EPHEMERAL_PARTS = 10  # one of them is kept free

# (up to this many milli-CPU, hundredths of a per cent reserved)
_CPU_BANDS = ((1000, 600), (2000, 100), (4000, 50), (None, 25))
_WHOLE = 10_000

_SIGNALS = {"memory.available": "memory", "nodefs.available": "ephemeral-storage"}


def kube_reserved(milli_cpu: int, pods: int, override: Mapping[str, Any] | None) -> dict[str, int]:
    """Return kube-reserved for a node of *milli_cpu* whose kubelet expects *pods*."""
    reserved = {
        "cpu": _reserved_cpu(milli_cpu),
        "memory": MEMORY_A_POD * pods + MEMORY_BASE,
        "ephemeral-storage": EPHEMERAL,
    }
    reserved.update(quantity.resources(override or {}, "spec.kubelet.kubeReserved"))
    return reserved


def system_reserved(override: Mapping[str, Any] | None) -> dict[str, int]:
    """Return system-reserved: nothing unless the node class says so."""
    return quantity.resources(override or {}, "spec.kubelet.systemReserved")


def eviction(memory: int, ephemeral: int, hard: Mapping[str, Any] | None) -> dict[str, int]:
    """Return what the hard eviction thresholds keep free of *memory* and *ephemeral* storage."""
    kept = {
        "memory": EVICTION_MEMORY,
        "ephemeral-storage": -(-ephemeral // EVICTION_EPHEMERAL_PARTS),
    }
    capacity = {"memory": memory, "ephemeral-storage": ephemeral}
    for signal, threshold in (hard or {}).items():
        resource = _SIGNALS.get(signal)
        if resource is not None:
            kept[resource] = _threshold(str(threshold), capacity[resource])
    return kept


def overhead(
    milli_cpu: int, memory: int, ephemeral: int, pods: int, kubelet: Mapping[str, Any]
) -> Resources:
    """Return the three overheads together, for a node with *kubelet* settings."""
    return total(
        (
            kube_reserved(milli_cpu, pods, kubelet.get("kubeReserved")),
            system_reserved(kubelet.get("systemReserved")),
            eviction(memory, ephemeral, kubelet.get("evictionHard")),
        )
    )


def _reserved_cpu(milli_cpu: int) -> int:
    reserved, below = 0, 0
    for upto, share in _CPU_BANDS:
        band = milli_cpu - below if upto is None else min(milli_cpu, upto) - below
        if band <= 0:
            break
        reserved += band * share
        below += band
    return reserved // _WHOLE


def _threshold(text: str, capacity: int) -> int:
    if text.endswith("%"):
        share = quantity.exact(text[:-1]) / 100
        return 0 if share >= 1 else _up(capacity * share)
    return quantity.whole(text)


def _up(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)
