"""Is the plan what gets bound? `python -m tests.benchmarks.binding [--seeds 50] [--apart]`.

Seeded mixes of services (spread over zones or hosts, kept apart or together, with GPUs, volumes, or
plain) wait on the embedded cloud for nodes that do not exist; ten mixes share one NodePool, so that
all of their pods compete for every node (`--apart` gives each its own). Machines join in random
order within seconds. The emulated scheduler knows no plan and forgets nominations as kube-scheduler
1.36 does.

Printed: the share of pods that were bound without being planned twice, what the second round cost
against the first, and how long nodes that were Ready waited for their taint to go. Virtual time;
nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.apis import labels
from outrider.local.kube.kubelets import Timings
from outrider.local.timeline import Entry
from tests.e2e.real.workloads import Workload
from tests.support.stage import Stage, node_class, staged

AT_ONCE = 10
LONGEST = 900.0


@dataclass
class Tally:
    """What was counted over all mixes."""

    pods: int = 0
    nodes: int = 0
    bound: int = 0
    first_round: int = 0
    as_planned: int = 0
    first_cost: float = 0.0
    second_cost: float = 0.0
    waits: list[float] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the figures in lines."""
        waits = sorted(self.waits)
        p95 = waits[int(0.95 * (len(waits) - 1))]
        return "\n".join(
            (
                f"pods {self.pods}, nodes {self.nodes}, bound {self.bound}",
                f"bound in the first round {self.first_round / self.pods:8.2%}  (>= 99.5 %)",
                f"exactly where planned    {self.as_planned / self.pods:8.2%}",
                f"second round's cost      {self.second_cost / self.first_cost:8.2%}  (<= 1 %)",
                f"Ready to taint gone, median   {statistics.median(waits):6.1f} s",
                f"Ready to taint gone, p95      {p95:6.1f} s  (<= 5 s)",
            )
        )


def measure(seeds: Iterable[int], timings: Timings, *, apart: bool = False) -> Tally:
    """Run the mixes of *seeds*, ten at a time, and count."""
    tally = Tally()
    wanted = list(seeds)
    for start in range(0, len(wanted), AT_ONCE):
        few = wanted[start : start + AT_ONCE]
        with staged(seed=few[0]) as stage:
            stage.cloud.kube.kubelets.timings = timings
            town = "" if apart else "town"
            _run(stage, [Workload(seed, "default", town) for seed in few], tally)
    return tally


def _run(stage: Stage, workloads: Sequence[Workload], tally: Tally) -> None:
    stage.apply(node_class())
    for workload in workloads:
        stage.apply(workload.node_pool("gpu"), *workload.volumes, *workload.claims)
    stage.cloud.run(70)  # the pools are Ready, the catalogue is there
    stage.begin()
    for workload in workloads:
        stage.apply(*workload.pods)
    names = {name for workload in workloads for name in workload.names}
    watch = _Watch(stage)
    while stage.cloud.timeline.at() < watch.began + LONGEST and not _all_bound(stage, names):
        stage.cloud.run(0.25)
        watch.look()
    _count(stage, names, tally)
    tally.waits += watch.waits()


def _all_bound(stage: Stage, names: set[str]) -> bool:
    return names <= {str(entry["pod"]) for entry in stage.entries("podBound")}


class _Watch:
    """When each node was Ready, and when its unregistered taint was gone."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.began = stage.cloud.timeline.at()
        self._ready: dict[str, float] = {}
        self._open: dict[str, float] = {}

    def look(self) -> None:
        """Look at all nodes."""
        now = self._stage.cloud.timeline.at()
        for node in self._stage.all("nodes"):
            name = node["metadata"]["name"]
            taints = [taint["key"] for taint in node["spec"].get("taints") or ()]
            if labels.NODEPOOL not in node["metadata"]["labels"]:
                continue
            if any(
                one["type"] == "Ready" and one["status"] == "True"
                for one in node["status"].get("conditions") or ()
            ):
                self._ready.setdefault(name, now)
            if labels.UNREGISTERED_TAINT not in taints:
                self._open.setdefault(name, now)

    def waits(self) -> list[float]:
        """Return the seconds between the two, zero where the taint went first."""
        return [
            max(0.0, self._open[name] - ready)
            for name, ready in self._ready.items()
            if name in self._open
        ]


def _count(stage: Stage, names: set[str], tally: Tally) -> None:
    planned = {
        claim.get("status", {}).get("nodeName", ""): claim["metadata"]["annotations"]
        .get(labels.PODS, "")
        .split(",")
        for claim in stage.claims()
    }
    seen: Counter[str] = Counter()
    for entry in stage.entries("plan"):
        for launch in entry["launches"]:
            _cost(launch, seen, tally)
            seen.update(launch["pods"])
    bound = _bound(stage.entries("podBound"), names)
    tally.pods += len(names)
    tally.nodes += len(set(bound.values()))
    tally.bound += len(bound)
    again = sorted(name for name in names if seen[name] > 1 or name not in bound)
    tally.late += again
    tally.first_round += len(names) - len(again)
    tally.as_planned += sum(name in planned.get(node, ()) for name, node in bound.items())


def _cost(launch: dict[str, Any], seen: Counter[str], tally: Tally) -> None:
    price = float(launch["pricePerHour"])
    if any(pod in seen for pod in launch["pods"]):
        tally.second_cost += price
    else:
        tally.first_cost += price


def _bound(entries: Iterable[Entry], names: set[str]) -> dict[str, str]:
    return {
        str(entry["pod"]): str(entry["node"]) for entry in entries if str(entry["pod"]) in names
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jitter", type=float, default=Timings().join_jitter)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--late", action="store_true", help="name the pods of the second round")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    tally = measure(seeds, Timings(join_jitter=chosen.jitter), apart=chosen.apart)
    print(tally)
    if chosen.late:
        print("\n".join(tally.late))


if __name__ == "__main__":
    main()
