"""DaemonSets: what every new node gives away before the first pod, and what old nodes still owe.

Decides which DaemonSets run on which rows of the market and on which nodes, as the DaemonSet
controller does (template's tolerations and required node affinity; PreferNoSchedule, startup taints
and preferences do not matter, nor do the taints that the controller tolerates by itself), and
what they ask: a live pod's requests beat the template's (F71, F72). Refuses to know other pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from outrider.apis.placement import PREFER_NO_SCHEDULE, Taint, Toleration
from outrider.apis.pod import HostPort, Pod
from outrider.apis.quantity import Resources
from outrider.apis.workload import DaemonSet
from outrider.core.scheduling.terms import NodeRule, node_rule
from outrider.core.taints import is_ephemeral, tolerates

_OWN_TOLERATIONS = tuple(
    Toleration(key=f"node.kubernetes.io/{key}", operator="Exists")
    for key in (
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    )
)
_NETWORK = Toleration(key="node.kubernetes.io/network-unavailable", operator="Exists")


@dataclass(frozen=True, slots=True)
class Daemon:
    """One DaemonSet as it weighs on a node."""

    key: str
    uid: str
    requests: Resources
    rule: NodeRule
    tolerations: tuple[Toleration, ...]
    host_ports: tuple[HostPort, ...]

    def accepts(self, taints: Iterable[Taint]) -> bool:
        """Return whether the daemon runs on a node with *taints*."""
        return tolerates(
            (
                taint
                for taint in taints
                if taint.effect != PREFER_NO_SCHEDULE and not is_ephemeral(taint)
            ),
            self.tolerations,
        )


def daemons(sets: Iterable[DaemonSet], pods: Iterable[Pod]) -> tuple[Daemon, ...]:
    """Return the DaemonSets, sorted by name, each with its newest live pod's requests."""
    newest: dict[str, Pod] = {}
    for pod in pods:
        owner = owner_of(pod)
        if owner and pod.node_name and not pod.finished:
            known = newest.get(owner)
            if known is None or _age(pod) > _age(known):
                newest[owner] = pod
    return tuple(
        _daemon(item, newest.get(item.key)) for item in sorted(sets, key=lambda item: item.key)
    )


def _age(pod: Pod) -> tuple[float, str]:
    return pod.created.timestamp() if pod.created else 0.0, pod.key


def owner_of(pod: Pod) -> str:
    """Return `namespace/name` of the DaemonSet that owns *pod*, or ""."""
    return next(
        (f"{pod.namespace}/{owner.name}" for owner in pod.owners if owner.kind == "DaemonSet"), ""
    )


def _daemon(item: DaemonSet, live: Pod | None) -> Daemon:
    template = item.template
    own = _OWN_TOLERATIONS if not template.host_ports else (*_OWN_TOLERATIONS, _NETWORK)
    return Daemon(
        key=item.key,
        uid=item.uid,
        requests=live.requests if live is not None else template.requests,
        rule=node_rule(template.constraints),
        tolerations=(*template.constraints.tolerations, *own),
        host_ports=template.host_ports,
    )


def missing(
    applicable: Iterable[Daemon], running: Iterable[Pod]
) -> tuple[tuple[Daemon, ...], Mapping[str, int]]:
    """Return the daemons that should run on a node beside those *running*, and what they ask."""
    present = {owner_of(pod) for pod in running}
    waiting = tuple(daemon for daemon in applicable if daemon.key not in present)
    asked: dict[str, int] = {}
    for daemon in waiting:
        for name, value in daemon.requests.items():
            asked[name] = asked.get(name, 0) + value
    return waiting, asked
