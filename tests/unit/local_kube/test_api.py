"""The API's verbs, below HTTP: what the probe cannot reach from outside."""

from __future__ import annotations

from base64 import b64encode

import pytest
from orjson import dumps, loads

from outrider.local.kube.admission import NoAnswerError
from outrider.local.kube.calls import Call
from outrider.local.kube.gateway import Answer, Gateway, HttpRequest
from outrider.local.kube.objects import Obj, User
from outrider.local.kube.patch import json_patch, merge, strategic
from outrider.local.kube.quantities import amount, pod_requests
from outrider.local.kube.shapes import Typed
from outrider.local.kube.status import StatusError
from outrider.local.kube.store import HISTORY
from tests.unit.local_kube.conftest import Build, TestCluster, pod

CONFIGMAP: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
TOKENS = {"admin": ("root", ("system:masters",)), "lambda": ("outrider", ("outrider:drain",))}


def ask(cluster: TestCluster, method: str, target: str, body: object = None, **more: str) -> Answer:
    """Ask the gateway as the administrator, or with the headers given."""
    gateway = Gateway(cluster.api, TOKENS.get)
    headers = {"authorization": "Bearer admin", "content-type": "application/json", **more}
    return gateway.answer(HttpRequest(method, target, headers, dumps(body) if body else b""))


def lines(answer: Answer) -> list[tuple[str, str]]:
    """Return the events of a finished watch as (type, name or code)."""
    assert answer.stream is not None
    events = [loads(line) for line in answer.stream if line]
    return [
        (
            one["type"],
            one["object"].get("metadata", {}).get("name") or str(one["object"].get("code")),
        )
        for one in events
    ]


# Watches


def test_a_watch_from_a_compacted_revision_is_gone(cluster: TestCluster) -> None:
    """After compaction an old revision gets an ERROR event of 410, a current one does not."""
    cluster.apply(CONFIGMAP)
    old = cluster.kube.store.revision - 1
    cluster.apply({**CONFIGMAP, "metadata": {"name": "d"}})
    cluster.kube.store.compact()
    answer = ask(cluster, "GET", f"/api/v1/configmaps?watch=1&resourceVersion={old}")
    assert lines(answer) == [("ERROR", "410")]
    now = cluster.kube.store.revision
    cluster.clock.call_later(1, cluster.kube.store.close)
    answer = ask(
        cluster, "GET", f"/api/v1/configmaps?watch=1&resourceVersion={now}&timeoutSeconds=1"
    )
    cluster.run(2)
    assert lines(answer) == []


def test_history_is_bounded(cluster: TestCluster) -> None:
    """More changes than are kept push the oldest out, and their watchers get 410."""
    cluster.apply(CONFIGMAP)
    since = cluster.kube.store.revision
    for number in range(HISTORY + 1):
        cluster.merge("configmaps", "c", {"data": {"n": str(number)}})
    answer = ask(cluster, "GET", f"/api/v1/configmaps?watch=1&resourceVersion={since}")
    assert lines(answer) == [("ERROR", "410")]


def test_initial_events_end_with_a_marked_bookmark(cluster: TestCluster) -> None:
    """A streaming list sends what exists, and then the bookmark that says so."""
    cluster.apply(CONFIGMAP)
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&timeoutSeconds=1"
    answer = ask(cluster, "GET", f"/api/v1/configmaps?{query}&resourceVersionMatch=NotOlderThan")
    cluster.run(2)
    assert answer.stream is not None
    events = [loads(line) for line in answer.stream if line]
    assert [one["type"] for one in events] == ["ADDED", "BOOKMARK", "BOOKMARK"]
    annotations = events[1]["object"]["metadata"]["annotations"]
    assert annotations == {"k8s.io/initial-events-end": "true"}


# Who may


