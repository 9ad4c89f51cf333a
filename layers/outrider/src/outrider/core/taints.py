"""Taints and tolerations: who may go where.

Decides as kube-scheduler's TaintToleration plugin does; which taints of a node that is still
joining are ignored is Karpenter's rule (F94). PreferNoSchedule binds until a pod's preferences
are relaxed (F65). Refuses to know nodes and pods.
"""

from __future__ import annotations

from collections.abc import Iterable

from outrider.apis.labels import UNREGISTERED_TAINT
from outrider.apis.placement import (
    EFFECTS,
    NO_EXECUTE,
    NO_SCHEDULE,
    PREFER_NO_SCHEDULE,
    Taint,
    Toleration,
)

__all__ = [
    "EFFECTS",
    "NO_EXECUTE",
    "NO_SCHEDULE",
    "PREFER_NO_SCHEDULE",
    "Taint",
    "Toleration",
    "blocking",
    "is_ephemeral",
    "tolerates",
    "untolerated",
]

_EPHEMERAL = frozenset(
    {
        ("node.kubernetes.io/not-ready", NO_SCHEDULE),
        ("node.kubernetes.io/not-ready", NO_EXECUTE),
        ("node.kubernetes.io/unreachable", NO_SCHEDULE),
        ("node.cloudprovider.kubernetes.io/uninitialized", NO_SCHEDULE),
        (UNREGISTERED_TAINT, NO_EXECUTE),
    }
)
_READINESS = "readiness.k8s.io/"


def is_ephemeral(taint: Taint) -> bool:
    """Return whether *taint* goes by itself while a node joins."""
    return (taint.key, taint.effect) in _EPHEMERAL or taint.key.startswith(_READINESS)


def blocking(taints: Iterable[Taint]) -> tuple[Taint, ...]:
    """Return those of *taints* that keep pods off, and do not only ask them to stay away."""
    return tuple(taint for taint in taints if taint.effect != PREFER_NO_SCHEDULE)


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> Taint | None:
    """Return the first of *taints* that no toleration covers, PreferNoSchedule included."""
    accepted = tuple(tolerations)
    for taint in taints:
        if not any(toleration.tolerates(taint) for toleration in accepted):
            return taint
    return None


def tolerates(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> bool:
    """Return whether every one of *taints* is tolerated, PreferNoSchedule included."""
    return untolerated(taints, tolerations) is None
