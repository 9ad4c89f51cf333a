"""What a node costs, and what it costs to disrupt it.

Prices come from the catalogue by the node's instance type, zone and capacity type; reserved
capacity is paid for and costs 0. The disruption cost of a pod is Karpenter's (F136): 1, more for a
high deletion cost or priority, less for a low one, between -10 and 10. A node's ratio (F137) is
what it costs an hour for each unit of disruption: the higher, the more is gained by disrupting it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_DELETION_SCALE = 2.0**27
_PRIORITY_SCALE = 2.0**25
_LEAST, _MOST = -10.0, 10.0
BASE = 1.0  # what disrupting a node costs even when nothing runs on it


class Prices:
    """Prices by instance type, zone and capacity type."""

    def __init__(self, catalog: Catalog) -> None:
        self._by_pool: Mapping[tuple[str, str, str], float] = {
            (kind.name, offering.zone, offering.capacity_type): offering.price_per_hour
            for kind in catalog.instance_types
            for offering in kind.offerings
            if offering.price_per_hour > 0
        }

    def of(self, node: Node) -> float | None:
        """Return what *node* costs an hour; None where nobody knows."""
        if node.labels.get(labels.CAPACITY_TYPE) == labels.RESERVED:
            return 0.0
        return self._by_pool.get(
            (
                node.labels.get(labels.INSTANCE_TYPE, ""),
                node.labels.get(labels.ZONE, ""),
                node.labels.get(labels.CAPACITY_TYPE, ""),
            )
        )

    def total(self, nodes: Iterable[Node]) -> float:
        """Return what *nodes* cost an hour together, those of unknown price left out."""
        return sum(self.of(node) or 0.0 for node in nodes)


def eviction_cost(pod: Pod) -> float:
    """Return what moving *pod* costs."""
    text = pod.annotations.get(DELETION_COST, "0")
    try:
        deletion = int(text)
    except ValueError:
        deletion = 0
    cost = 1.0 + deletion / _DELETION_SCALE + pod.priority / _PRIORITY_SCALE
    return max(_LEAST, min(_MOST, cost))


def disruption_cost(pods: Iterable[Pod]) -> float:
    """Return what disrupting a node with *pods* to move costs."""
    return BASE + sum(max(0.0, eviction_cost(pod)) for pod in pods)


def ratio(price: float, pods: Iterable[Pod]) -> float:
    """Return what is gained an hour for each unit of disruption."""
    return price / disruption_cost(pods)
