"""The cost strategy under constraints: what the kernel packs itself, and what it proves."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import manifest
from outrider.apis.duration import instant
from outrider.core.catalog import codec
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import Policy
from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    INSTANCE_TYPE,
    NOW,
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
    taint,
    term,
    tolerates,
    volume,
)
from tests.support.expect import Planned, planned
from tests.support.feasible import violations

Json = dict[str, Any]
SPOT = nodepool(requirements=[expression(CAPACITY_TYPE, "In", "spot", "on-demand")])


def cost(*documents: Json, catalog: Json, **policy: Any) -> Planned:
    """Return the cost strategy's plan, which a judge finds feasible, above its bound."""
    answer = planned(*documents, catalog=catalog, strategy="cost", **policy)
    assert violations(answer.documents, catalog, answer.json) == []
    assert answer.plan.lower_bound_per_hour is not None
    assert answer.plan.lower_bound_per_hour <= answer.cost() + 1e-9
    return answer


def family(*sizes: int, per_cpu: float = 0.05) -> Json:
    """Return a catalogue of one type a size, sold on demand in two zones, priced by the CPU."""
    return catalog(
        *(
            instance_type(
                f"c{size}",
                cpu=str(size),
                offerings=[
                    offering(zone, "on-demand", round(size * per_cpu, 4)) for zone in ZONES[:2]
                ],
            )
            for size in sizes
        )
    )


def many(count: int, name: str = "p", **more: Any) -> list[Json]:
    """Return *count* equal pods."""
    return [pod(f"{name}{index}", **more) for index in range(count)]


# What a Spot node is taken to cost.


def scarce(saving: float) -> Json:
    """Return a lone Spot bargain beside five Spot offerings that are dearer by *saving*."""
    usual = [
        instance_type(
            f"usual{index}",
            cpu="4",
            offerings=[offering(ZONES[0], "spot", round(0.1 * (1 + saving), 4))],
        )
        for index in range(5)
    ]
    bargain = instance_type("bargain", cpu="8", offerings=[offering(ZONES[0], "spot", 0.19)])
    return catalog(bargain, *usual)


def test_a_scarce_type_is_not_worth_a_tiny_saving() -> None:
    """Two nodes that six offerings could be are preferred to one that a single one could be, where
    that costs next to nothing; the alternatives are all on the list."""
    loose = cost(*many(6, cpu="1300m"), SPOT, catalog=scarce(0.0), node_cost_per_hour=0.0)
    assert {len(launch.choices) for launch in loose.plan.launches} <= {1, 6}


def test_spot_mean_off_takes_the_list_price() -> None:
    """With a flexibility of one the cheapest list price is all that counts."""
    answer = cost(
        *many(6, cpu="1300m"), SPOT, catalog=scarce(0.1), node_cost_per_hour=0.0, spot_flexibility=1
    )
    assert answer.cost() == pytest.approx(0.19)


def test_the_price_shown_is_the_first_offerings() -> None:
    """However a node is valued, what is shown and summed up is its cheapest offering."""
    answer = cost(*many(6, cpu="3"), SPOT, catalog=scarce(0.0))
    for launch in answer.plan.launches:
        assert launch.price_per_hour == min(choice.price_per_hour for choice in launch.choices)


# What a node costs beside its price.


def test_two_nodes_do_not_win_for_a_hundredth_of_a_cent() -> None:
    """One node is taken where two would be cheaper by less than a node costs to run."""
    goods = catalog(
        instance_type("small", cpu="4", price=0.1), instance_type("large", cpu="8", price=0.2001)
    )
    pods = many(6, cpu="1200m")
    assert len(cost(*pods, catalog=goods).plan.launches) == 1
    assert len(cost(*pods, catalog=goods, node_cost_per_hour=0.0).plan.launches) == 2


def test_blast_radius() -> None:
    """No new node holds more pods than the setting says, in either strategy."""
    for strategy in ("cost", "first-fit"):
        answer = planned(*many(12), catalog=family(4, 16), strategy=strategy, most_pods_per_node=5)
        assert max(len(launch.pods) for launch in answer.plan.launches) <= 5
        assert answer.plan.placed == 12


# What a node holds only so often.


def by_patterns(answer: Planned) -> bool:
    """Return whether the kernel packed all of it."""
    return answer.plan.stage in {"patterns", "optimal"}


