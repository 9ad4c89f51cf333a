"""From PodUnschedulable to CreateFleet: `python -m tests.benchmarks.launching [--pods 100]`.

An embedded cloud of this process answers; the provision function runs in a process of its own, as
in a sandbox of its own, so that its CPU time is nobody else's: interpreter and imports, the lease,
the reads, the plan, the NodeClaims, the request. A first batch of pods meets it cold, a second one
warm. Wall times contain the emulator's answers on this machine. What queues add on AWS is listed
apart: it is no work of ours.

Also printed: what the stored catalogue costs to load, and how many calls a launch is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BATCHES = ("cold", "warm")
LIMITS = {"cold": 3.0, "warm": 1.5}
CATALOG_SECONDS = 0.05
SHAPES = (
    ("250m", "512Mi"), ("500m", "1Gi"), ("1", "2Gi"), ("1", "8Gi"), ("1500m", "3Gi"),
    ("2", "4Gi"), ("2", "16Gi"), ("3", "6Gi"), ("4", "8Gi"), ("4", "30Gi"),
)  # fmt: skip
EVENT = {"Records": [{"messageId": "m1", "body": '{"version": 1}', "attributes": {}}]}


# --- the function's side --------------------------------------------------------------------------


class Meter:
    """Counts the calls of this process, and keeps the moment at which CreateFleet leaves."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.fleets: list[tuple[float, float]] = []

    def install(self) -> None:
        """Look at every request that botocore and urllib3 are about to send."""
        import botocore.handlers
        import urllib3.connectionpool

        botocore.handlers.BUILTIN_HANDLERS.append(("before-send", self._aws))
        pool = urllib3.connectionpool.HTTPConnectionPool
        original = pool.urlopen

        def urlopen(place: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            self.calls["Kubernetes " + ("reads" if method == "GET" else "writes")] += 1
            return original(place, method, url, *args, **kwargs)

        pool.urlopen = urlopen  # type: ignore[method-assign]

    def _aws(self, event_name: str, **_event: Any) -> None:
        operation = event_name.rpartition(".")[2]
        if operation == "CreateFleet":
            self.fleets.append((time.process_time(), time.perf_counter()))
        self.calls["AWS " + operation] += 1


def sandbox() -> None:
    """Run the function once for each line on standard input; tell what it took."""
    meter = Meter()
    meter.install()
    cpu, wall = 0.0, time.perf_counter()  # the process's own time begins with the interpreter
    for _line in sys.stdin:
        if meter.fleets:
            cpu, wall = time.process_time(), time.perf_counter()
        meter.calls.clear()
        meter.fleets.clear()
        _invoke()
        first = meter.fleets[0]
        told = {
            "cpu": first[0] - cpu,
            "wall": first[1] - wall,
            "whole": time.process_time() - cpu,
            "fleets": len(meter.fleets),
            "calls": meter.calls,
            "catalog": _catalog_seconds(),
        }
        sys.stderr.write(json.dumps(told) + "\n")
        sys.stderr.flush()


def _invoke() -> None:
    from functions.provision.app import lambda_handler

    class Context:
        """What the handler's decorators ask of Lambda."""

        function_name = "provision"
        memory_limit_in_mb = 1024
        invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:provision"
        aws_request_id = "bench"

    lambda_handler(EVENT, Context())


def _catalog_seconds() -> float:
    """Return the CPU time of loading the stored catalogue as a new planner does."""
    from outrider.bootstrap import world

    ledger = world().ledger
    ledger._cached = None  # type: ignore[attr-defined]
    began = time.process_time()
    ledger.catalog()
    return time.process_time() - began


# --- the cloud's side -----------------------------------------------------------------------------


def measure(pods: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each batch of *pods* took, the cold one first."""
    from outrider.local.clock import DiscreteClock
    from outrider.local.cloud import Cloud
    from tests.support.stage import TEMPLATE, Stage, node_class

    with Cloud(template=TEMPLATE, clock=DiscreteClock(datetime.now(UTC))) as cloud:
        stage = Stage(cloud)
        stage.apply(node_class(), *(_pool(batch) for batch in BATCHES))
        cloud.run(70)  # the pools are Ready, the catalogue is there
        events = cloud.client("events")
        for rule in events.list_rules()["Rules"]:
            events.disable_rule(Name=rule["Name"])  # the function's only cause is this benchmark
        with stage.without_webhook(), _sandbox(stage.function("provision").environment) as process:
            for batch in BATCHES:
                stage.apply(*_pods(batch, pods))
                cloud.run(3)
                yield batch, _ask(process)


@contextmanager
def _sandbox(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run the function's side with the *environment* that it has in the cloud."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.launching", "--sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment, "OUTRIDER_KUBERNETES_WRITERS": "8"},
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=30)


def _ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    said = []
    for line in process.stderr:
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
        said.append(line)
    raise SystemExit("".join(said))


def _pool(name: str) -> dict[str, Any]:
    from tests.e2e.real.karpenter import node_pool, wish

    return node_pool(
        name,
        [
            wish("kubernetes.io/arch", "In", "amd64"),
            wish("karpenter.sh/capacity-type", "In", "spot", "on-demand"),
            wish("karpenter.k8s.aws/instance-category", "In", "c", "m", "r"),
            wish("karpenter.k8s.aws/instance-generation", "Gt", "4"),
        ],
        node_class="gpu",
    )


def _pods(batch: str, count: int) -> Iterator[dict[str, Any]]:
    from tests.support.builders import pod

    for number in range(count):
        cpu, memory = SHAPES[number % len(SHAPES)]
        made = pod(
            f"{batch}-{number}",
            cpu=cpu,
            memory=memory,
            selector={"karpenter.sh/nodepool": batch},
        )
        meta = {key: made["metadata"][key] for key in ("name", "namespace", "labels")}
        yield {**{key: made[key] for key in ("apiVersion", "kind", "spec")}, "metadata": meta}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--sandbox", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.sandbox:
        sandbox()
        return
    told: dict[str, Any] = {}
    for batch, told in measure(chosen.pods):
        print(
            f"{chosen.pods} pods, {batch}: CreateFleet leaves after {told['cpu']:.2f} s of CPU"
            f" (< {LIMITS[batch]} s), {told['wall']:.2f} s by the wall;"
            f" {told['fleets']} fleets, {told['whole']:.2f} s of CPU in all"
        )
    print(f"catalogue loaded in {told['catalog'] * 1000:.0f} ms of CPU (< 50 ms)")
    print("calls of the warm batch:", ", ".join(f"{n} {what}" for what, n in told["calls"].items()))
    print("what AWS adds before it: the hint queue's delay of 1 s; hints of one second are one")


if __name__ == "__main__":
    main()
