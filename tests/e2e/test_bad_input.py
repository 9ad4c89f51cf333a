"""What is malformed, forged or missing does no harm and says what is wrong.

At the webhook, on the bus and in the manifests, on the embedded cloud; `outrider local up` as a
process (ports, Ctrl-C, a read-only home) is tests/integration/test_cloud_process.py's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from outrider.local.kube.status import StatusError
from tests.support.stack import EVENTS
from tests.support.stage import Stage, node_class, pod, pool, staged

pytestmark = pytest.mark.e2e

UNSCHEDULABLE = json.loads((EVENTS / "pod-unschedulable.json").read_text())
QUEUES = ("HintQueueUrl", "InterruptionQueueUrl")
# What stands where a string should: each of these has been somebody's payload.
ODD: tuple[Any, ...] = (None, 7, [], {}, "", "i-", "\u0000", "x" * 5000, [None])


@pytest.fixture(scope="module")
def theatre() -> Iterator[Stage]:
    """Give the cloud that the tests share."""
    with staged() as stage:
        yield stage


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """Give the shared cloud; afterwards it works as before and nothing was given up on."""
    theatre.begin()
    yield theatre
    assert theatre.errors() == []
    assert theatre.dead_letters() == {}


def review(**changes: Any) -> dict[str, Any]:
    """Return the AdmissionReview that the API server sends for a FailedScheduling Event."""
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "a.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
        "reason": "FailedScheduling",
        "message": "0/1 nodes are available",
    }
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Event"},
        "resource": {"group": "", "version": "v1", "resource": "events"},
        "operation": "CREATE",
        "object": event,
        **changes,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


# --- the webhook ----------------------------------------------------------------------------------


def test_a_good_call_is_allowed_and_becomes_a_hint(stage: Stage) -> None:
    """The answer carries the request's uid, the hint is on the bus."""
    status, body = stage.post(json.dumps(review()).encode())
    response = json.loads(body)["response"]
    assert (status, response["allowed"]) == (200, True)
    assert response["uid"] == review()["request"]["uid"]
    assert len(stage.entries("hint")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b"null",
        b"[]",
        b'{"kind": "AdmissionReview"}',
        b'{"kind": "AdmissionReview", "request": null}',
        b'{"kind": "AdmissionReview", "request": {"uid": 7}}',
        b'{"kind": "Pod", "apiVersion": "v1"}',
        b"[" * 60_000,
        json.dumps(review(object={"pad": "x" * 70_000})).encode(),
    ],
    ids=["empty", "no-utf8", "no-json", "null", "list", "no-request", "null-request", "odd-uid",
         "another-kind", "deep", "over-64-KB"],
)  # fmt: skip
def test_a_malformed_body_is_refused(stage: Stage, body: bytes) -> None:
    """400, or allowed; never an error of ours, never a hint."""
    status, answer = stage.post(body)
    assert status in (200, 400)
    assert status == 400 or json.loads(answer)["response"]["allowed"] is True
    assert not stage.entries("hint")


@pytest.mark.parametrize("place", ["object", "kind", "operation", "uid", "dryRun"])
def test_an_odd_request_is_answered(stage: Stage, place: str) -> None:
    """Whatever stands in a field, the API server gets an answer."""
    for odd in ODD:
        status, _ = stage.post(json.dumps(review(**{place: odd})).encode())
        assert status in (200, 400), (place, odd)


def test_other_events_are_allowed_and_wake_nobody(stage: Stage) -> None:
    """Only a pod's FailedScheduling is a hint, and a dry run is none."""
    scheduled = {**review()["request"]["object"], "reason": "Scheduled"}
    for body in (review(object=scheduled), review(dryRun=True)):
        status, answer = stage.post(json.dumps(body).encode())
        assert (status, json.loads(answer)["response"]["allowed"]) == (200, True)
    assert not stage.entries("hint")


def test_a_forged_token_is_refused(stage: Stage) -> None:
    """Without the secret nothing is said but no, and what was refused is counted."""
    url = stage.cloud.webhook_url
    assert url is not None
    base, _, secret = url.rpartition("/")
    forged = (
        f"{base}/{'0' * len(secret)}",
        f"{base}/{secret[:-1]}",
        f"{base}/{secret}x",
        f"{base}/{secret.upper()}/{secret}",
        f"{base}/",
        base,
        f"{base}/%00",
    )
    before = stage.metric("HintsRefused")
    for address in forged:
        status, answer = stage.post(json.dumps(review()).encode(), url=address)
        assert status in (403, 404), address
        assert secret.encode() not in answer
    assert stage.metric("HintsRefused") > before
    assert not stage.entries("hint")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_is_no_hint(stage: Stage, method: str) -> None:
    """The route is POST's alone."""
    status, _ = stage.post(json.dumps(review()).encode(), method=method)
    assert status in (403, 404, 405)
    assert not stage.entries("hint")


