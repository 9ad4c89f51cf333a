"""Parity B: resources, DaemonSets and nodes that exist (karpenter-semantics.md, section 3 B)."""

from __future__ import annotations

from typing import Any

from tests.support.builders import (
    GPU,
    INSTANCE_TYPE,
    ZONES,
    catalog,
    daemonset,
    expression,
    instance_type,
    node,
    nodeclaim,
    nodepool,
    pod,
    taint,
    tolerates,
)
from tests.support.expect import planned


def test_too_large_for_every_type() -> None:
    """23: a pod that asks more than any type has makes no node."""
    answer = planned(pod(cpu="1000"))
    assert answer.rejected() == {"pod": {"InsufficientResources"}}
    assert "p.eight, has 96" in answer.reason("pod")


def test_devices_of_different_types() -> None:
    """24: devices that live on different types are not had together, but by two pods."""
    goods = catalog(
        instance_type("a", resources={"nvidia.com/gpu": "1"}),
        instance_type("b", resources={"amd.com/gpu": "1"}),
    )
    both = pod(requests={"nvidia.com/gpu": "1", "amd.com/gpu": "1"})
    assert planned(both, catalog=goods).rejected() == {"pod": {"InsufficientResources"}}
    answer = planned(
        pod("a", requests={"nvidia.com/gpu": "1"}),
        pod("b", requests={"amd.com/gpu": "1"}),
        catalog=goods,
    )
    assert len(answer.launched()) == 2


def containers(*cpus: str) -> list[dict[str, Any]]:
    """Return containers that ask for *cpus*."""
    return [
        {"name": f"c{index}", "resources": {"requests": {"cpu": cpu}}}
        for index, cpu in enumerate(cpus)
    ]


def test_init_container_counts_by_its_peak() -> None:
    """25: an init container of 8 cpu needs a type with 8."""
    answer = planned(pod(spec={"initContainers": containers("8"), "containers": containers("1")}))
    assert "c.small" not in answer.types("pod")
    assert "c.large" in answer.types("pod")


def test_sidecar_runs_beside_later_init_containers() -> None:
    """26: a sidecar adds to the init containers after it."""
    sidecar = {**containers("2")[0], "name": "s", "restartPolicy": "Always"}
    launch = planned(
        pod(spec={"initContainers": [sidecar, *containers("5")], "containers": containers("1")})
    ).launch_of("pod")
    assert launch is not None
    assert launch.requests["cpu"] == 7000


def test_pod_level_resources() -> None:
    """27: resources at pod level replace the sum of the containers."""
    launch = planned(
        pod(spec={"resources": {"requests": {"cpu": "3"}}, "containers": containers("1")})
    ).launch_of("pod")
    assert launch is not None
    assert launch.requests["cpu"] == 3000


def test_runtime_class_overhead() -> None:
    """28: the overhead of a RuntimeClass is added."""
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "kata"},
        "handler": "kata",
        "overhead": {"podFixed": {"cpu": "1"}},
    }
    answer = planned(pod(cpu="1", spec={"runtimeClassName": "kata"}), runtime)
    launch = answer.launch_of("pod")
    assert launch is not None
    assert launch.requests["cpu"] == 2000


def test_zero_gpus_ask_for_none() -> None:
    """29: a zero request of GPUs allows a type without one."""
    assert "c.small" in planned(pod(gpu=0)).types("pod")


def test_pods_per_node() -> None:
    """30: no node gets more pods than its type takes."""
    goods = catalog(instance_type("few", pods="5"))
    answer = planned(*(pod(f"p{index}", cpu="1m") for index in range(40)), catalog=goods)
    assert len(answer.launched()) == 8


def test_small_pods_fill_gaps() -> None:
    """31: what fits on two nodes takes two nodes, small pods in the gaps."""
    goods = catalog(instance_type("only", cpu="4"))
    pods = [pod(f"l{index}", cpu="3") for index in range(2)]
    pods += [pod(f"s{index}", cpu="500m") for index in range(4)]
    assert len(planned(*pods, catalog=goods).launched()) == 2


