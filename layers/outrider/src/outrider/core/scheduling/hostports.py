"""Host ports: two pods on one node must not want the same one.

Decides as kube-scheduler's NodePorts does: the same protocol and port conflict where the addresses
are equal or either is every address. Refuses to know nodes.
"""

from __future__ import annotations

from collections.abc import Iterable

from outrider.apis.pod import HostPort


def conflict(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> HostPort | None:
    """Return the first of *wanted* that clashes with one of *taken*."""
    used = tuple(taken)
    for port in wanted:
        for other in used:
            if (
                port.port == other.port
                and port.protocol == other.protocol
                and (port.address == other.address or not port.address or not other.address)
            ):
                return port
    return None
