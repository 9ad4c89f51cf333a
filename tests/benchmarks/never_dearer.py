"""Random batches with random constraints: is the cost strategy ever dearer than first fit?

`python -m tests.benchmarks.never_dearer [--batches 10000] [--seed 0] [--judge 50]`

Each batch is drawn from its own seed: a few to some dozen pods with selectors, taints, spreads,
affinities, ports, volumes, gangs and priorities; one to three NodePools with weights, limits and
minValues; nodes, reservations, DaemonSets, Spot. Both strategies plan it through the public door.
Counted are batches in which cost places fewer pods or, placing as many, is paid more than first
fit, and those whose price is below the bound; one batch in `--judge` is also judged for
feasibility by code that shares nothing with the planner. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from typing import Any

from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    INSTANCE_TYPE,
    ZONE,
    ZONES,
    catalog,
    claim,
    daemonset,
    expression,
    instance_type,
    node,
    nodepool,
    offering,
    pod,
    spread,
    storage_class,
    taint,
    term,
    tolerates,
    volume,
    wish,
)
from tests.support.expect import Planned, planned
from tests.support.feasible import violations

Json = dict[str, Any]
TRIFLE = 1e-9
VOLUMES = (
    claim("bound", volume="v"),
    volume("v", [expression(ZONE, "In", ZONES[0], ZONES[1])]),
    claim("free"),
    storage_class(zones=ZONES[1:]),
)


def main() -> int:
    """Draw, plan and compare; print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.never_dearer")
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", type=int, default=50, help="judge one batch in so many; 0: none")
    options = parser.parse_args()
    begun, busy = time.perf_counter(), time.process_time()
    ratios: list[float] = []
    wrong: list[str] = []
    for seed in range(options.seed, options.seed + options.batches):
        documents, goods = batch(random.Random(seed))
        cost = planned(*documents, catalog=goods, strategy="cost")
        plain = planned(*documents, catalog=goods, strategy="first-fit")
        wrong += [f"batch {seed}: {fault}" for fault in faults(cost, plain)]
        if options.judge and seed % options.judge == 0:
            found = violations(documents, goods, cost.json)
            wrong += [f"batch {seed}: {fault}" for fault in found]
        if cost.plan.placed == plain.plan.placed and plain.cost() > 0:
            ratios.append(cost.cost() / plain.cost())
    dearer = [fault for fault in wrong if "dearer" in fault]
    lines = [
        f"batches {options.batches}, of which comparable {len(ratios)}",
        f"dearer than first fit: {len(dearer)}; otherwise wrong: {len(wrong) - len(dearer)}",
        f"cost / first-fit: worst {max(ratios):.4f}, mean {statistics.mean(ratios):.4f}",
        f"{time.perf_counter() - begun:.0f} s, {time.process_time() - busy:.0f} s of CPU",
        *wrong,
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if wrong else 0


def faults(cost: Planned, plain: Planned) -> list[str]:
    """Return what is wrong with the plan of *cost* beside that of first fit."""
    found = []
    if missing(cost) > missing(plain):
        found.append("places fewer or less important pods than first fit")
    elif missing(cost) == missing(plain) and cost.cost() > plain.cost() + TRIFLE:
        found.append(f"dearer: {cost.cost()} against {plain.cost()}")
    bound = cost.plan.lower_bound_per_hour
    if bound is None or bound > cost.cost() + TRIFLE:
        found.append(f"the bound {bound} is above the price {cost.cost()}")
    return found


def missing(answer: Planned) -> tuple[int, ...]:
    """Return how many pods have no place, the most important first."""
    priorities = {
        f"{item['metadata'].get('namespace', 'default')}/{item['metadata']['name']}": item[
            "spec"
        ].get("priority", 0)
        for item in answer.documents
        if item["kind"] == "Pod"
    }
    counts = dict.fromkeys(sorted(set(priorities.values()), reverse=True), 0)
    for rejection in answer.plan.rejections:
        counts[priorities[rejection.pod]] += 1
    return tuple(counts.values())


def batch(draw: random.Random) -> tuple[list[Json], Json]:
    """Return the documents of one batch and its catalogue."""
    documents = [*_pools(draw), *_nodes(draw), *_daemons(draw), *VOLUMES]
    for owner in range(draw.randint(1, 5)):
        documents += _owner(draw, owner)
    return documents, _catalogue(draw)


def _rarely(draw: random.Random, one_in: int) -> bool:
    return draw.randrange(one_in) == 0


def _owner(draw: random.Random, owner: int) -> list[Json]:
    """Return a few equal pods."""
    label = {"app": draw.choice("abc")}
    wishes: tuple[tuple[int, str, Any], ...] = (
        (3, "required", lambda: [_line(draw)]),
        (4, "preferred", lambda: [_preferred(draw)]),
        (4, "tolerations", lambda: [tolerates("x")]),
        (3, "spread", lambda: [_spread(draw, label)]),
        (5, "near", lambda: [_term(draw, label, "a")]),
        (5, "apart", lambda: [_term(draw, label, "b")]),
        (8, "apart_preferred", lambda: [wish(5, term(HOSTNAME, label))]),
        (10, "host_port", lambda: draw.choice((80, 81))),
        (10, "claims", lambda: [draw.choice(("bound", "free"))]),
        (6, "priority", lambda: draw.randint(0, 2)),
        (12, "annotations", lambda: {"outrider.dev/gang": f"g{owner}"}),
    )
    more: Json = {name: drawn() for one_in, name, drawn in wishes if _rarely(draw, one_in)}
    size: Json = {
        "cpu": draw.choice(("100m", "250m", "700m", "1", "1500m", "3", "7")),
        "memory": draw.choice(("64Mi", "500Mi", "1Gi", "3Gi", "6Gi")),
        "gpu": draw.choice((1, 1, 2, 4)) if _rarely(draw, 3) else None,
        "labels": label,
    }
    return [pod(f"p{owner}-{place}", **size, **more) for place in range(draw.randint(1, 9))]


def _preferred(draw: random.Random) -> Json:
    return {"weight": 1, "preference": {"matchExpressions": [_line(draw)]}}


def _spread(draw: random.Random, label: Json) -> Json:
    key, skew = draw.choice((ZONE, HOSTNAME, CAPACITY_TYPE)), draw.randint(1, 2)
    return spread(key, label, skew=skew, soft=_rarely(draw, 3))


def _term(draw: random.Random, label: Json, other: str) -> Json:
    return term(draw.choice((ZONE, HOSTNAME)), draw.choice((label, {"app": other})))


def _line(draw: random.Random) -> Json:
    return draw.choice(
        (
            expression(ZONE, "In", *draw.sample(ZONES, 2)),
            expression(ZONE, "NotIn", draw.choice(ZONES)),
            expression(CAPACITY_TYPE, "In", draw.choice(("spot", "on-demand"))),
            expression("size", "Gt", draw.choice(("2", "4"))),
            expression("tier", "In", draw.choice(("gold", "iron"))),
        )
    )


def _pools(draw: random.Random) -> list[Json]:
    found = []
    for place in range(draw.randint(1, 3)):
        kinds = draw.choice(
            (("spot", "on-demand"), ("on-demand",), ("spot", "on-demand", "reserved"))
        )
        requirements = [expression(CAPACITY_TYPE, "In", *kinds)]
        if _rarely(draw, 4):
            requirements.append(expression(ZONE, "In", *draw.sample(ZONES, 2)))
        if _rarely(draw, 3):
            requirements.append(expression("tier", "In", "gold", "iron"))
        if _rarely(draw, 8):
            requirements.append({"key": INSTANCE_TYPE, "operator": "Exists", "minValues": 2})
        found.append(
            nodepool(
                f"pool{place}",
                requirements=requirements,
                taints=[taint("x")] if place and _rarely(draw, 4) else (),
                weight=draw.randint(1, 3) if _rarely(draw, 2) else None,
                limits=draw.choice(({"cpu": "24"}, {"nodes": "3"})) if _rarely(draw, 5) else None,
            )
        )
    return found


def _nodes(draw: random.Random) -> list[Json]:
    found: list[Json] = []
    for place in range(draw.choice((0, 0, 0, 1, 2))):
        name = f"n{place}"
        found.append(node(name, pool="pool0", zone=draw.choice(ZONES), capacity_type="on-demand"))
        if _rarely(draw, 2):
            found.append(pod(f"old{place}", node=name, labels={"app": draw.choice("abc")}))
    return found


def _daemons(draw: random.Random) -> list[Json]:
    if _rarely(draw, 3):
        return [
            daemonset("d", cpu="200m", memory="128Mi"),
            daemonset("e", cpu="100m", nodeSelector={ZONE: ZONES[0]}),
        ]
    return []


def _catalogue(draw: random.Random) -> Json:
    found = []
    for place in range(draw.randint(2, 12)):
        cpu = draw.choice((2, 4, 8, 16, 32))
        gpu = draw.choice((1, 2, 4)) if _rarely(draw, 3) else None
        price = (cpu * 0.045 + (gpu or 0) * 0.7) * draw.uniform(0.8, 1.2)
        zones = sorted(draw.sample(ZONES, draw.randint(1, 3)))
        sold = [offering(zone, "on-demand", round(price, 4)) for zone in zones]
        if not _rarely(draw, 3):
            sold += [
                offering(zone, "spot", round(price * draw.uniform(0.3, 1.1), 4)) for zone in zones
            ]
        if _rarely(draw, 6):
            count = draw.randint(1, 2)
            sold.append(offering(zones[0], "reserved", 0.0, reservation=f"cr-{place}", count=count))
        found.append(
            instance_type(
                f"t{place}",
                cpu=str(cpu),
                memory=f"{cpu * draw.choice((2, 4, 8))}Gi",
                gpu=gpu,
                pods=draw.choice(("4", "29", "110")),
                labels={"size": str(cpu)},
                offerings=sold,
            )
        )
    return catalog(*found)


if __name__ == "__main__":
    sys.exit(main())