def test_rights_follow_the_bindings_as_they_change(cluster: TestCluster) -> None:
    """A binding opens, its removal closes; a resourceName opens one object only."""
    as_lambda = {"authorization": "Bearer lambda"}
    rbac = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["nodes"], "resourceNames": ["one"], "verbs": ["get"]},
    ]
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "drain"}}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "drain"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "drain"},
        "subjects": [{"kind": "Group", "apiGroup": rbac, "name": "outrider:drain"}],
    }
    assert ask(cluster, "GET", "/api/v1/nodes/one", **as_lambda).code == 403
    cluster.apply({**role, "rules": rules}, binding)
    assert ask(cluster, "GET", "/api/v1/nodes/one", **as_lambda).code == 404
    assert ask(cluster, "GET", "/api/v1/nodes/two", **as_lambda).code == 403
    assert ask(cluster, "GET", "/api/v1/nodes", **as_lambda).code == 403
    path = "/api/v1/namespaces/default/pods/p/eviction"
    assert ask(cluster, "POST", path, {"kind": "Eviction"}, **as_lambda).code == 404
    assert ask(cluster, "GET", "/apis", **as_lambda).code == 200
    cluster.delete("clusterrolebindings.rbac.authorization.k8s.io", "drain")
    assert ask(cluster, "GET", "/api/v1/nodes/one", **as_lambda).code == 403


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nobody", "Basic YTpi"])
def test_nobody_gets_nothing(cluster: TestCluster, header: str) -> None:
    """Without a known bearer token everything but health is 401."""
    assert ask(cluster, "GET", "/api/v1/pods", authorization=header).code == 401
    assert ask(cluster, "GET", "/readyz", authorization=header).code == 200


# Requests that make no sense


@pytest.mark.parametrize(
    ("method", "target", "body", "code"),
    [
        ("GET", "/api/v1/nonsense", None, 404),
        ("GET", "/nonsense", None, 404),
        ("PUT", "/api/v1/namespaces/default/pods", {"a": 1}, 405),
        ("POST", "/api/v1/namespaces/default/pods", [1], 400),
        ("POST", "/api/v1/namespaces/default/pods", {"kind": "Node"}, 400),
        ("POST", "/api/v1/namespaces/default/pods", {"metadata": []}, 400),
        ("POST", "/api/v1/pods", {"kind": "Pod"}, 400),
        ("GET", "/api/v1/pods?labelSelector=a%3D%3D%3Db", None, 400),
        ("GET", "/api/v1/pods?limit=many", None, 400),
        ("GET", "/api/v1/pods?continue=rubbish", None, 400),
        ("GET", "/api/v1/pods?watch=1&resourceVersion=x", None, 400),
        ("DELETE", "/api/v1/namespaces/kube-system", None, 403),
    ],
)
def test_nonsense_is_refused(
    cluster: TestCluster, method: str, target: str, body: object, code: int
) -> None:
    """A request that makes no sense gets a Status that says so, never a 500."""
    answer = ask(cluster, method, target, body)
    assert answer.code == code
    assert loads(answer.body)["kind"] == "Status"


def test_a_body_in_an_unknown_format_is_415(cluster: TestCluster) -> None:
    """What is neither JSON nor YAML nor described protobuf is not read."""
    target = "/api/v1/namespaces/default/pods"
    answer = ask(cluster, "POST", target, {"a": 1}, **{"content-type": "text/html"})
    assert answer.code == 415
    broken = Gateway(cluster.api, TOKENS.get).answer(
        HttpRequest("POST", target, {"authorization": "Bearer admin"}, b"{")
    )
    assert broken.code == 400


# Webhooks


class Transport:
    """A webhook's answers without a network."""

    def __init__(self, **response: object) -> None:
        self.asked: list[Obj] = []
        self.response = response
        self.silent = False

    def __call__(self, client_config: Obj, body: bytes, seconds: float) -> bytes:
        """Answer a review."""
        request = loads(body)["request"]
        self.asked.append(request)
        if self.silent:
            raise NoAnswerError("nobody listens")
        return dumps({"response": {"uid": request["uid"], "allowed": True, **self.response}})


