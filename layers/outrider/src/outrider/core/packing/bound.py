"""The proof: no packing of these pods is paid less than this.

Any worth of a pod, together with any charge on limits and on scarce types, gives a bound: what
the pods are worth, less the charges, scaled down until no contents of any bin are worth more than
the bin and its charges (the Lagrangian bound of the configuration program; Farley's where nothing
is scarce). It needs, for every type that may be bought, an upper bound on what contents can be
worth: the closer, the better the proof. Supply and limits are relaxed into the charges, so the
bound holds under them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider.core.packing.problem import UNBOUNDED, Floats, Problem

SAFETY = 1e-9  # taken off every bound: sums of floats are not exact


@dataclass(frozen=True, slots=True)
class Charges:
    """What a pod of each class is worth [S], what a unit of each limit costs [L]; both at least
    0.
    """

    worth: Floats
    limit: Floats


@dataclass(frozen=True, slots=True)
class Proof:
    """A bound, the charges at which it holds without scaling, and what scarce types cost extra
    [T].
    """

    bound: float
    charges: Charges
    scarcity: Floats


def proof(
    problem: Problem, price: Floats, demand: Floats, charges: Charges, most_worth: Floats
) -> Proof:
    """Return the bound on what packing *demand* costs at *price*.

    *most_worth* is what no contents of a bin of each type exceed at the worth of *charges*.
    """
    if not np.isfinite(most_worth).all():
        return Proof(0.0, charges, np.zeros(len(price)))
    base = price + problem.usage @ charges.limit
    valued = most_worth > 0
    with np.errstate(divide="ignore", over="ignore"):
        ratio = np.where(valued, base / np.where(valued, most_worth, 1.0), np.inf)
    endless = problem.supply == UNBOUNDED
    most = float(ratio[endless].min(initial=np.inf))
    few = np.flatnonzero(~endless & valued & (problem.supply > 0))
    # The bound is concave and piecewise linear in the scale: its best is at a break.
    scales = np.unique(np.append(np.minimum(ratio[few], most), most))
    scales = scales[np.isfinite(scales)]
    if not len(scales):
        return Proof(0.0, charges, np.zeros(len(price)))
    worth, paid = float(charges.worth @ demand), float(charges.limit @ problem.limits)
    extra = np.maximum(0.0, scales[:, None] * most_worth[few] - base[few])
    bounds = scales * worth - extra @ problem.supply[few] - paid
    best = int(bounds.argmax())
    scarcity = np.zeros(len(price))
    scarcity[few] = extra[best]
    bound = max(0.0, float(bounds[best]) * (1.0 - SAFETY))
    return Proof(bound, Charges(charges.worth * scales[best], charges.limit), scarcity)
