"""Measure the packing kernel: `python -m tests.benchmarks.packing [--data FOLDER] [--thorough]`.

One line a batch, first-fit and the kernel side by side in the same run; every line is a process of
its own, so that its memory is its own. FOLDER holds ondemand_prices.json and alibaba-gpu-2023 (see
the measuring notes); without it only the synthetic mixes are run, at our own book of prices.
Times are the median of several runs, grouping of the pods included, imports excluded; the CPU time
tells them from what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

BATCHES = {
    "trace": (
        "default 1", "default 100", "default 1000", "default 10000", "default 100000",
        "inference 100", "inference 1000", "inference 10000",
        "training 1000", "training 10000", "multigpu50 10000", "gpu-only 1000", "gpu-only 10000",
    ),
    "synthetic": (
        "serving 1000", "serving 10000", "finetuning 1000", "finetuning 10000",
        "services 1000", "services 10000", "everything 10000",
        "services 10000 300",
        "spread 1000", "spread 10000", "everything 10000 300", "everything 10000 1000",
    ),
}  # fmt: skip
COLUMNS = (
    "batch", "classes", "first-fit", "first", "full", "bound", "full/bound", "full/first-fit",
    "nodes", "stage", "first ms", "full ms", "full CPU ms", "first-fit ms", "peak MB",
)  # fmt: skip


def main() -> None:
    """Print the table, or with --row the one line that a process was started for."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.benchmarks.packing")
    parser.add_argument("--data", type=Path, help="folder with prices and traces")
    parser.add_argument("--thorough", action="store_true", help="the effort of twenty seconds")
    parser.add_argument("--repeat", type=int, default=5, help="runs a line; the median is printed")
    parser.add_argument("--only", default="", help="only batches whose name begins so")
    parser.add_argument("--pool", default="cmrgp", choices=("cmrgp", "gpu"))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        sys.stdout.write(json.dumps(row(options)))
        return
    names = [*(BATCHES["trace"] if options.data else ()), *BATCHES["synthetic"]]
    sys.stdout.write("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS) + "\n")
    for name in names:
        if not name.startswith(options.only):
            continue
        command = [sys.executable, "-m", "tests.benchmarks.packing", *sys.argv[1:], "--row", name]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        line = json.loads(answer.stdout)
        sys.stdout.write("| " + " | ".join(str(line[column]) for column in COLUMNS) + " |\n")
        sys.stdout.flush()


def row(options: argparse.Namespace) -> dict[str, Any]:
    """Return one line of the table."""
    bare = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Imported here, so that the line above sees a bare interpreter.
    import numpy as np

    from outrider.core.packing.effort import Effort
    from outrider.core.packing.pack import stages
    from outrider.core.packing.problem import Problem
    from tests.benchmarks.packing import batches, pools
    from tests.benchmarks.packing.firstfit import first_fit

    kind, count, *shapes = options.row.split()
    pool = pools.load(options.data and options.data / "ondemand_prices.json", options.pool)
    if kind == "spread":
        pods, most = batches.spread(int(count))
        pool = replace(
            pool, allocatable=np.hstack([pool.allocatable, np.tile(most, (len(pool.names), 1))])
        )
    elif kind in batches.SYNTHETIC:
        pods = batches.synthetic(kind, int(count), int(shapes[0]) if shapes else 0)
    else:
        pods = batches.from_trace(options.data / "alibaba-gpu-2023", kind, int(count))
    effort = Effort.thorough() if options.thorough else None
    firsts: list[float] = []
    fulls: list[float] = []
    busy: list[float] = []
    for _ in range(options.repeat):
        begun, worked = time.perf_counter(), time.process_time()
        requests, demand = batches.grouped(pods)
        problem = Problem.of(
            requests=requests, demand=demand, allocatable=pool.allocatable, price=pool.price
        )
        answers = stages(problem, effort=effort)
        first = next(answers)
        firsts.append(time.perf_counter() - begun)
        *_, last = (first, *answers)
        fulls.append(time.perf_counter() - begun)
        busy.append(time.process_time() - worked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - bare
    begun = time.perf_counter()
    rival = first_fit(pods, pool)[0] if len(pods) <= 10_000 else float("nan")
    return {
        "batch": options.row,
        "classes": len(requests),
        "first-fit": f"{rival:.2f}",
        "first": f"{first.list_price:.2f}",
        "full": f"{last.list_price:.2f}",
        "bound": f"{last.bound:.2f}",
        "full/bound": f"{last.list_price / last.bound:.4f}",
        "full/first-fit": f"{last.list_price / rival:.3f}",
        "nodes": last.bins,
        "stage": last.stage,
        "first ms": f"{statistics.median(firsts) * 1e3:.1f}",
        "full ms": f"{statistics.median(fulls) * 1e3:.0f}",
        "full CPU ms": f"{statistics.median(busy) * 1e3:.0f}",
        "first-fit ms": f"{(time.perf_counter() - begun) * 1e3:.0f}",
        "peak MB": f"{peak / 1024:.0f}",
    }


if __name__ == "__main__":
    main()
