"""CustomResourceDefinitions of the four Karpenter kinds, made from the very models that read them.

What the API server refuses and what `outrider plan` refuses cannot drift apart in shape: types,
enums, patterns, bounds and defaults come from the models. Rules between fields are the models'
validators said again in CEL (`outrider.apis.rules`). Structural schemas as apiextensions/v1 asks
for: no references, no nulls, unknown fields pruned in `spec` and kept in `status`.

Wider than Karpenter's own where its schema insists on what has one natural meaning: requirements
may be left out (none), so may consolidateAfter (0s), and a budget's `nodes` may be a number.

Refuses to install anything: CRDs that a cluster has already are a Karpenter's and stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.apis import model, nodeclaim, nodeclass, nodepool, overlay
from outrider.apis.kubelet import Kubelet
from outrider.apis.rules import RULES, Rule

Json = dict[str, Any]

QUANTITY = (
    r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]{1,3}))?$"
)
"""A quantity that is not negative: none of the kinds has room for less than nothing."""
KEPT = (
    "type",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "pattern",
    "required",
)
# Maps that are read field by field elsewhere: their schema is that model's, and the rest is kept.
OPEN: Mapping[tuple[type[model.Model], str], type[model.Model]] = {
    (nodeclass.EC2NodeClassSpec, "kubelet"): Kubelet,
}
# Lists whose items differ from one another.
SETS = frozenset({(nodepool.Budget, "reasons")})


@dataclass(frozen=True, slots=True)
class Kind:
    """What one definition needs beside its models."""

    group: str
    version: str
    kind: str
    plural: str
    spec: type[model.Model]
    status: type[model.Model] | None
    columns: Sequence[tuple[str, str, str, int]]  # name, type, path, priority
    short: Sequence[str] = ()
    scale: Mapping[str, str] = field(default_factory=dict)


_AGE = ("Age", "date", ".metadata.creationTimestamp", 0)
_READY = ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0)

KINDS: tuple[Kind, ...] = (
    Kind(
        "karpenter.sh",
        "v1",
        "NodePool",
        "nodepools",
        nodepool.NodePoolSpec,
        nodepool.NodePoolStatus,
        (
            ("NodeClass", "string", ".spec.template.spec.nodeClassRef.name", 0),
            ("Nodes", "integer", ".status.nodes", 0),
            _READY,
            _AGE,
            ("Weight", "integer", ".spec.weight", 1),
            ("CPU", "string", ".status.resources.cpu", 1),
            ("Memory", "string", ".status.resources.memory", 1),
        ),
        scale={"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.nodes"},
    ),
    Kind(
        "karpenter.sh",
        "v1",
        "NodeClaim",
        "nodeclaims",
        nodeclaim.NodeClaimSpec,
        nodeclaim.NodeClaimStatus,
        (
            ("Type", "string", r".metadata.labels.node\.kubernetes\.io/instance-type", 0),
            ("Capacity", "string", r".metadata.labels.karpenter\.sh/capacity-type", 0),
            ("Zone", "string", r".metadata.labels.topology\.kubernetes\.io/zone", 0),
            ("Node", "string", ".status.nodeName", 0),
            _READY,
            _AGE,
            ("ImageID", "string", ".status.imageID", 1),
            ("ID", "string", ".status.providerID", 1),
            ("NodePool", "string", r".metadata.labels.karpenter\.sh/nodepool", 1),
            ("NodeClass", "string", ".spec.nodeClassRef.name", 1),
            ("Drifted", "string", '.status.conditions[?(@.type=="Drifted")].status', 1),
        ),
    ),
    Kind(
        "karpenter.k8s.aws",
        "v1",
        "EC2NodeClass",
        "ec2nodeclasses",
        nodeclass.EC2NodeClassSpec,
        nodeclass.EC2NodeClassStatus,
        (_READY, _AGE, ("Role", "string", ".spec.role", 1)),
        short=("ec2nc", "ec2ncs"),
    ),
    Kind(
        "karpenter.sh",
        "v1alpha1",
        "NodeOverlay",
        "nodeoverlays",
        overlay.NodeOverlaySpec,
        None,
        (_READY, _AGE, ("Weight", "integer", ".spec.weight", 1)),
        short=("overlays",),
    ),
)


def crds() -> list[Json]:
    """Return the four CustomResourceDefinitions."""
    return [_definition(kind) for kind in KINDS]


def _definition(kind: Kind) -> Json:
    singular = kind.kind.lower()
    names: Json = {
        "categories": ["karpenter"],
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": singular,
    }
    if kind.short:
        names["shortNames"] = list(kind.short)
    subresources: Json = {"status": {}}
    if kind.scale:
        subresources["scale"] = dict(kind.scale)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "labels": {"app.kubernetes.io/name": "outrider"},
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Cluster",
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(*column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _object(kind)},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, priority: int) -> Json:
    column: Json = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def _object(kind: Kind) -> Json:
    status: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if kind.status is not None:
        status = {**_schema(kind.status), "x-kubernetes-preserve-unknown-fields": True}
        status["properties"]["conditions"] |= {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }
        for open_ended in status["properties"].values():
            open_ended.pop("default", None)
    return {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _schema(kind.spec),
            "status": status,
        },
    }


def _schema(owner: type[model.Model]) -> Json:
    """Return the structural schema of a model."""
    whole = owner.model_json_schema(by_alias=True, mode="validation")
    return _structural(whole, whole.get("$defs", {}))


def _structural(node: Json, definitions: Mapping[str, Json]) -> Json:
    """Return pydantic's *node* without references, nulls and open ends."""
    node = _followed(node, definitions)
    if node.get("x-outrider") == "quantities":
        return _quantities()
    if "anyOf" in node:
        return _number_or_text(node)
    result = {key: node[key] for key in KEPT if key in node}
    if "const" in node:
        result["enum"] = [node["const"]]
    if "enum" in result:
        result["type"] = "string"
    if " " not in result.get("description", ""):  # "spec." tells nobody anything
        result.pop("description", None)
    if "items" in result:
        result["items"] = _structural(result["items"], definitions)
    if node.get("type") == "object":
        result |= _members(node, definitions)
    if node.get("default"):
        result["default"] = _without_nulls(node["default"])
    return result


