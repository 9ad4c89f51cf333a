"""A Plan as tables for people: one line a kind of node, not one a node; amounts as one says them.

Refuses to leave anything out that decides: the JSON output has every name, the tables have every
kind, count, price and reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from outrider.core.resources import Resources
from outrider.core.scheduling.result import Launch, Plan

if TYPE_CHECKING:
    from rich.table import Table

LISTED = 3
WIDE = 140  # where nobody says how wide the paper is
ROOMY = 120  # the table folds its cells below this
GIB = 1024**3
_SHOWN = 0.00005  # less than this is no dollars in four digits


def print_plan(answer: Plan, summary: Mapping[str, Any], width: int | None = None) -> None:
    """Print *answer*, what its *summary* says, and as the closing line what first fit would cost.

    On paper narrower than the table wants (a terminal's *width* is its own), a kind of node is two
    lines instead of a row.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if width or not console.is_terminal:
        console.width = width or WIDE
    if answer.launches and console.width >= ROOMY:
        console.print(_table(answer))
    elif answer.launches:
        console.print("Launches")
        for line in _lines(answer):
            console.print(line)
    if answer.placements:
        console.print("Placements on what exists")
        for node, count in sorted(Counter(item.node for item in answer.placements).items()):
            console.print(f"  {count} pod{'s'[: count != 1]} on {node}")
    if answer.rejections:
        console.print("\nNo place")
        for why, pods in _by_reason(answer).items():
            console.print(f"  [bold]{_listed(pods)}[/bold]")
            for node_pool, message, code in why:
                console.print(f"    {node_pool or 'no NodePool'}: {message} ({code})")
    console.print(_closing(summary) + _saving(answer))


def _table(answer: Plan) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="Launches", title_justify="left", pad_edge=False)
    for heading, justify in _COLUMNS:
        table.add_column(heading, justify=justify, overflow="fold")
    for kind, launches in _kinds(answer.launches).items():
        table.add_row(str(len(launches)), *kind, _ways(launches))
    return table


def _lines(answer: Plan) -> Iterator[str]:
    for (cheapest, price, pool, holds, pods), launches in _kinds(answer.launches).items():
        yield f"  [bold]{len(launches)} x {cheapest}[/bold] at ${price}/h each, {pool}"
        yield f"    {pods}: {holds}; {_ways(launches)} ways to buy"


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("nodes", "right"),
    ("cheapest", "left"),
    ("$/h each", "right"),
    ("NodePool", "left"),
    ("holds", "left"),
    ("pods each", "left"),
    ("ways to buy", "right"),
)


def _kinds(launches: Iterable[Launch]) -> dict[tuple[str, ...], list[Launch]]:
    kinds: dict[tuple[str, ...], list[Launch]] = {}
    for launch in launches:
        first = launch.choices[0]
        kind = (
            f"{first.instance_type} {first.capacity_type} {first.zone}",
            f"{launch.price_per_hour:,.4f}",
            launch.node_pool,
            amounts(launch.requests),
            _workloads(launch.pods),
        )
        kinds.setdefault(kind, []).append(launch)
    return kinds


def _ways(launches: Iterable[Launch]) -> str:
    ways = sorted({len(launch.choices) for launch in launches})
    return str(ways[0]) if len(ways) == 1 else f"{ways[0]} to {ways[-1]}"


def amounts(resources: Resources) -> str:
    """Return *resources* as a person says them: `6.3 cpu, 20.8 Gi, 1 gpu`."""
    parts = []
    for name, amount in resources.items():
        if name == "pods" or not amount:
            continue
        if name == "cpu":
            parts.append(f"{amount / 1000:.3g} cpu")
        elif name in ("memory", "ephemeral-storage"):
            parts.append(f"{amount / GIB:.3g} Gi" + (" disk" if name != "memory" else ""))
        else:
            parts.append(f"{amount} {name.rpartition('/')[2]}")
    return ", ".join(parts)


def _workloads(pods: Iterable[str]) -> str:
    """Return *pods* by what is before their last dash: `4 ml/chat, 2 ml/vision`."""
    counts = Counter(pod.rpartition("-")[0] or pod for pod in pods)
    parts = [f"{count} {name}" for name, count in counts.most_common(LISTED)]
    more = sum(counts.values()) - sum(count for _, count in counts.most_common(LISTED))
    return ", ".join(parts) + (f" and {more} more" if more else "")


def _by_reason(answer: Plan) -> dict[tuple[tuple[str, str, str], ...], list[str]]:
    grouped: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for rejection in answer.rejections:
        why = tuple((item.node_pool, item.message, str(item.code)) for item in rejection.reasons)
        grouped.setdefault(why, []).append(rejection.pod)
    return grouped


def _listed(names: list[str]) -> str:
    if len(names) <= LISTED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:LISTED])} and {len(names) - LISTED} more"


def _closing(summary: Mapping[str, Any]) -> str:
    price, bound = summary["pricePerHour"], summary["lowerBoundPerHour"]
    proof = "" if bound is None else f"; no plan is cheaper than ${bound:,.4f}/h"
    return (
        f"{summary['placed']} of {summary['pods']} pods placed, {summary['launches']} launches, "
        f"${price:,.4f}/h ({summary['strategy']}, {summary['stage']}{proof})"
    )


def _saving(answer: Plan) -> str:
    """Return a line of what first fit would be paid for the same pods, "" where nobody knows."""
    plain = answer.first_fit_per_hour
    if not plain:
        return ""
    saved = plain - answer.price_per_hour
    if saved < _SHOWN:
        return f"\nFirst fit would pay as much for the same pods: ${plain:,.4f}/h"
    return (
        f"\nFirst fit would pay ${plain:,.4f}/h for the same pods: "
        f"${saved:,.4f}/h saved, {saved / plain:.0%}"
    )
