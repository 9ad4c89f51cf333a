"""The CRDs, as a real API server takes them: what it fills in, refuses, keeps and shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider import manifests
from tests.conformance.probe import MERGE, Obj, Probe
from tests.e2e.real.admin import Administrator
from tests.e2e.real.karpenter import DISCOVERY, EXAMPLES, SLIPS, node_class, node_pool, wish
from tests.support import samples
from tests.support.samples import BAD, GOOD, SPECS, changed

ROOT = Path(__file__).parents[3]
POOLS = "/apis/karpenter.sh/v1/nodepools"
CLAIMS = "/apis/karpenter.sh/v1/nodeclaims"
OWN_EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


def requiring(*requirements: Obj) -> Obj:
    """Return a NodePool with only these *requirements*."""
    return node_pool(requirements=list(requirements))


def test_what_is_printed_applies_and_applies_again(installed: Administrator) -> None:
    """Every manifest is accepted under strict validation, and the second time nothing changes."""
    for manifest in manifests.render(cluster="local"):
        first = installed.apply(manifest)
        again = installed.apply(manifest)
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_karpenters_examples_are_accepted_unchanged(installed: Administrator, name: str) -> None:
    """No field of a published example is unknown, none is refused."""
    for manifest in EXAMPLES[name]:
        kept = installed.apply(manifest, dryRun="All")
        assert kept["kind"] == manifest["kind"]
        assert_keeps(kept["spec"], manifest["spec"])


@pytest.mark.parametrize("name", SLIPS)
def test_what_karpenter_refuses_of_its_own_examples_is_refused(
    installed: Administrator, name: str
) -> None:
    """A slip in a published example is told, not passed over: the field would have no effect."""
    manifest, says = SLIPS[name]
    reply = installed.send(
        "POST", installed.collection(manifest), manifest, fieldValidation="Strict", dryRun="All"
    )
    assert reply.status in {400, 422}, reply
    assert says in reply.body["message"]


@pytest.mark.parametrize("path", OWN_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_own_examples_are_accepted(installed: Administrator, path: Path) -> None:
    """What the README tells people to apply, a real API server takes.

    Some are a cluster as `kubectl get` shows it: what only a server writes is left out.
    """
    for manifest in documents(path):
        manifest["metadata"].pop("uid", None)
        namespace = {"metadata": {"name": manifest["metadata"].get("namespace", "default")}}
        assert installed.send("POST", "/api/v1/namespaces", namespace).status in {201, 409}
        if manifest["kind"] in {"Namespace", "PriorityClass"}:  # others ask for these
            installed.apply(manifest)
        else:
            assert installed.apply(manifest, dryRun="All")["kind"] == manifest["kind"]


def documents(path: Path) -> Iterator[Obj]:
    """Yield the objects of a file, those in Lists one by one, as kubectl reads them."""
    for document in yaml.safe_load_all(path.read_text()):
        yield from document["items"] if document["kind"].endswith("List") else [document]


def assert_keeps(kept: Any, given: Any) -> None:
    """Assert that everything in *given* is in *kept*, where defaults may have been added."""
    if isinstance(given, dict):
        for key, value in given.items():
            assert_keeps(kept[key], value)
    elif isinstance(given, list):
        assert len(kept) == len(given)
        for one, other in zip(kept, given, strict=True):
            assert_keeps(one, other)
    else:
        assert kept == given


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (node_pool(weight=101), "spec.weight"),
        (node_pool(weight=1, replicas=1), "'weight' is not supported on static NodePools"),
        (
            node_pool(replicas=1, limits={"cpu": "1"}),
            "only 'limits.nodes' is supported on static NodePools",
        ),
        (node_pool(limits={"cpu": "lots"}), "spec.limits"),
        (node_pool(disruption={"consolidationPolicy": "Never"}), "Unsupported value"),
        (node_pool(disruption={"consolidateAfter": "soon"}), "spec.disruption.consolidateAfter"),
        (
            node_pool(disruption={"budgets": [{"nodes": "10%", "schedule": "@daily"}]}),
            "'schedule' must be set with 'duration'",
        ),
        (node_pool(template={"expireAfter": "1 week"}), "expireAfter"),
        (
            node_pool(template={"taints": [{"key": "a", "effect": "Never"}]}),
            "spec.template.spec.taints[0].effect",
        ),
        (requiring(wish("a", "Near", "x")), "Unsupported value"),
        (requiring({**wish("a", "In"), "values": []}), "must have a value defined"),
        (requiring(wish("a", "Gt", "1", "2")), "must have a single positive integer value"),
        (requiring(wish("a", "In", "x", least=2)), "must have at least that many values"),
        (requiring(wish("a", "Exists", least=51)), "minValues"),
        (node_class(instanceProfile="mine"), "must specify exactly one of"),
        (node_class(amiSelectorTerms=[{"id": "ami-1"}]), "must specify amiFamily"),
        (node_class(amiSelectorTerms=[]), "amiSelectorTerms"),
        (node_class(amiFamily="Debian"), "Unsupported value"),
        (node_class(subnetSelectorTerms=[{}]), "expected at least one, got none"),
        (
            node_class(securityGroupSelectorTerms=[{"id": "sg-1", **DISCOVERY}]),
            "'id' is mutually exclusive",
        ),
        (
            node_class(tags={"karpenter.sh/nodepool": "mine"}),
            "restricted tag matching karpenter.sh/nodepool",
        ),
        (node_class(metadataOptions={"httpPutResponseHopLimit": 65}), "httpPutResponseHopLimit"),
        (node_class(blockDeviceMappings=[{"ebs": {"iops": 3000}}]), "volumeSize must be defined"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_refused_with_its_reason(
    installed: Administrator, manifest: Obj, says: str
) -> None:
    """A field out of bounds and a CEL rule that is broken are 422, and the message says which."""
    path = installed.collection(manifest)
    reply = installed.send("POST", path, manifest, fieldValidation="Strict")
    assert (reply.status, reply.body["reason"]) == (422, "Invalid"), reply
    assert says in reply.body["message"]


@pytest.mark.parametrize(("kind", "path", "value"), BAD)
def test_kubernetes_refuses_what_the_models_refuse(
    installed: Administrator, kind: str, path: str, value: Any
) -> None:
    """Every sample that the planner refuses is refused by a real API server, and nothing else is.

    The types in particular: a number in quotes is no number there.
    """
    manifest = changed(kind, path, value)
    reply = installed.send("POST", installed.collection(manifest), manifest, dryRun="All")
    assert reply.status in {400, 422}, reply


@pytest.mark.parametrize(("kind", "path", "value"), GOOD)
def test_kubernetes_takes_what_the_models_take(
    installed: Administrator, kind: str, path: str, value: Any
) -> None:
    """Every odd sample that the planner takes is taken by a real API server."""
    manifest = changed(kind, path, value)
    reply = installed.send("POST", installed.collection(manifest), manifest, dryRun="All")
    assert reply.status == 201, reply


@pytest.mark.parametrize("kind", SPECS)
def test_kubernetes_takes_a_full_manifest(installed: Administrator, kind: str) -> None:
    """A manifest with every field that has rules is accepted whole."""
    manifest = samples.document(kind, SPECS[kind])
    reply = installed.send("POST", installed.collection(manifest), manifest, dryRun="All")
    assert reply.status == 201, reply


def test_an_unknown_field_is_an_error_to_kubectl(installed: Administrator) -> None:
    """A field that nobody knows is 400 under the strict validation that kubectl asks for."""
    manifest = node_pool(colour="red")
    reply = installed.send("POST", POOLS, manifest, fieldValidation="Strict")
    assert reply.status == 400
    assert 'unknown field "spec.colour"' in reply.body["message"]


def test_defaults_are_karpenters(installed: Administrator) -> None:
    """What is left out is filled in as Karpenter fills it in."""
    made = installed.must("POST", POOLS, node_pool(disruption={}), dryRun="All")
    assert made["spec"]["disruption"] == {
        "budgets": [{"nodes": "10%"}],
        "consolidateAfter": "0s",
        "consolidationPolicy": "WhenEmptyOrUnderutilized",
    }
    assert made["spec"]["template"]["spec"]["expireAfter"] == "720h"
    manifest = node_class(metadataOptions={})
    made = installed.must("POST", installed.collection(manifest), manifest, dryRun="All")
    assert made["spec"]["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpProtocolIPv6": "disabled",
        "httpPutResponseHopLimit": 1,
        "httpTokens": "required",
    }


def test_what_may_not_change_does_not(installed: Administrator) -> None:
    """A pool's node class keeps its group and kind, a static pool stays static."""
    installed.must("POST", POOLS, node_pool("steady"))
    path = f"{POOLS}/steady"
    try:
        group = {"template": {"spec": {"nodeClassRef": {"group": "example.com"}}}}
        for change, says in (
            (group, "nodeClassRef.group is immutable"),
            ({"replicas": 2}, "Cannot transition NodePool between static"),
        ):
            reply = installed.send("PATCH", path, {"spec": change}, MERGE)
            assert reply.status == 422
            assert says in reply.body["message"]
        changed = installed.must("PATCH", path, {"spec": {"weight": 7}}, MERGE)
        assert changed["metadata"]["generation"] == 2
    finally:
        installed.must("DELETE", path)


