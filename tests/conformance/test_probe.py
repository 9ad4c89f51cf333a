"""What the project relies on from a Kubernetes API server, stated once and asked of any.

Runs against the embedded API, and against a real one when KUBECONFIG_CONFORMANCE names its
kubeconfig: the same assertions keep the embedded one honest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import pytest
import yaml

from outrider.local.kube.listener import Authority
from tests.conformance.probe import APPLY, JSON_PATCH, MERGE, STRATEGIC, Obj, Probe, ca_bundle, pod

PDBS = "policy/v1", "poddisruptionbudgets"


def condition(obj: Obj, kind: str) -> Obj:
    """Return a status condition, empty where it is not there."""
    found = [one for one in obj.get("status", {}).get("conditions") or () if one["type"] == kind]
    return found[0] if found else {}


# Objects


def test_discovery_names_every_kind_that_the_project_uses(probe: Probe) -> None:
    """A client finds pods, nodes, budgets and their subresources by discovery."""
    core = {one["name"] for one in probe.must("GET", "/api/v1")["resources"]}
    assert {"pods", "pods/eviction", "pods/binding", "pods/status", "nodes", "nodes/status"} <= core
    groups = {one["name"] for one in probe.must("GET", "/apis")["groups"]}
    assert {
        "apps",
        "batch",
        "policy",
        "coordination.k8s.io",
        "events.k8s.io",
        "storage.k8s.io",
    } <= groups
    assert probe.must("GET", "/version")["gitVersion"].startswith("v1.")


def test_a_new_pod_has_identity_and_defaults(probe: Probe) -> None:
    """Creation fills uid, revision, time, phase and the defaults that clients read."""
    made = probe.must("POST", probe.pods, pod("fresh", resources={"limits": {"cpu": "100m"}}))
    meta, spec = made["metadata"], made["spec"]
    assert meta["uid"]
    assert int(meta["resourceVersion"]) > 0
    assert meta["creationTimestamp"]
    assert made["status"]["phase"] == "Pending"
    assert spec["restartPolicy"] == "Always"
    assert spec["schedulerName"] == "default-scheduler"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "100m"}
    tolerated = {one["key"]: one["tolerationSeconds"] for one in spec["tolerations"]}
    assert tolerated == {"node.kubernetes.io/not-ready": 300, "node.kubernetes.io/unreachable": 300}
    assert probe.must("GET", f"{probe.pods}/fresh")["metadata"]["uid"] == meta["uid"]


def test_a_name_is_taken_once(probe: Probe) -> None:
    """Creating what exists is 409 AlreadyExists; reading what does not is 404 NotFound."""
    probe.must("POST", probe.configmaps, {"metadata": {"name": "taken"}})
    again = probe.send("POST", probe.configmaps, {"metadata": {"name": "taken"}})
    assert (again.status, again.body["reason"]) == (409, "AlreadyExists")
    assert again.body["message"] == 'configmaps "taken" already exists'
    missing = probe.send("GET", f"{probe.configmaps}/missing")
    assert (missing.status, missing.body["reason"]) == (404, "NotFound")
    assert missing.body["kind"] == "Status"
    nowhere = probe.send(
        "POST", "/api/v1/namespaces/no-such-namespace/configmaps", {"metadata": {"name": "a"}}
    )
    assert nowhere.status == 404


def test_a_generated_name_begins_as_asked(probe: Probe) -> None:
    """GenerateName gives a prefix five letters."""
    made = probe.must("POST", probe.configmaps, {"metadata": {"generateName": "made-"}})
    assert made["metadata"]["name"].startswith("made-")
    assert len(made["metadata"]["name"]) == len("made-") + 5


def test_an_invalid_pod_is_refused_with_its_field(probe: Probe) -> None:
    """A pod without containers, and one with a bad quantity, are 422 or 400 and say where."""
    bare = probe.send(
        "POST", probe.pods, {"metadata": {"name": "bare"}, "spec": {"containers": []}}
    )
    assert (bare.status, bare.body["reason"]) == (422, "Invalid")
    assert bare.body["details"]["causes"][0]["field"] == "spec.containers"
    upper = probe.send("POST", probe.pods, pod("Upper"))
    assert (upper.status, upper.body["details"]["causes"][0]["field"]) == (422, "metadata.name")
    odd = probe.send("POST", probe.pods, pod("odd", resources={"limits": {"cpu": "lots"}}))
    assert odd.status in {400, 422}


def test_priority_comes_from_the_class(probe: Probe) -> None:
    """A pod's priority is its PriorityClass's value, and an unknown class is refused."""
    made = probe.must("POST", probe.pods, pod("vip", priorityClassName="system-cluster-critical"))
    assert made["spec"]["priority"] == 2_000_000_000
    unknown = probe.send("POST", probe.pods, pod("who", priorityClassName="no-such-class"))
    assert unknown.status == 403


# Lists


def test_selectors_select(probe: Probe) -> None:
    """Label and field selectors, set-based ones included, give exactly what they say."""
    for name, labels in (
        ("s-a", {"set": "x", "tier": "1"}),
        ("s-b", {"set": "x"}),
        ("s-c", {"set": "y"}),
    ):
        probe.must("POST", probe.pods, pod(name, labels=labels))

    def names(**query: str) -> list[str]:
        return [one["metadata"]["name"] for one in probe.must("GET", probe.pods, **query)["items"]]

    assert names(labelSelector="set=x") == ["s-a", "s-b"]
    assert names(labelSelector="set in (x,y),!tier") == ["s-b", "s-c"]
    assert names(labelSelector="set,set notin (x)") == ["s-c"]
    assert names(labelSelector="set", fieldSelector="metadata.name!=s-a") == ["s-b", "s-c"]
    assert "s-a" in names(fieldSelector="spec.nodeName=,status.phase=Pending")
    assert names(labelSelector="set", fieldSelector="status.phase=Running") == []
    refused = probe.send("GET", probe.pods, fieldSelector="spec.restartPolicies=Always")
    assert refused.status == 400


def test_pages_make_the_whole(probe: Probe) -> None:
    """Limit and continue walk through a list without loss or repeat."""
    for number in range(5):
        probe.must(
            "POST", probe.configmaps, {"metadata": {"name": f"page-{number}", "labels": {"p": "1"}}}
        )
    seen: list[str] = []
    query = {"labelSelector": "p=1", "limit": "2"}
    while True:
        page = probe.must("GET", probe.configmaps, **query)
        seen += [one["metadata"]["name"] for one in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
        assert len(page["items"]) == 2
        query["continue"] = token
    assert seen == [f"page-{number}" for number in range(5)]


# Watches


def test_a_watch_goes_on_from_a_list(probe: Probe) -> None:
    """A watch from a list's revision tells what came after it, and no more than its selector
    wants.
    """
    since = probe.must("GET", probe.configmaps)["metadata"]["resourceVersion"]
    path = probe.configmaps
    probe.must("POST", path, {"metadata": {"name": "w-other"}})
    probe.must("POST", path, {"metadata": {"name": "w", "labels": {"watch": "me"}}})
    probe.must("PATCH", f"{path}/w", {"data": {"a": "b"}}, MERGE)
    probe.must("PATCH", f"{path}/w", {"metadata": {"labels": {"watch": None}}}, MERGE)
    seen = []
    for kind, obj in probe.events(path, resourceVersion=since, labelSelector="watch=me"):
        seen.append((kind, obj["metadata"]["name"], obj.get("data")))
        if kind == "DELETED":
            break
    assert seen == [
        ("ADDED", "w", None),
        ("MODIFIED", "w", {"a": "b"}),
        ("DELETED", "w", {"a": "b"}),
    ]


def test_a_watch_ends_when_its_time_is_over(probe: Probe) -> None:
    """TimeoutSeconds ends a watch in good order."""
    since = probe.must("GET", probe.configmaps)["metadata"]["resourceVersion"]
    query = {"resourceVersion": since, "fieldSelector": "metadata.name=nobody"}
    assert [
        kind for kind, _ in probe.events(probe.configmaps, 1, **query) if kind != "BOOKMARK"
    ] == []


# Writes


def test_an_old_reading_cannot_overwrite(probe: Probe) -> None:
    """An update with a stale resourceVersion is 409 Conflict."""
    made = probe.must("POST", probe.configmaps, {"metadata": {"name": "stale"}})
    probe.must("PATCH", f"{probe.configmaps}/stale", {"data": {"a": "1"}}, MERGE)
    reply = probe.send("PUT", f"{probe.configmaps}/stale", {**made, "data": {"a": "2"}})
    assert (reply.status, reply.body["reason"]) == (409, "Conflict")
    patch = {
        "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]},
        "data": {"a": "3"},
    }
    assert probe.send("PATCH", f"{probe.configmaps}/stale", patch, MERGE).status == 409


def test_a_write_that_changes_nothing_keeps_the_revision(probe: Probe) -> None:
    """The same content again is not a new revision."""
    made = probe.must("POST", probe.configmaps, {"metadata": {"name": "calm"}, "data": {"a": "1"}})
    same = probe.must("PATCH", f"{probe.configmaps}/calm", {"data": {"a": "1"}}, MERGE)
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_json_patches_hold_or_do_nothing(probe: Probe) -> None:
    """A JSON patch whose test fails is refused whole."""
    meta = {"name": "jp", "annotations": {"a": "1"}}
    probe.must("POST", probe.configmaps, {"metadata": meta, "data": {"a": "1"}})
    path = f"{probe.configmaps}/jp"
    good = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"},
        {"op": "add", "path": "/metadata/annotations/b~1c", "value": "3"},
    ]
    done = probe.must("PATCH", path, good, JSON_PATCH)
    assert done["data"] == {"a": "2"}
    assert done["metadata"]["annotations"] == {"a": "1", "b/c": "3"}
    assert probe.send("PATCH", path, good, JSON_PATCH).status == 422
    assert probe.must("GET", path)["data"] == {"a": "2"}


def test_strategic_patches_merge_by_key(probe: Probe) -> None:
    """Conditions merge by type, containers by name, and tolerations are replaced."""
    probe.must("POST", probe.pods, pod("smp"))
    path = f"{probe.pods}/smp/status"
    for kind in ("A", "B"):
        one = {"type": f"example.com/{kind}", "status": "True"}
        probe.must("PATCH", path, {"status": {"conditions": [one]}}, STRATEGIC)
    turned = {"type": "example.com/A", "status": "False"}
    result = probe.must("PATCH", path, {"status": {"conditions": [turned]}}, STRATEGIC)
    assert condition(result, "example.com/A")["status"] == "False"
    assert condition(result, "example.com/B")["status"] == "True"
    image = {"spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.9"}]}}
    changed = probe.must("PATCH", f"{probe.pods}/smp", image, STRATEGIC)
    assert len(changed["spec"]["containers"]) == 1
    assert changed["spec"]["containers"][0]["image"].endswith(":3.9")
    gone = {"status": {"conditions": [{"type": "example.com/A", "$patch": "delete"}]}}
    assert condition(probe.must("PATCH", path, gone, STRATEGIC), "example.com/A") == {}


def test_status_and_spec_are_fenced_off(probe: Probe) -> None:
    """A status write does not touch the spec, and a main write does not touch the status."""
    probe.must("POST", probe.pods, pod("fenced"))
    both = {"spec": {"activeDeadlineSeconds": 77}, "status": {"phase": "Running"}}
    by_status = probe.must("PATCH", f"{probe.pods}/fenced/status", both, MERGE)
    assert "activeDeadlineSeconds" not in by_status["spec"]
    assert by_status["status"]["phase"] == "Running"
    back = {"spec": {"activeDeadlineSeconds": 78}, "status": {"phase": "Failed"}}
    by_main = probe.must("PATCH", f"{probe.pods}/fenced", back, MERGE)
    assert by_main["spec"]["activeDeadlineSeconds"] == 78
    assert by_main["status"]["phase"] == "Running"
    moved = probe.send("PATCH", f"{probe.pods}/fenced", {"spec": {"hostNetwork": True}}, MERGE)
    assert moved.status == 422


def test_apply_owns_fields(probe: Probe) -> None:
    """Server-side apply conflicts on another's field, takes it by force, and drops what is left
    out.
    """
    path = f"{probe.configmaps}/ssa"
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ssa"},
        "data": {"a": "1", "b": "1"},
    }
    made = probe.send("PATCH", path, body, APPLY, fieldManager="one")
    assert made.status == 201
    other = {**body, "data": {"a": "2"}}
    conflict = probe.send("PATCH", path, other, APPLY, fieldManager="two")
    assert (conflict.status, conflict.body["reason"]) == (409, "Conflict")
    cause = conflict.body["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    forced = probe.must("PATCH", path, other, APPLY, fieldManager="two", force="true")
    assert forced["data"] == {"a": "2", "b": "1"}
    dropped = probe.must("PATCH", path, {**body, "data": {}}, APPLY, fieldManager="one")
    assert dropped["data"] == {"a": "2"}
    managers = {(one["manager"], one["operation"]) for one in dropped["metadata"]["managedFields"]}
    assert ("two", "Apply") in managers


def test_a_dry_run_changes_nothing(probe: Probe) -> None:
    """With dryRun=All everything is checked and nothing is kept."""
    made = probe.must("POST", probe.configmaps, {"metadata": {"name": "dry"}}, dryRun="All")
    assert made["metadata"]["uid"]
    assert probe.send("GET", f"{probe.configmaps}/dry").status == 404


# Going


def test_a_finalizer_holds_until_it_is_taken_off(probe: Probe) -> None:
    """Deletion marks, the last finalizer's removal deletes."""
    body = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    probe.must("POST", probe.configmaps, body)
    path = f"{probe.configmaps}/held"
    probe.must("DELETE", path)
    held = probe.must("GET", path)
    assert held["metadata"]["deletionTimestamp"]
    probe.must("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
    assert probe.send("GET", path).status == 404


def test_a_precondition_protects_the_successor(probe: Probe) -> None:
    """A delete for another uid is 409."""
    probe.must("POST", probe.configmaps, {"metadata": {"name": "pre"}})
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "another"}}
    assert probe.send("DELETE", f"{probe.configmaps}/pre", options).status == 409


