"""Interruptions by numbers: `python tests/benchmarks/interruptions.py [wave warm month]`.

Real code on this machine, in CPU time, since that is what does not change with who else runs here;
a table is printed, nothing is asserted.

- *wave*: a thousand warnings, a hundred of them ours, in an SQS queue's batches of ten: first our
  own code alone (all ports are fakes), then the look in the ledger as well, through boto3 and an
  in-process DynamoDB.
- *warm*: one warning in a cluster of 500 nodes and 2,000 pods, from the message to CreateFleet.
- *month*: a voluntary drain that a PodDisruptionBudget holds for 30 days of virtual time, in state
  transitions, which is what Step Functions is paid for.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from moto import mock_aws

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from outrider.adapters.aws.ledger import Ledger  # noqa: E402
from outrider.adapters.aws.session import Session  # noqa: E402
from outrider.apis import labels  # noqa: E402
from outrider.apis.duration import stamp  # noqa: E402
from outrider.apis.meta import EVERYTHING  # noqa: E402
from outrider.apis.policy import PodDisruptionBudget  # noqa: E402
from outrider.core import eviction  # noqa: E402
from outrider.core.records import Instance  # noqa: E402
from outrider.flows import interrupt, launch  # noqa: E402
from outrider.flows.launch import Launched  # noqa: E402
from tests.support import account, estate  # noqa: E402
from tests.support.world import FakeWorld  # noqa: E402

WARNINGS, OURS, BATCH = 1000, 100, 10
NODES, PODS_A_NODE = 500, 4
MONTH = timedelta(days=30)
STATES_A_ROUND = 3  # Evict, Drained?, Pods are leaving
STATES_A_SUCCESSOR = 6  # Hand over, Handed over, Cordon, Await replacement, Replaced?, Evict
STATES_AT_ENDS = 14  # from Cordon to Evict, and from Terminate to Finish
ROUNDS_AN_EXECUTION = 2000
DOLLARS_A_TRANSITION = 0.000025
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}


@dataclass(frozen=True)
class Figure:
    """One measured number, beside what it ought to be."""

    what: str
    target: str
    measured: str

    def __str__(self) -> str:
        """Return the figure as a line of the table."""
        return f"{self.what:66} {self.target:>12} {self.measured:>12}"


def warning(instance_id: str) -> str:
    """Return the body of a queue's message about an instance."""
    return json.dumps(
        {
            "version": "0",
            "id": f"id-{instance_id}",
            "source": "aws.ec2",
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "account": "123456789012",
            "region": "us-east-1",
            "time": stamp(estate.NOW),
            "resources": [],
            "detail": {"instance-id": instance_id, "instance-action": "terminate"},
        }
    )


