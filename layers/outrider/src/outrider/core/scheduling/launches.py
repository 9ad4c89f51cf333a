"""From planned nodes and their lists of rows to Launches: one for each node, what is equal written
once.

Decides how a Launch states what the planner chose: its choices cheapest first, the NodeClaim's
requirements narrowed to them, the labels that the claim settles, the requests with the least that
daemons take on any type of the list. Thousands of nodes of a large plan hold the same; their
launches share every part but the name and the pods. Refuses to choose rows: `alternatives` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from outrider.apis.labels import CAPACITY_TYPE, INSTANCE_TYPE, ZONE
from outrider.core.requirements import Requirements
from outrider.core.scheduling.alternatives import listed
from outrider.core.scheduling.bins import Content
from outrider.core.scheduling.result import Choice, Launch
from outrider.core.scheduling.run import Bin, Run
from outrider.core.scheduling.shelf import Shelf
from outrider.core.scheduling.supply import Mask, distinct


def launches(run: Run, gangs: Mapping[int, str]) -> tuple[Launch, ...]:
    """Return a Launch for every bin of *run*, numbered by pool in the order of planning.

    *gangs* gives the gang of a pod, by its index.
    """
    lists = listed(run)
    keys = [pod.key for pod in run.problem.pods]
    numbers: Counter[str] = Counter()
    writer = _Writer(run)
    found = []
    for known, rows in zip(run.bins, lists, strict=True):
        pool = known.content.shelf.name
        numbers[pool] += 1
        found.append(
            writer.launch(
                known.content,
                rows,
                name=f"{pool}-{numbers[pool]}",
                pods=tuple(sorted([keys[pod] for pod in known.members])),
                gang=_gang(known, gangs) if gangs else None,
            )
        )
    return tuple(found)


def _gang(known: Bin, gangs: Mapping[int, str]) -> str | None:
    return min((gangs[pod] for pod in known.members if pod in gangs), default=None)


@dataclass(frozen=True, slots=True)
class _Goods:
    """What the rows of one list are, in words; `order` are the rows, cheapest first."""

    order: NDArray[np.int64]
    choices: tuple[Choice, ...]
    kinds: tuple[int, ...]
    types: frozenset[str]
    zones: frozenset[str]
    capacity_types: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The part of a Launch that does not depend on its pods."""

    requirements: Requirements
    labels: Mapping[str, str]
    max_pods: Mapping[str, int]
    requests: Mapping[str, int]


