"""`outrider demo`: the main job on the embedded cloud, told to a person at a terminal."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from rich.console import Console

    from outrider.local.demo.record import Record

EXAMPLE = "outrider demo --report demo.html"


@click.command(epilog=f"Example: {EXAMPLE}")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a self-contained HTML report with pictures to this file.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="What the dice begin with.")
@click.option("--verbose", is_flag=True, help="Write the functions' logs to standard error.")
def command(report: Path | None, seed: int, *, verbose: bool) -> None:
    """Run the whole job on an embedded cloud and narrate it.

    Pods pend, the webhook fires, a plan is made, the fleet is created, nodes join, pods run; a
    Spot instance is interrupted; the cluster is consolidated; an image is seeded. It needs no AWS
    account and no cluster, and takes about a minute.
    """
    from rich.console import Console

    from outrider.errors import OutriderError
    from outrider.local.demo.report import html

    console = Console(highlight=False)
    try:
        record = show(console, seed=seed, verbose=verbose)
        if report is not None:
            report.write_text(html(record), encoding="utf-8")
            console.print(f"Report: {report}")
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None
    except (OutriderError, OSError) as error:
        raise click.ClickException(str(error)) from error


def show(console: Console, *, seed: int = 0, verbose: bool = False) -> Record:
    """Tell the whole story on *console* and return its record."""
    from outrider.cli.local import repository_template
    from outrider.local.clock import DiscreteClock
    from outrider.local.cloud import Cloud
    from outrider.local.demo.story import Story

    logging.getLogger("outrider.local").setLevel(logging.INFO if verbose else logging.CRITICAL)
    template = repository_template()
    begun = time.monotonic()
    clock = DiscreteClock(datetime.now(UTC).replace(microsecond=0))
    with (
        Cloud(template=template, clock=clock, seed=seed, verbose=verbose) as cloud,
        _Stage(console) as stage,
    ):
        record = Story(cloud, template.parent / "examples", stage).tell()
    _close(console, record, time.monotonic() - begun)
    return record


class _Stage:
    """The terminal: chapters as headings, a line of progress below while time passes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Any = nullcontext()

    def __enter__(self) -> Self:
        from rich.live import Live

        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._console.print(f"\n[bold]{title}[/bold]")

    def say(self, text: str) -> None:
        """Tell one line."""
        self._console.print(f"  [green]✓[/green] {text}")

    def progress(self, record: Record) -> None:
        """Show how things stand."""
        if isinstance(self._live, nullcontext) or not record.samples:
            return
        from rich.table import Table
        from rich.text import Text

        now = record.samples[-1]
        total = max(now.pending + now.starting + now.running, 1)
        width = 48
        bar = Text()
        for count, style in (
            (now.running, "green"),
            (now.starting, "yellow"),
            (now.pending, "red"),
        ):
            bar.append("█" * round(width * count / total), style=style)
        grid = Table.grid(padding=(0, 2))
        minutes, seconds = divmod(int(now.at), 60)
        grid.add_row(
            f"  {minutes:3d}:{seconds:02d}",
            bar,
            f"[green]{now.running} running[/] [yellow]{now.starting} starting[/] "
            f"[red]{now.pending} pending[/]",
            f"{now.nodes} nodes",
            f"${now.price_per_hour:,.2f}/h",
        )
        self._live.update(grid)


def _close(console: Console, record: Record, seconds: float) -> None:
    from rich.table import Table

    console.print()
    facts = Table(title="What it came to", title_justify="left", show_header=False, box=None)
    for name, value in record.facts:
        facts.add_row(f"  {name}", f"[bold]{value}[/bold]")
    console.print(facts)
    console.print()
    stages = Table(title="How long each stage took", title_justify="left", box=None)
    for column in ("  stage", "count", "median", "p95"):
        stages.add_column(column, justify="left" if column == "  stage" else "right")
    for stage in record.stages:
        stages.add_row(
            f"  {stage.name}", str(stage.count), f"{stage.median:,.1f} s", f"{stage.p95:,.1f} s"
        )
    console.print(stages)
    virtual = int(record.end)
    console.print(
        f"\n{virtual // 60} min {virtual % 60} s of cluster time in {seconds:.0f} s of yours. "
        "The cluster's clock stands still while a function computes."
    )
