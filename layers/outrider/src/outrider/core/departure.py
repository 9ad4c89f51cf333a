"""What has to go when outrider leaves an account and a cluster, in the order in which it goes.

First whatever would make more (rules, executions, the webhook), then nodes and NodeClaims, what
seeding made, launch templates, instance profiles, and access last. With nodes that stay, our marks
come off instead: tags, annotations, finalizers; NodeClaims stay with their nodes, so that a
Karpenter can adopt them. NodePools, node classes and definitions are the user's and are not
touched; the stack itself is CloudFormation's to delete. Refuses to delete anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What kinds of things outrider leaves behind, in the order in which they go."""

    RULE = "rule"
    EXECUTION = "execution"
    WEBHOOK = "webhook"
    INSTANCE = "instance"  # before its Node: a kubelet that runs would register again
    NODE = "node"
    NODECLAIM = "nodeclaim"
    BUILDER = "builder"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    TEMPLATE = "launch template"
    PROFILE = "instance profile"
    ACCESS = "access"


DEEDS = {
    Kind.RULE: "disable",
    Kind.EXECUTION: "stop",
    Kind.NODE: "drain and delete",
    Kind.INSTANCE: "terminate",
    Kind.BUILDER: "terminate",
}
RELEASE = "release"
RELEASED = frozenset({Kind.NODE, Kind.NODECLAIM, Kind.INSTANCE})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that goes (or is let go): its kind, its name, what is done to it."""

    kind: Kind
    name: str
    deed: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance of ours, with its Node and its NodeClaim where there are any."""

    instance_id: str
    node: str = ""
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Belongings:
    """Everything of one stack's that CloudFormation does not know."""

    rules: Sequence[str] = ()
    executions: Sequence[str] = ()
    webhooks: Sequence[str] = ()
    machines: Sequence[Machine] = ()
    claims: Sequence[str] = ()  # without an instance
    nodes: Sequence[str] = ()  # without an instance
    builders: Sequence[str] = ()
    volumes: Sequence[str] = ()
    snapshots: Sequence[str] = ()
    templates: Sequence[str] = ()
    profiles: Sequence[str] = ()
    access: Sequence[str] = ()  # Kind/name


def steps(found: Belongings, *, keep_nodes: bool = False) -> tuple[Step, ...]:
    """Return what is to be done about *found*, in order."""
    return tuple(
        Step(kind, name, _deed(kind, name, found, keep_nodes=keep_nodes), about)
        for kind in Kind
        for name, about in sorted(_things(kind, found))
    )


def _things(kind: Kind, found: Belongings) -> Iterator[tuple[str, str]]:
    plain = {
        Kind.RULE: found.rules,
        Kind.EXECUTION: found.executions,
        Kind.WEBHOOK: found.webhooks,
        Kind.BUILDER: found.builders,
        Kind.VOLUME: found.volumes,
        Kind.SNAPSHOT: found.snapshots,
        Kind.TEMPLATE: found.templates,
        Kind.PROFILE: found.profiles,
        Kind.ACCESS: found.access,
    }
    if kind in plain:
        yield from ((name, "") for name in plain[kind])
    for machine in found.machines:
        about = machine.node or machine.claim
        name = {
            Kind.NODE: machine.node,
            Kind.NODECLAIM: machine.claim,
            Kind.INSTANCE: machine.instance_id,
        }.get(kind, "")
        if name:
            yield name, about if kind is Kind.INSTANCE else machine.instance_id
    loose = {Kind.NODE: found.nodes, Kind.NODECLAIM: found.claims}.get(kind, ())
    yield from ((name, "without an instance") for name in loose)


def _deed(kind: Kind, name: str, found: Belongings, *, keep_nodes: bool) -> str:
    bodiless = name in found.claims or name in found.nodes
    if keep_nodes and kind in RELEASED and not bodiless:
        return RELEASE
    return "delete" if bodiless else DEEDS.get(kind, "delete")