def test_what_is_owned_goes_with_its_owner(probe: Probe) -> None:
    """Deleting an owner deletes its dependents in the background."""
    owner = probe.must("POST", probe.configmaps, {"metadata": {"name": "owner"}})
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    probe.must(
        "POST", probe.configmaps, {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    )
    probe.must("DELETE", f"{probe.configmaps}/owner")
    probe.until_gone(probe.configmaps, "owned")


def test_a_namespace_takes_its_content_along(probe: Probe) -> None:
    """A deleted namespace empties itself, and takes nothing new meanwhile."""
    name = f"{probe.namespace}-b"
    probe.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    body = {"metadata": {"name": "a", "finalizers": ["example.com/hold"]}}
    probe.must("POST", f"/api/v1/namespaces/{name}/configmaps", body)
    probe.must("DELETE", f"/api/v1/namespaces/{name}")
    path = f"/api/v1/namespaces/{name}/configmaps"
    probe.until(path, lambda obj: "deletionTimestamp" in obj["metadata"])
    late = probe.send("POST", path, {"metadata": {"name": "late"}})
    assert late.status == 403
    assert late.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    probe.must("PATCH", f"{path}/a", {"metadata": {"finalizers": None}}, MERGE)
    probe.until_gone("/api/v1/namespaces", name)


# Pods on nodes


@pytest.fixture
def node(probe: Probe) -> Iterator[str]:
    """Give a Node without a kubelet, cordoned so that no scheduler takes it."""
    name = f"{probe.namespace}-node"
    body = {"metadata": {"name": name}, "spec": {"unschedulable": True}}
    probe.must("POST", "/api/v1/nodes", body)
    yield name
    probe.send("DELETE", f"/api/v1/nodes/{name}")


def bound_and_ready(probe: Probe, name: str, node: str, labels: Obj) -> None:
    """Create a pod on *node* and say as its kubelet that it is Ready."""
    probe.must("POST", probe.pods, pod(name, labels=labels, schedulerName="nobody"))
    target = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
    probe.must("POST", f"{probe.pods}/{name}/binding", target)
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    probe.must("PATCH", f"{probe.pods}/{name}/status", {"status": ready}, STRATEGIC)


def evict(probe: Probe, name: str, **options: Any) -> Any:
    """Ask for the eviction of a pod."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, **options}
    return probe.send("POST", f"{probe.pods}/{name}/eviction", body)


def test_a_pod_is_bound_once(probe: Probe, node: str) -> None:
    """Binding sets the node and PodScheduled; a second binding is 409."""
    bound_and_ready(probe, "bound", node, {})
    found = probe.must("GET", f"{probe.pods}/bound")
    assert found["spec"]["nodeName"] == node
    assert condition(found, "PodScheduled")["status"] == "True"
    again = {"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": node}}
    assert probe.send("POST", f"{probe.pods}/bound/binding", again).status == 409
    by_node = probe.must("GET", "/api/v1/pods", fieldSelector=f"spec.nodeName={node}")["items"]
    assert [one["metadata"]["name"] for one in by_node] == ["bound"]


def test_only_a_waiting_pod_is_promised_a_node(probe: Probe, node: str) -> None:
    """NominatedNodeName may be set while a pod waits, goes with the binding, and is refused
    after it.
    """
    probe.must("POST", probe.pods, pod("promised", schedulerName="nobody"))
    path = f"{probe.pods}/promised/status"
    promise = {"status": {"nominatedNodeName": node}}
    assert probe.must("PATCH", path, promise, MERGE)["status"]["nominatedNodeName"] == node
    target = {"metadata": {"name": "promised"}, "target": {"kind": "Node", "name": node}}
    probe.must("POST", f"{probe.pods}/promised/binding", target)
    assert "nominatedNodeName" not in probe.must("GET", f"{probe.pods}/promised")["status"]
    late = probe.send("PATCH", path, promise, MERGE)
    assert late.status == 422
    assert late.body["details"]["causes"][0]["field"] == "status.nominatedNodeName"


def test_a_bound_pod_leaves_by_its_kubelet(probe: Probe, node: str) -> None:
    """Deletion of a bound pod marks it with its grace; grace 0 ends it."""
    bound_and_ready(probe, "leaves", node, {})
    probe.must("DELETE", f"{probe.pods}/leaves")
    marked = probe.must("GET", f"{probe.pods}/leaves")["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    assert marked["deletionTimestamp"]
    probe.must("DELETE", f"{probe.pods}/leaves", {"gracePeriodSeconds": 0})
    assert probe.send("GET", f"{probe.pods}/leaves").status == 404


def test_a_budget_holds_back_evictions(probe: Probe, node: str) -> None:
    """Eviction spends the budget, is 429 with its cause when it is spent, and a dry run spends
    nothing.
    """
    labels = {"app": "guarded"}
    for name in ("g-1", "g-2"):
        bound_and_ready(probe, name, node, labels)
    spec = {"minAvailable": 1, "selector": {"matchLabels": labels}}
    path = probe.in_group(*PDBS)
    probe.must("POST", path, {"metadata": {"name": "guard"}, "spec": spec})
    counted = probe.until(path, lambda one: one.get("status", {}).get("disruptionsAllowed") == 1)
    assert counted["status"]["currentHealthy"] == 2
    assert counted["status"]["expectedPods"] == 2
    assert evict(probe, "g-1", deleteOptions={"dryRun": ["All"]}).status == 201
    assert evict(probe, "g-1").status == 201
    blocked = evict(probe, "g-2")
    assert (blocked.status, blocked.body["reason"]) == (429, "TooManyRequests")
    assert blocked.body["details"]["causes"][0]["reason"] == "DisruptionBudget"
    assert evict(probe, "no-such-pod").status == 404


def test_two_budgets_on_one_pod_are_an_error(probe: Probe, node: str) -> None:
    """A pod under two budgets cannot be evicted: 500."""
    labels = {"app": "twice"}
    bound_and_ready(probe, "twice", node, labels)
    path = probe.in_group(*PDBS)
    for name in ("twice-a", "twice-b"):
        spec = {"minAvailable": 0, "selector": {"matchLabels": labels}}
        probe.must("POST", path, {"metadata": {"name": name}, "spec": spec})
    assert evict(probe, "twice").status == 500


def test_what_fits_nowhere_is_said_to(probe: Probe) -> None:
    """The scheduler marks a pod Unschedulable and writes a FailedScheduling Event, in both
    versions.
    """
    asked = {"limits": {"nvidia.com/gpu": "4096"}}
    probe.must("POST", probe.pods, pod("greedy", resources=asked))
    one = {"fieldSelector": "metadata.name=greedy"}
    marked = probe.until(probe.pods, lambda obj: bool(condition(obj, "PodScheduled")), **one)
    said = condition(marked, "PodScheduled")
    assert (said["status"], said["reason"]) == ("False", "Unschedulable")
    about = "regarding.name=greedy,reason=FailedScheduling"
    event = probe.until(
        probe.in_group("events.k8s.io/v1", "events"), lambda _event: True, fieldSelector=about
    )
    assert event["regarding"]["kind"] == "Pod"
    assert event["regarding"]["uid"] == marked["metadata"]["uid"]
    assert event["note"] == said["message"]
    assert event["reportingController"] == "default-scheduler"
    path = f"/api/v1/namespaces/{probe.namespace}/events/{event['metadata']['name']}"
    core = probe.must("GET", path)
    assert core["message"] == event["note"]
    assert core["involvedObject"]["name"] == "greedy"


def test_gates_keep_a_pod_from_the_scheduler(probe: Probe) -> None:
    """A gated pod says SchedulingGated, and not Unschedulable."""
    gated = probe.must(
        "POST", probe.pods, pod("gated", schedulingGates=[{"name": "example.com/wait"}])
    )
    said = condition(gated, "PodScheduled") or condition(
        probe.until(
            probe.pods,
            lambda obj: bool(condition(obj, "PodScheduled")),
            fieldSelector="metadata.name=gated",
        ),
        "PodScheduled",
    )
    assert said["reason"] == "SchedulingGated"


def test_scale_maps_onto_replicas(probe: Probe) -> None:
    """The scale subresource reads and writes a Deployment's replicas."""
    labels = {"app": "scaled"}
    template = {
        "metadata": {"labels": labels},
        "spec": pod("x", nodeSelector={"no": "where"})["spec"],
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    path = probe.in_group("apps/v1", "deployments")
    probe.must("POST", path, {"metadata": {"name": "scaled"}, "spec": spec})
    probe.must("PATCH", f"{path}/scaled/scale", {"spec": {"replicas": 3}}, MERGE)
    assert probe.must("GET", f"{path}/scaled")["spec"]["replicas"] == 3
    owned = probe.until(probe.pods, lambda _pod: True, labelSelector="app=scaled")
    assert owned["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"


# Custom kinds


@pytest.fixture(scope="module")
def widgets(probe: Probe) -> Iterator[str]:
    """Give the path of a custom kind with a schema, defaults, rules, a status and columns."""
    group = f"{probe.namespace}.example.com"
    properties = {
        "weight": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        "mode": {"type": "string", "enum": ["Fast", "Slow"]},
        "limits": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": True}},
    }
    rules = [{"rule": "self.mode != 'Fast' || self.weight > 5", "message": "fast is heavy"}]
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["mode"],
                "properties": properties,
                "x-kubernetes-validations": rules,
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}],
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    definition = {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "names": names, "scope": "Cluster", "versions": [version]},
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    probe.must("POST", path, definition)
    name = definition["metadata"]["name"]  # type: ignore[index]
    probe.until(
        path,
        lambda obj: condition(obj, "Established").get("status") == "True",
        fieldSelector=f"metadata.name={name}",
    )
    yield f"/apis/{group}/v1/widgets"
    probe.send("DELETE", f"{path}/{name}")


def widget(widgets: str, name: str, **spec: Any) -> Obj:
    """Return a Widget."""
    version = "/".join(widgets.split("/")[2:4])
    return {"apiVersion": version, "kind": "Widget", "metadata": {"name": name}, "spec": spec}


def test_custom_objects_are_completed_and_pruned(probe: Probe, widgets: str) -> None:
    """Defaults are filled in and unknown fields dropped, or refused when the client is strict."""
    made = probe.must(
        "POST", widgets, widget(widgets, "a", mode="Slow", colour="red", limits={"cpu": 5})
    )
    assert made["spec"] == {"mode": "Slow", "weight": 10, "limits": {"cpu": 5}}
    assert made["metadata"]["generation"] == 1
    strict = probe.send(
        "POST", widgets, widget(widgets, "b", mode="Slow", colour="red"), fieldValidation="Strict"
    )
    assert strict.status == 400


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "spec.mode"),
        ({"mode": "Sideways"}, "Unsupported value"),
        ({"mode": "Slow", "weight": 0}, "should be greater than or equal to 1"),
        ({"mode": "Slow", "weight": "heavy"}, "must be of type integer"),
        ({"mode": "Fast", "weight": 2}, "fast is heavy"),
    ],
)
def test_custom_objects_are_validated(probe: Probe, widgets: str, spec: Obj, says: str) -> None:
    """What the schema or a CEL rule forbids is 422 and says why."""
    reply = probe.send("POST", widgets, widget(widgets, "bad", **spec))
    assert (reply.status, reply.body["reason"]) == (422, "Invalid")
    assert says in reply.body["message"]