def batches(bodies: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield an SQS queue's batches of *bodies*."""
    given = list(bodies)
    for start in range(0, len(given), BATCH):
        yield {
            "Records": [
                {"messageId": f"m{start + place}", "body": body}
                for place, body in enumerate(given[start : start + BATCH])
            ]
        }


def cluster(nodes: int) -> FakeWorld:
    """Return a world of *nodes* Spot nodes with four pods each."""
    fake = FakeWorld()
    fake.clock.at = estate.NOW
    fake.ledger.stored = estate.catalog()
    fake.cluster.put(estate.pool())
    objects: list[Any] = []
    for number in range(nodes):
        node = estate.node(f"n{number}", "m5.xlarge", bought=labels.SPOT)
        objects += [node, estate.claim(node)]
        objects += [
            estate.pod(f"n{number}-{place}", on=node.name, cpu="900m")
            for place in range(PODS_A_NODE)
        ]
        fake.ledger.known[node.instance_id] = {"claim": f"n{number}", "decision": "d"}
    fake.cluster.put(*objects)
    return fake


def warned(fake: FakeWorld) -> list[str]:
    """Return a thousand warnings, every tenth about an instance of the cluster's."""
    ours = [node.instance_id for node in fake.cluster.current.nodes[:OURS]]
    dice = random.Random(1)
    foreign = [f"i-{dice.getrandbits(68):017x}" for _ in range(WARNINGS - len(ours))]
    mixed = [*ours, *foreign]
    dice.shuffle(mixed)
    return [warning(instance_id) for instance_id in mixed]


class Launcher:
    """Launches whatever is planned, at once."""

    def __init__(self) -> None:
        self.at: float | None = None

    def __call__(self, world: Any, made: Any, *_: Any, **__: Any) -> Launched:
        """Give every launch its NodeClaim."""
        self.at = time.process_time()
        return Launched({one.name: one.pods for one in made.launches})


def wave() -> Iterator[Figure]:
    """Measure the handler under a thousand warnings in a second."""
    launch.launch = Launcher()
    fake = cluster(OURS)
    bodies = warned(fake)
    known = {node.instance_id for node in fake.cluster.current.nodes}
    began = time.process_time()
    for batch in batches(bodies):
        interrupt.interrupt(batch, fake.world)
    used = time.process_time() - began
    handled = set(fake.ledger.rows)
    yield Figure("warnings of ours that were acted on, of 100", "100", f"{len(handled & known)}")
    yield Figure("warnings of others that were acted on, of 900", "0", f"{len(handled - known)}")
    yield Figure("events a second, one core, own code", ">= 200", f"{WARNINGS / used:,.0f}")
    yield from _looked_up(bodies)


def _looked_up(bodies: list[str]) -> Iterator[Figure]:
    """Measure the look in a real table: what nine of ten warnings cost."""
    with mock_aws(), patch.dict(os.environ, CREDENTIALS):
        session = Session("us-east-1")
        account.make_table(session)
        fake = cluster(OURS)
        ledger = Ledger(session, account.TABLE, fake.clock.now)
        for instance_id in fake.ledger.known:
            ledger.record_instance(_instance(instance_id, fake), "c", "d")
        fake.ledger.ours = ledger.ours  # type: ignore[method-assign]
        began = time.process_time()
        for batch in batches(bodies):
            interrupt.interrupt(batch, fake.world)
        used = time.process_time() - began
    said = "the same, with boto3 and an in-process DynamoDB"
    yield Figure(said, ">= 200", f"{WARNINGS / used:,.0f}")


def _instance(instance_id: str, fake: FakeWorld) -> Instance:
    return Instance(
        instance_id, "m5.xlarge", "us-east-1a", "spot", "running", launched=fake.clock.now()
    )


def warm() -> Iterator[Figure]:
    """Measure one warning in a large cluster, from the message to CreateFleet."""
    launcher = Launcher()
    launch.launch = launcher
    fake = cluster(NODES)
    body = warning(fake.cluster.current.nodes[7].instance_id)
    times = []
    for _ in range(3):
        fake.ledger.rows.clear()
        fake.ledger.paid.clear()
        fake.cluster.current = replace(fake.cluster.current, _index={})
        began = time.process_time()
        interrupt.interrupt(next(batches([body])), fake.world)
        times.append((launcher.at or 0.0) - began)
    said = f"warning to CreateFleet, {NODES} nodes, {NODES * PODS_A_NODE:,} pods, own CPU"
    yield Figure(said, "< 2 s", f"{min(times):.2f} s")


def month() -> Iterator[Figure]:
    """Count what a drain costs that a budget holds for 30 days: Rounds, one after the other."""
    world = cluster(1)
    held = PodDisruptionBudget("default", "held", selector=EVERYTHING)
    world.cluster.put(held)
    state, began = world.cluster.current, world.clock.now()
    task = eviction.Drain(state.nodes[0].name, began)
    now, rounds, successors = began, 0, 0
    while now - began < MONTH:
        number = rounds % ROUNDS_AN_EXECUTION
        successors += rounds > 0 and number == 0
        waits = eviction.next_round(state, replace(task, number=number), now)
        assert not waits.departures
        now += timedelta(seconds=waits.wait_seconds)
        rounds += 1
    world.cluster.put(replace(held, disruptions_allowed=PODS_A_NODE))
    last = eviction.next_round(world.cluster.current, replace(task, number=1), now)
    transitions = rounds * STATES_A_ROUND + successors * STATES_A_SUCCESSOR + STATES_AT_ENDS
    yield Figure("30 days behind a budget: looks at the node", "", f"{rounds:,}")
    yield Figure("  state transitions", "", f"{transitions:,}")
    yield Figure("  executions, each below 25,000 events", "", f"{successors + 1}")
    yield Figure("  dollars", "", f"{transitions * DOLLARS_A_TRANSITION:.2f}")
    gone = f"{len(last.departures)} of {PODS_A_NODE}"
    yield Figure("  pods asked to leave in the first Round after it gave way", "4 of 4", gone)


FIGURES: dict[str, Callable[[], Iterator[Figure]]] = {"wave": wave, "warm": warm, "month": month}


def main(chosen: list[str]) -> None:
    """Print the table, a line as soon as it is known."""
    print(f"{'figure':66} {'target':>12} {'measured':>12}")
    for name in chosen or FIGURES:
        for figure in FIGURES[name]():
            print(figure, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
