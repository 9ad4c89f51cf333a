"""Laws of planning: whatever the pods, pools, nodes and catalogue, no plan breaks a rule.

Nothing is mocked: documents go through the real parsers, plans through the JSON that the command
prints, and a judge that shares no code with the planner looks at them.
"""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
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
from tests.support.expect import planned
from tests.support.feasible import violations

APPS = ("a", "b", "c")
KEYS = (ZONE, HOSTNAME, CAPACITY_TYPE)
TIERS = ("gold", "iron")
some_app = st.sampled_from(APPS).map(lambda app: {"app": app})


def maybe(strategy: st.SearchStrategy[Any], rarely: int = 3) -> st.SearchStrategy[Any]:
    """Draw None mostly, one in *rarely* something of *strategy*."""
    return st.integers(1, rarely).flatmap(lambda n: strategy if n == 1 else st.none())


lines = st.one_of(
    st.lists(st.sampled_from(ZONES), min_size=1, max_size=2, unique=True).map(
        lambda zones: expression(ZONE, "In", *zones)
    ),
    st.sampled_from(ZONES).map(lambda zone: expression(ZONE, "NotIn", zone)),
    st.sampled_from(["spot", "on-demand"]).map(lambda kind: expression(CAPACITY_TYPE, "In", kind)),
    st.sampled_from(TIERS).map(lambda tier: expression("tier", "In", tier)),
    st.sampled_from(["2", "4", "9"]).map(lambda size: expression("size", "Gt", size)),
    st.just(expression("tier", "DoesNotExist")),
)
spreads = st.builds(
    spread,
    st.sampled_from(KEYS),
    some_app,
    skew=st.integers(1, 2),
    soft=st.booleans(),
)
terms = st.builds(term, st.sampled_from(KEYS), some_app)


@st.composite
def pods(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw a few owners, each with a few equal pods."""
    found = []
    for owner in range(draw(st.integers(1, 4))):
        shape = {
            "cpu": draw(st.sampled_from(["0", "250m", "1", "3", "7"])),
            "memory": draw(st.sampled_from(["64Mi", "1Gi", "6Gi"])),
            "gpu": draw(maybe(st.integers(1, 4))),
            "labels": draw(some_app),
            "required": draw(maybe(st.lists(lines, min_size=1, max_size=2))),
            "tolerations": draw(maybe(st.just([tolerates("x")]))),
            "spread": draw(maybe(st.lists(spreads, min_size=1, max_size=2), 2)),
            "near": draw(maybe(st.lists(terms, min_size=1, max_size=1), 4)),
            "apart": draw(maybe(st.lists(terms, min_size=1, max_size=1), 4)),
            "apart_preferred": draw(maybe(terms.map(lambda item: [wish(5, item)]), 5)),
            "host_port": draw(maybe(st.just(80), 8)),
            "claims": draw(maybe(st.sampled_from([["bound"], ["free"], ["ghost"]]), 8)) or (),
            "priority": draw(maybe(st.integers(0, 2), 6)),
        }
        found += [pod(f"p{owner}-{place}", **shape) for place in range(draw(st.integers(1, 4)))]
    return found


@st.composite
def pools(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw one to three NodePools."""
    found = []
    for place in range(draw(st.integers(1, 3))):
        requirements = [
            expression(
                CAPACITY_TYPE,
                "In",
                *draw(
                    st.sampled_from(
                        [("spot", "on-demand"), ("on-demand",), ("spot", "on-demand", "reserved")]
                    )
                ),
            )
        ]
        zones = draw(maybe(st.lists(st.sampled_from(ZONES), min_size=1, max_size=2, unique=True)))
        if zones:
            requirements.append(expression(ZONE, "In", *zones))
        if draw(st.booleans()):
            requirements.append(
                expression("tier", "In", *draw(st.sampled_from([TIERS, TIERS[:1]])))
            )
        found.append(
            nodepool(
                f"pool{place}",
                requirements=requirements,
                taints=draw(maybe(st.just([taint("x")]), 4)) or (),
                weight=draw(maybe(st.integers(1, 3), 2)),
                limits=draw(maybe(st.sampled_from([{"cpu": "16"}, {"nodes": "2"}]), 4)),
            )
        )
    return found


@st.composite
def nodes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw up to two nodes, some with a pod."""
    found: list[dict[str, Any]] = []
    for place in range(draw(st.integers(0, 2))):
        name = f"n{place}"
        found.append(
            node(
                name,
                pool="pool0",
                zone=draw(st.sampled_from(ZONES)),
                capacity_type=draw(st.sampled_from(["spot", "on-demand"])),
                taints=draw(maybe(st.just([taint("x")]), 4)) or (),
            )
        )
        if draw(st.booleans()):
            apart = draw(maybe(st.lists(terms, min_size=1, max_size=1), 3))
            found.append(pod(f"old{place}", node=name, labels=draw(some_app), apart=apart))
    return found


@st.composite
def catalogues(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a handful of types."""
    found = []
    for place in range(draw(st.integers(1, 4))):
        cpu = draw(st.sampled_from([2, 4, 8, 16]))
        gpu = draw(maybe(st.integers(1, 4), 2))
        price = round(cpu * 0.05 + (gpu or 0) * 0.8 + place * 0.001, 4)
        zones = draw(st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True))
        sold = [offering(zone, "on-demand", price) for zone in sorted(zones)]
        if draw(st.booleans()):
            sold += [
                offering(zone, "spot", round(price * draw(st.sampled_from([0.4, 1.2])), 4))
                for zone in sorted(zones)
            ]
        if draw(st.integers(1, 4)) == 1:
            sold.append(
                offering(
                    min(zones),
                    "reserved",
                    0.0,
                    reservation=f"cr-{place}",
                    count=draw(st.integers(0, 2)),
                )
            )
        found.append(
            instance_type(
                f"t{place}",
                cpu=str(cpu),
                memory=f"{cpu * 2}Gi",
                gpu=gpu,
                pods=draw(st.sampled_from(["4", "110"])),
                labels={"size": str(cpu)},
                offerings=sold,
            )
        )
    return catalog(*found)