@dataclass(eq=False)
class _Writer:
    """Writes the launches of *run*, each distinct part once."""

    run: Run
    _goods: dict[bytes, _Goods] = field(default_factory=dict)
    _by_list: dict[int, _Goods] = field(default_factory=dict)
    _sheets: dict[tuple[int, int], _Sheet] = field(default_factory=dict)
    _claimed: dict[tuple[int, Requirements, int], tuple[Requirements, Mapping[str, str]]] = field(
        default_factory=dict
    )
    _max_pods: dict[tuple[int, int], Mapping[str, int]] = field(default_factory=dict)

    @cached_property
    def _named(self) -> frozenset[str]:
        """Return the resources that pods and daemons ask for by name."""
        problem = self.run.problem
        pods = (ask.requests for known in dict.fromkeys(problem.classes) for ask in known.asks)
        daemons = (daemon.requests for shelf in problem.shelves for daemon in shelf.daemons)
        return frozenset(name for requests in (*pods, *daemons) for name in requests)

    def launch(
        self, content: Content, rows: Mask, *, name: str, pods: tuple[str, ...], gang: str | None
    ) -> Launch:
        """Return the Launch called *name* of a node that holds *content*, with *rows* listed."""
        goods = self._of_list(rows)
        sheet = self._sheet(content, goods)
        pool = content.shelf.pool
        template = pool.spec.template
        return Launch(
            name=name,
            node_pool=pool.name,
            node_class=pool.node_class,
            pods=pods,
            requirements=sheet.requirements,
            labels=sheet.labels,
            annotations=template.metadata.annotations,
            taints=pool.taints,
            startup_taints=pool.startup_taints,
            requests=sheet.requests,
            choices=goods.choices,
            max_pods=sheet.max_pods,
            expire_after=template.spec.expire_after,
            termination_grace_period=template.spec.termination_grace_period,
            gang=gang,
        )

    def _of_list(self, rows: Mask) -> _Goods:
        # The lists outlive the writer's work, so that their ids stand for them.
        known = self._by_list.get(id(rows))
        if known is None:
            packed = np.packbits(rows).tobytes()
            known = self._goods.get(packed)
            if known is None:
                known = self._goods[packed] = self._read(rows)
            self._by_list[id(rows)] = known
        return known

    def _read(self, rows: Mask) -> _Goods:
        market = self.run.problem.market
        order = market.by_rank[rows[market.by_rank]].astype(np.int64)
        kinds = tuple(distinct(market.row_type[order]).tolist())
        return _Goods(
            order=order,
            choices=market.choices(order),
            kinds=kinds,
            types=frozenset([market.types[kind].name for kind in kinds]),
            zones=market.names(ZONE, order),
            capacity_types=market.names(CAPACITY_TYPE, order),
        )

    def _sheet(self, content: Content, goods: _Goods) -> _Sheet:
        known = self._sheets.get((id(content), id(goods)))
        if known is None:
            shelf = content.shelf
            requirements, labels = self._claim(shelf, content.claims, goods)
            known = _Sheet(
                requirements, labels, self._pods(shelf, goods), self._requests(content, goods)
            )
            self._sheets[id(content), id(goods)] = known
        return known

    def _claim(
        self, shelf: Shelf, claims: Requirements, goods: _Goods
    ) -> tuple[Requirements, Mapping[str, str]]:
        """Return the NodeClaim's requirements, and the labels that they settle."""
        key = (shelf.index, claims, id(goods))
        known = self._claimed.get(key)
        if known is None:
            requirements = (
                shelf.requirements.intersect(claims)
                .only(INSTANCE_TYPE, goods.types)
                .only(ZONE, goods.zones)
                .only(CAPACITY_TYPE, goods.capacity_types)
            )
            requirements = _attainable(requirements)
            known = self._claimed[key] = (requirements, self._labels(shelf, requirements))
        return known

    def _labels(self, shelf: Shelf, requirements: Requirements) -> dict[str, str]:
        """Return the labels of the template, and those custom ones that the claim settles."""
        template = shelf.pool.spec.template
        found = dict(template.metadata.labels)
        for key in sorted({item.key for item in template.spec.requirements}):
            requirement = requirements.get(key)
            if requirement is None or key in self.run.problem.market.keys or key in found:
                continue
            value = requirement.settled
            if value is not None:
                found[key] = value
        return found

    def _pods(self, shelf: Shelf, goods: _Goods) -> Mapping[str, int]:
        """Return by type the `pods` capacity that the plan counted on."""
        key = (shelf.index, id(goods))
        known = self._max_pods.get(key)
        if known is None:
            known = self._max_pods[key] = {
                kind.name: kind.capacity["pods"]
                for index in goods.kinds
                if (kind := shelf.types[index]) is not None and "pods" in kind.capacity
            }
        return known

    def _requests(self, content: Content, goods: _Goods) -> dict[str, int]:
        """Return what the pods ask, with the least that the daemons take on any listed type."""
        shelf = content.shelf
        least = shelf.overhead[distinct(shelf.shape[goods.order])].min(axis=0)
        amounts = self.run.problem.axis.amounts(content.used + least)
        return {name: value for name, value in amounts.items() if name in self._named}


def _attainable(requirements: Requirements) -> Requirements:
    """Return *requirements* with every minValues lowered to the values that there are.

    Under BestEffort fewer may be left, and the API server refuses a list shorter than its minValues
    (F4, F5).
    """
    short = {
        key: len(item.values)
        for key, item in requirements.items()
        if item.min_values is not None
        and not item.complement
        and len(item.values) < item.min_values
    }
    if not short:
        return requirements
    return Requirements(
        {
            key: replace(item, min_values=short.get(key, item.min_values))
            for key, item in requirements.items()
        }
    )
