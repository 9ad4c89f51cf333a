"""An empty market, second by second: `python -m tests.benchmarks.cascade`.

Four pods with a GPU each wait on the embedded cloud. Spot of one type is gone in every zone, of the
other there are two instances; then there is none anywhere. Printed is the timeline that
docs/operations.md shows, on virtual time, from the first pod that waits to the last that runs: what
each CreateFleet asked, what EC2 gave and refused, and where the pods came to run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from outrider.local.timeline import Entry
from tests.support.stage import Stage, pod, pool, staged

A, B = "g6.xlarge", "g5.xlarge"
PODS = ("a", "b", "c", "d")
EMPTY = {
    "insufficientCapacity": [
        {"instanceType": A, "zone": "*", "capacityType": "spot"},
        {"instanceType": B, "zone": "us-east-1a", "capacityType": "spot", "available": 1},
        {"instanceType": B, "zone": "us-east-1b", "capacityType": "spot", "available": 1},
        {"instanceType": B, "zone": "us-east-1c", "capacityType": "spot"},
    ]
}


def told(stage: Stage) -> Iterator[tuple[float, str]]:
    """Yield the moments of the story."""
    began = next(entry["at"] for entry in stage.entries("podPending"))
    kinds = {one["instanceId"]: one["capacityType"] for one in stage.decided("LaunchStarted")}
    for entry in stage.entries():
        text = _said(entry, kinds)
        if text:
            yield entry["at"] - began, text


def _said(entry: Entry, kinds: Mapping[str, str]) -> str:
    match entry["kind"]:
        case "podPending":
            return f"{entry['pod']} fits nowhere"
        case "plan":
            launches = entry["launches"]
            pods = sum(len(one["pods"]) for one in launches)
            return f"plan: {pods} pods on {len(launches)} nodes, ${entry['pricePerHour']:.2f}/h"
        case "createFleet":
            given = Counter(
                f"{one['type']} {kinds[one['id']]} in {one['zone']}" for one in entry["launched"]
            )
            gave = ", ".join(f"{count} {what}" for what, count in given.items())
            return f"CreateFleet gives {gave or 'nothing'}{_refused(entry)}"
        case "podRunning":
            return f"{entry['pod']} runs"
    return ""


def _refused(fleet: Entry) -> str:
    pools = Counter(f"{one['type']} {one['capacityType']}" for one in fleet["errors"])
    if not pools:
        return ""
    return "; no capacity: " + ", ".join(f"{what} in {n} zones" for what, n in pools.items())


def main() -> None:
    """Print the story as a table."""
    with staged() as stage:
        stage.cloud.faults.set(EMPTY)
        stage.apply(pool("ice", types=(A, B)), *(pod(name, "ice") for name in PODS))
        stage.expect_running(*PODS)
        print("| time | what |\n|---|---|")
        for at, text in told(stage):
            print(f"| {at:.1f} s | {text} |")


if __name__ == "__main__":
    main()
