"""Laws of planning over whole clusters: every feature beside every other, both strategies.

Each seed is one scenario of `tests.support.scenario`; the judge of `tests.support.feasible` shares
no code with the planner. A wide search is `python -m tests.support.hunt`; what it found stands at
the end, shrunk and in words.
"""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    NODEPOOL,
    ZONE,
    ZONES,
    Json,
    catalog,
    claim,
    expression,
    instance_type,
    node,
    nodepool,
    offering,
    pod,
    preference,
    spread,
    storage_class,
    taint,
    term,
    tolerates,
)
from tests.support.expect import Planned, planned
from tests.support.feasible import violations
from tests.support.hunt import STRATEGIES, wrong
from tests.support.scenario import scenario

SEEDS = 240
CHUNK = 20
APP = {"app": "a"}


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_plan_of_a_scenario_breaks_a_rule(first: int, strategy: str) -> None:
    """Every plan is one that kube-scheduler honours, whichever offerings EC2 picks."""
    found = {
        seed: trouble
        for seed in range(first, first + CHUNK)
        if (trouble := wrong(scenario(seed), strategy))
    }
    assert found == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_order_in_the_input_does_not_matter(strategy: str) -> None:
    """Documents, catalogue entries and keys in any order give the same plan, byte for byte."""
    for seed in range(60):
        case = scenario(seed)
        dice = Random(seed)
        documents = [_shuffled(item, dice) for item in case.documents]
        dice.shuffle(documents)
        types = list(case.catalog["instanceTypes"])
        dice.shuffle(types)
        goods = {"instanceTypes": types}
        first = planned(*case.documents, catalog=case.catalog, strategy=strategy, **case.policy)
        second = planned(*documents, catalog=goods, strategy=strategy, **case.policy)
        assert orjson.dumps(first.json) == orjson.dumps(second.json), seed


def _shuffled(item: Any, dice: Random) -> Any:
    """Return *item* with the keys of every mapping in another order."""
    if isinstance(item, dict):
        keys = list(item)
        dice.shuffle(keys)
        return {key: _shuffled(item[key], dice) for key in keys}
    return [_shuffled(value, dice) for value in item] if isinstance(item, list) else item


# What the search has found.


def judged(*documents: Json, catalog: Json | None = None, **policy: Any) -> Planned:
    """Return the plan of *documents* by either strategy, judged."""
    answers = [
        planned(*documents, catalog=catalog, strategy=strategy, **policy) for strategy in STRATEGIES
    ]
    for answer in answers:
        assert violations(answer.documents, answer.catalog, answer.json, **policy) == []
    return answers[-1]


def test_a_label_that_must_exist_is_set() -> None:
    """A NodePool that only demands that a label exists gives its nodes a value for it."""
    pool = nodepool(requirements=[expression("tier", "Exists")])
    answer = judged(pod(required=[expression("tier", "Exists")]), pool)
    assert [item.labels["tier"] for item in answer.plan.launches] == ["0"]


def test_nodes_that_share_a_made_up_label_are_one_domain() -> None:
    """Pods that keep apart by such a label are kept apart by it."""
    pool = nodepool(requirements=[expression("tier", "Exists")])
    pods = [pod(f"p{n}", labels=APP, apart=[term("tier", APP)]) for n in range(2)]
    assert judged(*pods, pool).rejected() == {"p1": {"PodAntiAffinity"}}


def test_pods_that_share_a_claim_without_a_volume_share_a_zone() -> None:
    """The volume is made in the zone of the first pod, and the second can go nowhere else."""
    pods = [pod(f"p{n}", cpu="7", claims=["shared"]) for n in range(2)]
    answer = judged(*pods, claim("shared"), storage_class(), nodepool())
    assert not answer.rejected()
    assert answer.zones("p0") == answer.zones("p1")
    assert len(answer.zones("p0")) == 1


def gang(name: str, **more: Any) -> Json:
    """Return a member of a gang that shares a zone."""
    marks = {"outrider.dev/gang": "g", "outrider.dev/gang-zone": "same"}
    return pod(name, annotations=marks, **more)


def test_a_gang_in_one_zone_may_be_near_others() -> None:
    """Its members' own affinity is to pods outside of the gang, and holds beside the gang's."""
    there = [node("n", cpu="1"), pod("db", node="n", cpu="1", labels={"app": "db"})]
    near = [term(ZONE, {"app": "db"})]
    answer = judged(gang("p0", near=near), gang("p1", near=near), *there, nodepool())
    assert not answer.rejected()
    assert answer.zones("p0") == {ZONES[0]}


def test_a_gang_joins_its_members_that_run() -> None:
    """Members that wait go to the zone in which the others of their gang run."""
    running = gang("old", node="n", cpu="1")
    answer = judged(gang("new"), running, node("n", zone=ZONES[2], cpu="1"), nodepool())
    assert answer.zones("new") == {ZONES[2]}


