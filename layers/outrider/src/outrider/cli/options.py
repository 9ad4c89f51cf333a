"""What `plan` and `explain` (and whoever plans) have in common: their flags, and reading the input.

Decides how flags become a Policy, a clock and a catalogue. Refuses to plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outrider.apis.duration import instant
from outrider.errors import InvalidManifest

if TYPE_CHECKING:
    from outrider.core.catalog.instancetype import Catalog
    from outrider.core.clusterstate import ClusterState

Decorated = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Input:
    """What a planning command works on."""

    state: ClusterState
    catalog: Catalog
    now: datetime
    ignored: dict[str, int]


def _now(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime:
    if value is None:
        return datetime.now(UTC)
    try:
        return instant(value)
    except InvalidManifest as error:
        raise click.BadParameter(str(error)) from None


CATALOG = click.option(
    "--catalog",
    "catalog_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Instance types and prices; the bundled ones by default.",
)
NOW = click.option(
    "--now", metavar="RFC3339", callback=_now, help="The clock; the real one by default."
)
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)


def planning(command: Decorated) -> Decorated:
    """Add the flags that every planning command takes."""
    decorators: tuple[Callable[[Decorated], Decorated], ...] = (
        click.argument("files", metavar="FILE...", nargs=-1, required=True),
        CATALOG,
        click.option(
            "--strategy",
            type=click.Choice(["cost", "first-fit"]),
            default="cost",
            show_default=True,
            help="Cheapest plan, or Karpenter-like first fit.",
        ),
        click.option(
            "--preference-policy",
            type=click.Choice(["Respect", "Ignore"]),
            default="Respect",
            show_default=True,
            help="Whether preferences bind until they make a pod infeasible.",
        ),
        click.option(
            "--min-values-policy",
            type=click.Choice(["Strict", "BestEffort"]),
            default="Strict",
            show_default=True,
            help="Whether minValues may be lowered rather than lose a pod.",
        ),
        NOW,
        OUTPUT,
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def load(files: tuple[str, ...], catalog_file: Path | None, now: datetime) -> Input:
    """Return what *files* and *catalog_file* say; raise InvalidManifest where they do not."""
    from outrider.cli import documents
    from outrider.core.clusterstate import ClusterState

    manifests = documents.read(files)
    state = ClusterState.of(manifests.objects)
    return Input(state, catalog(catalog_file), now, manifests.ignored)


def catalog(file: Path | None) -> Catalog:
    """Return the catalogue in *file*, the bundled one where there is none."""
    if file is None:
        from outrider.core.catalog.bundled import bundled

        return bundled()
    from outrider.core.catalog import codec

    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidManifest(error.strerror or "cannot be read", where=str(file)) from None
    return codec.load(content, str(file))
