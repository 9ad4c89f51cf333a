"""Follow a pod or a node through everything that remembers it.

The cluster first (the pod, its node, the NodeClaim, their Events), then the ledger (intents that
name the pod or the NodeClaim, reactions of the instance), EC2, and the logs of every decision that
came up. A source that cannot be asked is named, and the rest is told. Read-only. Refuses to put
the links in order (`core.trace`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from outrider.core import trace as links_of
from outrider.core.clusterstate import ClusterState
from outrider.core.launch.errand import Errand
from outrider.core.records import Intent
from outrider.core.trace import Chain, Json, Link, chain
from outrider.errors import NotFound, OutriderError
from outrider.flows.ports import World


class Witness(Protocol):
    """Who remembers what no other port tells."""

    def events(self, kind: str, namespace: str, name: str) -> tuple[Json, ...]:
        """Return the Kubernetes Events about an object."""

    def lines(self, decisions: Sequence[str], since: datetime) -> tuple[Link, ...]:
        """Return what the functions logged about *decisions*."""


@dataclass(slots=True)
class _Subject:
    """What is followed: the names that belong together, and the links so far."""

    pods: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    claims: set[str] = field(default_factory=set)
    instances: set[str] = field(default_factory=set)
    links: list[Link] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)

    def hear(self, source: str, asked: Callable[[], Iterable[Link]]) -> None:
        """Take the links of a source; note where it cannot be asked."""
        try:
            self.links += asked()
        except OutriderError as error:
            self.silent[source] = str(error)


def trace(world: World, witness: Witness, name: str) -> Chain:
    """Return the chain behind *name*: a pod (namespace/name), node, NodeClaim or instance.

    Raise NotFound where nothing remembers it.
    """
    found = _Subject()
    state = world.cluster.state()
    intents = world.ledger.intents()
    _begin(found, name, state)
    _follow(found, name, state, intents)
    found.hear("the cluster", lambda: _objects(found, state))
    found.hear("the ledger", lambda: _ledger(found, world, intents))
    found.hear("EC2", lambda: _machines(found, world))
    found.hear("Events", lambda: _events(found, witness))
    decisions = sorted({one.decision for one in found.links if one.decision})
    if decisions:
        since = min(one.at for one in found.links)
        found.hear("logs", lambda: witness.lines(decisions, since))
    if not found.links:
        raise NotFound(f"nothing remembers {name}: neither the cluster, nor the ledger, nor EC2")
    return chain(name, found.links, found.silent)


def _begin(found: _Subject, name: str, state: ClusterState) -> None:
    """Take *name* for what it is."""
    if "/" in name:
        found.pods.add(name)
        pod = state.pod(name)
        where = (pod.node_name or pod.nominated_node_name) if pod else ""
        if where:
            found.nodes.add(where)
    elif name.startswith("i-"):
        found.instances.add(name)
    elif state.node(name) is not None:
        found.nodes.add(name)
    else:
        found.claims.add(name)


def _follow(found: _Subject, name: str, state: ClusterState, intents: Iterable[Intent]) -> None:
    """Add the names that belong to those that are known."""
    for claim in state.nodeclaims:
        node = state.node_of(claim)
        its_node = node.name if node else claim.status.node_name
        its_instance = claim.instance_id if claim.status.provider_id else ""
        known = {claim.name, its_node, its_instance} - {""}
        if known & (found.claims | found.nodes | found.instances):
            found.claims.add(claim.name)
            found.nodes |= {its_node} - {""}
            found.instances |= {its_instance} - {""}
    for intent in intents:
        work = Errand.read(intent.request)
        for claim_name in intent.claims:
            instance = intent.instances.get(claim_name, "")
            is_ours = claim_name in found.claims or instance in found.instances
            if is_ours or name in work.pods.get(claim_name, ()):
                found.claims.add(claim_name)
                found.instances |= {instance} - {""}
    for node in state.nodes:
        if node.instance_id in found.instances:
            found.nodes.add(node.name)


def _objects(found: _Subject, state: ClusterState) -> Iterator[Link]:
    for key in sorted(found.pods):
        pod = state.pod(key)
        if pod is not None:
            yield from links_of.of_pod(pod)
    for name in sorted(found.claims):
        claim = state.nodeclaim(name)
        if claim is not None:
            yield from links_of.of_claim(claim)
    for name in sorted(found.nodes):
        node = state.node(name)
        if node is not None:
            yield from links_of.of_node(node)


def _ledger(found: _Subject, world: World, intents: Iterable[Intent]) -> Iterator[Link]:
    for intent in intents:
        yield from links_of.of_intent(intent, sorted(found.claims & set(intent.claims)))
    for instance_id in sorted(found.instances):
        row = world.ledger.reaction(instance_id)
        if row is not None:
            found.nodes |= {row.node} - {""}
            yield from links_of.of_reaction(row)


def _machines(found: _Subject, world: World) -> Iterator[Link]:
    if found.instances:
        for instance in world.cloud.instances(sorted(found.instances)):
            yield from links_of.of_instance(instance)


def _events(found: _Subject, witness: Witness) -> Iterator[Link]:
    wanted = [
        *(("Pod", *key.split("/", 1)) for key in sorted(found.pods)),
        *(("Node", "", name) for name in sorted(found.nodes)),
        *(("NodeClaim", "", name) for name in sorted(found.claims)),
    ]
    for kind, namespace, name in wanted:
        for event in witness.events(kind, namespace, name):
            yield from links_of.of_event(event)
