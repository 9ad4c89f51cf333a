"""What pods are worth: the price at which a fresh plan would house them.

Decides, from the launches of one plan for many pods, what each of them pays of its node: resources
are priced so that the nodes' prices come out as well as they can, a pod pays by what it asks at
these prices, and pods that ask the same pay the same. A node whose price is far above what its pods
are worth is what consolidation looks for. An estimate, for choosing what to ask the planner about:
only a plan proves a saving. Refuses to know nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from outrider.apis.pod import Pod
from outrider.core.scheduling.result import Launch

Floats = NDArray[np.float64]
ROUNDS = 200
_LEAST = 1e-12


def worths(pods: Sequence[Pod], launches: Sequence[Launch]) -> dict[str, float]:
    """Return by key what each of the *pods* that *launches* house is worth an hour."""
    names = sorted({name for pod in pods for name in pod.requests})
    asked = {pod.key: _vector(pod.requests, names) for pod in pods}
    used = [[key for key in launch.pods if key in asked] for launch in launches]
    whole = np.array([sum((asked[key] for key in keys), np.zeros(len(names))) for keys in used])
    if not len(whole):
        return {}
    price = np.array([launch.price_per_hour for launch in launches])
    units = _unit_prices(whole, price)
    by_kind: dict[bytes, list[float]] = {}
    for keys, content, paid in zip(used, whole, price, strict=True):
        total = float(content @ units)
        for key in keys:
            share = float(asked[key] @ units) / total if total > _LEAST else 1 / len(keys)
            by_kind.setdefault(asked[key].tobytes(), []).append(share * float(paid))
    mean = {kind: sum(shares) / len(shares) for kind, shares in by_kind.items()}
    housed = {key for keys in used for key in keys}
    return {key: mean[vector.tobytes()] for key, vector in asked.items() if key in housed}


def _vector(requests: Mapping[str, int], names: Iterable[str]) -> Floats:
    return np.array([float(requests.get(name, 0)) for name in names])


def _unit_prices(content: Floats, price: Floats) -> Floats:
    """Return prices of resources, none below 0, by which *content* costs most nearly *price*.

    Multiplicative updates of non-negative least squares: what is asked nowhere costs nothing.
    """
    scale: Floats = content.max(axis=0)
    some = scale > 0
    if not some.any():
        return np.zeros_like(scale)
    matrix = content[:, some] / scale[some]
    target, gram = matrix.T @ price, matrix.T @ matrix
    found = np.ones(matrix.shape[1])
    for _ in range(ROUNDS):
        found = found * target / np.maximum(gram @ found, _LEAST)
    units = np.zeros_like(scale)
    units[some] = found / scale[some]
    return units