VOLUMES = (
    claim("bound", volume="v"),
    volume("v", [expression(ZONE, "In", ZONES[0], ZONES[1])]),
    claim("free"),
    storage_class(zones=ZONES[1:]),
)
daemons = st.sampled_from(
    [
        (),
        (daemonset("d", cpu="200m"),),
        (daemonset("d", cpu="100m", nodeSelector={ZONE: ZONES[0]}), daemonset("e", cpu="50m")),
    ]
)
SLOW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SLOW
@given(pods(), pools(), nodes(), catalogues(), daemons, st.sampled_from(["first-fit", "cost"]))
def test_no_plan_breaks_a_rule(
    waiting: list[dict[str, Any]],
    shelves: list[dict[str, Any]],
    existing: list[dict[str, Any]],
    goods: dict[str, Any],
    system: tuple[dict[str, Any], ...],
    strategy: str,
) -> None:
    """Every plan is one that kube-scheduler honours, whichever offerings EC2 picks."""
    documents = [*waiting, *shelves, *existing, *system, *VOLUMES]
    answer = planned(*documents, catalog=goods, strategy=strategy)
    assert violations(documents, goods, answer.json) == []


@SLOW
@given(pods(), pools(), nodes(), catalogues(), st.randoms(use_true_random=False))
def test_order_of_documents_does_not_matter(
    waiting: list[dict[str, Any]],
    shelves: list[dict[str, Any]],
    existing: list[dict[str, Any]],
    goods: dict[str, Any],
    shuffle: Any,
) -> None:
    """The same input gives the same plan, byte for byte, in any order of documents."""
    documents = [*waiting, *shelves, *existing, *VOLUMES]
    other = list(documents)
    shuffle.shuffle(other)
    first = planned(*documents, catalog=goods, strategy="cost")
    second = planned(*other, catalog=goods, strategy="cost")
    assert orjson.dumps(first.json) == orjson.dumps(second.json)


@SLOW
@given(pods(), pools(), nodes(), catalogues())
def test_cost_is_never_dearer_than_first_fit(
    waiting: list[dict[str, Any]],
    shelves: list[dict[str, Any]],
    existing: list[dict[str, Any]],
    goods: dict[str, Any],
) -> None:
    """The cost strategy places as many pods as first fit, at no higher price, above its bound."""
    documents = [*waiting, *shelves, *existing, *VOLUMES]
    cost = planned(*documents, catalog=goods, strategy="cost")
    plain = planned(*documents, catalog=goods, strategy="first-fit")
    assert cost.plan.placed >= plain.plan.placed
    if cost.plan.placed == plain.plan.placed:
        assert cost.cost() <= plain.cost() + 1e-9
    assert cost.plan.lower_bound_per_hour is not None
    assert cost.plan.lower_bound_per_hour <= cost.cost() + 1e-9


@SLOW
@given(pods(), pools(), catalogues())
def test_a_pod_that_fits_alone_is_placed(
    waiting: list[dict[str, Any]], shelves: list[dict[str, Any]], goods: dict[str, Any]
) -> None:
    """A pod without ties to others that gets a node alone gets one in company, limits aside."""
    free = [
        item
        for item in waiting
        if not {"affinity", "topologySpreadConstraints"} & item["spec"].keys()
    ]
    unlimited = [
        {**item, "spec": {key: value for key, value in item["spec"].items() if key != "limits"}}
        for item in shelves
    ]
    together = planned(*free, *unlimited, *VOLUMES, catalog=goods).rejected()
    for item in free:
        alone = planned(item, *unlimited, *VOLUMES, catalog=goods)
        assert bool(alone.rejected()) == (item["metadata"]["name"] in together)
