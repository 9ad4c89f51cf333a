"""`outrider plan`: what to launch for the pending pods of some manifests.

Decides how a Plan is shown: as JSON, which is a contract (the same bytes for the same input), or
as tables for people. Exit status 0 when every pending pod has a place, 3 when some have none, 2
for bad input. Refuses to decide anything about pods: `core.scheduling.plan` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.apis import quantity
from outrider.cli import options

if TYPE_CHECKING:
    from outrider.core.scheduling.result import Choice, Launch, Plan

SOME_UNPLACED = 3


def _seconds(
    _context: click.Context, _option: click.Parameter, value: float | None
) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no time")
    return value


@click.command(
    epilog="Example: outrider plan examples/nodepools pods.yaml --strategy first-fit -o json"
)
@options.planning
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    callback=_seconds,
    help="Answer with the best plan found by then.",
)
@click.option(
    "--node-cost",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    metavar="DOLLARS",
    help="What one more node is taken to cost an hour beside its price; never shown.",
)
@click.option(
    "--spot-flexibility",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Value a Spot node at the mean of its N cheapest offerings; 1 is the list price.",
)
@click.option(
    "--max-pods-per-node",
    type=click.IntRange(min=1),
    metavar="N",
    help="Let no new node hold more pods, its DaemonSets' aside.",
)
@click.option("--thorough", is_flag=True, help="Plan with the effort of twenty seconds.")
@click.option("--timings", is_flag=True, help="Say how long planning took.")
def command(
    *,
    files: tuple[str, ...],
    catalog_file: Path | None,
    strategy: str,
    preference_policy: str,
    min_values_policy: str,
    now: datetime,
    output: str,
    deadline: float | None,
    node_cost: float,
    spot_flexibility: int,
    max_pods_per_node: int | None,
    thorough: bool,
    timings: bool,
) -> int:
    """Plan what to launch for the pending pods in FILE (YAML, JSON, folders, - for standard
    input)."""
    given = options.load(files, catalog_file, now)
    from outrider.core import headroom
    from outrider.core.scheduling.plan import pending, plan
    from outrider.core.scheduling.policy import Policy

    policy = Policy(
        strategy=strategy,
        preference_policy=preference_policy,
        min_values_policy=min_values_policy,
        node_cost_per_hour=node_cost,
        spot_flexibility=spot_flexibility,
        most_pods_per_node=max_pods_per_node,
        thorough=thorough,
    )
    pods, spare = pending(given.state, given.now), headroom.placeholders(given.state)
    watch = _Watch(deadline)
    made = plan(given.state, (*pods, *spare), given.catalog, policy, given.now, watch.expired)
    seconds = watch.seconds
    answer = headroom.without_placeholders(made) if spare else made
    document = shown(answer, len(pods), given.ignored)
    if spare:
        placed = len(spare) - headroom.unplaced(made)
        document["summary"]["headroom"] = {"pods": len(spare), "placed": placed}
    if timings:
        document["summary"]["planSeconds"] = round(seconds, 6)
        document["summary"]["firstPlanSeconds"] = round(min(watch.first, seconds), 6)
    if output == "json":
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        from outrider.cli.tables import print_plan

        print_plan(answer, document["summary"])
    return SOME_UNPLACED if answer.rejections else 0


class _Watch:
    """A stopwatch that planning asks whether time is up; it notes when it is asked first."""

    def __init__(self, deadline: float | None) -> None:
        self._started = time.perf_counter()
        self._deadline = deadline
        self._first: float | None = None

    def expired(self) -> bool:
        """Return whether the deadline has passed; the first call means that a plan stands."""
        if self._first is None:
            self._first = self.seconds
        return self._deadline is not None and self.seconds > self._deadline

    @property
    def seconds(self) -> float:
        """Return how long it has been."""
        return time.perf_counter() - self._started

    @property
    def first(self) -> float:
        """Return when the first plan stood."""
        return self.seconds if self._first is None else self._first


def shown(answer: Plan, pods: int, ignored: Mapping[str, int]) -> dict[str, Any]:
    """Return *answer* as the JSON document of the contract."""
    return {
        "placements": [{"pod": item.pod, "node": item.node} for item in answer.placements],
        "launches": [launch_shown(item) for item in answer.launches],
        "unschedulable": [
            {
                "pod": rejection.pod,
                "reasons": [
                    {"nodePool": item.node_pool, "reason": item.message, "code": str(item.code)}
                    for item in rejection.reasons
                ],
            }
            for rejection in answer.rejections
        ],
        "summary": {
            "pods": pods,
            "placed": answer.placed,
            "launches": len(answer.launches),
            "pricePerHour": _money(answer.price_per_hour),
            "lowerBoundPerHour": None
            if answer.lower_bound_per_hour is None
            else min(_money(answer.lower_bound_per_hour), _money(answer.price_per_hour)),
            "strategy": answer.strategy,
            "stage": answer.stage,
            "ignored": dict(ignored),
        },
    }


def launch_shown(launch: Launch) -> dict[str, Any]:
    """Return one launch as JSON."""
    return {
        "name": launch.name,
        "nodePool": launch.node_pool,
        "pods": list(launch.pods),
        **({"headroom": list(launch.headroom)} if launch.headroom else {}),
        "requirements": launch.requirements.to_json(),
        "labels": {key: launch.labels[key] for key in sorted(launch.labels)},
        "taints": [
            {
                "key": taint.key,
                **({"value": taint.value} if taint.value else {}),
                "effect": taint.effect,
            }
            for taint in launch.taints
        ],
        "requests": quantity.listing(launch.requests),
        "instanceTypes": list(launch.instance_types),
        "offerings": [choice_shown(choice) for choice in launch.choices],
        "pricePerHour": _money(launch.price_per_hour),
    }


def choice_shown(choice: Choice) -> dict[str, Any]:
    """Return one way to buy a node as JSON."""
    return {
        "instanceType": choice.instance_type,
        "zone": choice.zone,
        "capacityType": choice.capacity_type,
        "pricePerHour": _money(choice.price_per_hour),
        **({"reservationId": choice.reservation_id} if choice.reservation_id else {}),
    }


def _money(amount: float) -> float:
    return round(amount, 9)
