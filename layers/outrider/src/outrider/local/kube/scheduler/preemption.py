"""Preemption: which pods of lower priority would have to go for one of higher priority.

Matches kube-scheduler's default preemption: only nodes whose reason pods can cure; all lower pods
are taken away and as many as possible reprieved, highest first; the node whose victims break the
fewest budgets, are least important and fewest is taken. Spread and affinity of the preemptor are
looked at with its victims still in place, so a few rescues that need both are missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from outrider.local.kube.objects import Obj
from outrider.local.kube.quantities import Amounts
from outrider.local.kube.scheduler.cluster import NodeInfo, Placed
from outrider.local.kube.scheduler.filters import NodeCheck, without
from outrider.local.kube.scheduler.template import Template

BreaksBudget = Callable[[Obj], bool]


@dataclass(frozen=True, slots=True)
class Rescue:
    """A node, and who must leave it."""

    node: str
    victims: tuple[Obj, ...]
    violations: int
    highest: int

    @property
    def cost(self) -> tuple[int, int, int, str]:
        """Return what is compared, the least first."""
        return self.violations, self.highest, len(self.victims), self.node


def rescue(
    template: Template,
    nodes: Iterable[NodeInfo],
    checks: Iterable[NodeCheck],
    breaks_budget: BreaksBudget,
) -> Rescue | None:
    """Return the cheapest way to make room for a pod of *template* on one of *nodes*."""
    if not template.may_preempt:
        return None
    listed = list(checks)
    found = (
        _on(info, template, breaks_budget)
        for info in nodes
        if not any(check(info) for check in listed)
    )
    return min((one for one in found if one is not None), key=lambda one: one.cost, default=None)


def _on(info: NodeInfo, template: Template, breaks_budget: BreaksBudget) -> Rescue | None:
    lower = [one for one in info.pods.values() if one.template.priority < template.priority]
    if not lower or not _fits(info, template, lower):
        return None
    gone = list(lower)
    for one in sorted(
        lower, key=lambda one: (breaks_budget(one.pod), one.template.priority), reverse=True
    ):
        spared = [other for other in gone if other is not one]
        if _fits(info, template, spared):
            gone = spared
    return Rescue(
        node=info.name,
        victims=tuple(one.pod for one in gone),
        violations=sum(breaks_budget(one.pod) for one in gone),
        highest=max((one.template.priority for one in gone), default=0),
    )


def _fits(info: NodeInfo, template: Template, gone: list[Placed]) -> bool:
    used: Amounts = without(info.used, (one.template for one in gone))
    if len(info.pods) - len(gone) + 1 > info.allocatable.get("pods", 0):
        return False
    if any(
        value > info.allocatable.get(name, 0) - used.get(name, 0)
        for name, value in template.requests.items()
    ):
        return False
    left = [one for one in info.pods.values() if one not in gone]
    taken = {(protocol, number) for one in left for protocol, _, number in one.template.ports}
    return not any((protocol, number) in taken for protocol, _, number in template.ports)
