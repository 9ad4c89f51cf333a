"""NodeOverlays: prices and devices that a user knows better than the catalogue.

Decides, as Karpenter does (F26, F27): overlays are tried from the heaviest, among equals the later
name first; the first that states a price (or an adjustment) settles an offering's price, the first
that states a resource settles that resource; prices do not fall below zero. An offering without a
price becomes buyable only by an overlay that names its one instance type. Reservations are paid for
and keep their price. Refuses to judge whether an overlay is well-formed (`apis.overlay`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from outrider.apis.labels import CAPACITY_TYPE, INSTANCE_TYPE, REGION, RESERVED, ZONE, ZONE_ID
from outrider.core.catalog.instancetype import Catalog, InstanceType, Offering
from outrider.core.requirements import Requirement, Requirements

if TYPE_CHECKING:
    from outrider.apis.overlay import NodeOverlay

_BY_OFFERING = frozenset({ZONE, ZONE_ID, REGION, CAPACITY_TYPE})


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay, its requirements read."""

    requirements: Requirements
    price: float | None
    adjustment: str | None
    capacity: Mapping[str, int]

    @property
    def names_one_type(self) -> bool:
        """Return whether the overlay is about exactly one instance type."""
        named = self.requirements.get(INSTANCE_TYPE)
        return named is not None and named.single is not None

    def covers(self, labels: Requirements) -> bool:
        """Return whether nodes with *labels* are meant; a label they lack is missing."""
        return all(
            labels[key].intersects(asked) if key in labels else asked.absent
            for key, asked in self.requirements.items()
        )


def read(overlays: Iterable[NodeOverlay]) -> tuple[Overlay, ...]:
    """Return *overlays* in the order in which they are tried."""
    by_name = sorted(overlays, key=lambda item: item.name, reverse=True)
    return tuple(
        Overlay(
            requirements=Requirements.of(item.spec.requirements),
            price=None if item.spec.price is None else float(item.spec.price),
            adjustment=item.spec.price_adjustment,
            capacity=item.spec.capacity,
        )
        for item in sorted(by_name, key=lambda item: -item.weight)
    )


def priced(catalog: Catalog, overlays: Sequence[Overlay]) -> Catalog:
    """Return *catalog* with the prices that *overlays* state."""
    stating = [item for item in overlays if item.price is not None or item.adjustment is not None]
    if not stating:
        return catalog
    return replace(
        catalog,
        instance_types=tuple(
            replace(
                kind,
                offerings=tuple(_priced(kind, offering, stating) for offering in kind.offerings),
            )
            for kind in catalog.instance_types
        ),
    )


def _priced(kind: InstanceType, offering: Offering, overlays: Iterable[Overlay]) -> Offering:
    if offering.capacity_type == RESERVED:
        return offering
    labels = _labels(kind, offering)
    for overlay in overlays:
        if not overlay.covers(labels):
            continue
        if overlay.price is not None:
            if offering.price_per_hour > 0 or overlay.names_one_type:
                return replace(offering, price_per_hour=overlay.price, stated=True)
        elif overlay.adjustment is not None and offering.price_per_hour > 0:
            price = adjusted(offering.price_per_hour, overlay.adjustment)
            return replace(offering, price_per_hour=price, stated=True)
    return offering


def adjusted(price: float, adjustment: str) -> float:
    """Return *price* after `+10%`, `-0.5` or the like, never below zero."""
    number = Fraction(adjustment.removesuffix("%"))
    exact = Fraction(str(price))
    exact += exact * number / 100 if adjustment.endswith("%") else number
    return float(max(exact, Fraction(0)))


def devices(kind: InstanceType, overlays: Iterable[Overlay]) -> dict[str, int]:
    """Return the resources that *overlays* give nodes of *kind*, whatever their offering."""
    found: dict[str, int] = {}
    labels = _labels(kind, None)
    for overlay in overlays:
        if overlay.capacity and _BY_OFFERING.isdisjoint(overlay.requirements):
            if not overlay.covers(labels):
                continue
            for name, amount in overlay.capacity.items():
                found.setdefault(name, amount)
    return found


def _labels(kind: InstanceType, offering: Offering | None) -> Requirements:
    of_offering: dict[str, str] = {INSTANCE_TYPE: kind.name}
    if offering is not None:
        of_offering |= {ZONE: offering.zone, CAPACITY_TYPE: offering.capacity_type}
        if offering.zone_id:
            of_offering[ZONE_ID] = offering.zone_id
    settled = {key: Requirement(key, frozenset((value,))) for key, value in of_offering.items()}
    return Requirements({**kind.requirements, **settled})
