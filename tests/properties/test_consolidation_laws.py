"""Laws of voluntary disruption: whatever the cluster, a pass is legal, pays, settles, protects."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.apis import labels, manifest
from outrider.cli.plan import shown
from outrider.core.catalog import codec
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.decide import confirm, decide
from outrider.core.disruption.outcome import after
from outrider.core.disruption.result import Decision, Reason
from outrider.core.disruption.scene import Policy
from outrider.core.scheduling.result import Plan
from tests.support.builders import (
    HOSTNAME,
    ZONE,
    ZONES,
    catalog,
    expression,
    instance_type,
    node,
    nodepool,
    pod,
    spread,
    term,
)
from tests.support.feasible import violations

Json = dict[str, Any]
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SIZES = {"s.small": (2, 0.10), "s.medium": (4, 0.19), "s.large": (8, 0.40), "s.huge": (16, 0.70)}
GOODS: Json = catalog(
    *(
        instance_type(name, cpu=str(cpu), memory=f"{4 * cpu}Gi", price=price)
        for name, (cpu, price) in SIZES.items()
    )
)
ON_DEMAND = expression(labels.CAPACITY_TYPE, "In", "on-demand")
MISSING = "off its list"  # a replacement's list is cut to what pays: it need not hold everything


@dataclass(frozen=True)
class Cluster:
    """A cluster as manifests, and read."""

    documents: tuple[Json, ...]

    @property
    def state(self) -> ClusterState:
        """Return the cluster as a value."""
        read = (manifest.parse(document) for document in self.documents)
        return ClusterState.of([item for item in read if item is not None])


def goods() -> Catalog:
    """Return the catalogue."""
    return codec.read(GOODS)


def cluster(seed: int) -> Cluster:
    """Return a small cluster: nodes that are used badly, pods that may be tied or protected."""
    dice = random.Random(seed)
    pool = nodepool(
        requirements=[ON_DEMAND], limits={"nodes": "12"} if dice.random() < 0.2 else None
    )
    share = dice.choice(["100%", "100%", "50%", "2", "1"])
    pool["spec"]["disruption"] = {"budgets": [{"nodes": share}], "consolidateAfter": "0s"}
    documents: list[Json] = [pool]
    zones = ZONES[:2]
    for number in range(dice.randint(2, 9)):
        kind = dice.choice(sorted(SIZES))
        cpu = SIZES[kind][0]
        name = f"n{number}"
        documents.append(
            node(
                name,
                zone=dice.choice(zones),
                instance_type=kind,
                cpu=str(cpu),
                memory=f"{4 * cpu}Gi",
            )
        )
        free = cpu * 1000 - 100
        for place in range(dice.randint(0, 4)):
            asked = dice.choice([100, 300, 700, 1500, 3000])
            if asked > free:
                break
            free -= asked
            documents.append(_pod(dice, f"p{number}-{place}", name, asked))
    return Cluster(tuple(documents))


def _pod(dice: random.Random, name: str, home: str, milli_cpu: int) -> Json:
    kind = dice.random()
    more: Json = {"labels": {"app": dice.choice("ab")}}
    if kind < 0.1:
        more["annotations"] = {labels.DO_NOT_DISRUPT: "true"}
    elif kind < 0.3:
        more["spread"] = [spread(ZONE, {"app": more["labels"]["app"]}, max_skew=3)]
    elif kind < 0.45:
        more = {"labels": {"app": name}, "apart": [term(HOSTNAME, {"app": name})]}
    elif kind < 0.55:
        more["selector"] = {ZONE: ZONES[0]} if dice.random() < 0.5 else {}
    return pod(name, cpu=f"{milli_cpu}m", node=home, owner=("ReplicaSet", name), **more)


def carried_out(found: Cluster, decision: Decision) -> tuple[list[Json], Plan]:
    """Return the manifests without the nodes that go, and what is to be for their pods."""
    gone = {name for command in decision.commands for name in command.nodes}
    documents = []
    for document in found.documents:
        if document["kind"] == "Node" and document["metadata"]["name"] in gone:
            continue
        if document["kind"] == "Pod" and document["spec"].get("nodeName") in gone:
            spec = {key: value for key, value in document["spec"].items() if key != "nodeName"}
            documents.append({**document, "spec": spec, "status": {"phase": "Pending"}})
        else:
            documents.append(document)
    plan = Plan(
        tuple(item for command in decision.commands for item in command.placements),
        tuple(item for command in decision.commands for item in command.launches),
        (),
        "cost",
        "disruption",
    )
    return documents, plan


seeds = st.integers(0, 10**9)


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_every_pass_is_legal(seed: int) -> None:
    """Whatever EC2 picks, all pods that a pass moves find the places that it names."""
    found = cluster(seed)
    decision = decide(found.state, goods(), Policy(), NOW)
    documents, plan = carried_out(found, decision)
    wrong = violations(documents, GOODS, shown(plan, plan.placed, {}))
    assert [item for item in wrong if MISSING not in item] == []


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_every_pass_pays_within_budgets_and_protects(seed: int) -> None:
    """A pass saves what it says, exceeds no budget, takes no protected node, moves no pod twice."""
    found = cluster(seed)
    state = found.state
    decision = decide(state, goods(), Policy(), NOW)
    going = [name for command in decision.commands for name in command.nodes]
    assert len(going) == len(set(going))
    taking = {item.node for command in decision.commands for item in command.placements}
    assert taking.isdisjoint(going)
    share = found.documents[0]["spec"]["disruption"]["budgets"][0]["nodes"]
    size = len(state.nodes)
    most = -(-size * int(share[:-1]) // 100) if share.endswith("%") else int(share)
    assert len(going) <= most
    for name in going:
        assert not any(labels.DO_NOT_DISRUPT in pod.annotations for pod in state.pods_on(name))
    named = {*going, *(item.node for item in decision.blocked)}
    assert named == {node.name for node in state.nodes}
    saved = sum(command.savings_per_hour for command in decision.commands)
    price = decision.price_per_hour_before - decision.price_per_hour_after
    assert abs(saved - price) < 1e-9
    for command in decision.commands:
        if command.reason is Reason.UNDERUTILIZED:
            old = sum(SIZES[_kind(state, name)][1] for name in command.nodes)
            dearest = sum(
                max(choice.price_per_hour for choice in launch.choices)
                for launch in command.launches
            )
            assert dearest < old * (1 - Policy().minimum_saving) + 1e-9


def _kind(state: ClusterState, name: str) -> str:
    found = state.node(name)
    assert found is not None
    return found.labels[labels.INSTANCE_TYPE]


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_passes_settle_and_move_no_pod_more_than_twice(seed: int) -> None:
    """Passes end where nothing more is saved; then ten further ones do nothing at all."""
    state, now, moves = cluster(seed).state, NOW, Counter[str]()
    for _ in range(30):
        decision = decide(state, goods(), Policy(), now)
        if not decision.commands:
            break
        for command in decision.commands:
            moves.update(item.pod for item in command.placements)
            moves.update(pod for launch in command.launches for pod in launch.pods)
        assert decision.price_per_hour_after < decision.price_per_hour_before
        running = len(state.pods)
        state = after(state, decision.commands, goods(), now)
        assert len(state.pods) == running
        assert all(pod.node_name for pod in state.pods)
        now += timedelta(minutes=2)
    assert max(moves.values(), default=0) <= 2
    for number in range(10):
        assert not decide(state, goods(), Policy(), now + number * timedelta(minutes=2)).commands


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_a_second_look_at_the_same_cluster_agrees(seed: int) -> None:
    """What a pass decides holds when nothing has changed since, and deciding twice is equal."""
    state = cluster(seed).state
    first = decide(state, goods(), Policy(), NOW)
    assert decide(state, goods(), Policy(), NOW) == first
    again = confirm(first.commands, state, goods(), Policy(), NOW)
    assert [(item.reason, sorted(item.nodes)) for item in again] == [
        (item.reason, sorted(item.nodes)) for item in first.commands
    ]
