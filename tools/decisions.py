"""Write what is known of our own messages: `python tools/decisions.py [--check]`.

One table of fields and one of messages become events/out/<DetailType>.schema.json (JSON Schema
2020-12, of the whole event as EventBridge delivers it), events/out/<DetailType>.json (one example
each) and the reference in docs/events.md. With --check nothing is written and the exit status says
whether the files are current. That the code publishes exactly this is the tests' business: every
message that a test sees published is held against its schema.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "events" / "out"
PAGE = ROOT / "docs" / "events.md"
BEGIN, END = "<!-- begin of the reference -->", "<!-- end of the reference -->"
VERSION = 1
DRAFT = "https://json-schema.org/draft/2020-12/schema"

STRING: Mapping[str, Any] = {"type": "string"}
NAMES: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}
NUMBER: Mapping[str, Any] = {"type": "number"}


@dataclass(frozen=True)
class Field:
    """One field of a detail: its schema, what it says, and a realistic value."""

    schema: Mapping[str, Any]
    says: str
    example: Any


@dataclass(frozen=True)
class Message:
    """One detail-type: when it is published, what it always has, and what it may have."""

    name: str
    when: str
    always: tuple[str, ...]
    sometimes: tuple[str, ...] = ()
    other: Mapping[str, Any] | None = None  # values that differ from the fields' usual examples


def _pods(says: str) -> Field:
    return Field(NAMES, f"{says}, as namespace/name; 100 at most", ["inference/llama-6f9d-abcde"])


NODE = "ip-10-0-12-34.us-west-2.compute.internal"
CLAIM, NEXT_CLAIM = "gpu-7d4f9", "gpu-b81c2"
INSTANCE = "i-0b662ef9931388ba0"

COMMON: Mapping[str, Field] = {
    "version": Field(
        {"const": VERSION}, "of this shape; fields may be added within a version", VERSION
    ),
    "id": Field(
        STRING, "of this message: two with the same id are one, told twice", "9f2c61d0a7b34e58"
    ),
    "cluster": Field(STRING, "name of the EKS cluster", "prod"),
    "decision": Field(
        STRING,
        "the tag `outrider.dev/decision` on what came of the same decision",
        "4be0643f1d98b97c",
    ),
}
FIELDS: Mapping[str, Field] = {
    "node": Field(STRING, 'name of the Node; "" before it has joined', NODE),
    "nodeClaim": Field(STRING, "name of the NodeClaim", CLAIM),
    "nodePool": Field(STRING, "name of the NodePool", "gpu"),
    "instanceId": Field(STRING, "id of the instance", INSTANCE),
    "instanceType": Field(STRING, "what EC2 gave", "g6.12xlarge"),
    "zone": Field(STRING, "availability zone", "us-west-2b"),
    "capacityType": Field(
        {"enum": ["spot", "on-demand", "reserved"]}, "how the instance is paid for", "spot"
    ),
    "kind": Field(
        {
            "enum": [
                "SpotInterruption",
                "ReservationInterruption",
                "Rebalance",
                "StateChange",
                "ScheduledChange",
                "BlockExpiry",
                "InstanceImpaired",
            ]
        },
        "the signal that began it",
        "SpotInterruption",
    ),
    "reason": Field(STRING, "why, in words", "EC2 takes the instance back at 14:02:00 UTC"),
    "why": Field(
        STRING, "what made the difference, in words", "nodes can be replaced by a cheaper one"
    ),
    "deadline": Field(
        {"type": ["string", "null"], "format": "date-time"},
        "when the instance ends; null where nobody says",
        "2026-03-02T14:02:00Z",
    ),
    "replacements": Field(NAMES, "NodeClaims that take the pods", [NEXT_CLAIM]),
    "pod": Field(STRING, "the pod, as namespace/name", "inference/llama-6f9d-abcde"),
    "podUid": Field(STRING, "the pod's uid", "0c9b1a52-6f0e-4e55-9d1c-3f1f6f3a8a11"),
    "how": Field(
        {"enum": ["evicted", "deleted"]},
        "through the Eviction API, or deleted since the deadline left no choice",
        "evicted",
    ),
    "graceSeconds": Field(
        {"type": ["integer", "null"]}, "the grace it was deleted with; null for its own", None
    ),
    "podsLeft": Field(NAMES, "pods that were still there at the deadline; 100 at most", []),
    "pods": _pods("the pods that it is for"),
    "nodes": Field(NAMES, "names of the Nodes", [NODE]),
    "nodeClaims": Field(NAMES, "names of the NodeClaims; 100 at most", [NEXT_CLAIM]),
    "seconds": Field(NUMBER, "how long it took", 71.4),
    "savingsPerHour": Field(NUMBER, "dollars an hour that it saves", 1.36),
    "count": Field({"type": "integer"}, "how many pods were planned", 5),
    "placed": Field({"type": "integer"}, "how many of them have a place", 4),
    "launches": Field(
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "nodePool", "pods", "instanceTypes", "pricePerHour"],
                "properties": {
                    "name": STRING,
                    "nodePool": STRING,
                    "pods": NAMES,
                    "instanceTypes": NAMES,
                    "pricePerHour": NUMBER,
                },
            },
        },
        "the nodes to launch: name, NodePool, pods, first instance types, price; 100 at most",
        [
            {
                "name": NEXT_CLAIM,
                "nodePool": "gpu",
                "pods": ["inference/llama-6f9d-abcde"],
                "instanceTypes": ["g6.12xlarge", "g5.12xlarge"],
                "pricePerHour": 1.84,
            }
        ],
    ),
    "unschedulable": _pods("pods without a place; their Events say why"),
    "pricePerHour": Field(NUMBER, "dollars an hour of all launches", 1.84),
    "lowerBoundPerHour": Field(
        {"type": ["number", "null"]}, "no plan can cost less; null where none is proved", 1.84
    ),
    "strategy": Field(STRING, "`cost` or `first-fit`", "cost"),
    "stage": Field(STRING, "how far the optimiser came", "optimal"),
    "acting": Field({"type": "boolean"}, "false where it is only observed", example=True),
    "plannedPricePerHour": Field(NUMBER, "dollars an hour of our plan for the same pods", 21.37),
    "firstFitPricePerHour": Field(
        {"type": ["number", "null"]},
        "the same by first fit; null where it leaves pods out",
        26.02,
    ),
    "nodesAsIs": Field({"type": "integer"}, "how many nodes are compared", 14),
    "nodesPlanned": Field({"type": "integer"}, "how many the plan has", 11),
    "instead": Field(
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    "nodePool",
                    "instanceType",
                    "zone",
                    "capacityType",
                    "pricePerHour",
                    "pods",
                ],
                "properties": {
                    "nodePool": STRING,
                    "instanceType": STRING,
                    "zone": STRING,
                    "capacityType": STRING,
                    "pricePerHour": NUMBER,
                    "pods": {"type": "integer"},
                },
            },
        },
        "the nodes that the plan has and the cluster has not; 100 at most",
        [
            {
                "nodePool": "gpu",
                "instanceType": "g6.12xlarge",
                "zone": "us-west-2b",
                "capacityType": "spot",
                "pricePerHour": 1.84,
                "pods": 4,
            }
        ],
    ),
    "constraints": Field(
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["family", "costsPerHour"],
                "properties": {
                    "family": STRING,
                    "costsPerHour": {"type": ["number", "null"]},
                },
            },
        },
        "what each family of constraints costs, lifted by itself; null where time ran out",
        [{"family": "capacity types", "costsPerHour": 9.4}],
    ),
    "notes": Field(NAMES, "what to know before believing the figures", []),
    "watching": Field(STRING, "why outrider does not act", "a Karpenter is live"),
    "seed": Field(STRING, "key of the seed", "ds-4f2c9e-arm64"),
    "images": Field(
        NAMES, "image references", ["123456789012.dkr.ecr.us-west-2.amazonaws.com/ml:v42"]
    ),
    "builder": Field(STRING, "instance that pulls the images", "i-0c11aa22bb33cc44d"),
    "snapshot": Field(STRING, "EBS snapshot that holds them", "snap-0123456789abcdef0"),
}
PLANNED_PODS = Field({"type": "integer"}, FIELDS["count"].says, FIELDS["count"].example)

MESSAGES: tuple[Message, ...] = (
    Message(
        "PlanMade",
        "pods waited and were planned for",
        (
            "pods",
            "placed",
            "launches",
            "unschedulable",
            "pricePerHour",
            "lowerBoundPerHour",
            "strategy",
            "stage",
            "acting",
        ),
        other={"pods": 5, "unschedulable": []},
    ),
    Message(
        "LaunchStarted",
        "EC2 gave an instance for a NodeClaim",
        (
            "nodeClaim",
            "nodePool",
            "instanceId",
            "instanceType",
            "zone",
            "capacityType",
            "pods",
        ),
    ),
    Message(
        "LaunchFailed",
        "no instance came, a brake held, or a node did not come up in time",
        ("nodePool", "nodeClaims", "pods", "reason"),
        other={"reason": "InsufficientInstanceCapacity in 6 of 6 pools"},
    ),
    Message(
        "NodeRegistered",
        "the Node of a NodeClaim joined and is open for its pods",
        ("node", "nodeClaim", "nodePool", "instanceId"),
    ),
    Message(
        "NodeInitialized",
        "the Node has all it promised, devices included",
        ("node", "nodeClaim", "nodePool", "instanceId", "seconds"),
    ),
    Message(
        "NodeInterrupted",
        "a signal is acted on: the node will be drained",
        ("node", "nodeClaim", "nodePool", "instanceId", "kind", "reason", "deadline"),
    ),
    Message(
        "ReplacementLaunched",
        "the pods of an interrupted node have a place to go; once an interruption",
        ("node", "nodeClaim", "nodePool", "instanceId", "kind", "reason", "replacements"),
    ),
    Message(
        "PodEvicted",
        "a pod was asked to leave a node; once a pod",
        ("node", "nodeClaim", "instanceId", "reason", "pod", "podUid", "how", "graceSeconds"),
        other={"reason": "SpotInterruption"},
    ),
    Message(
        "NodeDrained",
        "every pod that had to leave has left, or the deadline has passed",
        ("node", "nodeClaim", "instanceId", "reason", "podsLeft"),
        other={"reason": "SpotInterruption"},
    ),
    Message(
        "NodeTerminated",
        "the instance, its Node and its NodeClaim are gone",
        ("instanceId", "reason"),
        ("node", "nodeClaim", "nodePool"),
        other={"reason": "SpotInterruption"},
    ),
    Message(
        "DisruptionDecided",
        "nodes go of our own accord: Empty, Underutilized, Drifted or Expired",
        ("reason", "why", "nodes", "replacements", "savingsPerHour"),
        other={"reason": "Underutilized"},
    ),
    Message(
        "DisruptionRolledBack",
        "nodes that were to go stay",
        ("reason", "why", "nodes"),
        ("node", "nodeClaim", "instanceId"),
        other={"reason": "Underutilized", "why": "its replacements could not be launched"},
    ),
    Message(
        "ReportMade",
        "once a day while outrider may not consolidate: the nodes as they are against our plan",
        (
            "pricePerHour",
            "plannedPricePerHour",
            "firstFitPricePerHour",
            "lowerBoundPerHour",
            "savingsPerHour",
            "nodesAsIs",
            "nodesPlanned",
            "nodes",
            "instead",
            "constraints",
            "notes",
            "watching",
        ),
        other={"pricePerHour": 34.11, "lowerBoundPerHour": 21.1, "savingsPerHour": 12.74},
    ),
    Message(
        "SeedStarted",
        "a seed is being built",
        ("seed", "images", "reason", "builder"),
        other={"reason": "pushed, and 12 pods run it"},
    ),
    Message(
        "SeedPublished",
        "a seed serves from the next launch on",
        ("seed", "snapshot", "images", "seconds"),
        other={"seconds": 512.0},
    ),
    Message(
        "SeedFailed",
        "a seed could not be built",
        ("seed", "reason"),
        other={"reason": "the builder stopped: no space left on device"},
    ),
    Message(
        "SeedRetired",
        "a seed serves no longer",
        ("seed", "snapshot", "reason"),
        other={"reason": "a newer seed holds its images"},
    ),
)


def _fields(message: Message) -> Iterator[tuple[str, Field]]:
    for name in (*message.always, *message.sometimes):
        # In a plan `pods` is a number: a thousand names would not fit into a message.
        yield name, PLANNED_PODS if (message.name, name) == ("PlanMade", "pods") else FIELDS[name]


def schema(message: Message) -> dict[str, Any]:
    """Return the JSON Schema of *message* as EventBridge delivers it."""
    fields = {**COMMON, **dict(_fields(message))}
    return {
        "$schema": DRAFT,
        "title": message.name,
        "description": f"{message.when[0].upper()}{message.when[1:]}.",
        "type": "object",
        "required": ["source", "detail-type", "time", "detail"],
        "properties": {
            "source": {"const": "outrider"},
            "detail-type": {"const": message.name},
            "time": {"type": "string", "format": "date-time"},
            "detail": {
                "type": "object",
                "required": [*COMMON, *message.always],
                "properties": {
                    name: {**field.schema, "description": field.says}
                    for name, field in fields.items()
                },
            },
        },
    }


def example(message: Message) -> dict[str, Any]:
    """Return one *message* as EventBridge delivers it."""
    fields = {**COMMON, **dict(_fields(message))}
    detail = {name: field.example for name, field in fields.items()} | dict(message.other or {})
    return {
        "version": "0",
        "id": "1e5527d7-bb36-4607-3370-4164db56a40e",
        "detail-type": message.name,
        "source": "outrider",
        "account": "123456789012",
        "time": "2026-03-02T14:00:01Z",
        "region": "us-west-2",
        "resources": [],
        "detail": detail,
    }


def reference() -> str:
    """Return the part of docs/events.md that is written from the tables."""
    lines = ["Every detail has:", "", "| field | says |", "|---|---|"]
    lines += [f"| `{name}` | {field.says} |" for name, field in COMMON.items()]
    for message in MESSAGES:
        link = f"../events/out/{message.name}"
        when = f"{message.when[0].upper()}{message.when[1:]}."
        lines += ["", f"### {message.name}", "", f"{when} [Schema]({link}.schema.json),"]
        lines[-1] += f" [example]({link}.json)."
        lines += ["", "| field | says |", "|---|---|"]
        optional = frozenset(message.sometimes)
        lines += [
            f"| `{name}`{' (if known)' if name in optional else ''} | {field.says} |"
            for name, field in _fields(message)
        ]
    return "\n".join(lines)


def files() -> Iterator[tuple[Path, str]]:
    """Yield every file that is written here, with its text."""
    for message in MESSAGES:
        for name, document in (
            (f"{message.name}.schema.json", schema(message)),
            (f"{message.name}.json", example(message)),
        ):
            yield OUT / name, json.dumps(document, indent=2) + "\n"
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    yield PAGE, f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Write the files, or only say whether they are current."""
    stale = [path for path, text in files() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        return 1 if stale else 0
    OUT.mkdir(exist_ok=True)
    for path, text in files():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