def test_the_cheapest_mix_decides() -> None:
    """31: better than Karpenter, by cost it is the price that decides, not the number of nodes
    (first-fit takes the fewest)."""
    goods = catalog(
        instance_type("four", cpu="4", price=1.0, spot=None),
        instance_type("eight", cpu="8", price=3.0, spot=None),
    )
    pods = [pod(f"l{index}", cpu="3") for index in range(2)]
    pods += [pod(f"s{index}", cpu="500m") for index in range(4)]
    answer = planned(*pods, catalog=goods, strategy="cost")
    assert answer.cost() == 2.0
    assert [item.instance_types[0] for item in answer.plan.launches] == ["four", "four"]


def test_huge_pages_come_off_the_memory() -> None:
    """23: huge pages of a type come off its memory (F69)."""
    goods = catalog(instance_type("huge", memory="16Gi", resources={"hugepages-2Mi": "4Gi"}))
    pages = {"hugepages-2Mi": "1Gi"}
    assert planned(pod(memory="11Gi", requests=pages), catalog=goods).launched()
    assert planned(pod(memory="13Gi", requests=pages), catalog=goods).rejected()


def resized(status: dict[str, Any]) -> dict[str, Any]:
    """Return a running pod that asks for 7 cpu and has *status*."""
    granted = {"cpu": "1"}
    has = {"name": "main", "allocatedResources": granted, "resources": {"requests": granted}}
    return pod("old", node="n", cpu="7", status={"containerStatuses": [has], **status})


def test_resize_that_is_granted_and_one_that_cannot_be() -> None:
    """39: a pod resized in place takes the larger of what it asks and has; where the node can never
    grant what it asks, what it has."""
    room = node("n", cpu="8")
    hopeless = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
    new = pod("new", cpu="4")
    assert planned(new, resized({}), room).placed_on("new") != "n"
    assert planned(new, resized({"conditions": [hopeless]}), room).placed_on("new") == "n"


def test_daemon_limit_acts_as_request() -> None:
    """32: a DaemonSet's limit is its request where none is written."""
    answer = planned(pod(), daemonset(limits={"memory": "2Ti"}))
    assert answer.rejected() == {"pod": {"InsufficientResources"}}


def test_daemon_takes_its_share() -> None:
    """33: every new node holds the pod and the DaemonSet."""
    answer = planned(pod(cpu="1500m"), daemonset(cpu="1"))
    assert "c.small" not in answer.types("pod")


def test_daemon_that_does_not_tolerate_the_taint() -> None:
    """34: a DaemonSet that does not tolerate the pool's taint takes nothing."""
    answer = planned(
        pod(cpu="1500m", tolerations=[tolerates("x")]),
        nodepool(taints=[taint("x")]),
        daemonset(cpu="1"),
    )
    assert "c.small" in answer.types("pod")


def test_daemon_larger_than_every_type() -> None:
    """35: a DaemonSet larger than every type leaves every pod out."""
    answer = planned(pod(), daemonset(cpu="1000"))
    assert answer.rejected() == {"pod": {"InsufficientResources"}}


def test_daemon_of_one_architecture() -> None:
    """36: a DaemonSet for arm64 weighs on arm64 types only."""
    answer = planned(pod(cpu="7"), daemonset(cpu="2", nodeSelector={"kubernetes.io/arch": "arm64"}))
    assert "arm.large" not in answer.types("pod")
    assert "c.large" in answer.types("pod")


def test_live_daemon_pod_beats_the_template() -> None:
    """37: a live DaemonSet pod's requests are the ones that count."""
    live = pod("d-1", namespace="kube-system", cpu="2", node="old", owner=("DaemonSet", "daemon"))
    full = node("old", spec={"unschedulable": True})
    answer = planned(pod(cpu="7"), daemonset(cpu="1"), live, full)
    assert "c.large" not in answer.types("pod")


