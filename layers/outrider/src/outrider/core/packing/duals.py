"""The resource relaxation: what a unit of every resource is worth on every type, and so every
pod.

Pods may be cut in pieces and bins bought in fractions; what remains is a linear program over
classes x types. Its duals say what a pod of each class is worth, its value is a lower bound on
the price of every packing, under supply and limits too. Only an active set of types enters; a
type outside it that could improve the value is found by one vectorised test and let in, until
there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider.core.packing.linear import INFINITY, Model, Sparse
from outrider.core.packing.problem import UNBOUNDED, Floats, Problem

PENALTY = 10.0  # leaving a pod out costs so many times its dearest cheapest bin


@dataclass(frozen=True, slots=True)
class Duals:
    """What a pod of each class is worth; what a unit of each limit and one more bin of a type
    are.
    """

    worth: Floats  # [S]
    limit: Floats  # [L]
    scarcity: Floats  # [T], above 0 only where the supply is bounded
    resource: Floats  # [T, R], what a unit of each resource is worth on each type
    value: float


def alone(problem: Problem) -> Floats:
    """Return how many pods of each class an otherwise empty bin of each type holds, [S, T]."""
    many = np.broadcast_to(problem.demand[:, None], problem.compatible.shape).copy()
    for resource in range(problem.requests.shape[1]):
        asked = problem.requests[:, resource]
        some = np.flatnonzero(asked > 0)
        room = np.floor(problem.allocatable[None, :, resource] / asked[some, None])
        many[some] = np.minimum(many[some], room)
    return np.where(problem.compatible, many, 0.0)


def unit_price(problem: Problem, many: Floats) -> Floats:
    """Return the least that one pod of each class costs in bins of its own kind only, [S, T]."""
    with np.errstate(divide="ignore"):
        price = np.where(many > 0, problem.price / np.maximum(many, 1.0), np.inf)
    return np.asarray(price)


def limit_scale(problem: Problem) -> Floats:
    """Return what to divide each limit by: they are in bytes, CPUs or nodes."""
    most = problem.usage.max(axis=0, initial=0.0)
    return np.asarray(np.maximum(np.maximum(problem.limits, most), 1e-9))


def money(problem: Problem) -> float:
    """Return a usual price, to scale by: a solver's tolerances mean nothing beside a dear type."""
    price = np.where(problem.compatible & (problem.price > 0), problem.price, np.nan)
    cheapest = np.fmin.reduce(price, axis=1, initial=np.inf)
    some = cheapest[np.isfinite(cheapest)]
    return float(np.median(some)) if len(some) else 1.0


def penalties(problem: Problem) -> Floats:
    """Return what it costs to leave a pod of each class out: more than a bin that holds it.

    More than the dearest, unless that one is out of all proportion: a price of a thousand million
    would drown the others.
    """
    price = np.where(problem.compatible, problem.price, np.nan)
    cheapest = np.fmin.reduce(price, axis=1, initial=np.inf)
    dearest = np.fmax.reduce(price, axis=1, initial=0.0)
    usual = np.maximum(np.where(np.isfinite(cheapest), cheapest, 0.0), money(problem))
    return np.asarray(PENALTY * np.minimum(np.maximum(dearest, usual), 1e3 * usual))


def relax(problem: Problem) -> Duals:
    """Solve the resource relaxation of *problem* over all its types."""
    classes, types = problem.compatible.shape
    resources, limits = problem.requests.shape[1], len(problem.limits)
    of_class, of_type = np.nonzero(problem.compatible)
    pairs = len(of_class)
    bounded = np.flatnonzero(problem.supply != UNBOUNDED)
    # Rows: classes (demand), types x resources (room), limits, bounded types (supply).
    # Columns: pairs (pods of a class on a type), types (bins), classes (left out).
    room = classes
    first_limit = classes + types * resources
    first_supply = first_limit + limits
    rows = first_supply + len(bounded)
    # Requests in bytes stand beside GPUs: every resource is scaled to the largest room, or the
    # program would be ill-conditioned.
    scale = np.maximum(problem.allocatable.max(axis=0, initial=0.0), 1.0)
    unit, capped = money(problem), limit_scale(problem)
    asked = problem.requests[of_class] / scale
    which, resource = np.nonzero(asked)
    pair_rows = np.concatenate([of_class, room + of_type[which] * resources + resource])
    pair_columns = np.concatenate([np.arange(pairs), which])
    pair_values = np.concatenate([np.ones(pairs), -asked[which, resource]])
    bin_type, bin_resource = np.nonzero(problem.allocatable)
    use_type, use_limit = np.nonzero(problem.usage)
    row = np.concatenate(
        [
            pair_rows,
            room + bin_type * resources + bin_resource,
            first_limit + use_limit,
            first_supply + np.arange(len(bounded)),
            np.arange(classes),
        ]
    )
    column = np.concatenate(
        [
            pair_columns,
            pairs + bin_type,
            pairs + use_type,
            pairs + bounded,
            pairs + types + np.arange(classes),
        ]
    )
    values = np.concatenate(
        [
            pair_values,
            problem.allocatable[bin_type, bin_resource] / scale[bin_resource],
            -problem.usage[use_type, use_limit] / capped[use_limit],
            -np.ones(len(bounded)),
            np.ones(classes),
        ]
    )
    order = np.lexsort((row, column))
    columns = pairs + types + classes
    starts = np.searchsorted(column[order], np.arange(columns + 1))
    lower = np.concatenate(
        [
            problem.demand,
            np.zeros(types * resources),
            -problem.limits / capped,
            -problem.supply[bounded],
        ]
    )
    model = Model(
        cost=np.concatenate([np.zeros(pairs), problem.price, penalties(problem)]) / unit,
        columns=Sparse(starts.astype(np.int32), row[order].astype(np.int32), values[order]),
        row_lower=lower,
        row_upper=np.full(rows, INFINITY),
    )
    solved = model.solve()
    duals = np.maximum(solved.duals, 0.0) * unit
    scarcity = np.zeros(types)
    scarcity[bounded] = duals[first_supply:]
    return Duals(
        worth=duals[:classes],
        limit=duals[first_limit:first_supply] / capped,
        scarcity=scarcity,
        resource=duals[room:first_limit].reshape(types, resources) / scale,
        value=solved.objective * unit,
    )
