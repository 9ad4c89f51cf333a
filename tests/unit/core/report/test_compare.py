"""The shadow report: what is compared, what differs, and what each constraint costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from outrider.apis import labels
from outrider.core.clusterstate import ClusterState
from outrider.core.report.compare import Comparison, Cost, compare
from outrider.core.report.lifting import FAMILIES, Case, differs
from outrider.core.report.lines import Verdict
from outrider.core.scheduling.policy import Policy
from tests.support import estate

# What a launch costs is its list price here, not the mean of several offerings.
PLAIN = Policy(spot_flexibility=1)


def compared(*objects: Any, policy: Policy = PLAIN, **more: Any) -> Comparison:
    """Return the report on the cluster of *objects*."""
    return compare(ClusterState.of(objects), estate.catalog(), policy, estate.NOW, **more)


def cost(found: Comparison, family: str) -> Cost:
    """Return what *family* costs."""
    (one,) = [item for item in found.costs if item.family == family]
    return one


def requiring(key: str, *values: str) -> dict[str, Any]:
    """Return a template whose one requirement is *key* In *values*."""
    return {"requirements": [{"key": key, "operator": "In", "values": list(values)}]}


def test_two_half_empty_nodes_become_one() -> None:
    """The plan holds the same pods, costs less, and says where each pod would run."""
    found = compared(
        estate.pool(),
        estate.node("n1", "m5.4xlarge"),
        estate.node("n2", "m5.4xlarge"),
        estate.pod("a", on="n1", cpu="1"),
        estate.pod("b", on="n2", cpu="2"),
    )
    assert found.price_per_hour == pytest.approx(1.6)
    assert found.planned_price_per_hour == pytest.approx(0.2)
    assert found.saving_per_hour == pytest.approx(1.4)
    assert [line.verdict for line in found.nodes] == [Verdict.GONE, Verdict.GONE]
    (launch,) = found.planned
    assert (launch.verdict, launch.instance_type) == (Verdict.NEW, "m5.xlarge")
    assert launch.peers == (("n1", 1), ("n2", 1))
    assert [line.peers for line in found.nodes] == [((launch.name, 1),)] * 2
    assert list(found.use["cpu"]) == pytest.approx([3 / 32, 3 / 4])


def test_a_node_that_the_plan_would_buy_again_is_no_difference() -> None:
    """Same type, same way to pay: nothing to do, whatever the node is called."""
    found = compared(
        estate.pool(), estate.node("n1", "m5.xlarge"), estate.pod("a", on="n1", cpu="3500m")
    )
    assert found.saving_per_hour == 0
    assert [line.verdict for line in (*found.nodes, *found.planned)] == [Verdict.SAME] * 2


def test_nobodys_nodes_and_pools_of_fixed_size_are_landscape() -> None:
    """They are not compared, and pods that fit beside theirs cost nothing."""
    found = compared(
        estate.pool(),
        estate.pool("fixed", replicas=1),
        estate.node("n1", "m5.xlarge"),
        estate.node("f1", "m5.4xlarge", of="fixed"),
        estate.node("managed", "m5.xlarge", of="somebody"),
        estate.pod("a", on="n1", cpu="1"),
    )
    assert [line.name for line in found.nodes] == ["n1"]
    assert [found.price_per_hour, found.planned_price_per_hour] == pytest.approx([0.2, 0])
    assert found.placed_elsewhere == 1


def test_what_waits_is_counted_and_costs_nothing_yet() -> None:
    """As it is, nobody pays for pods without a node: the plan does not either."""
    found = compared(estate.pool(), estate.pod("a", cpu="8"))
    assert (found.waiting, found.pods, found.planned) == (1, 0, ())


def test_pods_that_nobody_can_plan_keep_their_node() -> None:
    """A volume that is not among the objects holds the node in both columns, with the reason."""
    lost = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "nowhere"}}]}
    found = compared(
        estate.pool(),
        estate.node("n1", "m5.4xlarge"),
        estate.node("n2", "m5.4xlarge"),
        estate.pod("a", on="n1", spec=_spec(**lost)),
        estate.pod("b", on="n2", cpu="1"),
    )
    kept, gone = found.nodes
    assert (kept.verdict, gone.verdict) == (Verdict.KEPT, Verdict.GONE)
    assert "nowhere" in kept.why
    assert found.planned_price_per_hour >= 0.8


def test_nodes_of_a_paused_pool_stay() -> None:
    """Nobody asked for an opinion on them."""
    found = compared(
        estate.pool(annotations={labels.PAUSED: "true"}), estate.node("n1", "m5.4xlarge")
    )
    assert [(line.verdict, line.why) for line in found.nodes] == [
        (Verdict.KEPT, "its NodePool is paused")
    ]
    assert found.saving_per_hour == 0


def test_launches_have_names_that_no_node_has() -> None:
    """Nodes and launches stand side by side, so that one name is one thing."""
    names = [f"pool-{number}" for number in range(1, 4)]
    found = compared(
        estate.pool(),
        *(estate.node(name, "m5.4xlarge") for name in names),
        *(estate.pod(f"p{name}", on=name, cpu="1") for name in names),
    )
    assert not {line.name for line in found.planned} & set(names)


def test_figures_that_need_a_word_of_warning_have_one() -> None:
    """A node without a price, and DaemonSets that run but were not given."""
    daemon = estate.pod("d", on="n1", owner="DaemonSet")
    found = compared(
        estate.pool(), estate.node("n1", labels={labels.INSTANCE_TYPE: "x9.huge"}), daemon
    )
    priceless, daemons = found.notes
    assert "no price" in priceless
    assert "default/o" in daemons
    assert found.nodes[0].price_per_hour is None


def _spec(**more: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": "1", "memory": "64Mi"}}
    return {"containers": [{"name": "c", "image": "i", "resources": resources}], **more}


def _company(kind: str) -> dict[str, Any]:
    term = {"topologyKey": labels.HOSTNAME, "labelSelector": {"matchLabels": {"app": "x"}}}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


PICKY: dict[str, tuple[Any, dict[str, Any]]] = {
    "capacity types": (estate.pool(), {}),
    "instance types": (
        estate.pool(template=requiring(labels.INSTANCE_TYPE, "m5.4xlarge")),
        {},
    ),
    "zones": (
        estate.pool(),
        {"nodeSelector": {labels.ZONE: estate.ZONES[0]}},
    ),
    "topology spread": (
        estate.pool(),
        {
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": labels.HOSTNAME,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "x"}},
                }
            ]
        },
    ),
    "pod anti-affinity": (estate.pool(), _company("podAntiAffinity")),
    "pod affinity": (estate.pool(), _company("podAffinity")),
    "host ports": (
        estate.pool(),
        {
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "ports": [{"containerPort": 80, "hostPort": 80}],
                    "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
                }
            ]
        },
    ),
    "limits": (estate.pool(limits={"cpu": "64"}), {}),
    "weights": (estate.pool(weight=10), {}),
    "minValues": (
        estate.pool(
            template={
                "requirements": [
                    {"key": labels.INSTANCE_TYPE, "operator": "Exists", "minValues": 4}
                ]
            }
        ),
        {},
    ),
    "taints": (
        estate.pool(template={"taints": [{"key": "ours", "effect": "NoSchedule"}]}),
        {"tolerations": [{"key": "ours", "operator": "Exists"}]},
    ),
    "preferences": (
        estate.pool(),
        {
            "affinity": {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "preference": {
                                "matchExpressions": [
                                    {
                                        "key": labels.INSTANCE_TYPE,
                                        "operator": "In",
                                        "values": ["m5.4xlarge"],
                                    }
                                ]
                            },
                        }
                    ]
                }
            }
        },
    ),
}
# What lifting brings three pods of one CPU that are on a node each, in dollars an hour: together
# they fit on one m5.xlarge at 0.2, apart they take three m5.large at 0.1.
SAVES = {
    "capacity types": 0.12,
    "instance types": 0.6,
    "topology spread": 0.1,
    "pod anti-affinity": 0.1,
    "host ports": 0.1,
    "preferences": 0.6,
}


@pytest.mark.parametrize("family", sorted(PICKY))
def test_each_family_is_told_by_itself(family: str) -> None:
    """It is named where somebody says it, and costs what the plan saves without it, never less
    than nothing.
    """
    pool, spec = PICKY[family]
    marked = {"metadata": {"name": "", "namespace": "default", "labels": {"app": "x"}}}
    pods = []
    for place in range(3):
        metadata = {**marked["metadata"], "name": f"p{place}", "uid": f"u{place}"}
        pods.append(estate.pod(f"p{place}", on=f"n{place}", metadata=metadata, spec=_spec(**spec)))
    found = compared(pool, *(estate.node(f"n{place}") for place in range(3)), *pods)
    told = cost(found, family)
    assert told.said_by >= 1
    assert told.costs_per_hour is not None
    assert told.costs_per_hour >= 0
    if family in SAVES:
        assert told.costs_per_hour == pytest.approx(SAVES[family])


def test_a_family_that_nobody_uses_is_not_told() -> None:
    """Only capacity types are always somebody's: a pool that says nothing takes no Spot."""
    found = compared(estate.pool(), estate.node("n1"), estate.pod("a", on="n1"))
    assert [item.family for item in found.costs] == ["capacity types"]


def test_without_time_families_have_no_cost() -> None:
    """They are named all the same: an unknown cost is not nothing."""
    found = compared(
        estate.pool(), estate.node("n1"), estate.pod("a", on="n1"), expired=lambda: True
    )
    assert [item.costs_per_hour for item in found.costs] == [None]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda item: item.name)
def test_lifting_twice_is_lifting_once(family: Any) -> None:
    """A lifted case has nothing left of the family."""
    objects = [item for pool, _ in PICKY.values() for item in (pool,)]
    pods = tuple(
        estate.pod(f"p{place}", spec=_spec(**spec))
        for place, (_, spec) in enumerate(PICKY.values())
    )
    names = [
        replace(pool, metadata=replace(pool.metadata, name=f"p{place}"))
        for place, pool in enumerate(objects)
    ]
    case = Case(ClusterState.of(names), pods, PLAIN)
    once = family.lift(case)
    assert differs(once, family.lift(once)) == 0
