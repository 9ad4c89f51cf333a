"""The CRDs say what the models say, in the structural form that the API server asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import celpy
import pytest

from outrider.apis import manifest
from outrider.apis.crds import crds
from outrider.errors import InvalidManifest
from outrider.local.kube.schema import validate

DEFINITIONS = {crd["spec"]["names"]["kind"]: crd for crd in crds()}
STRUCTURAL = {
    "additionalProperties",
    "anyOf",
    "default",
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
    "properties",
    "required",
    "type",
}
POOL: dict[str, Any] = {
    "template": {
        "spec": {
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"},
            "requirements": [
                {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}
            ],
        }
    }
}
CLASS: dict[str, Any] = {
    "amiSelectorTerms": [{"alias": "al2023@latest"}],
    "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": "local"}}],
    "securityGroupSelectorTerms": [{"tags": {"karpenter.sh/discovery": "local"}}],
    "role": "node",
}


def requiring(requirement: dict[str, Any]) -> dict[str, Any]:
    """Return a NodePool's spec with one *requirement*."""
    spec = {**POOL["template"]["spec"], "requirements": [requirement]}
    return {"template": {"spec": spec}}


def schema(kind: str) -> dict[str, Any]:
    """Return the schema of *kind*."""
    (version,) = DEFINITIONS[kind]["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every schema inside a schema."""
    yield tree
    for child in tree.get("properties", {}).values():
        yield from nodes(child)
    for key in ("items", "additionalProperties"):
        if isinstance(tree.get(key), dict):
            yield from nodes(tree[key])


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_schemas_are_structural(kind: str) -> None:
    """No references, no nulls, a type everywhere: what apiextensions/v1 accepts."""
    for node in nodes(schema(kind)):
        own = {key for key in node if not key.startswith("x-kubernetes-")}
        assert own <= STRUCTURAL, own - STRUCTURAL
        assert "type" in node or node.get("x-kubernetes-int-or-string")
        assert not ("properties" in node and "additionalProperties" in node)
        assert None not in node.values()


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_patterns_and_rules_compile(kind: str) -> None:
    """A definition that the API server would refuse is never printed."""
    environment = celpy.Environment()
    for node in nodes(schema(kind)):
        if "pattern" in node:
            re.compile(node["pattern"])
            assert "(?" not in node["pattern"].replace("(?:", "")  # RE2 has no look-around
        for rule in node.get("x-kubernetes-validations", []):
            environment.compile(rule["rule"])
            assert rule["message"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_rules_stay_within_the_cost_limit(kind: str) -> None:
    """No rule on a number-or-text: the API server counts it as unbounded, and refuses the CRD."""
    for node in nodes(schema(kind)):
        if node.get("x-kubernetes-int-or-string"):
            assert "x-kubernetes-validations" not in node


def test_the_kinds_are_karpenters() -> None:
    """Groups, versions, scope and names are those that manifests in the world use."""
    assert {crd["metadata"]["name"] for crd in DEFINITIONS.values()} == {
        "nodepools.karpenter.sh",
        "nodeclaims.karpenter.sh",
        "ec2nodeclasses.karpenter.k8s.aws",
        "nodeoverlays.karpenter.sh",
    }
    assert all(crd["spec"]["scope"] == "Cluster" for crd in DEFINITIONS.values())
    assert all("status" in crd["spec"]["versions"][0]["subresources"] for crd in crds())


@pytest.mark.parametrize(("kind", "path"), [("NodePool", "limits"), ("NodeOverlay", "capacity")])
def test_quantities_may_be_numbers_or_text(kind: str, path: str) -> None:
    """`cpu: 4` and `cpu: "4"` are one."""
    values = schema(kind)["properties"]["spec"]["properties"][path]["additionalProperties"]
    assert values["x-kubernetes-int-or-string"]
    for good in ("4", "100m", "1.5Gi", "1e3"):
        assert re.search(values["pattern"], good)
    for bad in ("four", "1 Gi", "-1", "1Xi"):
        assert not re.search(values["pattern"], bad)


def test_defaults_are_said() -> None:
    """What a missing field means can be read from the object."""
    pool = schema("NodePool")["properties"]["spec"]["properties"]
    disruption = pool["disruption"]["properties"]
    assert disruption["consolidateAfter"]["default"] == "0s"
    assert disruption["budgets"]["default"] == [{"nodes": "10%"}]
    assert pool["template"]["properties"]["spec"]["properties"]["expireAfter"]["default"] == "720h"


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("NodePool", {"template": {"spec": {}}}),
        ("NodePool", {**POOL, "weight": 101}),
        ("NodePool", {**POOL, "disruption": {"consolidationPolicy": "Never"}}),
        ("NodePool", {**POOL, "disruption": {"consolidateAfter": "soon"}}),
        ("EC2NodeClass", {**CLASS, "amiFamily": "Debian"}),
        ("EC2NodeClass", {**CLASS, "metadataOptions": {"httpPutResponseHopLimit": 65}}),
        ("EC2NodeClass", {**CLASS, "subnetSelectorTerms": [{"id": "vpc-1"}]}),
        ("NodePool", {**POOL, "weight": 1, "replicas": 1}),
        ("NodePool", {**POOL, "replicas": 1, "limits": {"cpu": "1"}}),
        ("NodePool", {**POOL, "disruption": {"budgets": [{"schedule": "@daily"}]}}),
        ("NodePool", requiring({"key": "a", "operator": "In", "values": []})),
        ("NodePool", requiring({"key": "a", "operator": "Gt", "values": ["1", "2"]})),
        ("NodePool", requiring({"key": "a", "operator": "In", "values": ["x"], "minValues": 2})),
        ("NodePool", requiring({"key": "karpenter.sh/nodepool", "operator": "Exists"})),
        ("NodePool", requiring({"key": "kubernetes.io/hostname", "operator": "Exists"})),
        ("EC2NodeClass", {**CLASS, "instanceProfile": "node"}),
        ("EC2NodeClass", {**CLASS, "amiSelectorTerms": [{"id": "ami-1"}]}),
        ("EC2NodeClass", {**CLASS, "tags": {"karpenter.sh/nodepool": "mine"}}),
        ("EC2NodeClass", {**CLASS, "blockDeviceMappings": [{"ebs": {"iops": 3000}}]}),
        ("EC2NodeClass", {key: CLASS[key] for key in CLASS if key != "subnetSelectorTerms"}),
    ],
)
def test_schema_and_model_refuse_the_same(kind: str, spec: dict[str, Any]) -> None:
    """What the API server would refuse is refused by `outrider plan`, and the reverse."""
    group = "karpenter.sh" if kind == "NodePool" else "karpenter.k8s.aws"
    document = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    assert list(validate(document, schema(kind)))
    with pytest.raises(InvalidManifest):
        manifest.parse(document)


@pytest.mark.parametrize(
    ("kind", "group", "spec"),
    [("NodePool", "karpenter.sh", POOL), ("EC2NodeClass", "karpenter.k8s.aws", CLASS)],
)
def test_schema_and_model_take_the_same(kind: str, group: str, spec: dict[str, Any]) -> None:
    """A usual manifest passes both."""
    document = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    assert not list(validate(document, schema(kind)))
    assert manifest.parse(document) is not None