def _number_or_text(node: Json) -> Json:
    """Return the schema of what may be a number or text: a number is never negative here."""
    ways = {way["type"]: way for way in node["anyOf"]}
    result: Json = {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "pattern": ways["string"]["pattern"],
        "minimum": 0,
    }
    return {**result, **({"default": node["default"]} if node.get("default") else {})}


def _without_nulls(value: Any) -> Any:
    """Return a default as a person would write it."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _members(node: Json, definitions: Mapping[str, Json]) -> Json:
    """Return what an object may hold: named fields, values of one kind, or anything."""
    if "properties" not in node:
        values = node.get("additionalProperties")
        if isinstance(values, dict):
            return {"additionalProperties": _structural(values, definitions)}
        return {"x-kubernetes-preserve-unknown-fields": True}
    owner = _MODELS.get(str(node.get("title", "")))
    fields = node["properties"].items()
    result: Json = {
        "properties": {name: _field(owner, name, child, definitions) for name, child in fields}
    }
    if owner is not None:
        _add_rules(result, RULES.get((owner, ""), ()))
    return result


def _followed(node: Json, definitions: Mapping[str, Json]) -> Json:
    """Return *node* with its reference, or its one alternative to null, put in its place."""
    own = {key: value for key, value in node.items() if key not in {"$ref", "anyOf", "allOf"}}
    if "$ref" in node:
        return {**definitions[node["$ref"].rpartition("/")[2]], **_said_by_the_field(own)}
    ways = [way for way in node.get("anyOf", ()) if way.get("type") != "null"]
    if len(ways) == 1:
        return {**_followed(ways[0], definitions), **_said_by_the_field(own)}
    return {**own, **({"anyOf": ways} if ways else {})}


def _said_by_the_field(own: Json) -> Json:
    """Return what a field says beside its type's schema; its title would hide the model's."""
    return {key: value for key, value in own.items() if key != "title"}


def _field(
    owner: type[model.Model] | None, name: str, node: Json, definitions: Mapping[str, Json]
) -> Json:
    """Return the schema of the field *name* of *owner*, with the rules that are about it."""
    if owner is None:
        return _structural(node, definitions)
    if (owner, name) in OPEN:
        return {
            **_schema(OPEN[owner, name]),
            "x-kubernetes-preserve-unknown-fields": True,
        }
    result = _structural(node, definitions)
    if (owner, name) in SETS:
        result["x-kubernetes-list-type"] = "set"
    _add_rules(result, RULES.get((owner, name), ()))
    return result


def _add_rules(schema: Json, rules: Sequence[Rule]) -> None:
    if rules:
        known = schema.setdefault("x-kubernetes-validations", [])
        known.extend({"rule": rule, "message": message} for rule, message in rules)


def _quantities() -> Json:
    return {
        "type": "object",
        "additionalProperties": _number_or_text(
            {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": QUANTITY}]}
        ),
    }


def _subclasses(base: type[model.Model]) -> list[type[model.Model]]:
    return [base, *(found for child in base.__subclasses__() for found in _subclasses(child))]


_MODELS = {found.__name__: found for found in _subclasses(model.Model)}
