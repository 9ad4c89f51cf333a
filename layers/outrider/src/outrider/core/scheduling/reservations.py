"""Reserved capacity: offerings that are paid for, each with so many instances.

Decides which rows belong to which reservation and in which order reservations are used up: the one
for the cheapest type first, so that a small pod does not take a large machine. A planned node that
uses one is pinned to it, and no reservation is planned for more nodes than it has instances (F90,
rule 9). Refuses to know pods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider.apis.labels import ON_DEMAND
from outrider.core.scheduling.supply import Market, Mask

ENDLESS = 2**31
"""A reservation without a stated count."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """One reservation: its rows and how many instances it has left."""

    id: str
    rows: Mask
    instances: int


@dataclass(frozen=True, slots=True)
class Reservations:
    """Every reservation of a market, in the order of use; `held` are all their rows."""

    items: tuple[Reservation, ...]
    held: Mask


def reservations(market: Market) -> Reservations:
    """Return the reservations of *market*."""
    rows: dict[str, list[int]] = {}
    for index, offering in enumerate(market.offerings):
        if offering.reservation_id is not None and market.open[index]:
            rows.setdefault(offering.reservation_id, []).append(index)
    held = np.fromiter(
        (offering.reservation_id is not None for offering in market.offerings), bool, market.size
    )
    if not rows:
        return Reservations((), held)
    value = _on_demand(market)
    ordered = sorted(rows, key=lambda name: (value[market.row_type[rows[name]]].min(), name))
    return Reservations(tuple(_reservation(market, name, rows[name]) for name in ordered), held)


def _reservation(market: Market, name: str, rows: list[int]) -> Reservation:
    mask = np.zeros(market.size, bool)
    mask[rows] = True
    counts = [market.offerings[row].reservation_capacity for row in rows]
    stated = [count for count in counts if count is not None]
    return Reservation(name, mask, min(stated) if stated else ENDLESS)


def _on_demand(market: Market) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return for each type what it costs on demand, infinity where it is not sold so."""
    price = np.full(len(market.types), np.inf)
    for index, offering in enumerate(market.offerings):
        if offering.capacity_type == ON_DEMAND and offering.price_per_hour > 0:
            kind = market.row_type[index]
            price[kind] = min(price[kind], offering.price_per_hour)
    return price
