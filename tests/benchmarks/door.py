"""Measure planning through its only door: `python -m tests.benchmarks.door [--data FOLDER]`.

One line a batch, the cost strategy and first fit side by side in the same run, from Pod manifests
as the API lists them: reading, classing, both plans, the bound and every launch with its
alternatives are in it. Every line is a process of its own, so that its memory is its own. FOLDER
holds ondemand_prices.json and alibaba-gpu-2023 (see the measuring notes); without it only the
mixes of our own are run, at our own book of prices. Node cost is 0 and Spot at its price, one open
NodePool of the types of `packing.pools`; the `karpenter` batches bring their own.

*first* is when the first complete plan stood, *plan* the whole answer, both the median of several
runs in wall time; the CPU time tells them from what else the machine does. *peak* is what the
process has grown by since the bare interpreter, pods and libraries included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outrider.core.catalog.instancetype import Catalog
    from outrider.core.clusterstate import ClusterState

TRACE = (
    "default 1", "default 100", "default 1000", "default 10000", "default 100000",
    "inference 1000", "inference 10000", "training 1000", "training 10000", "multigpu50 10000",
    "gpu-only 1000", "gpu-only 10000",
)  # fmt: skip
OWN = (
    "serving 1", "serving 100", "serving 1000", "serving 10000", "finetuning 1000",
    "services 1000", "services 10000", "spread 1000", "spread 10000",
    "everything 10000", "everything 10000 300", "everything 10000 1000", "everything 100000",
    "karpenter 100", "karpenter 1000", "karpenter 10000",
)  # fmt: skip
COLUMNS = (
    "batch", "classes", "first-fit", "cost", "bound", "cost/bound", "cost/first-fit", "left",
    "nodes", "stage", "first ms", "first CPU ms", "plan ms", "plan CPU ms", "first-fit CPU ms",
    "reading CPU ms", "peak MB",
)  # fmt: skip
PAGE = 500
"""So many Pods come in one page of a list."""


def main() -> None:
    """Print the table, or with --row the one line that a process was started for."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.benchmarks.door")
    parser.add_argument("--data", type=Path, help="folder with prices and traces")
    parser.add_argument("--thorough", action="store_true", help="the effort of twenty seconds")
    parser.add_argument("--repeat", type=int, default=5, help="runs a line; the median is printed")
    parser.add_argument("--only", default="", help="only batches whose name begins so")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        sys.stdout.write(json.dumps(row(options)))
        return
    sys.stdout.write("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS) + "\n")
    for name in (*(TRACE if options.data else ()), *OWN):
        if not name.startswith(options.only):
            continue
        command = [sys.executable, "-m", "tests.benchmarks.door", *sys.argv[1:], "--row", name]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        line = json.loads(answer.stdout)
        sys.stdout.write("| " + " | ".join(str(line[column]) for column in COLUMNS) + " |\n")
        sys.stdout.flush()


def row(options: argparse.Namespace) -> dict[str, Any]:
    """Return one line of the table."""
    bare = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Imported here, so that the line above sees a bare interpreter.
    from datetime import UTC, datetime

    from outrider.core.scheduling.plan import COST, FIRST_FIT, pending, plan
    from outrider.core.scheduling.policy import Policy

    kind, count, *shapes = options.row.split()
    state, catalogue, reading = _read(options, kind, int(count), int(shapes[0]) if shapes else 0)
    now = datetime(2026, 11, 23, tzinfo=UTC)
    waiting = pending(state, now)

    def planned(strategy: str, expired: Callable[[], bool]) -> Any:
        policy = Policy(
            strategy=strategy,
            node_cost_per_hour=0.0,
            spot_flexibility=1,
            thorough=options.thorough,
        )
        return plan(state, waiting, catalogue, policy, now, expired)

    firsts, soon, fulls, busy = [], [], [], []
    for _ in range(options.repeat):
        begun, worked = time.perf_counter(), time.process_time()
        stood: list[tuple[float, float]] = []

        def expired(stood: list[tuple[float, float]] = stood) -> bool:
            if not stood:
                stood.append((time.perf_counter(), time.process_time()))
            return False

        cost = planned(COST, expired)
        fulls.append(time.perf_counter() - begun)
        busy.append(time.process_time() - worked)
        firsts.append(stood[0][0] - begun)
        soon.append(stood[0][1] - worked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - bare
    begun = time.process_time()
    plain = planned(FIRST_FIT, lambda: False)
    rival = time.process_time() - begun
    bound = cost.lower_bound_per_hour
    return {
        "batch": options.row,
        "classes": len({(id(pod.requests), id(pod.constraints)) for pod in waiting}),
        "first-fit": f"{plain.price_per_hour:.2f}",
        "cost": f"{cost.price_per_hour:.2f}",
        "bound": f"{bound:.2f}",
        "cost/bound": f"{cost.price_per_hour / bound:.4f}",
        "cost/first-fit": f"{cost.price_per_hour / plain.price_per_hour:.3f}",
        "left": len(cost.rejections),
        "nodes": len(cost.launches),
        "stage": cost.stage,
        "first ms": f"{statistics.median(firsts) * 1e3:.1f}",
        "first CPU ms": f"{statistics.median(soon) * 1e3:.1f}",
        "plan ms": f"{statistics.median(fulls) * 1e3:.0f}",
        "plan CPU ms": f"{statistics.median(busy) * 1e3:.0f}",
        "first-fit CPU ms": f"{rival * 1e3:.0f}",
        "reading CPU ms": f"{reading * 1e3:.0f}",
        "peak MB": f"{peak / 1024:.0f}",
    }


def _read(
    options: argparse.Namespace, kind: str, count: int, shapes: int
) -> tuple[ClusterState, Catalog, float]:
    """Return the cluster in which the pods of a batch wait, what can be bought, and the seconds
    that reading the pods took."""
    import orjson

    from outrider.apis import manifest
    from outrider.core.clusterstate import ClusterState
    from tests.benchmarks import karpenter_mix
    from tests.support.builders import nodepool

    if kind == "karpenter":
        begun = time.process_time()
        state = karpenter_mix.cluster(count)
        return state, karpenter_mix.goods(), time.process_time() - begun
    found: list[object] = [manifest.parse(nodepool())]
    reading = 0.0
    for page in _pages(_manifests(options.data, kind, count, shapes)):
        begun = time.process_time()
        found += map(manifest.parse, orjson.loads(page))
        reading += time.process_time() - begun
    return ClusterState.of(found), _goods(options.data), reading


def _pages(manifests: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """Yield *manifests* as the API does, in pages of JSON."""
    import itertools

    import orjson

    while page := list(itertools.islice(manifests, PAGE)):
        yield orjson.dumps(page)


def _manifests(data: Path | None, kind: str, count: int, shapes: int) -> Iterator[dict[str, Any]]:
    """Yield the Pods of a batch; those of `spread` have groups that keep apart on nodes."""
    from tests.benchmarks.packing import batches
    from tests.support.builders import HOSTNAME, pod, spread, term

    groups, most = None, None
    if kind == "spread":
        drawn, most = batches.spread(count)
        drawn, groups = drawn[:, :4], drawn[:, 4:]
    elif kind in batches.TRACES:
        if data is None:
            raise SystemExit(f"{kind} is drawn from the trace: name its folder with --data")
        drawn = batches.from_trace(data / "alibaba-gpu-2023", kind, count)
    else:
        drawn = batches.synthetic(kind, count, shapes)
    for place, (cpu, memory, _, gpus) in enumerate(drawn.tolist()):
        labels: dict[str, str] = {}
        more: dict[str, Any] = {}
        if groups is not None and most is not None and groups[place].any():
            group = int(groups[place].argmax())
            labels = {"group": f"g{group}"}
            skew = int(most[group])
            more = (
                {"apart": [term(HOSTNAME, labels)]}
                if skew == 1
                else {"spread": [spread(HOSTNAME, labels, skew=skew)]}
            )
        yield pod(
            f"p{place:06}",
            cpu=f"{int(cpu)}m",
            memory=f"{int(memory)}Mi",
            gpu=int(gpus) or None,
            labels=labels,
            **more,
        )


def _goods(data: Path | None) -> Catalog:
    """Return the types of the open pool at one price each, in one zone."""
    from outrider.core.catalog import codec
    from tests.benchmarks.packing import pools
    from tests.support.builders import catalog, instance_type, offering

    pool = pools.load(data and data / "ondemand_prices.json")
    entries = []
    for name, room, price in zip(pool.names, pool.allocatable.tolist(), pool.price, strict=True):
        cpu, memory, most, gpus = (int(amount) for amount in room)
        entries.append(
            instance_type(
                name,
                cpu=f"{cpu}m",
                memory=f"{memory}Mi",
                gpu=gpus or None,
                pods=str(most),
                offerings=[offering("us-east-1a", "on-demand", float(price))],
            )
        )
    return codec.read(catalog(*entries))


if __name__ == "__main__":
    main()
