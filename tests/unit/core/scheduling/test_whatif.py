"""What if these nodes went: the answers, from a cluster that is compiled once."""

from __future__ import annotations

from typing import Any

from outrider.apis import labels, manifest
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.protection import movable
from outrider.core.scheduling.plan import pending
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.result import Placement
from outrider.core.scheduling.whatif import WhatIf
from tests.support.builders import HOSTNAME, ZONE, spread, term
from tests.support.estate import NOW, ZONES, Estate, catalog, node, pod, pool


def asked(*objects: Any) -> WhatIf:
    """Return the question over a cluster of *objects*, every pod free to move."""
    state = ClusterState.of(objects)
    moving = tuple(item for item in state.pods if item.node_name and movable(item))
    return WhatIf(state, moving, pending(state, NOW), catalog(), Policy())


def tied(name: str, on: str, **spec: Any) -> Pod:
    """Return a running pod of app x with constraints."""
    found = pod(name, on=on, metadata={"labels": {"app": "x"}}, spec=_with_containers(spec))
    assert isinstance(found, Pod)
    return found


def _with_containers(spec: dict[str, Any]) -> dict[str, Any]:
    requests = {"cpu": "500m", "memory": "64Mi"}
    ports = spec.pop("ports", [])
    return {
        "containers": [
            {"name": "c", "image": "i", "resources": {"requests": requests}, "ports": ports}
        ],
        **spec,
    }


def apart() -> dict[str, Any]:
    """Return that pods of app x keep apart by hostname."""
    near = {"requiredDuringSchedulingIgnoredDuringExecution": [term(HOSTNAME, {"app": "x"})]}
    return {"affinity": {"podAntiAffinity": near}}


def test_asking_changes_nothing() -> None:
    """The same question has the same answer, whatever was asked in between."""
    what = asked(
        pool(), node("n1"), node("n2"), pod("a", on="n1"), *(pod(f"b{n}", on="n2") for n in "12")
    )
    first = what.without(["n1"])
    what.without(["n2"], launching=False)
    what.without(["n1", "n2"])
    assert what.without(["n1"]) == first
    assert first.placements == (Placement("default/a", "n2"),)


def test_what_is_removed_stays_away_and_its_pods_take_room() -> None:
    """After a removal its pods fill their new place, and move on with it."""
    what = asked(
        pool(),
        *(node(name, "m5.large") for name in ("n1", "n2", "n3")),
        pod("a", on="n1", cpu="1200m"),
        pod("b", on="n2", cpu="1200m"),
    )
    found = what.without(["n1"], launching=False)
    assert found.placements == (Placement("default/a", "n3"),)
    what.remove(["n1"], found.placements)
    assert what.without(["n2"], launching=False).left == ("default/b",)
    assert [item.key for item in what.pods_on("n3")] == ["default/a"]


def test_nodes_to_avoid_take_nothing() -> None:
    """A node that is avoided is no place, and a new node is launched instead."""
    what = asked(pool(), node("n1"), node("n2"), pod("a", on="n1"))
    assert what.without(["n1"], avoid=["n2"], launching=False).left == ("default/a",)
    (launch,) = what.without(["n1"], avoid=["n2"]).launches
    assert launch.pods == ("default/a",)


def test_ports_and_neighbours_of_pods_that_stay_count() -> None:
    """A port in use and a neighbour that repels keep a pod off a node with room."""
    port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    for spec in (port, apart()):
        both = (tied("a", "n1", **dict(spec)), tied("b", "n2", **dict(spec)))
        what = asked(pool(), node("n1"), node("n2"), node("n3"), *both)
        found = what.without(["n1"], launching=False)
        assert [item.node for item in found.placements] == ["n3"]
        what.remove(["n1"], found.placements)
        assert what.without(["n2"], launching=False).left == ("default/b",)


def test_a_pod_that_leaves_is_not_its_own_neighbour() -> None:
    """What a pod counts for goes with it: it may come back to its zone, and to no fuller one."""
    even = [spread(ZONE, {"app": "x"})]
    where = {"n1": ZONES[0], "n2": ZONES[1], "n3": ZONES[0], "n4": ZONES[1]}
    what = asked(
        pool(),
        *(node(name, zone=zone) for name, zone in where.items()),
        tied("a", "n1", topologySpreadConstraints=even),
        tied("b", "n2", topologySpreadConstraints=even),
    )
    assert what.without(["n1"], launching=False).placements == (Placement("default/a", "n3"),)
    assert what.without(["n1"], avoid=["n3"], launching=False).left == ("default/a",)


def test_limits_get_back_what_goes() -> None:
    """A pool at its limit may replace a node, and not add one for what another leaves behind."""
    limited = pool(limits={"nodes": "2"})
    what = asked(limited, node("n1"), node("n2"), pod("a", on="n1"), pod("b", on="n2", cpu="4"))
    assert len(what.without(["n1"], avoid=["n2"]).launches) == 1
    coming = [node("n9", "m5.large")]
    what.remove(["n1"], (), coming)
    assert len(what.without(["n2"]).launches) == 1
    full = asked(
        limited,
        node("n1", "m5.4xlarge"),
        node("n2"),
        *(pod(f"p{place}", on="n1", cpu="9") for place in range(2)),
    )
    assert len(full.without(["n1"], avoid=["n2"]).left) == 1


def test_pods_that_wait_come_first() -> None:
    """Room that a waiting pod will take is not promised to one that moves."""
    what = asked(
        pool(),
        node("n1", "m5.large"),
        node("n2", "m5.large"),
        pod("a", on="n1", cpu="1500m"),
        pod("late", cpu="1500m"),
    )
    assert what.without(["n1"], launching=False).left == ("default/a",)


def test_a_gang_moves_whole_or_stays() -> None:
    """Members of a gang are planned together, by the plan that knows gangs."""
    marks = {labels.GANG: "g", labels.GANG_SIZE: "2"}
    members = [pod(f"m{n}", on="n1", cpu="1", metadata={"annotations": marks}) for n in range(2)]
    spare = Estate(pool(), node("n1", "m5.4xlarge"), node("n2"), *members, pod("b", on="n2"))
    (command,) = spare.decide().commands
    assert command.nodes in {("n1",), ("n2",)}
    if command.nodes == ("n1",):
        moved = [item.pod for item in command.placements]
        moved += [key for launch in command.launches for key in launch.pods]
        assert sorted(moved) == ["default/m0", "default/m1"]


def test_foreign_nodes_take_pods() -> None:
    """A node that is nobody's of ours is a place, and never goes (F95)."""
    foreign = node("theirs", of="")
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    estate = Estate(pool(), manifest.parse(document), foreign, node("n1"), pod("a", on="n1"))
    command = estate.command()
    assert command.placements == (Placement("default/a", "theirs"),)