def test_custom_status_is_a_subresource(probe: Probe, widgets: str) -> None:
    """The status of a custom kind is written by its subresource only, and leaves the generation
    alone.
    """
    made = probe.must("POST", widgets, {**widget(widgets, "st", mode="Slow"), "status": {"a": 1}})
    assert "status" not in made
    patch = {"spec": {"mode": "Fast"}, "status": {"a": 2}}
    done = probe.must("PATCH", f"{widgets}/st/status", patch, MERGE)
    assert (done["spec"]["mode"], done["status"]) == ("Slow", {"a": 2})
    assert done["metadata"]["generation"] == 1
    changed = probe.must("PATCH", f"{widgets}/st", {"spec": {"weight": 11}}, MERGE)
    assert changed["metadata"]["generation"] == 2
    assert probe.send("PATCH", f"{widgets}/st", {"spec": {}}, STRATEGIC).status == 415


def test_tables_have_the_printer_columns(probe: Probe, widgets: str) -> None:
    """A Table of a custom kind has the columns of its definition."""
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    table = probe.send("GET", widgets, headers=accept).body
    assert table["kind"] == "Table"
    assert [one["name"] for one in table["columnDefinitions"]][:2] == ["Name", "Mode"]


# Who may


def test_a_stranger_is_nobody(probe: Probe) -> None:
    """A token that nobody knows is 401."""
    reply = probe.send("GET", probe.pods, headers={"Authorization": "Bearer no-such-token"})
    assert (reply.status, reply.body["reason"]) == (401, "Unauthorized")


