"""`outrider explain POD FILE...`: why one pod goes where it goes, or nowhere.

Decides how an Explanation is shown: a funnel for each NodePool, in which every line is a constraint
that something fell to, then what was chosen and what else would have done; or JSON, which has the
constraints that nothing fell to as well. Exit status as `outrider plan` for that pod: 0 placed, 3
not, 2 for bad input or a pod that is not pending. Refuses to reason (`core.scheduling.explain`).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli import options
from outrider.cli.plan import SOME_UNPLACED, choice_shown, launch_shown
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
        from outrider.cli.funnel import print_explanation

        print_explanation(found)
    return SOME_UNPLACED if found.rejection else 0


def shown(found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON."""
    return {
        "pod": found.pod,
        "node": found.placement.node if found.placement else None,
        "launch": launch_shown(found.launch) if found.launch else None,
        "preferencesRelaxed": found.relaxed,
        "existingNodes": asdict(found.existing),
        "catalogueTypes": found.types,
        "nodePools": [
            {
                "nodePool": story.node_pool,
                "weight": story.weight,
                "reason": story.reason.message if story.reason else None,
                "code": str(story.reason.code) if story.reason else None,
                "cheapest": choice_shown(story.cheapest) if story.cheapest else None,
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
