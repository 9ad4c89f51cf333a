"""Keep a node launchable: room that several kinds of types share, a price that several offer.

Contents that only one instance type holds depend on that type's stock. `shared_room` cuts every
type's room to what enough kinds offer, so that whatever is packed into it fits all of them
(minValues of a NodePool). `usual_price` values a type at the mean of the cheapest offerings that
can stand in for it (the Spot price to plan with), so that one scarce bargain is not worth a whole
plan. One that is far dearer says little about a bad day, and counts as a multiple of the price.
"""

from __future__ import annotations

import numpy as np

from outrider.core.packing.problem import Bools, Floats, Ints

CHUNK = 2_000_000  # prices compared at a time: bounds the memory
FAR = 2.0  # times a price: what is dearer counts as that


def shared_room(allocatable: Floats, compatible: Bools, kinds: Ints, least: int) -> Floats:
    """Return the room of each type, [T, R], that at least *least* different *kinds* have.

    For each type its nearest stand-ins are chosen: one a kind, taking all its classes, costing the
    least of its room. A type with too few of them has no room at all.
    """
    types = len(allocatable)
    if least <= 1 or not types:
        return allocatable
    takes_all = (compatible.T.astype(np.float64) @ ~compatible) == 0  # [t, u]: u takes what t takes
    lost = np.zeros((types, types))
    for resource in allocatable.T:
        own = np.where(resource > 0, resource, np.nan)[:, None]
        cut = np.nan_to_num(1.0 - np.minimum(resource[None, :] / own, 1.0))
        np.maximum(lost, cut, out=lost)
    lost[~takes_all] = np.inf
    room = np.zeros_like(allocatable)
    for one in range(types):
        order = np.argsort(lost[one], kind="stable")
        order = order[np.isfinite(lost[one, order])]
        _, first = np.unique(kinds[order], return_index=True)
        nearest = order[np.sort(first)[:least]]
        if len(nearest) == least:
            room[one] = np.minimum(allocatable[nearest].min(axis=0), allocatable[one])
    return room


def usual_price(allocatable: Floats, compatible: Bools, price: Floats, offers: int) -> Floats:
    """Return the mean of the *offers* cheapest prices that can stand in for each type, [T].

    *price* is what the offerings of each type cost, [T, O], its own first, missing ones infinite;
    or one price a type. A stand-in has at least the room and takes at least the classes. Where
    there are fewer of them the type's own price stays: a mean over what does not exist would only
    scare.
    """
    several = price.reshape(len(price), -1)
    own = several[:, 0] if several.size else np.zeros(len(price))
    if offers <= 1 or not several.size:
        return own
    stands_in = (compatible.T.astype(np.float64) @ ~compatible) == 0
    for resource in allocatable.T:
        stands_in &= resource[None, :] >= resource[:, None]
    offered = np.where(np.isfinite(several), several, np.inf)
    if offered.size < offers:
        return own
    usual = own.copy()
    step = max(1, CHUNK // offered.size)
    for start in range(0, len(own), step):
        rows = slice(start, start + step)
        prices = np.where(stands_in[rows, :, None], offered[None], np.inf)
        prices = prices.reshape(prices.shape[0], -1)
        cheapest = np.partition(prices, offers - 1, axis=1)[:, :offers]
        enough = np.isfinite(cheapest).all(axis=1)
        mean = np.minimum(cheapest, FAR * own[rows, None]).mean(axis=1)
        usual[rows] = np.where(enough, mean, own[rows])
    return usual
