"""`outrider uninstall`: take everything of outrider out of account and cluster, or say what goes.

What CloudFormation made is CloudFormation's to delete: the last line says how. Exit status 0 when
nothing is left; 3 when something held its ground (a PodDisruptionBudget, a refused call), which is
named; with `--dry-run` always 0. Refuses to run without being asked twice: `--yes`, or an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli.account import Place, located, world

if TYPE_CHECKING:
    from outrider.core.departure import Step
    from outrider.flows.uninstall import Left

HELD = 3


@click.command(epilog="Example: outrider uninstall --dry-run --keep-nodes --cluster prod")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--keep-nodes", is_flag=True, help="Let the nodes run; take our marks off them.")
@click.option("--force", is_flag=True, help="Terminate nodes without waiting for their pods.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--patience",
    type=click.IntRange(min=0),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long nodes may take to empty before they are left as they are.",
)
@located
def command(
    place: Place,
    output: str,
    *,
    dry_run: bool,
    keep_nodes: bool,
    force: bool,
    yes: bool,
    patience: int,
) -> int:
    """Take everything of outrider out of account and cluster, except the stack itself."""
    from outrider.adapters.aws.estate import Estate
    from outrider.adapters.kube.household import Household
    from outrider.cli.account import connection, session
    from outrider.core.departure import steps
    from outrider.flows import uninstall

    account = world(place)
    reached = session(place)
    settings = account.settings
    estate = Estate(reached, settings.cluster, settings.stack)
    household = Household(connection(place, reached, settings.cluster))
    planned = steps(uninstall.inventory(account, estate, household), keep_nodes=keep_nodes)
    if dry_run:
        _print(planned, settings.stack, output, dry_run=True)
        return 0
    if not yes:
        question = f"{len(planned)} things of {settings.stack} go; `--dry-run` lists them. Go on?"
        click.confirm(question, abort=True, err=True)
    left = uninstall.uninstall(
        account, estate, household, keep_nodes=keep_nodes, force=force, patience=patience
    )
    _print(left.done, settings.stack, output, left=left)
    return HELD if left.held or left.tagged else 0


def shown(done: tuple[Step, ...], left: Left | None, *, dry_run: bool) -> dict[str, Any]:
    """Return what goes, or went, as the JSON document."""
    return {
        "dryRun": dry_run,
        "steps": [
            {"kind": one.kind.value, "name": one.name, "deed": one.deed, "about": one.about}
            for one in done
        ],
        "held": dict(sorted(left.held.items())) if left else {},
        "tagged": list(left.tagged) if left else [],
    }


def _print(
    done: tuple[Step, ...],
    stack: str,
    output: str,
    *,
    left: Left | None = None,
    dry_run: bool = False,
) -> None:
    if output == "json":
        document = shown(done, left, dry_run=dry_run)
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    for one in done:
        about = f" ({one.about})" if one.about else ""
        click.echo(f"{one.deed} {one.kind.value} {one.name}{about}")
    held = left.held if left else {}
    for name, why in sorted(held.items()):
        click.echo(f"held: {name}: {why}")
    for thing in left.tagged if left else ():
        click.echo(f"still tagged: {thing}")
    click.echo(
        f"{len(done)} things {'would go' if dry_run else 'gone'}."
        " Definitions, NodePools and EC2NodeClasses are yours and stay."
    )
    if not held:
        click.echo(f"last: aws cloudformation delete-stack --stack-name {stack}")