def claim(name: str) -> Obj:
    """Return a NodeClaim as outrider writes it."""
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    requirements = [wish("karpenter.sh/capacity-type", "In", "spot")]
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": name,
            "labels": {
                "karpenter.sh/nodepool": "default",
                "node.kubernetes.io/instance-type": "g6.xlarge",
                "karpenter.sh/capacity-type": "spot",
                "topology.kubernetes.io/zone": "us-east-1a",
            },
            "finalizers": ["karpenter.sh/termination"],
        },
        "spec": {"nodeClassRef": reference, "requirements": requirements},
    }


@pytest.fixture
def claimed(installed: Administrator) -> Any:
    """Give the path of a NodeClaim."""
    installed.must("POST", CLAIMS, claim("columns"))
    path = f"{CLAIMS}/columns"
    yield path
    installed.send("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
    installed.send("DELETE", path)


def test_claims_show_what_kubectl_get_is_to_show(installed: Administrator, claimed: str) -> None:
    """The printer columns are Karpenter's, filled from labels and status."""
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", **moment()}
    status = {"nodeName": "ip-10-0-0-1", "conditions": [ready]}
    installed.must("PATCH", f"{claimed}/status", {"status": status}, MERGE)
    wide = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = installed.send("GET", CLAIMS, headers=wide).body
    names = [one["name"] for one in table["columnDefinitions"] if not one["priority"]]
    assert names == ["Name", "Type", "Capacity", "Zone", "Node", "Ready", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:6] == [
        "columns",
        "g6.xlarge",
        "spot",
        "us-east-1a",
        "ip-10-0-0-1",
        "True",
    ]


def moment() -> Obj:
    """Return a condition's time."""
    return {"lastTransitionTime": "2026-03-02T12:00:00Z"}


def test_a_claim_s_spec_stands(installed: Administrator, claimed: str) -> None:
    """What was asked for a node is never rewritten, and its finalizer holds it."""
    reply = installed.send("PATCH", claimed, {"spec": {"expireAfter": "1h"}}, MERGE)
    assert reply.status == 422
    assert "spec is immutable" in reply.body["message"]
    installed.must("DELETE", claimed)
    assert installed.must("GET", claimed)["metadata"]["deletionTimestamp"]


def test_a_user_s_fields_stay_the_user_s(installed: Administrator) -> None:
    """Server-side apply knows who set which field: another's is a conflict until it is forced."""
    installed.apply(node_pool("owned", weight=5), fieldManager="user")
    path = f"{POOLS}/owned"
    try:
        body = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "owned"}}
        other = {**body, "spec": {**node_pool()["spec"], "weight": 6}}
        reply = installed.send(
            "PATCH", path, other, "application/apply-patch+yaml", fieldManager="another"
        )
        assert reply.status == 409
        causes = [one["field"] for one in reply.body["details"]["causes"]]
        assert causes == [".spec.weight"]
    finally:
        installed.must("DELETE", path)


def test_kubectl_explains_and_gets(installed: Probe) -> None:
    """Discovery and OpenAPI tell kubectl short names, categories and fields."""
    listed = {
        one["name"]: one for one in installed.must("GET", "/apis/karpenter.sh/v1")["resources"]
    }
    assert listed["nodeclaims"]["categories"] == ["karpenter"]
    assert {"nodepools/status", "nodeclaims/status", "nodepools/scale"} <= listed.keys()
    told = installed.must("GET", "/openapi/v3/apis/karpenter.sh/v1")
    pool = told["components"]["schemas"]["sh.karpenter.v1.NodePool"]
    assert "disruption" in pool["properties"]["spec"]["properties"]
