"""What runs now, in USD per hour: the figure that MaxDollarsPerHour is compared with.

Each machine once: a Node and its NodeClaim are one. Reserved capacity is paid for and costs nothing
here; a machine whose pool the catalogue does not price counts at the book's on-demand price.
Refuses to know the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from outrider.apis import labels
from outrider.core.catalog import price_book
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState


def running_per_hour(state: ClusterState, catalog: Catalog, pool: str = "") -> float:
    """Return the price of every machine of ours in *state*, or of one *pool*'s."""
    prices = {
        (kind.name, offering.zone, offering.capacity_type): offering.price_per_hour
        for kind in catalog.instance_types
        for offering in kind.offerings
    }
    return sum(
        _price(found, prices)
        for found in _machines(state)
        if pool in {"", found.get(labels.NODEPOOL)}
    )


def _machines(state: ClusterState) -> Iterable[Mapping[str, str]]:
    for node in state.nodes:
        if node.node_pool:
            yield node.labels
    for claim in state.nodeclaims:
        if state.node_of(claim) is None:
            yield claim.metadata.labels


def _price(found: Mapping[str, str], prices: Mapping[tuple[str, str, str], float]) -> float:
    name = found.get(labels.INSTANCE_TYPE, "")
    capacity_type = found.get(labels.CAPACITY_TYPE, labels.ON_DEMAND)
    if capacity_type == labels.RESERVED:
        return 0.0
    known = prices.get((name, found.get(labels.ZONE, ""), capacity_type))
    return known if known is not None else price_book.price(name) or 0.0
