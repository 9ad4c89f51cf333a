"""An Explanation for people: a funnel for each NodePool, then the choice.

Decides what is worth a line: a constraint that something fell to, the nearest miss where nothing is
left, the cheapest way of a pool that was not taken and what spoke against it. Fits eighty columns.
Refuses to hide a NodePool: each has its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from outrider.cli.tables import amounts

if TYPE_CHECKING:
    from rich.table import Table

    from outrider.core.scheduling.explain import Explanation, Left, PoolStory
    from outrider.core.scheduling.result import Choice, Launch

NAMED = 3
NARROW = 80  # where nobody says how wide the paper is
WAYS = 5


def print_explanation(found: Explanation) -> None:
    """Print *found*."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = NARROW
    console.print(f"[bold]{found.pod}[/bold] asks for {amounts(found.requests) or 'nothing'}")
    console.print(_existing(found))
    for story in sorted(found.pools, key=_first_asked):
        weight = f", weight {story.weight}" if story.weight else ""
        console.print(f"\n[bold]NodePool {story.node_pool}[/bold]{weight}")
        if story.steps:
            console.print(_funnel(story, _company(found, story), found.types))
        for line in _verdict(found, story):
            console.print(f"  {line}")
    console.print()
    for item in _choice(found):
        console.print(item)


def _first_asked(story: PoolStory) -> tuple[bool, int, str]:
    """Return the order of pools: as they are asked, those that take no part at the end."""
    return not story.steps, -story.weight, story.node_pool


def _existing(found: Explanation) -> str:
    nodes = found.existing
    if not nodes.nodes:
        return "There is no node yet."
    return (
        f"Of {_many(nodes.nodes, 'node')} that exist or are coming it may run on {nodes.suitable};"
        f" {nodes.roomy} had room before any other pod was placed."
    )


def _funnel(story: PoolStory, company: Left | None, types: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    table.add_column("constraint", overflow="fold", min_width=18)
    table.add_column("types", justify="right", min_width=5)
    table.add_column("offerings", justify="right", min_width=9)
    table.add_column("what fell", overflow="fold", ratio=1)
    first, *rest = story.steps
    table.add_row(
        "  its requirements", str(first.types), str(first.offerings), f"of {_many(types, 'type')}"
    )
    for step in (*rest, *((company,) if company else ())):
        fell = _fell(step)
        if fell:
            table.add_row(f"  {step.constraint}", str(step.types), str(step.offerings), fell)
    return table


def _company(found: Explanation, story: PoolStory) -> Left | None:
    """Return what the pods that share its node leave of the pool that was chosen."""
    launch = found.launch
    if launch is None or launch.node_pool != story.node_pool:
        return None
    last = story.steps[-1]
    lost = last.offerings - len(launch.choices)
    if lost <= 0:
        return None
    why = "Spot dearer than on demand, or beyond a limit"
    if len(launch.pods) > 1:
        why = f"too small for the node's other pods, {why}"
    return replace(
        last,
        constraint="price" if len(launch.pods) == 1 else "company and price",
        types=len(launch.instance_types),
        offerings=len(launch.choices),
        reason=f"{_many(lost, 'offering')}: {why}",
    )


def _fell(step: Left) -> str:
    if step.reason:
        return step.reason
    parts = [
        _some(step.dropped_types, "type"),
        ", ".join(step.dropped_zones),
        ", ".join(step.dropped_capacity_types),
    ]
    return "; ".join(filter(None, parts))


def _some(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{_many(len(names), what)}: {', '.join(names[: NAMED - 1])}, …"


def _verdict(found: Explanation, story: PoolStory) -> Iterable[str]:
    """Yield why the pool was taken, or was not."""
    launch = found.launch
    if launch is not None and launch.node_pool == story.node_pool:
        yield "→ chosen"
    elif story.reason is not None:
        told = story.steps and story.steps[-1].reason == story.reason.message
        yield f"✗ {story.reason.code}" + ("" if told else f": {story.reason.message}")
    elif story.cheapest is None:
        yield f"✗ nothing is left after {story.steps[-1].constraint}"
    else:
        yield f"- not needed: {_not_needed(found, story)}"


def _not_needed(found: Explanation, story: PoolStory) -> str:
    best = story.cheapest
    offer = f"its cheapest is {_way(best)}" if best else "nothing is left"
    launch = found.launch
    if launch is None:
        return f"a node that exists has room ({offer})"
    chosen = next(pool for pool in found.pools if pool.node_pool == launch.node_pool)
    if chosen.weight > story.weight:
        return f"{chosen.node_pool} is heavier ({offer})"
    return offer


def _choice(found: Explanation) -> Iterable[Any]:
    """Yield what becomes of the pod, and the ways to buy its node."""
    relaxed = f", after giving up {_many(found.relaxed, 'preference')}" if found.relaxed else ""
    if found.placement:
        yield f"It goes to {found.placement.node}, which exists{relaxed}."
    elif found.launch:
        others = len(found.launch.pods) - 1
        shared = f", which it shares with {_many(others, 'other pod')}" if others else ""
        yield f"It gets {found.launch.name}, a new node{shared}{relaxed}."
        yield from _ways(found.launch)
    else:
        yield "It has no place."


def _ways(launch: Launch) -> Iterable[Any]:
    from rich.table import Table

    best = launch.choices[0].price_per_hour
    total, kinds = len(launch.choices), len(launch.instance_types)
    yield f"{_many(total, 'way')} to buy it, of {_many(kinds, 'type')}; the cheapest of each:"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(justify="right")
    seen: dict[str, Choice] = {}
    for choice in launch.choices:
        seen.setdefault(choice.instance_type, choice)
    for choice in list(seen.values())[:WAYS]:
        more = (
            f"+{choice.price_per_hour / best - 1:.0%}"
            if best and choice is not seen[launch.choices[0].instance_type]
            else ""
        )
        where = f"  {choice.instance_type} {choice.capacity_type} {choice.zone}"
        table.add_row(where, f"${choice.price_per_hour:,.4f}/h", more)
    yield table
    if kinds > WAYS:
        yield f"  and {kinds - WAYS} more"


def _way(choice: Choice) -> str:
    return (
        f"{choice.instance_type} {choice.capacity_type} in {choice.zone} at"
        f" ${choice.price_per_hour:,.4f}/h"
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s'[: count != 1]}"