def test_host_ports_are_packed_by_the_kernel() -> None:
    """Of the pods that want one port each node has one; the others fill it up."""
    pods = [*many(5, "web", host_port=80, cpu="500m"), *many(20, "job", cpu="500m")]
    answer = cost(*pods, catalog=family(2, 4, 8))
    assert by_patterns(answer)
    assert len(answer.plan.launches) == 5


def test_a_port_on_every_address_takes_it_on_each() -> None:
    """Pods on two addresses share a node, with one that wants all addresses they do not."""

    def on(name: str, address: str) -> Json:
        made = pod(name, cpu="100m")
        ports = [{"containerPort": 80, "hostPort": 80, "hostIP": address}]
        made["spec"]["containers"][0]["ports"] = ports
        return made

    pods = [on("a", "10.0.0.1"), on("b", "10.0.0.2"), *many(4, cpu="100m")]
    together = planned(*pods, catalog=family(4), strategy="cost")
    assert len(together.plan.launches) == 1
    apart = planned(*pods, on("all", "0.0.0.0"), catalog=family(4), strategy="cost")
    assert len(apart.plan.launches) == 2


def test_company_is_one_demand() -> None:
    """Pods that must share a node get one that holds them all, packed with others."""
    near = [term(HOSTNAME, {"app": "pair"})]
    pods = [*many(4, "pair", cpu="1500m", labels={"app": "pair"}, near=near), *many(8, cpu="1")]
    answer = cost(*pods, catalog=family(2, 4, 8, 16))
    assert by_patterns(answer)
    homes = [launch for launch in answer.plan.launches if any("pair" in key for key in launch.pods)]
    assert len(homes) == 1
    assert answer.cost() == pytest.approx(answer.plan.lower_bound_per_hour, rel=0.15)


def test_company_that_no_node_holds_is_left_to_greedy() -> None:
    """As many as fit share a node; the stage does not claim that the kernel did it."""
    near = [term(HOSTNAME, {"app": "big"})]
    answer = cost(*many(6, "big", cpu="3", labels={"app": "big"}, near=near), catalog=family(4, 8))
    assert len(answer.plan.launches) == 1
    assert answer.plan.placed == 2


def test_who_is_kept_off_may_be_many() -> None:
    """One that keeps off its own label leaves others of that label together on other nodes."""
    alone = many(3, "lone", cpu="500m", labels={"app": "a"}, apart=[term(HOSTNAME, {"app": "a"})])
    answer = cost(
        *alone, *many(9, "crowd", cpu="500m", labels={"app": "a"}), catalog=family(2, 4, 8)
    )
    for launch in answer.plan.launches:
        lone = sum("lone" in key for key in launch.pods)
        assert lone == 0 or len(launch.pods) == 1


def test_hostname_spread_with_a_foreign_selector() -> None:
    """A pod that spreads against others' label finds its place in the kernel's own bins."""
    pods = [
        *many(6, "x", cpu="500m", labels={"app": "x"}, spread=[spread(HOSTNAME, {"app": "y"})]),
        *many(6, "y", cpu="500m", labels={"app": "y"}, spread=[spread(HOSTNAME, {"app": "x"})]),
    ]
    answer = cost(*pods, catalog=family(2, 4, 8))
    assert answer.plan.placed == 12


def test_shared_volumes_are_packed() -> None:
    """Pods that share a claim are packed by the kernel like any other."""
    pods = [*many(6, cpu="1", claims=["shared"]), *many(9, "q", cpu="3300m"), *many(5, "r")]
    zone = [expression(ZONE, "In", ZONES[0])]
    answer = cost(*pods, claim("shared", volume="v"), volume("v", zone), catalog=family(2, 4, 8))
    assert by_patterns(answer)
    assert answer.plan.placed == 20


def test_a_spread_that_counts_only_some_nodes() -> None:
    """Pods on nodes that a spread does not look at are not counted on, whoever packs them."""
    pods = [
        *many(8, "plain", cpu="900m", labels={"app": "a"}),
        *many(
            6,
            "picky",
            cpu="900m",
            labels={"app": "a"},
            required=[expression(INSTANCE_TYPE, "In", "c8")],
            spread=[spread(ZONE, {"app": "a"})],
        ),
    ]
    assert cost(*pods, catalog=family(2, 8)).plan.placed == 14


