"""`outrider explain POD FILE...`: why one pod goes where it goes, or nowhere.

Decides how an Explanation is shown: a table for each NodePool, constraint by constraint, or JSON.
Exit status as `outrider plan` for that pod: 0 placed, 3 not, 2 for bad input or a pod that is not
pending. Refuses to reason: `core.scheduling.explain` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli import options
from outrider.cli.plan import SOME_UNPLACED, launch_shown
from outrider.errors import InvalidManifest

if TYPE_CHECKING:
    from outrider.core.scheduling.explain import Explanation


@click.command(epilog="Example: outrider explain inference/llm-0 examples/nodepools pods.yaml")
@click.argument("pod", metavar="POD")
@options.planning
def command(
    *,
    pod: str,
    files: tuple[str, ...],
    catalog_file: Path | None,
    strategy: str,
    preference_policy: str,
    min_values_policy: str,
    now: datetime,
    output: str,
) -> int:
    """Explain what the plan for FILE does with POD (namespace/name)."""
    given = options.load(files, catalog_file, now)
    from outrider.core.scheduling.explain import explain
    from outrider.core.scheduling.plan import pending
    from outrider.core.scheduling.policy import Policy

    key = pod if "/" in pod else f"default/{pod}"
    policy = Policy(
        strategy=strategy,
        preference_policy=preference_policy,
        min_values_policy=min_values_policy,
    )
    waiting = pending(given.state, given.now)
    found = explain(given.state, waiting, key, given.catalog, policy, given.now)
    if found is None:
        known = "is not pending" if given.state.pod(key) else "is not among the manifests"
        raise InvalidManifest(known, thing=f"Pod {key}")
    if output == "json":
        click.echo(orjson.dumps(shown(found), option=orjson.OPT_INDENT_2))
    else:
        _tables(found)
    return SOME_UNPLACED if found.rejection else 0


def shown(found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON."""
    return {
        "pod": found.pod,
        "node": found.placement.node if found.placement else None,
        "launch": launch_shown(found.launch) if found.launch else None,
        "preferencesRelaxed": found.relaxed,
        "nodePools": [
            {
                "nodePool": story.node_pool,
                "reason": story.reason.message if story.reason else None,
                "code": str(story.reason.code) if story.reason else None,
                "constraints": [
                    {_camel(name): value for name, value in asdict(step).items()}
                    for step in story.steps
                ],
            }
            for story in found.pools
        ],
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _tables(found: Explanation) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for story in found.pools:
        table = Table(title=f"NodePool {story.node_pool}", title_justify="left")
        for heading in ("constraint", "types left", "zones left", "capacity types left", "dropped"):
            table.add_column(heading, justify="right" if heading == "types left" else "left")
        for step in story.steps:
            table.add_row(
                step.constraint,
                str(step.types),
                ", ".join(step.zones),
                ", ".join(step.capacity_types),
                _dropped(step.dropped_types, step.dropped_zones, step.dropped_capacity_types),
            )
        console.print(table)
        if story.reason:
            console.print(f"  {story.reason.code}: {story.reason.message}")
    console.print(_verdict(found))


def _dropped(types: Sequence[str], zones: Sequence[str], capacity_types: Sequence[str]) -> str:
    few = ", ".join(types[:4]) + (f" and {len(types) - 4} more" if len(types) > 4 else "")
    return "; ".join(filter(None, (few, ", ".join(zones), ", ".join(capacity_types))))


def _verdict(found: Explanation) -> str:
    relaxed = f" after giving up {found.relaxed} preferences" if found.relaxed else ""
    if found.placement:
        return f"{found.pod} goes to {found.placement.node}, which exists{relaxed}."
    if found.launch:
        first = found.launch.choices[0]
        return (
            f"{found.pod} gets {found.launch.name} with {len(found.launch.pods) - 1} others: first"
            f" {first.instance_type} {first.capacity_type} in {first.zone} at"
            f" ${first.price_per_hour:.4f}/h, of {len(found.launch.choices)} offerings{relaxed}."
        )
    return f"{found.pod} has no place."
