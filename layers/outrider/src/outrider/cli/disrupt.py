"""`outrider disrupt`: what voluntary disruption would do to the cluster of some manifests.

Decides how a Decision is shown: as JSON, which is a contract, or as tables for people. With
`--until-done` it shows where the passes would end: each one's commands are carried out on paper,
the clock moves past every consolidateAfter, budgets renew. Exit status 0, also without commands; 2
for bad input. Refuses to decide: `core.disruption.decide` does, as the disrupt function's next
pass would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli import options
from outrider.cli.plan import launch_shown

if TYPE_CHECKING:
    from outrider.core.clusterstate import ClusterState
    from outrider.core.disruption.result import Command, Decision
    from outrider.core.disruption.scene import Policy

PASS = timedelta(minutes=2)
MOST_PASSES = 1000


@click.command(epilog="Example: outrider disrupt cluster.yaml --until-done -o json")
@options.planning
@click.option("--until-done", is_flag=True, help="Repeat passes until nothing more is done.")
def command(
    *,
    files: tuple[str, ...],
    catalog_file: Path | None,
    strategy: str,
    preference_policy: str,
    min_values_policy: str,
    now: datetime,
    output: str,
    until_done: bool,
) -> int:
    """Show what expiry, emptiness, drift and consolidation would do now to the nodes in FILE
    (YAML, JSON, folders, - for standard input)."""
    given = options.load(files, catalog_file, now)
    from outrider.core.disruption.scene import Policy
    from outrider.core.scheduling.policy import Policy as PlanPolicy

    policy = Policy(
        PlanPolicy(
            strategy=strategy,
            preference_policy=preference_policy,
            min_values_policy=min_values_policy,
        )
    )
    passes = list(passes_of(given, policy, until_done=until_done))
    document = shown(passes)
    if output == "json":
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        _tables(passes, document)
    return 0


def shown(passes: list[Decision]) -> dict[str, Any]:
    """Return the decisions of *passes* as the JSON document of the contract."""
    return {
        "commands": [_command_shown(item) for decision in passes for item in decision.commands],
        "blocked": [
            {"node": item.node, "code": str(item.code), "message": item.message}
            for item in passes[-1].blocked
        ],
        "summary": {
            "pricePerHourBefore": _money(passes[0].price_per_hour_before),
            "pricePerHourAfter": _money(passes[-1].price_per_hour_after),
        },
    }


def passes_of(given: options.Input, policy: Policy, *, until_done: bool) -> Iterator[Decision]:
    """Yield the decision of each pass, the last of which does nothing where all are asked for."""
    from outrider.core.disruption.decide import decide
    from outrider.core.disruption.outcome import after

    state, now, used = given.state, given.now, {node.name for node in given.state.nodes}
    for _ in range(MOST_PASSES):
        decision = _renamed(decide(state, given.catalog, policy, now), used)
        yield decision
        if not until_done or not decision.commands:
            return
        state = after(state, decision.commands, given.catalog, now)
        now += _patience(state)


def _renamed(decision: Decision, used: set[str]) -> Decision:
    """Return *decision* with launch names that no earlier pass has *used*."""
    if not used:
        return decision

    def name(item: Command) -> Command:
        launches = []
        for launch in item.launches:
            number, fresh = 1, launch.name
            while fresh in used:
                fresh, number = f"{launch.node_pool}-{number}", number + 1
            used.add(fresh)
            launches.append(replace(launch, name=fresh))
        return replace(item, launches=tuple(launches))

    return replace(decision, commands=tuple(name(item) for item in decision.commands))


def _patience(state: ClusterState) -> timedelta:
    """Return how far the clock moves between two passes: past every consolidateAfter."""
    from outrider.apis import duration

    spans = [duration.nillable(pool.spec.disruption.consolidate_after) for pool in state.nodepools]
    return max([PASS, *(span + timedelta(seconds=1) for span in spans if span is not None)])


def _command_shown(item: Command) -> dict[str, Any]:
    return {
        "reason": str(item.reason),
        "nodes": list(item.nodes),
        "launches": [launch_shown(launch) for launch in item.launches],
        "placements": [
            {"pod": placement.pod, "node": placement.node} for placement in item.placements
        ],
        "savingsPerHour": _money(item.savings_per_hour),
        "why": item.why,
    }


def _money(amount: float) -> float:
    return round(amount, 9) + 0.0  # no -0.0


def _tables(passes: list[Decision], document: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    commands = [item for decision in passes for item in decision.commands]
    if commands:
        table = Table(title="Commands", title_justify="left")
        for heading in ("reason", "nodes", "launches", "pods moved", "saves $/h", "why"):
            table.add_column(heading)
        for item in commands:
            launches = [
                f"{launch.name} ({launch.choices[0].instance_type})" for launch in item.launches
            ]
            moved = len(item.placements) + sum(len(launch.pods) for launch in item.launches)
            table.add_row(
                str(item.reason),
                ", ".join(item.nodes),
                ", ".join(launches) or "-",
                str(moved),
                f"{item.savings_per_hour:.4f}",
                item.why,
            )
        console.print(table)
    if passes[-1].blocked:
        table = Table("node", "code", "message", title="Nodes that stay", title_justify="left")
        for blocked in passes[-1].blocked:
            table.add_row(blocked.node, str(blocked.code), blocked.message)
        console.print(table)
    summary = document["summary"]
    console.print(
        f"{len(commands)} commands, ${summary['pricePerHourBefore']:.4f}/h before,"
        f" ${summary['pricePerHourAfter']:.4f}/h after"
    )
