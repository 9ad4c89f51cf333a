"""What a node can hold only so often, as resources of their own.

Decides how constraints between pods on one node become amounts: a hostname spread is maxSkew units
a node of which each of its pods takes one; hostname anti-affinity is a room that a holder fills and
that pods matched by it, but not holding it, take a little of; a host port on an address is one
unit, and a pod that wants the port on every address takes all of them. The kernel packs with the
`strict` amounts; a bound is proven with those that no feasible plan exceeds. Refuses to know
labels other than the hostname.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider.apis.pod import HostPort
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.hostports import conflict
from outrider.core.scheduling.problem import Problem

Floats = NDArray[np.float64]
Port = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Units:
    """What each ask takes of each unit [S, U], what a new node has [U], and each place [N, U]."""

    requests: Floats
    caps: Floats
    at_places: Floats


def units(problem: Problem, asks: Sequence[Ask], *, strict: bool) -> Units:
    """Return the units of *asks*; *strict* ones keep every packing legal, others bound them all."""
    columns = [
        *_spreads(problem, asks, strict=strict),
        *_apart(problem, asks),
        *_ports(problem, asks),
    ]
    if not columns:
        return Units(np.zeros((len(asks), 0)), np.zeros(0), np.zeros((problem.table.size, 0)))
    requests, caps, places = zip(*columns, strict=True)
    return Units(np.array(requests).T, np.array(caps), np.array(places).T)


Column = tuple[Floats, float, Floats]


def _spreads(problem: Problem, asks: Sequence[Ask], *, strict: bool) -> list[Column]:
    """Return a unit for each hostname spread.

    Strictly, whoever spreads over hostnames at all takes one of every spread that counts it: such
    pods come first on a node, in any order, and must not be in each other's way. Who is only
    counted comes after them and takes nothing.
    """
    items = problem.tallies.items
    spreading = [
        [use for use in ask.spreads if items[use.tally].hosted and (strict or not use.soft)]
        for ask in asks
    ]
    skews: dict[int, list[int]] = {}
    takers: dict[int, list[int]] = {}
    for place, uses in enumerate(spreading):
        for use in uses:
            if strict or (use.counts_itself and problem.launchable(asks[place])):
                skews.setdefault(use.tally, []).append(use.max_skew)
                takers.setdefault(use.tally, []).append(place)
    found: list[Column] = []
    for tally in sorted(skews):
        if strict:
            takers[tally] = [
                place
                for place, uses in enumerate(spreading)
                if uses and tally in asks[place].counted
            ]
        cap = float(min(skews[tally]) if strict else max(skews[tally]))
        found.append((_ones(takers[tally], len(asks)), cap, _left(problem, tally, cap)))
    return found


def _left(problem: Problem, tally: int, cap: float) -> Floats:
    """Return what the pods that run leave of *cap* on each place."""
    numbers = problem.start.by_node[tally]
    if numbers is None:
        return np.full(problem.table.size, cap)
    return np.maximum(cap - numbers.astype(np.float64), 0.0)


def _apart(problem: Problem, asks: Sequence[Ask]) -> list[Column]:
    items = problem.tallies.items
    wanted = sorted({tally for ask in asks for tally in ask.apart if items[tally].hosted})
    found: list[Column] = []
    for tally in wanted:
        holders = [
            place for place, ask in enumerate(asks) if tally in ask.apart and tally in ask.counted
        ]
        if not holders:
            continue
        matched = [
            place
            for place, ask in enumerate(asks)
            if tally in ask.counted and tally not in ask.apart
        ]
        # Holders are alone; those that are only matched are together, as many as they like.
        cap = float(len(problem.pods)) if matched else 1.0
        taken = _ones(matched, len(asks)) + cap * _ones(holders, len(asks))
        found.append((taken, cap, _left(problem, tally, cap)))
    return found


def _ports(problem: Problem, asks: Sequence[Ask]) -> list[Column]:
    """Return a unit for each port on each address, `""` being every address."""
    known = sorted({_named(port) for ask in asks for port in ask.ports})
    found: list[Column] = []
    for protocol, number, address in known:
        takers = [
            place
            for place, ask in enumerate(asks)
            if any(_touches(port, (protocol, number, address)) for port in ask.ports)
        ]
        one = HostPort(port=number, protocol=protocol, address=address)
        free = [float(conflict((one,), item.ports) is None) for item in problem.table.places]
        found.append((_ones(takers, len(asks)), 1.0, np.array(free, np.float64)))
    return found


def _named(port: HostPort) -> Port:
    return port.protocol, port.port, port.address


def _touches(port: HostPort, unit: Port) -> bool:
    protocol, number, address = unit
    same = port.protocol == protocol and port.port == number
    return same and (not port.address or port.address == address)


def _ones(places: Sequence[int], size: int) -> Floats:
    found = np.zeros(size)
    found[list(places)] = 1.0
    return found


def quarrelling(problem: Problem, asks: Mapping[int, Ask]) -> frozenset[int]:
    """Return the asks, by index, that keep off others on a node without keeping off each other.

    Such pods share a node with their like or others do, but not both: no amount says that.
    """
    items = problem.tallies.items
    matched = {tally for ask in asks.values() for tally in ask.counted}
    return frozenset(
        ask.index
        for ask in asks.values()
        if any(
            items[tally].hosted and tally in matched and tally not in ask.counted
            for tally in ask.apart
        )
    )