def webhook(kind: str = "Validating", **changes: object) -> Obj:
    """Return a configuration with one webhook on the creation of configmaps."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    entry = {
        "name": "a.example.com",
        "rules": [rule],
        "clientConfig": {"url": "https://127.0.0.1/"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **changes,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": "a"},
        "webhooks": [entry],
    }


def test_silence_means_what_the_failure_policy_says(build: Build) -> None:
    """Ignore lets the write through, Fail (the default) refuses it with 500."""
    transport = Transport()
    transport.silent = True
    cluster = build(transport=transport)
    cluster.apply(webhook(failurePolicy="Ignore"), CONFIGMAP)
    cluster.apply(webhook())
    with pytest.raises(StatusError, match="failed calling webhook") as refused:
        cluster.apply({**CONFIGMAP, "metadata": {"name": "d"}})
    assert refused.value.code == 500


def test_selectors_and_conditions_choose_what_is_asked(build: Build) -> None:
    """Only objects and namespaces that match, and conditions that hold, reach the webhook."""
    transport = Transport()
    cluster = build(transport=transport)
    wants = {
        "objectSelector": {"matchLabels": {"a": "b"}},
        "namespaceSelector": {"matchExpressions": [{"key": "off", "operator": "DoesNotExist"}]},
        "matchConditions": [
            {"name": "who", "expression": 'request.userInfo.username == "kubernetes-admin"'},
            {"name": "data", "expression": "has(object.data) && object.data.x == 'y'"},
        ],
    }
    cluster.apply(webhook(**wants), CONFIGMAP)
    labelled = {"name": "d", "labels": {"a": "b"}}
    cluster.apply({**CONFIGMAP, "metadata": labelled})
    cluster.apply({**CONFIGMAP, "metadata": {**labelled, "name": "e"}, "data": {"x": "z"}})
    assert transport.asked == []
    cluster.apply({**CONFIGMAP, "metadata": {**labelled, "name": "f"}, "data": {"x": "y"}})
    assert [one["name"] for one in transport.asked] == ["f"]


def test_a_mutating_webhook_mutates(build: Build) -> None:
    """Its JSON patch is part of what is stored."""
    operations = [{"op": "add", "path": "/data", "value": {"added": "yes"}}]
    transport = Transport(patchType="JSONPatch", patch=b64encode(dumps(operations)).decode())
    cluster = build(transport=transport)
    cluster.apply(webhook("Mutating"), CONFIGMAP)
    assert cluster.get("configmaps", "c")["data"] == {"added": "yes"}


def test_a_failure_to_schedule_reaches_the_webhook(build: Build) -> None:
    """The scheduler's Event is created through admission, as system:kube-scheduler, once a pod."""
    transport = Transport()
    cluster = build(transport=transport)
    rule = {
        "apiGroups": ["events.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["events"],
    }
    said_no = (
        'request.userInfo.username == "system:kube-scheduler" && '
        'object.reason == "FailedScheduling" && object.regarding.kind == "Pod"'
    )
    conditions = [{"name": "scheduler-said-no", "expression": said_no}]
    cluster.apply(webhook(rules=[rule], failurePolicy="Ignore", matchConditions=conditions))
    cluster.apply(*[pod(f"p{number}") for number in range(10)])
    cluster.run(5)
    assert sorted(one["object"]["regarding"]["name"] for one in transport.asked) == [
        f"p{number}" for number in range(10)
    ]
    assert {one["object"]["note"] for one in transport.asked} == {
        "no nodes available to schedule pods"
    }


# Patches and quantities


def test_merge_patches_remove_by_null() -> None:
    """RFC 7396: null removes, maps merge, lists are replaced."""
    target = {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    assert merge(target, {"a": {"b": None}, "l": [3]}) == {"a": {"c": 2}, "l": [3]}
    assert target["a"] == {"b": 1, "c": 2}


def test_strategic_directives_do_what_they_say() -> None:
    """$patch, $retainKeys, $deleteFromPrimitiveList and $setElementOrder."""
    have = {
        "spec": {
            "containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}],
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {}},
        },
        "metadata": {"finalizers": ["x", "y"]},
    }
    change = {
        "spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}],
            "containers": [{"name": "c", "image": "2"}, {"name": "a", "$patch": "delete"}],
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        },
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]},
    }
    assert strategic(have, change, Typed()) == {
        "spec": {
            "containers": [{"name": "b", "image": "1"}, {"name": "c", "image": "2"}],
            "strategy": {"type": "Recreate"},
        },
        "metadata": {"finalizers": ["y"]},
    }


