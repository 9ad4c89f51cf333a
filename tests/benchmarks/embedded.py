"""The embedded cloud's measures, each with its target: `python tests/benchmarks/embedded.py`.

Real time and real processes, on whatever machine this is: a table is printed, nothing is asserted.
Cold imports need the layers of `make layer-host` and are left out without them. Names on the
command line choose figures: `python tests/benchmarks/embedded.py up list plan demo imports`.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

OUTRIDER = [str(Path(sys.executable).with_name("outrider"))]
PODS, NODES, PAGE = 10_000, 500, 500
PATIENCE = 120.0


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    what: str
    target: float
    measured: float
    unit: str = "s"

    def __str__(self) -> str:
        """Return the figure as a line of the table."""
        verdict = "" if self.measured < self.target else "  over"
        unit = self.unit
        return f"{self.what:52} < {self.target:6g} {unit:3} {self.measured:8.2f} {unit}{verdict}"


@contextmanager
def cloud_process(folder: str) -> Iterator[tuple[dict[str, str], float]]:
    """Run `outrider local up`; give its two variables and the seconds until it was ready."""
    began = time.monotonic()
    process = subprocess.Popen(
        [*OUTRIDER, "local", "up", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": folder},
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        seconds = time.monotonic() - began
        found = (re.fullmatch(r"export (\w+)=(.+)\n", line) for line in lines)
        yield {match[1]: match[2] for match in found if match}, seconds
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def up() -> Iterator[Figure]:
    """Measure the start of `outrider local up`, and how long a hint takes to become a fleet."""
    from kubernetes import config
    from kubernetes.client import ApiClient
    from kubernetes.dynamic import DynamicClient

    from tests.support.stage import node_class, pod, pool

    with (
        tempfile.TemporaryDirectory() as folder,
        cloud_process(folder) as (variables, seconds),
    ):
        yield Figure("outrider local up: ready", 10, seconds)
        settings = config.new_client_from_config(variables["KUBECONFIG"]).configuration
        client = DynamicClient(ApiClient(settings))
        for one in (node_class(), pool("bench")):
            client.resources.get(api_version=one["apiVersion"], kind=one["kind"]).create(body=one)
        time.sleep(5)
        for name in ("first", "second"):
            wanted = pod(name, "bench")
            client.resources.get(api_version="v1", kind="Pod").create(
                body=wanted, namespace="default"
            )
            taken = _hint_to_fleet(variables["AWS_ENDPOINT_URL"], name)
            yield Figure(f"webhook hint to CreateFleet, {name} pod", 2, taken)
            time.sleep(30)


def _hint_to_fleet(url: str, pod: str) -> float:
    """Return the seconds from a pod's first hint to the fleet that follows it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{url}/_outrider/timeline", timeout=10) as answer:
            entries = [json.loads(line) for line in answer]
        pending = [
            one["at"]
            for one in entries
            if one["kind"] == "podPending" and one["pod"] == f"default/{pod}"
        ]
        hints = [one["at"] for one in entries if one["kind"] == "hint" and one["at"] >= pending[0]]
        fleets = [
            one["at"] for one in entries if one["kind"] == "createFleet" and one["at"] >= pending[0]
        ]
        if hints and fleets:
            return float(fleets[0] - hints[0])
        time.sleep(0.2)
    raise TimeoutError("no fleet")


def lists() -> Iterator[Figure]:
    """Measure LISTs of many pods and nodes, and what the whole cloud then takes of memory."""
    told = subprocess.run(
        [sys.executable, __file__, "--many"], capture_output=True, text=True, check=True
    )
    measured = json.loads(told.stdout.splitlines()[-1])
    yield Figure("LIST of 10,000 pending pods and 500 nodes, in pages", 3, measured["pages"])
    yield Figure("the same, CPU of server and client", 3, measured["processor"])
    yield Figure("the same in one piece each", 3, measured["whole"])
    yield Figure("peak memory of the embedded cloud then", 1536, measured["mib"], "MiB")


def many() -> None:
    """Fill an embedded cloud and measure it; in a process of its own, for its memory's sake."""
    import urllib3

    from outrider.adapters.kube.client import Client, Endpoint
    from outrider.local.clock import DiscreteClock
    from outrider.local.cloud import Cloud
    from tests.support.builders import node
    from tests.support.stage import TEMPLATE, pod

    with Cloud(template=TEMPLATE, clock=DiscreteClock(datetime.now(UTC))) as cloud:
        for number in range(NODES):
            cloud.kube.apply(node(f"node-{number}"))
        for number in range(PODS):
            cloud.kube.apply(pod(f"pod-{number}", "bench"))
        kube = cloud.kube
        client = Client(
            lambda: Endpoint(kube.url, kube.ca_pem), lambda: str(kube.admin_token), time.sleep
        )
        paths = ("/api/v1/pods", "/api/v1/nodes")
        began, used = time.monotonic(), time.process_time()
        found = sum(1 for path in paths for _ in client.items(path))
        pages, processor = time.monotonic() - began, time.process_time() - used
        assert found >= PODS + NODES
        pool = urllib3.PoolManager(ca_cert_data=kube.ca_pem)
        began = time.monotonic()
        for path in paths:
            headers = {"authorization": f"Bearer {kube.admin_token}"}
            json.loads(pool.request("GET", kube.url + path, headers=headers).data)
        whole = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"pages": pages, "processor": processor, "whole": whole, "mib": peak}))


def plan() -> Iterator[Figure]:
    """Measure the CPU time of a plan for one pod, everything included."""
    from tests.support.stage import node_class, pod, pool

    manifests = "\n---\n".join(map(json.dumps, (node_class(), pool("one"), pod("a", "one"))))
    best = min(_cpu_seconds([*OUTRIDER, "plan", "-"], manifests) for _ in range(3))
    yield Figure("outrider plan for one pod, CPU", 0.5, best)


def _cpu_seconds(command: list[str], given: str = "") -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def demo() -> Iterator[Figure]:
    """Measure the demo."""
    began = time.monotonic()
    processor = _cpu_seconds([*OUTRIDER, "demo"])
    yield Figure("outrider demo", 60, time.monotonic() - began)
    yield Figure("outrider demo, CPU", 60, processor)


def imports() -> Iterator[Figure]:
    """Measure cold imports of handlers, from the layers for this machine."""
    from tests.benchmarks.test_cold_imports import LAYERS, RUNS, SECONDS, cold

    if not all(layer.is_dir() for layer in LAYERS):
        print("cold imports: make layer-host first", file=sys.stderr)
        return
    for name, target in sorted(SECONDS.items()):
        best = min(cold(name)["seconds"] for _ in range(RUNS))
        yield Figure(f"cold import of {name}, CPU", target, best)


FIGURES: dict[str, Callable[[], Iterator[Figure]]] = {
    "up": up,
    "list": lists,
    "plan": plan,
    "imports": imports,
    "demo": demo,
}


def main(chosen: list[str]) -> None:
    """Print the table, a line as soon as it is known."""
    print(f"{'figure':52} {'target':>12} {'measured':>10}")
    for name in chosen or FIGURES:
        for figure in FIGURES[name]():
            print(figure, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--many"]:
        many()
    else:
        main(sys.argv[1:])
