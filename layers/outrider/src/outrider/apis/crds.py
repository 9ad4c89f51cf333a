"""CustomResourceDefinitions of the four Karpenter kinds, made from the very models that read them.

What the API server refuses and what `outrider plan` refuses cannot drift apart in shape: types,
enums, patterns, bounds and defaults come from the models. Rules between fields are the models'
validators said again in CEL, each with the message that Karpenter's own CRDs give. Structural
schemas as apiextensions/v1 asks for: no references, no nulls, unknown fields pruned in `spec` and
kept in `status`.

Refuses to install anything: CRDs that a cluster has already are a Karpenter's and stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.apis import model, nodeclaim, nodeclass, nodepool, overlay

Json = dict[str, Any]

_NUMBER = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
QUANTITY = rf"^(\+|-)?{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_NUMBER}))?$"
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
    "minimum",
    "pattern",
    "required",
)
Rule = tuple[str, str]  # CEL, message


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

_REQUIREMENTS: Sequence[Rule] = (
    (
        "self.all(x, x.operator == 'In' ? x.values.size() != 0 : true)",
        "requirements with operator 'In' must have a value defined",
    ),
    (
        (
            "self.all(x, (x.operator == 'Gt' || x.operator == 'Lt' || x.operator == 'Gte' ||"
            " x.operator == 'Lte') ? (x.values.size() == 1 && int(x.values[0]) >= 0) : true)"
        ),
        "operators 'Gt', 'Lt', 'Gte' and 'Lte' must have a single positive integer value",
    ),
    (
        (
            "self.all(x, (x.operator == 'In' && has(x.minValues)) ?"
            " x.values.size() >= x.minValues : true)"
        ),
        (
            "requirements with 'minValues' must have at least that many values specified"
            " in the 'values' field"
        ),
    ),
)


def _not_owned(key: str) -> Sequence[Rule]:
    """Return the rules of label keys that a user may set: what Karpenter or the node own is out."""
    return (
        (
            (
                f"self.all(x, {key} == 'karpenter.sh/capacity-type' ||"
                f" (!{key}.startsWith('karpenter.sh/') &&"
                f" !{key}.matches('^[^/]*[.]karpenter[.]sh/')))"
            ),
            'label domain "karpenter.sh" is restricted',
        ),
        (
            f"self.all(x, {key} != 'kubernetes.io/hostname')",
            'label "kubernetes.io/hostname" is restricted',
        ),
    )


def _one_way(*ways: str) -> Sequence[Rule]:
    """Return the rules of selector terms that may be given in one of *ways* each."""
    given = " || ".join(f"has(x.{way})" for way in ways)
    named = ", ".join(f"'{way}'" for way in ways)
    rules = [(f"self.all(x, {given})", f"expected at least one, got none, [{named}]")]
    for way in ways[1:]:
        others = " || ".join(f"has(x.{other})" for other in ways if other != way)
        rules.append(
            (
                f"!self.exists(x, has(x.{way}) && ({others}))",
                f"'{way}' is mutually exclusive, cannot be set with a combination of other fields",
            )
        )
    return rules


# Rules between fields, by model and by the field (its name in the API) they are about; "" is the
# model itself.
RULES: Mapping[tuple[type[model.Model], str], Sequence[Rule]] = {
    (nodepool.NodePoolSpec, ""): (
        (
            "!(has(self.replicas) && has(self.weight))",
            "'weight' cannot be set together with 'replicas'",
        ),
        (
            "has(self.replicas) == has(oldSelf.replicas)",
            "cannot go between static (replicas set) and dynamic (replicas unset) provisioning",
        ),
        (
            "!has(self.replicas) || !has(self.limits) || self.limits.all(k, k == 'nodes')",
            "only 'limits.nodes' goes with 'replicas'",
        ),
    ),
    (nodepool.Disruption, "budgets"): (
        (
            "self.all(x, has(x.schedule) == has(x.duration))",
            "'schedule' must be set with 'duration'",
        ),
    ),
    (nodepool.TemplateMeta, "labels"): _not_owned("x"),
    (nodepool.TemplateSpec, "requirements"): (*_REQUIREMENTS, *_not_owned("x.key")),
    (nodepool.TemplateSpec, "nodeClassRef"): (
        ("self.group == oldSelf.group", "nodeClassRef.group is immutable"),
        ("self.kind == oldSelf.kind", "nodeClassRef.kind is immutable"),
    ),
    (nodeclaim.NodeClaimSpec, ""): (("self == oldSelf", "spec is immutable"),),
    (nodeclaim.NodeClaimSpec, "requirements"): _REQUIREMENTS,
    (overlay.NodeOverlaySpec, "requirements"): _REQUIREMENTS,
    (overlay.NodeOverlaySpec, ""): (
        (
            "!(has(self.price) && has(self.priceAdjustment))",
            "cannot set both 'price' and 'priceAdjustment'",
        ),
    ),
    (nodeclass.EC2NodeClassSpec, ""): (
        (
            "has(self.role) != has(self.instanceProfile)",
            "must specify exactly one of ['role', 'instanceProfile']",
        ),
        (
            "has(self.amiFamily) || self.amiSelectorTerms.exists(x, has(x.alias))",
            "must specify amiFamily if amiSelectorTerms does not contain an alias",
        ),
    ),
    (nodeclass.EC2NodeClassSpec, "subnetSelectorTerms"): _one_way("tags", "id"),
    (nodeclass.EC2NodeClassSpec, "securityGroupSelectorTerms"): (
        *_one_way("tags", "id", "name"),
        (
            "!self.exists(x, has(x.id) && has(x.vpcID))",
            "'id' is mutually exclusive, cannot be set with a combination of other fields",
        ),
    ),
    (nodeclass.EC2NodeClassSpec, "amiSelectorTerms"): (
        (
            (
                "self.all(x, has(x.tags) || has(x.id) || has(x.name) || has(x.alias) ||"
                " has(x.ssmParameter))"
            ),
            "expected at least one, got none, ['tags', 'id', 'name', 'alias', 'ssmParameter']",
        ),
        (
            (
                "!self.exists(x, has(x.id) && (has(x.alias) || has(x.tags) || has(x.name) ||"
                " has(x.owner)))"
            ),
            "'id' is mutually exclusive, cannot be set with a combination of other fields",
        ),
        (
            "!(self.exists(x, has(x.alias)) && self.size() != 1)",
            (
                "'alias' is mutually exclusive, cannot be set with a combination of other"
                " amiSelectorTerms"
            ),
        ),
    ),
    (nodeclass.EC2NodeClassSpec, "capacityReservationSelectorTerms"): (
        (
            (
                "self.all(x, has(x.tags) || has(x.id) || has(x.ownerID) ||"
                " has(x.instanceMatchCriteria))"
            ),
            "expected one of ['tags', 'id', 'ownerID', 'instanceMatchCriteria'], got none",
        ),
        (
            (
                "!self.exists(x, has(x.id) && (has(x.tags) || has(x.ownerID) ||"
                " has(x.instanceMatchCriteria)))"
            ),
            "'id' is mutually exclusive, cannot be set with a combination of other fields",
        ),
    ),
    (nodeclass.EC2NodeClassSpec, "blockDeviceMappings"): (
        (
            "self.filter(x, has(x.rootVolume) && x.rootVolume).size() <= 1",
            "must have only one blockDeviceMappings with rootVolume",
        ),
    ),
    (nodeclass.BlockDevice, ""): (
        (
            "has(self.snapshotID) || has(self.volumeSize)",
            "snapshotID or volumeSize must be defined",
        ),
        (
            "!has(self.volumeInitializationRate) || has(self.snapshotID)",
            "snapshotID must be set when volumeInitializationRate is set",
        ),
    ),
    (nodeclass.EC2NodeClassSpec, "tags"): (
        ("self.all(k, k != '')", "empty tag keys aren't supported"),
        (
            (
                "!self.exists(k, k == 'eks:eks-cluster-name' ||"
                " k.startsWith('kubernetes.io/cluster/') || k == 'karpenter.sh/nodepool' ||"
                " k == 'karpenter.sh/nodeclaim' ||"
                " k == 'karpenter.k8s.aws/ec2nodeclass')"
            ),
            "tag contains a restricted tag key",
        ),
    ),
}
# Maps that are read field by field elsewhere: their schema is that model's, and the rest is kept.
OPEN: Mapping[tuple[type[model.Model], str], type[model.Model]] = {
    (nodeclass.EC2NodeClassSpec, "kubelet"): nodeclass.Kubelet,
}
# A number in these is as good as its text, as YAML without quotes makes it.
NUMBER_OR_TEXT = frozenset({(nodeclass.Kubelet, "maxPods")})


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
    if (owner, name) in NUMBER_OR_TEXT:
        return {"x-kubernetes-int-or-string": True}
    if (owner, name) in OPEN:
        return {
            **_schema(OPEN[owner, name]),
            "x-kubernetes-preserve-unknown-fields": True,
        }
    result = _structural(node, definitions)
    _add_rules(result, RULES.get((owner, name), ()))
    return result


def _add_rules(schema: Json, rules: Sequence[Rule]) -> None:
    if rules:
        known = schema.setdefault("x-kubernetes-validations", [])
        known.extend({"rule": rule, "message": message} for rule, message in rules)


def _quantities() -> Json:
    return {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY,
            "x-kubernetes-int-or-string": True,
        },
    }


def _subclasses(base: type[model.Model]) -> list[type[model.Model]]:
    return [base, *(found for child in base.__subclasses__() for found in _subclasses(child))]


_MODELS = {found.__name__: found for found in _subclasses(model.Model)}
