"""The chain behind a pod or a node: what happened to it, in order, each link with its decision.

One decision id goes from the plan through intent, fleet, NodeClaim and node; a reaction (an
interruption, a consolidation) has one of its own, which its drain and evictions carry. Links come
from objects, Kubernetes Events, the ledger and logs; where two tell the same, the first is kept.
Refuses to know where any of it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.node import Node
from outrider.apis.nodeclaim import NodeClaim
from outrider.apis.pod import Pod
from outrider.core.launch.errand import Errand
from outrider.core.records import Instance, Intent, Reaction

Json = Mapping[str, Any]
OUR_EVENTS = "outrider"


@dataclass(frozen=True, slots=True)
class Link:
    """One thing that happened: when, to what, what it was, by which decision, and who says so."""

    at: datetime
    about: str
    what: str
    decision: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """Everything that is known about one subject."""

    subject: str
    links: tuple[Link, ...]
    decisions: tuple[str, ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)  # a source that said nothing, and why


def chain(subject: str, links: Iterable[Link], silent: Mapping[str, str]) -> Chain:
    """Return *links* by their time (as given, where that is equal), each once, with the decisions
    that they name."""
    known: dict[tuple[datetime, str, str], Link] = {}
    for link in links:
        known.setdefault((link.at, link.about, link.what), link)
    ordered = tuple(sorted(known.values(), key=lambda one: one.at))
    decisions = dict.fromkeys(one.decision for one in ordered if one.decision)
    return Chain(subject, ordered, tuple(decisions), silent)


def of_pod(pod: Pod) -> Iterator[Link]:
    """Yield what a pod says of itself."""
    if pod.created is not None:
        yield Link(pod.created, f"pod {pod.key}", "created", source="Pod")
    if pod.deleted is not None:
        yield Link(pod.deleted, f"pod {pod.key}", "its deletion is due", source="Pod")


def of_intent(intent: Intent, claims: Iterable[str]) -> Iterator[Link]:
    """Yield what the ledger knows of a launch, for those of its *claims* that matter."""
    if intent.at is None:
        return
    work = Errand.read(intent.request)
    for claim in claims:
        got = intent.instances.get(claim)
        outcome = f"EC2 gave {got}" if got else f"no instance ({intent.state})"
        pods = ", ".join(work.pods.get(claim, ())) or "nobody"
        what = f"planned in NodePool {intent.node_pool} for {pods}; {outcome}"
        yield Link(intent.at, f"nodeclaim {claim}", what, intent.decision, "ledger")


def of_instance(instance: Instance) -> Iterator[Link]:
    """Yield what EC2 says of an instance."""
    kind = f"{instance.instance_type}, {instance.zone}, {instance.capacity_type}"
    what = f"launched ({kind}); it is {instance.state} now"
    decision = instance.tags.get(labels.DECISION, "")
    yield Link(instance.launched, f"instance {instance.id}", what, decision, "EC2 tags")


def of_claim(claim: NodeClaim) -> Iterator[Link]:
    """Yield what a NodeClaim's conditions say: launched, registered, initialised."""
    decision = claim.metadata.annotations.get(labels.DECISION, "")
    about = f"nodeclaim {claim.name}"
    if claim.metadata.creation_timestamp is not None:
        yield Link(claim.metadata.creation_timestamp, about, "created", decision, "NodeClaim")
    for condition in claim.status.conditions:
        if condition.last_transition_time is None or condition.status == "Unknown":
            continue
        said = condition.type if condition.status == "True" else f"not {condition.type}"
        why = f": {condition.message}" if condition.message else ""
        yield Link(condition.last_transition_time, about, f"{said}{why}", decision, "NodeClaim")
    if claim.metadata.deletion_timestamp is not None:
        at = claim.metadata.deletion_timestamp
        yield Link(at, about, "is being deleted", decision, "NodeClaim")


def of_node(node: Node) -> Iterator[Link]:
    """Yield what a Node says of itself."""
    decision = node.annotations.get(labels.DECISION, "")
    about = f"node {node.name}"
    if node.created is not None:
        yield Link(node.created, about, "joined", decision, "Node")
    for condition in node.conditions:
        if condition.type == "Ready" and condition.since is not None:
            word = "Ready" if condition.status == "True" else f"not Ready ({condition.reason})"
            yield Link(condition.since, about, word, decision, "Node")


def of_reaction(row: Reaction) -> Iterator[Link]:
    """Yield what the ledger knows of an interruption, a repair or a disruption."""
    if row.at is None:
        return
    until = f", until {duration.stamp(row.deadline)}" if row.deadline else ""
    stand = "ended" if row.ended else "called off" if row.cancelled else "runs"
    place = f"; replaced by {', '.join(row.replacements)}" if row.replacements else ""
    what = f"to be drained: {row.reason}{until}{place} ({stand})"
    about = f"node {row.node}" if row.node else f"instance {row.instance_id}"
    yield Link(row.at, about, what, row.decision, "ledger")


def of_event(event: Json) -> Iterator[Link]:
    """Yield what a Kubernetes Event says, whoever wrote it."""
    stamp = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    if not stamp:
        return
    regarding = event.get("involvedObject") or {}
    name = "/".join(
        str(regarding[key])
        for key in ("namespace", "name")
        if regarding.get(key) and not (key == "namespace" and regarding.get("kind") != "Pod")
    )
    who = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
    times = f" ({event['count']} times)" if int(event.get("count") or 1) > 1 else ""
    what = f"{event.get('reason')}: {event.get('message')}{times}"
    about = f"{str(regarding.get('kind', '')).lower()} {name}"
    yield Link(duration.instant(str(stamp)), about, what, "", f"Event by {who or 'nobody'}")