# --- the bus and the queues -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_a_malformed_event_is_let_go(stage: Stage, name: str) -> None:
    """Every payload under events/ with each of its fields spoilt, or gone, ends nowhere."""
    payload = json.loads((EVENTS / f"{name}.json").read_text())
    for field in payload["detail"]:
        rest = {key: value for key, value in payload["detail"].items() if key != field}
        for detail in (rest, *({**payload["detail"], field: odd} for odd in ODD[:6])):
            stage.cloud.put_event({**payload, "detail": detail})
    stage.cloud.put_event({**payload, "detail": {}})
    stage.cloud.run(90)
    assert not stage.entries("terminate")


@pytest.mark.parametrize("queue", QUEUES)
def test_a_malformed_message_is_acknowledged(stage: Stage, queue: str) -> None:
    """Text, numbers and lists in a queue of ours are gone after one try."""
    assert stage.cloud.stack is not None
    url = stage.cloud.stack.outputs[queue]
    fifo = {"MessageGroupId": "local"} if url.endswith(".fifo") else {}
    for number, body in enumerate(("text", "7", "[]", "null", '{"detail": 3}', "{")):
        unique = {"MessageDeduplicationId": f"{number}"} if fifo else {}
        stage.cloud.client("sqs").send_message(QueueUrl=url, MessageBody=body, **fifo, **unique)
    stage.cloud.run(30)
    assert stage.cloud.pollers.depth(url.rpartition("/")[2])[0] == 0


# --- manifests ------------------------------------------------------------------------------------


def refusal(stage: Stage, manifest: dict[str, Any]) -> str:
    """Return why the API server does not take a manifest."""
    with pytest.raises(StatusError) as caught:
        stage.apply(manifest)
    return str(caught.value)


def test_manifests_that_do_not_validate_are_refused_with_their_field(stage: Stage) -> None:
    """The CRDs say which field is wrong, as Karpenter's do."""
    wrong = pool("wrong")
    wrong["spec"]["disruption"]["consolidateAfter"] = "soon"
    assert "spec.disruption.consolidateAfter" in refusal(stage, wrong)
    several = node_class("several", amiSelectorTerms=[])
    assert "spec.amiSelectorTerms" in refusal(stage, several)
    valueless = pool("valueless")
    nothing = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": []}
    valueless["spec"]["template"]["spec"]["requirements"].append(nothing)
    assert "spec.template.spec.requirements" in refusal(stage, valueless)


def test_one_poison_object_stops_nobody(stage: Stage) -> None:
    """An object that does not parse is left out and counted; the pods beside it run."""
    poison = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "poison", "namespace": "default"},
        "spec": {"minAvailable": "lots", "selector": {"matchLabels": {"app": "poison"}}},
    }
    before = stage.metric("InvalidObjects")
    stage.apply(poison, pool("sound"), pod("good", "sound"))
    stage.expect_running("good")
    assert stage.metric("InvalidObjects") > before
    stage.clear()


def test_a_missing_node_class_is_said_on_the_pool_and_on_the_pod(stage: Stage) -> None:
    """Nothing is launched, and whoever looks finds the reason; with the class it goes on."""
    stage.apply(pool("orphan", node_class="nowhere"), pod("b", "orphan"))
    stage.cloud.run(130)
    assert not stage.entries("createFleet")
    assert stage.decided("PlanMade")[-1]["unschedulable"] == ["default/b"]
    assert any("nowhere" in one["message"] for one in stage.told("FailedScheduling", "b"))
    assert "nowhere" in not_ready(stage, "nodepools.karpenter.sh", "orphan")
    stage.apply(node_class("nowhere"))
    stage.expect_running("b")
    stage.clear()


def test_a_role_that_was_not_listed_is_not_passed(stage: Stage) -> None:
    """A node class with a role that the stack may not pass is NotReady and launches nothing."""
    stage.apply(node_class("grasping", role="Admin"), pool("grasping", node_class="grasping"))
    stage.apply(pod("c", "grasping"))
    stage.cloud.run(130)
    assert not stage.entries("createFleet")
    said = not_ready(stage, "ec2nodeclasses.karpenter.k8s.aws", "grasping")
    assert "Admin" in said
    assert "NodeRoleArns" in said
    stage.clear()


def not_ready(stage: Stage, storage: str, name: str) -> str:
    """Return the messages of an object's conditions that do not hold."""
    found = stage.get(storage, name)
    assert found is not None
    conditions = found["status"]["conditions"]
    assert any(one["type"] == "Ready" and one["status"] != "True" for one in conditions)
    return " ".join(one.get("message", "") for one in conditions if one["status"] != "True")


def test_a_body_in_base64_is_read(stage: Stage) -> None:
    """API Gateway encodes what it takes for binary; what is no base64 is refused."""
    function = stage.function("webhook")
    url = stage.cloud.webhook_url
    assert url is not None
    event = {
        "pathParameters": {"secret": url.rpartition("/")[2]},
        "isBase64Encoded": True,
        "body": base64.b64encode(json.dumps(review()).encode()).decode(),
    }
    assert stage.cloud.functions.invoke(function, event).payload["statusCode"] == 200
    assert len(stage.entries("hint")) == 1
    spoilt = {**event, "body": "%%%"}
    assert stage.cloud.functions.invoke(function, spoilt).payload["statusCode"] == 400