def test_a_spread_under_a_limit_stays_even() -> None:
    """Where a limit leaves pods out, those that are placed are still spread as they should be."""
    pods = many(9, cpu="1500m", labels={"app": "a"}, spread=[spread(ZONE, {"app": "a"})])
    answer = cost(*pods, nodepool(limits={"cpu": "8"}), catalog=family(2, 4))
    assert 0 < answer.plan.placed < 9


# NodePools.


def test_min_values_are_packed_by_the_kernel() -> None:
    """Every node of a pool that asks for variety keeps so many types."""
    pool = nodepool(requirements=[{"key": INSTANCE_TYPE, "operator": "Exists", "minValues": 3}])
    dearer = catalog(
        *(
            instance_type(
                f"t{size}",
                cpu=str(size),
                offerings=[offering(ZONES[0], "on-demand", round(size * (0.05 + size / 500), 4))],
            )
            for size in (2, 3, 4, 5, 16)
        )
    )
    answer = cost(*many(30, cpu="700m"), pool, catalog=dearer)
    assert by_patterns(answer)
    for launch in answer.plan.launches:
        assert len(launch.instance_types) >= 3


def test_what_a_limit_leaves_out_goes_to_the_next_pool() -> None:
    """The heavier pool is used as far as its limit goes, then the lighter one, by the kernel."""
    pools = [nodepool("first", weight=10, limits={"cpu": "16"}), nodepool("second")]
    answer = cost(*many(40, cpu="900m"), *pools, catalog=family(2, 4, 8, 16))
    assert by_patterns(answer)
    assert {launch.node_pool for launch in answer.plan.launches} == {"first", "second"}
    assert answer.plan.placed == 40


def test_the_bound_honours_weights() -> None:
    """A dear heavy pool that can serve all is what the bound is about, not the cheap light one."""

    def only(name: str) -> list[Json]:
        return [expression(INSTANCE_TYPE, "In", name)]

    pools = [
        nodepool("dear", weight=5, requirements=only("dear")),
        nodepool("cheap", requirements=only("cheap")),
    ]
    goods = catalog(
        instance_type("dear", cpu="4", price=1.0), instance_type("cheap", cpu="4", price=0.1)
    )
    answer = cost(*many(8, cpu="1900m"), *pools, catalog=goods)
    assert answer.plan.lower_bound_per_hour == pytest.approx(answer.cost())


# The bound beside what is free.


def test_the_bound_counts_on_free_room() -> None:
    """Existing room is free and finite: the bound is what the rest costs at least."""
    pods = many(10, cpu="1")
    answer = cost(*pods, node("n", cpu="4"), catalog=family(2))
    assert answer.plan.lower_bound_per_hour == pytest.approx(answer.cost())


def test_the_bound_counts_on_reservations() -> None:
    """So many instances are free, and no more."""
    goods = catalog(
        instance_type(
            "r",
            cpu="4",
            offerings=[
                offering(ZONES[0], "on-demand", 1.0),
                offering(ZONES[0], "reserved", 0.0, reservation="cr-1", count=2),
            ],
        )
    )
    pool = nodepool(requirements=[expression(CAPACITY_TYPE, "In", "reserved", "on-demand")])
    answer = cost(*many(10, cpu="1900m"), pool, catalog=goods)
    assert answer.cost() == pytest.approx(3.0)
    assert answer.plan.lower_bound_per_hour == pytest.approx(3.0)


def test_the_bound_is_close_under_daemonsets() -> None:
    """What DaemonSets take of every node is in the bound."""
    answer = cost(
        *many(40, cpu="900m"), daemonset("d", cpu="500m"), catalog=family(2, 4, 8, per_cpu=0.05)
    )
    assert answer.cost() <= answer.plan.lower_bound_per_hour * 1.05  # type: ignore[operator]


def test_the_bound_of_a_few_pods_is_exact() -> None:
    """Of a handful every way to share nodes is priced, DaemonSets and free room included."""
    pods = [pod("a", cpu="3"), pod("b", cpu="1500m"), pod("c", cpu="1500m")]
    answer = cost(*pods, daemonset("d", cpu="300m"), catalog=family(2, 4, 16))
    assert answer.plan.lower_bound_per_hour == pytest.approx(answer.cost())


