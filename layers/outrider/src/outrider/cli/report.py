"""`outrider report`: what the nodes cost as they are, what our plan would cost, and why.

The shadow report: for a team that runs Karpenter today and wants to know what another planner
would have done with the same pods, NodePools and prices. It reads manifests, or a live cluster
with `--kubeconfig` (reading only), and answers with tables, JSON or one HTML page. Exit status 0
whatever it finds, 2 for bad input. Refuses to compare: `core.report` does; the page is
`cli.reportpage`'s.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from outrider.core.report.compare import Comparison
    from outrider.core.report.lines import Line

HOURS_A_MONTH = 730
MOST_ROWS = 40
PEERS_NAMED = 3
EXAMPLE = "outrider report examples/disrupt --html report.html"


@click.command(epilog=f"Example: {EXAMPLE}")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option(
    "--kubeconfig",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read this cluster instead of manifests; nothing is written to it.",
)
@options.CATALOG
@options.NOW
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report as one self-contained page to this file.",
)
@click.option(
    "--quick", is_flag=True, help="Leave out what consolidation would reach pass by pass."
)
@options.OUTPUT
def command(
    *,
    files: tuple[str, ...],
    kubeconfig: Path | None,
    catalog_file: Path | None,
    now: datetime,
    html: Path | None,
    quick: bool,
    output: str,
) -> None:
    """Compare the nodes in FILE (YAML, JSON, folders, - for standard input), or of the cluster
    that --kubeconfig leads to, with our plan for the same pods: dollars an hour, node by node, and
    what each family of constraints costs."""
    if bool(files) == bool(kubeconfig):
        raise click.UsageError("give FILEs or --kubeconfig, one of them")
    given = (
        _live(kubeconfig, catalog_file, now)
        if kubeconfig
        else options.load(files, catalog_file, now)
    )
    from outrider.core.report.compare import compare
    from outrider.core.scheduling.policy import Policy

    found = compare(given.state, given.catalog, Policy(), given.now)
    reachable = None if quick else _reachable(given, found)
    document = shown(found, reachable, given.now)
    if html is not None:
        from outrider.cli.reportpage import page

        html.write_text(page(document), encoding="utf-8")
    if output == "json":
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        _tables(document)
        if html is not None:
            click.echo(f"Report: {html}")


def shown(found: Comparison, reachable: float | None, now: datetime) -> dict[str, Any]:
    """Return *found* as JSON; *reachable* is where consolidation, pass by pass, would end."""
    return {
        "at": now.isoformat(),
        "pricePerHour": {
            "asIs": _money(found.price_per_hour),
            "consolidated": None if reachable is None else _money(reachable),
            "firstFit": _maybe(found.first_fit_price_per_hour),
            "plan": _money(found.planned_price_per_hour),
            "lowerBound": _maybe(found.lower_bound_per_hour),
        },
        "savingPerHour": _money(found.saving_per_hour),
        "pods": {
            "replanned": found.pods,
            "onOtherNodes": found.placed_elsewhere,
            "waiting": found.waiting,
        },
        "use": {
            name: {"asIs": round(before, 4), "plan": round(then, 4)}
            for name, (before, then) in found.use.items()
        },
        "nodes": [_line_shown(line, "podsGoTo") for line in found.nodes],
        "planned": [_line_shown(line, "podsComeFrom") for line in found.planned],
        "constraints": [
            {
                "family": cost.family,
                "lifted": cost.says,
                "saidBy": cost.said_by,
                "pricePerHourWithout": _maybe(cost.price_per_hour),
                "costsPerHour": _maybe(cost.costs_per_hour),
            }
            for cost in found.costs
        ],
        "notes": list(found.notes),
    }


def _line_shown(line: Line, peers: str) -> dict[str, Any]:
    return {
        "name": line.name,
        "nodePool": line.node_pool,
        "instanceType": line.instance_type,
        "zone": line.zone,
        "capacityType": line.capacity_type,
        "pricePerHour": _maybe(line.price_per_hour),
        "pods": line.pods,
        "use": {name: round(share, 4) for name, share in line.use.items()},
        "verdict": str(line.verdict),
        peers: dict(line.peers),
        **({"why": line.why} if line.why else {}),
    }


def _money(amount: float) -> float:
    return round(amount, 9) + 0.0  # no -0.0


def _maybe(amount: float | None) -> float | None:
    return None if amount is None else _money(amount)


def _live(kubeconfig: Path, catalog_file: Path | None, now: datetime) -> options.Input:
    """Return the cluster that *kubeconfig* leads to, as it is now."""
    from outrider.adapters.clock import clock
    from outrider.adapters.kube import kubeconfig as config
    from outrider.adapters.kube.client import Client
    from outrider.adapters.kube.cluster import KubeCluster

    endpoint, token = config.read(kubeconfig)
    state = KubeCluster(Client(endpoint, token, clock.sleep), clock.now).state()
    return options.Input(state, options.catalog(catalog_file), now, {})


def _reachable(given: options.Input, found: Comparison) -> float:
    """Return what the compared nodes would cost once no pass of consolidation finds more."""
    from outrider.cli.disrupt import passes_of
    from outrider.core.disruption.scene import Policy

    decisions = list(passes_of(given, Policy(), until_done=True))
    saved = decisions[0].price_per_hour_before - decisions[-1].price_per_hour_after
    return found.price_per_hour - saved


def _tables(document: dict[str, Any]) -> None:
    from rich.console import Console

    from outrider.cli.tables import WIDE

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    prices = document["pricePerHour"]
    for name, text in LEVELS.items():
        if prices[name] is not None:
            month = prices[name] * HOURS_A_MONTH
            console.print(f"  ${prices[name]:>12,.4f}/h  ${month:>12,.0f} a month  {text}")
    for name, use in document["use"].items():
        short = name.rpartition("/")[2]
        console.print(f"  {short} asked for: {use['asIs']:.0%} as it is, {use['plan']:.0%} planned")
    _constraints(console, document)
    _nodes(console, "Nodes that the plan does without", "pods go to", document["nodes"], "gone")
    _nodes(console, "Nodes that it has instead", "pods come from", document["planned"], "new")
    same = sum(line["verdict"] == "same" for line in document["nodes"])
    kept = sum(line["verdict"] == "kept" for line in document["nodes"])
    console.print(f"{same} nodes are the same in both, {kept} were left out of the comparison")
    for note in document["notes"]:
        console.print(f"Note: {note}")


LEVELS = {
    "asIs": "the nodes as they are",
    "consolidated": "after every pass of consolidation, budgets and protection respected",
    "firstFit": "first fit for the same pods",
    "plan": "our plan for the same pods",
    "lowerBound": "no plan is cheaper",
}
"""What is compared, dearest first as a rule; the page uses the same words."""


def _constraints(console: Console, document: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if not document["constraints"]:
        return
    table = Table(box=SIMPLE_HEAD, title="What constraints cost", title_justify="left")
    table.add_column("family")
    table.add_column("said by", justify="right")
    table.add_column("$/h", justify="right")
    table.add_column("if lifted")
    for item in document["constraints"]:
        costs = item["costsPerHour"]
        told = "not computed" if costs is None else f"{costs:,.4f}"
        table.add_row(item["family"], str(item["saidBy"]), told, item["lifted"])
    console.print(table)


def _nodes(
    console: Console, title: str, heading: str, lines: list[dict[str, Any]], verdict: str
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    wanted = [line for line in lines if line["verdict"] == verdict]
    if not wanted:
        return
    wanted.sort(key=lambda line: (-(line["pricePerHour"] or 0.0), line["name"]))
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    for column in ("node", "NodePool", "type", "$/h", "pods", "use", heading):
        table.add_column(column)
    for line in wanted[:MOST_ROWS]:
        price = line["pricePerHour"]
        table.add_row(
            line["name"],
            line["nodePool"],
            f"{line['instanceType']} {line['capacityType']} {line['zone']}",
            "?" if price is None else f"{price:,.4f}",
            str(line["pods"]),
            used(line["use"]),
            told(line.get("podsGoTo") or line.get("podsComeFrom") or {}),
        )
    console.print(table)
    if len(wanted) > MOST_ROWS:
        console.print(f"  and {len(wanted) - MOST_ROWS} more; -o json has them all")


def used(shares: dict[str, float]) -> str:
    """Return *shares* as one says them: `cpu 34 %, gpu 50 %`."""
    return ", ".join(f"{name.rpartition('/')[2]} {share:.0%}" for name, share in shares.items())


def told(peers: dict[str, int]) -> str:
    """Return *peers* with their counts, the first few by name."""
    parts = [f"{name} ({count})" for name, count in peers.items()]
    more = len(parts) - PEERS_NAMED
    return ", ".join(parts[:PEERS_NAMED]) + (f" and {more} more" if more > 0 else "") or "-"