def test_zones_that_a_gang_has_tried_still_count_for_spread() -> None:
    """That a zone is too small for a gang does not make it disappear from its spread."""
    goods = catalog(instance_type("m", cpu="2", offerings=[offering(ZONES[1]), offering(ZONES[2])]))
    even = [spread(ZONE, {})]
    members = [gang(f"p{n}", cpu="1", spread=even) for n in range(2)]
    assert judged(*members, nodepool(), catalog=goods).rejected() == {
        "p0": {"Gang"},
        "p1": {"Gang"},
    }


def test_a_preference_does_not_hide_domains() -> None:
    """A spread counts zones of NodePools that the pod would only rather avoid."""
    pools = [
        nodepool("a", requirements=[expression(ZONE, "In", ZONES[0])]),
        nodepool("b", requirements=[expression(ZONE, "In", ZONES[1])]),
    ]
    wish = [preference(9, expression(NODEPOOL, "In", "a"))]
    pods = [pod(f"p{n}", labels=APP, preferred=wish, spread=[spread(ZONE, APP)]) for n in range(2)]
    answer = judged(*pods, *pools)
    assert answer.zones("p0") | answer.zones("p1") == {ZONES[0], ZONES[1]}


def test_a_soft_taint_does_not_hide_domains() -> None:
    """PreferNoSchedule keeps no domain out of a spread, nodeTaintsPolicy Honor included."""
    pools = [
        nodepool("soft", labels={"tier": "gold"}, taints=[taint("x", "PreferNoSchedule")]),
        nodepool("plain", labels={"tier": "iron"}),
    ]
    even = [spread("tier", APP, nodeTaintsPolicy="Honor")]
    pods = [pod(f"p{n}", labels=APP, spread=even) for n in range(2)]
    assert sorted(judged(*pods, *pools).launched()) == ["plain", "soft"]


def test_a_node_planned_for_others_is_a_domain() -> None:
    """A pod that counts, on a node that the spread's own pods cannot have, is counted."""
    goods = catalog(
        instance_type("m", offerings=[offering(ZONES[2]), offering(ZONES[0], "spot", 0.1)])
    )
    pools = [
        nodepool("ours"),
        nodepool(
            "theirs",
            requirements=[expression(CAPACITY_TYPE, "In", "spot")],
            taints=[taint("x")],
        ),
    ]
    on_spot = [expression(CAPACITY_TYPE, "In", "spot")]
    stranger = pod("first", cpu="3", tolerations=[tolerates("x")], required=on_spot)
    pods = [pod(f"p{n}", cpu="250m", spread=[spread(CAPACITY_TYPE, {})]) for n in range(3)]
    answer = judged(stranger, *pods, *pools, catalog=goods)
    assert answer.rejected() == {"p2": {"TopologySpread", "UntoleratedTaint"}}


def test_a_pod_held_on_a_leaving_node_still_counts() -> None:
    """Until it goes, its zone has it for spreads, and its node for affinity by hostname."""
    leaving = node("gone", zone=ZONES[2], metadata={"deletionTimestamp": "2026-11-23T11:59:00Z"})
    held = pod(
        "held",
        node="gone",
        labels=APP,
        annotations={"karpenter.sh/do-not-disrupt": "true"},
    )
    near = pod("near", labels=APP, near=[term(HOSTNAME, APP)])
    assert judged(near, held, leaving, nodepool()).rejected() == {"near": {"PodAffinity"}}


def test_limits_hold_for_a_list_that_must_keep_its_variety() -> None:
    """With minValues nothing is left off for its price, but what a limit would not carry is."""
    goods = catalog(
        instance_type("a", cpu="4", price=0.2, spot=None, zones=ZONES[:1]),
        instance_type("b", cpu="4", price=0.4, spot=None, zones=ZONES[1:2]),
        instance_type("c", cpu="64", price=3.0, spot=None, zones=ZONES[2:]),
    )
    line = {**expression("node.kubernetes.io/instance-type", "Exists"), "minValues": 2}
    pool = nodepool(requirements=[line], limits={"cpu": "8"})
    answer = judged(pod(spread=[spread(ZONE, None)]), pool, catalog=goods)
    assert answer.types("pod") <= {"a", "b"}


def test_a_pod_that_needs_company_finds_room_beside_it() -> None:
    """A neighbour that could be anywhere does not take the last room beside a pod's company."""
    there = node("n", cpu="2", memory="8Gi")
    big = instance_type("m", cpu="2", memory="8Gi", pods="1")
    answer = judged(
        pod("anyone", cpu="1500m"),
        pod("company", cpu="0", memory="6Gi", labels={"app": "b"}),
        pod("guest", cpu="1500m", near=[term(HOSTNAME, {"app": "b"})]),
        there,
        nodepool(),
        catalog=catalog(big),
    )
    assert answer.placed_on("company") == answer.placed_on("guest") == "n"
    assert not answer.rejected()