def test_the_bound_knows_one_pod_a_node() -> None:
    """Anti-affinity makes nodes, and the bound counts them."""
    lonely = many(7, cpu="100m", labels={"app": "a"}, apart=[term(HOSTNAME, {"app": "a"})])
    answer = cost(*lonely, catalog=family(2, 8))
    assert len(answer.plan.launches) == 7
    assert answer.plan.lower_bound_per_hour == pytest.approx(answer.cost())


# Bad input.


def test_time_that_is_up_at_once_leaves_first_fits_plan() -> None:
    """A clock that has run out before the first question gets a complete plan all the same."""
    pools = [nodepool()]
    state = ClusterState.of(
        [read for item in (*many(20), *pools) if (read := manifest.parse(item)) is not None]
    )
    now = instant(NOW)
    answer = plan(state, pending(state, now), codec.read(family(2, 4)), Policy(), now, lambda: True)
    assert answer.placed == 20
    assert answer.stage == "first-fit"


@pytest.mark.parametrize("price", [1e9, 1e-9])
def test_prices_out_of_all_proportion(price: float) -> None:
    """A price beyond reason is planned with like any other."""
    goods = catalog(
        instance_type("odd", cpu="8", price=price), instance_type("usual", cpu="2", price=0.1)
    )
    answer = cost(*many(12, cpu="700m"), catalog=goods)
    assert answer.plan.placed == 12


def test_thousands_of_identical_types() -> None:
    """Types that differ in name only are one type to the kernel."""
    goods = catalog(*(instance_type(f"t{index}", cpu="4", price=0.2) for index in range(1500)))
    answer = planned(*many(30, cpu="900m"), catalog=goods, strategy="cost")
    assert len(answer.plan.launches) == 8
    assert answer.cost() <= answer.plan.lower_bound_per_hour * 1.1  # type: ignore[operator]


def test_a_pod_that_nobody_holds_does_not_disturb() -> None:
    """It is rejected with its reason; the others are packed and bounded."""
    answer = cost(*many(10), pod("giant", cpu="999"), catalog=family(2, 4))
    assert answer.plan.placed == 10
    assert list(answer.rejected()) == ["giant"]


def test_limits_that_allow_nothing() -> None:
    """An infeasible limit leaves all pods out, each with a reason."""
    answer = cost(*many(6), nodepool(limits={"cpu": "0"}), catalog=family(2, 4))
    assert answer.plan.placed == 0
    assert set(map(tuple, answer.rejected().values())) == {("LimitsExceeded",)}


def test_missing_and_zero_prices_are_not_bought() -> None:
    """What has no price is not for sale, however well it would fit."""
    goods = catalog(
        instance_type("free", cpu="64", price=0.0), instance_type("usual", cpu="2", price=0.1)
    )
    answer = cost(*many(8, cpu="900m"), catalog=goods)
    assert {kind for launch in answer.plan.launches for kind in launch.instance_types} == {"usual"}


def test_taints_and_tolerations_split_the_pods() -> None:
    """Pods that tolerate a dear pool's taint stay where it is cheap."""
    pools = [nodepool("plain"), nodepool("tainted", taints=[taint("x")])]
    answer = cost(
        *many(8, cpu="900m"),
        *many(8, "t", cpu="900m", tolerations=[tolerates("x")]),
        *pools,
        catalog=family(2, 4, 8),
    )
    assert answer.plan.placed == 16


def test_gangs_stay_whole_in_the_kernel() -> None:
    """Of two gangs under a limit one is whole and the other out, by patterns as by first fit."""

    def gang(name: str) -> list[Json]:
        return many(4, name, cpu="3", annotations={"outrider.dev/gang": name})

    answer = cost(
        *gang("one"),
        *gang("two"),
        *many(6, cpu="100m"),
        nodepool(limits={"cpu": "20"}),
        catalog=family(4),
    )
    placed = [
        sum(name in key for launch in answer.plan.launches for key in launch.pods)
        for name in ("one", "two")
    ]
    assert sorted(placed) == [0, 4]


def test_a_gang_of_several_shapes_in_one_zone() -> None:
    """Leader and workers are placed together in the zone they share."""
    marks = {"outrider.dev/gang": "g", "outrider.dev/gang-zone": "same"}
    answer = cost(
        pod("leader", cpu="1", annotations=marks),
        *many(5, "worker", cpu="3", annotations=marks),
        catalog=family(2, 4, 8),
    )
    zones = {choice.zone for launch in answer.plan.launches for choice in launch.choices}
    assert answer.plan.placed == 6
    assert len(zones) == 1