def test_rbac_grants_what_is_bound_and_nothing_else(probe: Probe) -> None:
    """A Role bound to a group lets its members do exactly that; the refusal says what was
    wished.
    """
    rbac = "rbac.authorization.k8s.io/v1"
    acting = {"Impersonate-User": "probe-user", "Impersonate-Group": "probe-group"}
    refused = probe.send("GET", probe.configmaps, headers=acting)
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    wish = 'User "probe-user" cannot list resource "configmaps" in API group "" in the namespace '
    wish += f'"{probe.namespace}"'
    assert wish in refused.body["message"]
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    probe.must(
        "POST", probe.in_group(rbac, "roles"), {"metadata": {"name": "lister"}, "rules": rules}
    )
    group = rbac.split("/", maxsplit=1)[0]
    binding = {
        "metadata": {"name": "lister"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "lister"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "probe-group"}],
    }
    probe.must("POST", probe.in_group(rbac, "rolebindings"), binding)
    asked = {"namespace": probe.namespace, "verb": "list", "resource": "configmaps"}
    review = {
        "spec": {"user": "probe-user", "groups": ["probe-group"], "resourceAttributes": asked}
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    tries = (probe.must("POST", path, review)["status"]["allowed"] for _ in range(1000))
    assert any(tries), "a binding takes a moment to be seen, and no longer"
    asked["verb"] = "delete"
    assert probe.must("POST", path, review)["status"]["allowed"] is False


# Webhooks


class Reviewer:
    """An HTTPS webhook that keeps what it is asked and answers as it is told."""

    def __init__(self, answer: Callable[[Obj], Obj]) -> None:
        self.asked: SimpleQueue[Obj] = SimpleQueue()
        authority = Authority("probe")
        self.ca = ca_bundle(authority.pem)
        reviewer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reviewer.asked.put(review["request"])
                body = orjson.dumps({**review, "response": answer(review["request"])})
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = authority.server_context().wrap_socket(
            self._server.socket, server_side=True
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"https://127.0.0.1:{self._server.server_port}/review"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def configured(probe: Probe, reviewer: Reviewer, **webhook: Any) -> str:
    """Register *reviewer* for Events of the probe's namespace and return the configuration's
    path.
    """
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    name = f"{probe.namespace}-{len(webhook)}"
    rule = {
        "apiGroups": ["events.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["events"],
        "scope": "Namespaced",
    }
    entry = {
        "name": "events.example.com",
        "rules": [rule],
        "clientConfig": {"url": reviewer.url, "caBundle": reviewer.ca},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": probe.namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": 5,
        **webhook,
    }
    probe.must("POST", path, {"metadata": {"name": name}, "webhooks": [entry]})
    return f"{path}/{name}"


def core_event(probe: Probe, name: str, reason: str) -> Any:
    """Write a core/v1 Event."""
    about = {"kind": "Pod", "name": "some-pod", "namespace": probe.namespace}
    body = {
        "metadata": {"name": name},
        "involvedObject": about,
        "reason": reason,
        "message": "because",
    }
    return probe.send("POST", f"/api/v1/namespaces/{probe.namespace}/events", body)


def settled(probe: Probe, reviewer: Reviewer) -> None:
    """Write Events until the webhook is asked for one: a configuration takes a moment to be
    seen.
    """
    for number in range(1000):
        core_event(probe, f"settle-{id(reviewer)}-{number}", "ProbeFailed")
        if not reviewer.asked.empty():
            break
    while not reviewer.asked.empty():
        reviewer.asked.get()


def test_a_webhook_on_events_sees_what_its_conditions_let_through(probe: Probe) -> None:
    """A core/v1 Event matches a rule on events.k8s.io/v1, arrives converted, and only for its
    reason.
    """
    reviewer = Reviewer(lambda request: {"uid": request["uid"], "allowed": True})
    wanted = (
        'object.reason == "ProbeFailed" && has(object.regarding) && object.regarding.kind == "Pod"'
    )
    conditions = [{"name": "reason", "expression": wanted}]
    path = configured(probe, reviewer, failurePolicy="Ignore", matchConditions=conditions)
    try:
        settled(probe, reviewer)
        assert core_event(probe, "other", "Started").status == 201
        assert core_event(probe, "mine", "ProbeFailed").status == 201
        request = reviewer.asked.get(timeout=10)
        assert reviewer.asked.empty()
        assert request["name"] == "mine"
        assert request["operation"] == "CREATE"
        assert request["resource"] == {
            "group": "events.k8s.io",
            "version": "v1",
            "resource": "events",
        }
        assert request["object"]["note"] == "because"
        assert request["object"]["regarding"]["name"] == "some-pod"
        assert request["requestKind"]["group"] == ""
        assert request["userInfo"]["username"]
    finally:
        probe.must("DELETE", path)
        reviewer.close()


def test_a_webhook_that_denies_is_obeyed_and_one_that_errs_is_not(probe: Probe) -> None:
    """A denial refuses the write with its message and code, 400 where it has none; an answer for
    another uid fails open under Ignore.
    """

    def answer(request: Obj) -> Obj:
        if request["name"] == "denied":
            return {"uid": request["uid"], "allowed": False, "status": {"message": "not today"}}
        if request["name"] == "forbidden":
            status = {"message": "never", "code": 403, "reason": "Forbidden"}
            return {"uid": request["uid"], "allowed": False, "status": status}
        return {"uid": "another", "allowed": False}

    reviewer = Reviewer(answer)
    path = configured(probe, reviewer, failurePolicy="Ignore")
    try:
        settled(probe, reviewer)
        denied = core_event(probe, "denied", "Any")
        assert denied.status == 400
        assert "denied the request: not today" in denied.body["message"]
        forbidden = core_event(probe, "forbidden", "Any")
        assert (forbidden.status, forbidden.body["reason"]) == (403, "Forbidden")
        assert core_event(probe, "confused", "Any").status == 201
    finally:
        probe.must("DELETE", path)
        reviewer.close()


# Clients


def test_the_official_client_works(kubeconfig: Path, probe: Probe) -> None:
    """The kubernetes package reads, patches and evicts."""
    kubernetes = pytest.importorskip("kubernetes")
    api_client = kubernetes.config.new_client_from_config(str(kubeconfig))
    core = kubernetes.client.CoreV1Api(api_client)
    core.create_namespaced_pod(probe.namespace, pod("official"))
    found = core.read_namespaced_pod("official", probe.namespace)
    assert found.status.phase == "Pending"
    assert any(
        one.metadata.name == "official" for one in core.list_namespaced_pod(probe.namespace).items
    )
    core.patch_namespaced_pod("official", probe.namespace, {"metadata": {"labels": {"a": "b"}}})
    body = kubernetes.client.V1Eviction(metadata=kubernetes.client.V1ObjectMeta(name="official"))
    core.create_namespaced_pod_eviction("official", probe.namespace, body)
    api_client.close()


def test_kubectl_works(kubeconfig: Path, probe: Probe, tmp_path: Path) -> None:
    """Kubectl applies, gets, describes, patches, waits and deletes."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on PATH")
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "HOME": tempfile.mkdtemp(dir=tmp_path),
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [kubectl, "-n", probe.namespace, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    manifest = tmp_path / "pod.yaml"
    body = {"apiVersion": "v1", "kind": "Pod", **pod("by-kubectl", labels={"a": "1"})}
    manifest.write_text(yaml.safe_dump(body))
    assert "created" in run("apply", "-f", str(manifest))
    assert "unchanged" in run("apply", "-f", str(manifest))
    listed = tmp_path / "list.yaml"
    listed.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [body]}))
    assert "unchanged" in run("apply", "-f", str(listed))
    assert "by-kubectl" in run("get", "pods", "-o", "wide")
    assert "Pending" in run("describe", "pod", "by-kubectl")
    run("patch", "pod", "by-kubectl", "-p", '{"metadata":{"labels":{"a":"2"}}}')
    assert run("get", "pod", "by-kubectl", "-o", "jsonpath={.metadata.labels.a}") == "2"
    run("label", "pod", "by-kubectl", "b=3")
    assert "Pending" in run("get", "pods", "--selector", "b=3")
    assert "serverside-applied" in run(
        "apply", "--server-side", "--force-conflicts", "-f", str(manifest)
    )
    assert "deleted" in run("delete", "pod", "by-kubectl", "--wait=true")
