"""Why a pod has no place, pool by pool, in words: the first constraint that leaves nothing.

Decides by going through a pool's offerings constraint by constraint, in the order in which a
person would: taints, labels, volumes, size, offerings, ports, limits, variety, neighbours. Names
the key, the taint or the nearest miss ("needs 16 nvidia.com/gpu; the largest allowed type,
p5.48xlarge, has 8"). `steps` is also what `outrider explain` prints. Refuses to change the run it
looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from outrider.apis import quantity
from outrider.core.requirements import Requirement, Requirements
from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.problem import Problem
from outrider.core.scheduling.result import Code, Reason
from outrider.core.scheduling.run import Run
from outrider.core.scheduling.shelf import DEVICES, Shelf, names_a_sliver
from outrider.core.scheduling.supply import Mask, distinct, holding
from outrider.core.taints import untolerated


@dataclass(frozen=True, slots=True)
class Step:
    """One constraint and the rows that it leaves; `message` says what was missing if none are."""

    constraint: str
    code: Code
    rows: Mask
    message: Callable[[], str]


def why(run: Run, ask: Ask, shelf: Shelf) -> Reason:
    """Return the one reason that keeps a pod of *ask* out of *shelf*."""
    last: Step | None = None
    for step in steps(run, ask, shelf):
        last = step
        if not step.rows.any():
            return Reason(shelf.name, step.message(), step.code)
    code = last.code if last is not None else Code.INSUFFICIENT_RESOURCES
    return Reason(shelf.name, "no node that is planned or could be has room for it", code)


def steps(run: Run, ask: Ask, shelf: Shelf) -> Iterator[Step]:
    """Yield the constraints on a pod of *ask* in *shelf*, each with the rows that are left."""
    problem, market = run.problem, run.problem.market
    rows = shelf.base
    yield Step(
        "NodePool", Code.NO_OFFERING, rows, lambda: "no instance type meets its requirements"
    )
    refused = untolerated(shelf.pool.taints, ask.tolerations)
    if refused is not None:
        rows = np.zeros(market.size, bool)
        yield Step(
            "taints",
            Code.UNTOLERATED_TAINT,
            rows,
            lambda: f"does not tolerate taint {_taint(refused)}",
        )
        return
    rows = rows & problem.rule_rows(shelf, ask.rule)
    yield Step(
        "node selector and affinity",
        Code.INCOMPATIBLE_REQUIREMENTS,
        rows,
        lambda: _clash(problem, shelf, ask.rule.always, ask.rule.either, shelf.base),
    )
    before = rows
    rows = rows & problem.rule_rows(shelf, ask.volumes.launch_rule)
    volume = ask.volumes.launch_rule
    yield Step(
        "volumes",
        Code.VOLUME_ZONE,
        rows,
        lambda: "its volumes: " + _clash(problem, shelf, volume.always, volume.either, before),
    )
    yield from _sized(run, ask, shelf, rows)


def _taint(taint: object) -> str:
    key, value = getattr(taint, "key", ""), getattr(taint, "value", "")
    return f"{key}{'=' + value if value else ''}:{getattr(taint, 'effect', '')}"


def _clash(
    problem: Problem,
    shelf: Shelf,
    always: Requirements,
    either: tuple[tuple[Requirements, ...], ...],
    rows: Mask,
) -> str:
    for key in sorted(always):
        if not (rows & shelf.allow(always[key])).any():
            return f"{always[key]} cannot be met: {_offered(problem, shelf, always[key])}"
    for terms in either:
        if (
            not any((rows & shelf.allow(term[key])).any() for term in terms for key in term)
            or not terms
        ):
            keys = sorted({key for term in terms for key in term})
            return f"none of its terms on {', '.join(keys) or 'nothing'} can be met"
    together = ", ".join(str(always[key]) for key in sorted(always))
    return f"no offering meets all of it together: {together or 'its terms'}"


def _offered(problem: Problem, shelf: Shelf, asked: Requirement) -> str:
    own = shelf.requirements.get(asked.key)
    if own is not None and not own.intersects(asked):
        return f"the NodePool has {own}"
    if (shelf.base & shelf.allow(asked)).any():
        return "nothing that the pod itself may run on has it"
    if asked.key in problem.market.keys:
        return "no instance type of the NodePool has it"
    return "the NodePool does not define the label"


def _sized(run: Run, ask: Ask, shelf: Shelf, rows: Mask) -> Iterator[Step]:
    problem, market = run.problem, run.problem.market
    if ask.accelerated and not (ask.takes_slices or names_a_sliver(shelf.requirements)):
        rows = rows & ~market.sliver
        yield Step(
            "whole GPUs",
            Code.INSUFFICIENT_RESOURCES,
            rows,
            lambda: "only shares of a GPU are left; name outrider.dev/gpu-fraction to take one",
        )
    claimed = [place for place, name in enumerate(problem.axis.names) if name.startswith(DEVICES)]
    if claimed and ask.request[claimed].any():
        having = rows
        fits = holding(shelf.room[:, claimed], ask.request[claimed])
        rows = rows & fits[shelf.shape]
        yield Step(
            "device claims",
            Code.DYNAMIC_RESOURCES,
            rows,
            lambda: _too_few_devices(problem, ask, shelf, having),
        )
    before = rows
    rows = rows & holding(shelf.room, ask.request)[shelf.shape]
    yield Step(
        "resources",
        Code.INSUFFICIENT_RESOURCES,
        rows,
        lambda: _shortage(problem, ask, shelf, before),
    )
    rows = rows & market.open
    yield Step("offerings", Code.NO_OFFERING, rows, lambda: "no fitting offering is available now")
    if ask.ports:
        rows = rows & problem.free_ports(ask, shelf)
        yield Step(
            "host ports", Code.HOST_PORT, rows, lambda: "a DaemonSet takes the same host port"
        )
    slots = ask.volumes.count("ebs.csi.aws.com")
    if slots:
        rows = rows & (shelf.volume_slots >= slots)[market.row_type]
        yield Step(
            "volume limits",
            Code.VOLUME_LIMITS,
            rows,
            lambda: f"no instance type attaches {slots} volumes",
        )
    yield from _limited(run, shelf, rows)
    yield from _among_neighbours(run, ask, shelf, rows)


def _too_few_devices(problem: Problem, ask: Ask, shelf: Shelf, rows: Mask) -> str:
    """Return the nearest miss among devices; who asks for them is put in front of it later."""
    names = problem.axis.names
    room = shelf.room[distinct(shelf.shape[rows])]
    for place in sorted(range(len(names)), key=names.__getitem__):
        asked = int(ask.request[place])
        if not (names[place].startswith(DEVICES) and asked and (room[:, place] < asked).all()):
            continue
        most = int(room[:, place].max(initial=0))
        sort = names[place].removeprefix(DEVICES).partition("-")[0]
        if sort == "every":
            return "wants all matching devices; no instance type publishes any"
        if sort == "bundle":
            return "no instance type surely has as many devices that agree, as a constraint wants"
        if sort == "admin":
            return "no instance type publishes as many matching devices"
        if most > 0:
            largest = _named(problem, shelf, rows, place, most)
            return (
                f"needs {asked} matching devices; the largest allowed type, {largest}, has {most}"
            )
        return _no_device(problem, names[place], rows)
    return "no instance type has all of these devices together"


def _no_device(problem: Problem, resource: str, rows: Mask) -> str:
    """Return why no allowed type has a matching device: unknown values, or others than asked."""
    devices = problem.devices
    kinds = distinct(problem.market.row_type[rows]).tolist()
    names = [problem.market.types[kind].name for kind in kinds]
    why = devices.unjudged.get(resource, {})
    unsure = next((name for name in names if name in why), None)
    if unsure is not None:
        return f"those of {unsure} cannot be judged: {why[unsure]}"
    most = max(names, key=lambda name: devices.devices.get(name, 0), default="")
    if not devices.devices.get(most):
        return "no allowed instance type publishes devices"
    return (
        "no instance type publishes a matching device;"
        f" {most} has {devices.devices[most]}, none of which is asked for"
    )


def _shortage(problem: Problem, ask: Ask, shelf: Shelf, rows: Mask) -> str:
    """Return the nearest miss: the first resource that no type has, and who has most of it."""
    shapes = distinct(shelf.shape[rows])
    room, names = shelf.room[shapes], problem.axis.names
    order = sorted(
        (place for place, name in enumerate(names) if not name.startswith(DEVICES)),
        key=lambda place: (_common(names[place]), names[place]),
    )
    for place in order:
        asked = int(ask.request[place])
        if asked and (room[:, place] < asked).all():
            most = int(room[:, place].max())
            need = f"needs {quantity.text(names[place], ask.requests[names[place]])} {names[place]}"
            if most <= 0:
                return f"{need}; no instance type has any to give"
            largest = _named(problem, shelf, rows, place, most)
            return f"{need}; the largest allowed type, {largest}, has {_most(names[place], most)}"
    needs = ", ".join(
        f"{quantity.text(names[place], ask.requests[names[place]])} {names[place]}"
        for place in order
        if ask.request[place] and names[place] != "pods"
    )
    return f"no instance type has {needs} together" + (
        " beside its DaemonSets" if shelf.daemons else ""
    )


def _most(name: str, amount: int) -> str:
    return quantity.text(name, amount)


def _common(name: str) -> bool:
    return name in {"cpu", "memory", "pods", "ephemeral-storage"}


def _named(problem: Problem, shelf: Shelf, rows: Mask, place: int, most: int) -> str:
    holding = rows & (shelf.room[:, place] == most)[shelf.shape]
    kinds = distinct(problem.market.row_type[holding])
    return problem.market.types[int(kinds[0])].name


def _limited(run: Run, shelf: Shelf, rows: Mask) -> Iterator[Step]:
    market = run.problem.market
    if shelf.limited:
        left = run.budgets[shelf.index]
        carried = rows & holding(left, shelf.capacity)[market.row_type]
        if (left < 0).any():
            carried = np.zeros(market.size, bool)
        yield Step(
            "limits",
            Code.LIMITS_EXCEEDED,
            carried,
            lambda: _limit(run, shelf, rows),
        )
        rows = carried
    for key, least in shelf.min_values:
        found = run.problem.values(shelf, key, rows)
        enough = rows if len(found) >= least else np.zeros(market.size, bool)
        yield Step(
            "minValues",
            Code.MIN_VALUES,
            enough,
            lambda key=key, least=least, found=found: (  # type: ignore[misc]
                f"minValues wants {least} values of {key}; {len(found)} are left"
            ),
        )


def _limit(run: Run, shelf: Shelf, rows: Mask) -> str:
    left = run.budgets[shelf.index]
    kinds = distinct(run.problem.market.row_type[rows])
    for place, name in enumerate(shelf.limited):
        if left[place] < 0 or (len(kinds) and (shelf.capacity[kinds, place] > left[place]).all()):
            limit = shelf.pool.spec.limits[name]
            rest = max(int(left[place]), 0)
            return (
                f"limit {name} {quantity.text(name, limit)} leaves {quantity.text(name, rest)},"
                " less than any fitting type takes"
            )
    return "its limits together leave room for no fitting type"


def _among_neighbours(run: Run, ask: Ask, shelf: Shelf, rows: Mask) -> Iterator[Step]:
    topology, problem = run.topology, run.problem
    for key, admitted in sorted(topology.admitted(ask).items()):
        values = problem.values(shelf, key, rows)
        open_values = {value for value in values if admitted.has(value)}
        if not values and not topology.needs_label(ask, key):
            continue
        code = _whose(run, ask, key)
        column = problem.market.column(key)
        left = rows if open_values else np.zeros(problem.market.size, bool)
        if open_values and column is not None:
            left = rows & shelf.allow(Requirement(key, frozenset(open_values)))
        yield Step(
            f"neighbours by {key}",
            code,
            left,
            lambda key=key, code=code: _about(code, key),  # type: ignore[misc]
        )
        rows = left
    for near in ask.near:
        hosted = [item for item in near.tallies if problem.tallies.items[item].hosted]
        if hosted and not (near.matches_itself and not run.topology.counts.total[hosted[0]]):
            yield Step(
                "neighbours by host",
                Code.POD_AFFINITY,
                np.zeros(problem.market.size, bool),
                lambda: "the pods that it must share a node with have no room, or do not exist",
            )


def _whose(run: Run, ask: Ask, key: str) -> Code:
    """Return the code of the constraint that shuts the domains of *key*."""
    items = run.problem.tallies.items
    if any(items[tally].key == key for near in ask.near for tally in near.tallies) and not any(
        run.topology.counts.by_domain[tally]
        for near in ask.near
        for tally in near.tallies
        if items[tally].key == key
    ):
        return Code.POD_AFFINITY
    if any(items[use.tally].key == key for use in ask.spreads):
        return Code.TOPOLOGY_SPREAD
    if any(items[tally].key == key for near in ask.near for tally in near.tallies):
        return Code.POD_AFFINITY
    return Code.POD_ANTI_AFFINITY


def _about(code: Code, key: str) -> str:
    return {
        Code.TOPOLOGY_SPREAD: f"every domain of {key} that it could use would break maxSkew",
        Code.POD_AFFINITY: f"no domain of {key} that it could use holds a pod it must be near",
    }.get(code, f"every domain of {key} that it could use holds a pod that must stay apart")