def test_daemon_host_port() -> None:
    """38: a DaemonSet's host port is not the pod's to have."""
    answer = planned(pod(host_port=80), daemonset(host_port=80))
    assert answer.rejected() == {"pod": {"HostPort"}}


def test_room_on_a_node_is_used() -> None:
    """39: a running node with room takes the pod."""
    answer = planned(pod(), node("n"))
    assert answer.placed_on("pod") == "n"
    assert not answer.launched()


def test_startup_taint_after_initialisation() -> None:
    """40: a startup taint counts once the node is initialised, and not before."""
    pool = nodepool(startup_taints=[taint("boot")])
    ready = node("n", taints=[taint("boot")])
    assert planned(pod(), pool, ready).launched() == ["default"]
    joining = node("n", taints=[taint("boot")], initialized=False)
    assert planned(pod(), pool, joining).placed_on("pod") == "n"


def test_foreign_taint() -> None:
    """41: a taint that the pod does not tolerate keeps it off."""
    assert planned(pod(), node("n", taints=[taint("x")])).launched() == ["default"]


def test_in_flight_node_that_is_not_ready() -> None:
    """42: not-ready on a node that is joining does not matter."""
    joining = node(
        "n", initialized=False, taints=[taint("node.kubernetes.io/not-ready", "NoExecute")]
    )
    assert planned(pod(), joining).placed_on("pod") == "n"


def test_in_flight_node_that_is_terminating() -> None:
    """43: a claim that is being deleted is no place."""
    gone = nodeclaim("c", metadata={"deletionTimestamp": "2026-11-23T11:00:00Z"})
    assert planned(pod(), gone).launched() == ["default"]
    assert planned(pod(), nodeclaim("c")).placed_on("pod") == "c"


def test_foreign_node_is_used() -> None:
    """44: a node that no pool made takes pods."""
    assert planned(pod(), node("mine", pool=None)).placed_on("pod") == "mine"


def test_initialised_nodes_first() -> None:
    """45: an initialised node goes before one that is joining, whatever the names."""
    answer = planned(pod(), node("a", initialized=False), node("b"))
    assert answer.placed_on("pod") == "b"


def test_zeroed_devices_while_joining() -> None:
    """46: the claim's devices stand in for those that a joining node still reports as zero."""
    joining = node("n", initialized=False, resources={GPU: "0"})
    promised = nodeclaim(
        "c", node_name="n", provider_id=f"aws:///{ZONES[0]}/i-n", resources={GPU: "1"}
    )
    assert planned(pod(gpu=1), joining, promised).placed_on("pod") == "n"


def test_host_ports_need_two_nodes() -> None:
    """47: two pods that want one host port are two nodes."""
    answer = planned(pod("a", host_port=80), pod("b", host_port=80))
    assert len(answer.launched()) == 2


def leaving(name: str) -> dict[str, Any]:
    """Return a node that is being deleted."""
    return node(name, metadata={"deletionTimestamp": "2026-11-23T11:00:00Z"})


def test_pods_of_a_deleting_node_are_planned() -> None:
    """48: pods on a node that is being deleted are planned elsewhere."""
    answer = planned(pod("a", node="old", owner=("ReplicaSet", "r")), leaving("old"))
    assert answer.launched() == ["default"]
    assert answer.pods == 1


def test_pods_behind_a_blocking_budget_are_not() -> None:
    """49: a budget that allows nothing keeps its pods from being planned."""
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "maxUnavailable": 0},
        "status": {"disruptionsAllowed": 0},
    }
    bound = pod("a", node="old", labels={"app": "a"}, owner=("ReplicaSet", "r"))
    answer = planned(bound, leaving("old"), budget)
    assert answer.pods == 0


def test_type_may_be_named() -> None:
    """23: a pod that names a type gets it, accelerated or not."""
    answer = planned(pod(required=[expression(INSTANCE_TYPE, "In", "g.one")]))
    assert answer.types("pod") == {"g.one"}
