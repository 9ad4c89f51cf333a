"""The kill and abort matrix of seed builds, and the speed of planning them, as tables.

    python -m tests.benchmarks.seed_matrix [--state "Snapshot"]

Every state of `statemachines/seed.asl.yaml` is made to fail once, to fail for good, to time out
once, to be killed once and to be aborted once, in the embedded cloud, with the real flows; each
cell says what was left afterwards (`clean`: no builder, volume, unnamed snapshot, fast restore or
lock) and what became of the build. Then 500 images x 50 NodePools are planned. The exit status is 1
where a cell is not clean or planning takes 200 ms or more of processor time.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from outrider.core.catalog.family import Family
from outrider.core.seeding import Image
from outrider.core.seeding.decide import PoolDemand, Use, decide
from tests.support.breakage import TASKS, WAITS, Fault, State, describe, workbench
from tests.support.stage import staged

IMAGES, POOLS, RUNS = 500, 50, 7
LIMIT_MS = 200.0
WIDE = 150


def main() -> int:
    """Print the matrix and the planning time; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AsIs)
    parser.add_argument("--state", help="only this state")
    wanted = parser.parse_args().state
    logging.disable(logging.CRITICAL)  # faults are loud, and meant
    console = Console(highlight=False, width=WIDE)
    states = [one for one in (*TASKS, *WAITS) if wanted in {None, one.name}]
    dirty = _matrix(console, states)
    milliseconds = _planning(console)
    return 1 if dirty or milliseconds >= LIMIT_MS else 0


_AsIs = argparse.RawDescriptionHelpFormatter


def _matrix(console: Console, states: list[State]) -> int:
    table = Table(box=SIMPLE_HEAD, title="Seed builds, broken", title_justify="left")
    table.add_column("state")
    for fault in Fault:
        table.add_column(fault.value)
    cells = dirty = 0
    with staged(SeedWarmUp="fast-restore") as stage, workbench(stage) as bench:
        for state in states:
            row = []
            for fault in Fault:
                if state.waits and fault is not Fault.ABORTED:
                    row.append("-")  # a Wait calls nobody: it cannot fail, time out or be killed
                    continue
                remains = bench.broken(state, fault)
                cells, dirty = cells + 1, dirty + (not remains.clean)
                row.append(describe(remains))
            table.add_row(state.name, *row)
    console.print(table)
    console.print(f"{cells - dirty} of {cells} clean")
    return dirty


def _planning(console: Console) -> float:
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    images = {}
    for number in range(IMAGES):
        name = f"{host}/team/{number}:1"
        size = int((1 + number % 9) * 1e9)
        images[name] = Image(name, f"sha256:{number:064x}", size, ("amd64",))
    demands = [
        PoolDemand(
            f"pool-{pool}",
            f"class-{pool}",
            Family.AL2023,
            images={name: Use(1 + (at * 7 + pool) % 5) for at, name in enumerate(images)},
        )
        for pool in range(POOLS)
    ]
    took = []
    for _ in range(RUNS):
        begun = time.process_time()
        decision = decide(demands, images, ())
        took.append((time.process_time() - begun) * 1000)
    median = statistics.median(took)
    console.print(
        f"planning {IMAGES} images x {POOLS} NodePools: {median:.0f} ms of processor time "
        f"(median of {RUNS}; limit {LIMIT_MS:.0f}), {len(decision.builds)} seeds, "
        f"{len(decision.refused)} refusals with a reason"
    )
    return median


if __name__ == "__main__":
    sys.exit(main())
