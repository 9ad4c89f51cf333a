"""What consolidation makes of clusters that a day of churn left behind, and what it costs.

    .venv/bin/python -m tests.benchmarks.consolidation [--nodes 50 500 2000] [--data FOLDER]

For each size: the price before, after `--until-done`, of planning all running pods afresh, and the
proven bound of that; pods moved for each dollar an hour saved; how often the most moved pod moved;
CPU seconds of the first and the longest pass; peak memory. Then five passes over 500 nodes with
10,000 pods, a third of them spread; a steady day with a pass every ten minutes, and ten passes
after it has settled. `--data` names a folder with the public GPU trace;
without it the accelerated pods are of a mix of our own.
"""

from __future__ import annotations

import argparse
import functools
import resource
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.decide import decide
from outrider.core.disruption.outcome import after
from outrider.core.disruption.result import Command, Decision
from outrider.core.disruption.scene import Policy
from outrider.core.scheduling.plan import plan
from outrider.core.scheduling.result import Plan
from tests.benchmarks.churn import HOURS, MORNING, Day, crowded

say = functools.partial(print, flush=True)

PASS = timedelta(minutes=10)
MOST_PASSES = 50


@dataclass
class Outcome:
    """What passes did to one cluster."""

    decisions: list[Decision] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    moves: Counter[str] = field(default_factory=Counter)

    @property
    def before(self) -> float:
        """Return the price before the first pass."""
        return self.decisions[0].price_per_hour_before

    @property
    def after(self) -> float:
        """Return the price after the last pass."""
        return self.decisions[-1].price_per_hour_after

    def one_pass(self, state: ClusterState, catalog: Catalog, now: datetime) -> ClusterState:
        """Return *state* after one more pass."""
        started = time.process_time()
        decision = decide(state, catalog, Policy(), now)
        self.seconds.append(time.process_time() - started)
        self.decisions.append(decision)
        for command in decision.commands:
            self.moves.update(moved(command))
        return after(state, decision.commands, catalog, now)


def moved(command: Command) -> Iterator[str]:
    """Yield the pods that *command* moves."""
    yield from (item.pod for item in command.placements)
    yield from (pod for launch in command.launches for pod in launch.pods)


def until_done(state: ClusterState, catalog: Catalog, now: datetime) -> Outcome:
    """Return what passes do to *state* until one does nothing."""
    outcome = Outcome()
    for number in range(MOST_PASSES):
        state = outcome.one_pass(state, catalog, now + (number + 1) * PASS)
        if not outcome.decisions[-1].commands:
            break
    return outcome


def afresh(state: ClusterState, catalog: Catalog, now: datetime) -> Plan:
    """Return the plan of all running pods on no node at all."""
    pods = tuple(replace(pod, node_name="") for pod in state.pods)
    bare = replace(state, nodes=(), nodeclaims=(), pods=pods, _index={})
    return plan(bare, pods, catalog, Policy().plan, now)


def steady(nodes: int, trace: Path | None) -> tuple[Outcome, Outcome]:
    """Return what passes do over a day of steady load, and ten of them once it has settled."""
    day = Day(nodes, trace=trace, swing=0.0)
    outcome = Outcome()
    for hour in range(HOURS):
        day.hour(hour)
        for number in range(1, 6):
            day.state = outcome.one_pass(day.state, day.catalog, day.now + number * PASS)
    settled = until_done(day.state, day.catalog, day.now + timedelta(hours=1))
    outcome.moves.update(settled.moves)
    state, now = day.state, day.now + timedelta(hours=1)
    for number, decision in enumerate(settled.decisions, 1):
        state = after(state, decision.commands, day.catalog, now + number * PASS)
    further = Outcome()
    for number in range(10):
        state = further.one_pass(state, day.catalog, now + timedelta(hours=2) + number * PASS)
    return outcome, further


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[50, 500, 2000])
    parser.add_argument("--steady", type=int, default=30, help="nodes of the steady day, 0: none")
    parser.add_argument("--data", type=Path, help="folder with the public GPU trace")
    given = parser.parse_args()
    trace = given.data / "alibaba-gpu-2023" if given.data else None
    say(
        "| nodes | pods | before $/h | after $/h | afresh $/h | bound $/h | after / afresh |"
        " moved / $ | most moves | passes | first pass CPU s | longest CPU s | peak MB |"
    )
    say("|---" * 13 + "|")
    for nodes in given.nodes:
        day = Day(nodes, trace=trace)
        state = day.run()
        fresh = afresh(state, day.catalog, day.now)
        outcome = until_done(state, day.catalog, day.now)
        saved = outcome.before - outcome.after
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say(
            f"| {len(state.nodes):,} | {len(state.pods):,} | {outcome.before:,.2f}"
            f" | {outcome.after:,.2f} | {fresh.price_per_hour:,.2f}"
            f" | {fresh.lower_bound_per_hour or 0.0:,.2f}"
            f" | {outcome.after / fresh.price_per_hour:.3f}"
            f" | {outcome.moves.total() / saved:.1f} | {max(outcome.moves.values(), default=0)}"
            f" | {len(outcome.decisions)} | {outcome.seconds[0]:.1f} | {max(outcome.seconds):.1f}"
            f" | {peak:.0f} |",
        )
    crowd = Outcome()
    state, goods = crowded(500, 10_000), bundled()
    for number in range(5):
        state = crowd.one_pass(state, goods, MORNING + number * PASS)
    say(
        f"\n500 nodes, 10,000 pods: {crowd.before:,.2f} -> {crowd.after:,.2f} $/h, CPU s of each"
        f" pass {', '.join(f'{seconds:.1f}' for seconds in crowd.seconds)}"
    )
    if not given.steady:
        return
    outcome, further = steady(given.steady, trace)
    times = Counter(outcome.moves.values())
    say(
        f"\nA steady day on about {given.steady} nodes, a pass every ten minutes: pods moved once"
        f" {times[1]}, twice {times[2]}, more often {sum(times.values()) - times[1] - times[2]};"
        f" commands of ten passes after it settled:"
        f" {sum(len(item.commands) for item in further.decisions)}"
    )


if __name__ == "__main__":
    main()