def test_json_patch_moves_and_copies() -> None:
    """Move, copy and appending to a list."""
    operations = [
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "move", "from": "/a/x", "path": "/y"},
        {"op": "add", "path": "/l/-", "value": 3},
    ]
    assert json_patch({"a": {"x": 1}, "l": [1]}, operations) == {
        "a": {},
        "b": {"x": 1},
        "y": 1,
        "l": [1, 3],
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("cpu", "100m", 100),
        ("cpu", "1.5", 1500),
        ("cpu", "1u", 1),
        ("memory", "1Gi", 2**30),
        ("memory", "1e3", 1000),
        ("memory", "128974848000m", 128974848),
        ("nvidia.com/gpu", 8, 8),
    ],
)
def test_quantities_are_exact_integers(name: str, text: object, value: int) -> None:
    """CPU in thousandths, the rest in units, rounded up."""
    assert amount(name, text) == value


def test_init_containers_and_sidecars_count_as_the_scheduler_counts() -> None:
    """The larger of the sum with sidecars and each init step on top of the sidecars before it."""

    def asks(cpu: str, **more: str) -> Obj:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "initContainers": [asks("1"), asks("500m", restartPolicy="Always"), asks("2")],
        "containers": [asks("1"), {"resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        "overhead": {"cpu": "100m"},
    }
    assert pod_requests({"spec": spec}) == {"cpu": 2600, "nvidia.com/gpu": 1}


# Ownership


def test_an_update_takes_fields_from_an_applier(cluster: TestCluster) -> None:
    """What somebody else updates is theirs: the next apply of it conflicts and names them."""
    cluster.apply({**CONFIGMAP, "data": {"a": "1", "b": "1"}})
    resource = cluster.api.resource("configmaps")
    key = ("default", "c")
    other = Call(user=User("other"), manager="other")
    cluster.api.patch(resource, key, lambda one: {**one, "data": {**one["data"], "a": "2"}}, other)
    with pytest.raises(StatusError, match=r'conflict with "other" using v1: \.data\.a'):
        cluster.api.apply(
            resource, key, {**CONFIGMAP, "data": {"a": "1"}}, Call(manager="outrider-local")
        )


def test_equal_objects_share_their_ownership(cluster: TestCluster) -> None:
    """Ten pods alike have one set of owned fields in memory."""
    cluster.apply(*[pod(f"p{number}") for number in range(10)])
    entries, _ = cluster.kube.store.entries("pods")
    assert len({id(entry.managers[0].fields) for entry in entries}) == 1


# Defaults


def test_numbers_among_quantities_come_back_as_text(cluster: TestCluster) -> None:
    """`nvidia.com/gpu: 1` is "1" to whoever reads the pod: the official client insists."""
    one = pod("a")
    one["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    cluster.apply(one)
    answer = loads(ask(cluster, "GET", "/api/v1/namespaces/default/pods/a").body)
    assert answer["spec"]["containers"][0]["resources"] == {
        "limits": {"nvidia.com/gpu": "1"},
        "requests": {"nvidia.com/gpu": "1"},
    }
