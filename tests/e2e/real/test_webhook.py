"""What the webhook costs the cluster when its endpoint is ill: nothing that a scheduler would feel.

The API server calls it while somebody writes an Event, and kube-scheduler writes Events beside its
loop. So a pod that fits is bound as fast with a hanging endpoint as without any webhook. That the
measure can see the difference is shown on the webhook that we do not install: one on pods/status,
where the scheduler itself waits. What the API server does send is read as well: Events of refused
pods, and of these our handler keeps nothing but the name of the cluster.
"""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from outrider.flows.webhook import WebhookWorld, answer
from outrider.local.kube.gateway import Answer, HttpRequest
from outrider.local.kube.listener import Authority, Listener
from outrider.manifests import webhook
from tests.conformance.probe import STRATEGIC, Obj, ca_bundle, pod
from tests.e2e.real.admin import Administrator
from tests.e2e.real.plugin import Figure
from tests.support.world import FakeTelemetry

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
OURS = f"{WEBHOOKS}/{webhook.NAME}"
PAIRS = 9
GREEDY = 10
TIMES = 1.5
SERIES = 3
TRIES = 5
PLACE = {"outrider.test/place": "yes"}
SCHEDULER = {"Impersonate-User": "system:kube-scheduler"}
PATIENCE = 30.0


class BlackHole:
    """An endpoint that takes connections and never says a word."""

    def __init__(self) -> None:
        self.calls = 0
        self._held: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}/hint/secret"
        self._thread = threading.Thread(target=self._swallow, daemon=True)
        self._thread.start()

    def _swallow(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.calls += 1
            self._held.append(connection)

    def close(self) -> None:
        """Let everybody go."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5.0)
        for one in self._held:
            one.close()


@pytest.fixture
def place(installed: Administrator) -> Iterator[str]:
    """Give a Ready Node with room for small pods and no GPU."""
    name = f"{installed.namespace}-place"
    meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **PLACE}}
    installed.must("POST", "/api/v1/nodes", {"metadata": meta})
    room = {"cpu": "64", "memory": "256Gi", "pods": "500"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    installed.must("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)
    installed.until(
        "/api/v1/nodes",
        lambda one: not one["spec"].get("taints"),
        fieldSelector=f"metadata.name={name}",
    )
    yield name
    installed.must("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def uninstalled(installed: Administrator) -> Iterator[Administrator]:
    """Take our webhook away, and put it back afterwards."""
    kept = installed.send("GET", OURS)
    installed.send("DELETE", OURS)
    yield installed
    installed.send("DELETE", OURS)
    if kept.status == 200:
        meta = {"name": webhook.NAME, "labels": kept.body["metadata"].get("labels", {})}
        installed.must("POST", WEBHOOKS, {**kept.body, "metadata": meta})


@contextmanager
def calling(admin: Administrator, configuration: Obj, calls: Callable[[], int]) -> Iterator[None]:
    """Let *configuration* be in force, from the first of its *calls* to the last."""
    admin.must("POST", WEBHOOKS, configuration)
    try:
        settled(admin, calls, called=True)
        yield
    finally:
        admin.must("DELETE", OURS)
    settled(admin, calls, called=False)


def settled(admin: Administrator, calls: Callable[[], int], *, called: bool) -> None:
    """Wait until the API server calls, or no longer does: it hears of webhooks by a watch."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = calls()
        told(admin, refusal(admin, "settling"), dryRun="All")
        if (calls() > before) == called:
            return
    raise AssertionError(f"the API server {'does not call' if called else 'still calls'}")


def told(
    admin: Administrator, event: Obj, who: dict[str, str] | None = SCHEDULER, **query: str
) -> None:
    """Write an Event, as the scheduler unless told otherwise."""
    path = admin.in_group("events.k8s.io/v1", "events")
    reply = admin.send("POST", path, event, headers=who, **query)
    assert reply.status == 201, reply


def refusal(admin: Administrator, name: str, **fields: Any) -> Obj:
    """Return the Event of a pod that fits nowhere; *fields* make another of it."""
    return {
        "metadata": {"name": name, "namespace": admin.namespace},
        "eventTime": "2026-03-02T12:00:00.000000Z",
        "type": "Warning",
        "reason": "FailedScheduling",
        "action": "Scheduling",
        "note": "0/1 nodes are available",
        "reportingController": "default-scheduler",
        "reportingInstance": "default-scheduler-e2e",
        "regarding": {"kind": "Pod", "namespace": admin.namespace, "name": "some-pod"},
        **fields,
    }


def latency(admin: Administrator, mark: str, *, awake: bool = True) -> float:
    """Return the seconds from a fitting pod's creation to its binding, behind greedy ones.

    Another that fits goes first where the programs are to be *awake*: what came before a round (a
    second's wait for an endpoint that hangs, or nothing) leaves them more or less so.
    """
    asked = {"limits": {"nvidia.com/gpu": "4096"}}
    labels = {"round": mark}
    for number in range(GREEDY):
        greedy = pod(f"{mark}-greedy-{number}", labels=labels, resources=asked)
        admin.must("POST", admin.pods, greedy)
    first = [f"{mark}-first"] if awake else []
    for name in (*first, f"{mark}-innocent"):
        began = time.perf_counter()
        admin.must("POST", admin.pods, pod(name, labels=labels, nodeSelector=PLACE))
        admin.until(
            admin.pods,
            lambda one: bool(one["spec"].get("nodeName")),
            fieldSelector=f"metadata.name={name}",
        )
        took = time.perf_counter() - began
    admin.must("DELETE", admin.pods, {"gracePeriodSeconds": 0}, labelSelector=f"round={mark}")
    return took


def on_pod_status(url: str) -> Obj:
    """Return the webhook that we do not install, called by the scheduler's own writes."""
    wanted = webhook.configuration("local", url)
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["pods/status"],
        "scope": "Namespaced",
    }
    wanted["webhooks"][0]["rules"] = [rule]
    del wanted["webhooks"][0]["matchConditions"]
    return wanted


@dataclass(slots=True)
class Rounds:
    """Bind latencies without a webhook, with ours hanging, and with nobody at its port."""

    without: list[float] = field(default_factory=list)
    hanging: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    swallowed: int = 0

    def add(self, admin: Administrator, series: int) -> None:
        """Measure some more; with and without take turns, so that a moment's load falls on both."""
        hole = BlackHole()
        try:
            ours = webhook.configuration("local", hole.url)
            for number in range(PAIRS):
                self.without.append(latency(admin, f"without-{series}-{number}"))
                with calling(admin, ours, lambda: hole.calls):
                    self.hanging.append(latency(admin, f"hanging-{series}-{number}"))
            self.swallowed += hole.calls
        finally:
            hole.close()
        admin.must("POST", WEBHOOKS, ours)
        self.refused += [latency(admin, f"refused-{series}-{number}") for number in range(PAIRS)]
        admin.must("DELETE", OURS)
        self.without += [latency(admin, f"after-{series}-{number}") for number in range(PAIRS)]

    def medians(self) -> tuple[float, float, float]:
        """Return the middle of each, in seconds."""
        quiet, sick, refused = map(statistics.median, (self.without, self.hanging, self.refused))
        return quiet, sick, refused


def test_a_hanging_endpoint_does_not_delay_other_pods(
    uninstalled: Administrator, place: str, figures: Figure
) -> None:
    """The innocent pod is bound within 1.5 times what it takes without a webhook.

    Where a machine is so busy that one series does not show it, more rounds tell load from delay.
    """
    admin = uninstalled
    latency(admin, "warm")
    rounds = Rounds()
    for series in range(SERIES):
        rounds.add(admin, series)
        quiet, sick, refused = rounds.medians()
        if max(sick, refused) <= quiet * TIMES:
            break
    with hanging_on_status(admin):
        rejected = latency(admin, "status", awake=False)
    figures(
        "bind latency of an innocent pod, median",
        f"{quiet * 1000:.0f} ms without a webhook, {sick * 1000:.0f} ms with ours hanging"
        f" ({sick / quiet:.2f} times, {rounds.swallowed} calls swallowed), {refused * 1000:.0f} ms"
        f" with its port closed, {rejected * 1000:.0f} ms with one on pods/status hanging;"
        f" {len(rounds.hanging)} rounds",
    )
    assert sick <= quiet * TIMES
    assert refused <= quiet * TIMES
    assert rejected > quiet * TIMES + 1.0, "the measure would not see a scheduler that waits"


@contextmanager
def hanging_on_status(admin: Administrator) -> Iterator[None]:
    """Let the scheduler's own writes hang at a webhook that we do not install."""
    hole = BlackHole()
    try:
        admin.must("POST", WEBHOOKS, on_pod_status(hole.url))
        yield
        admin.must("DELETE", OURS)
    finally:
        hole.close()


class Ear:
    """An endpoint that answers as ours does, and remembers what it was told."""

    def __init__(self) -> None:
        self.reviews: list[Obj] = []
        self.hints: list[str] = []
        self._world = WebhookWorld("local", lambda: ["secret"], self.hints.append, FakeTelemetry())
        authority = Authority("outrider-e2e-ear")
        self._listener = Listener(self._respond, authority)
        self.url = f"https://127.0.0.1:{self._listener.start(0)}/hint/secret"
        self.ca = ca_bundle(authority.pem)

    def _respond(self, request: HttpRequest) -> Answer:
        secret = request.target.partition("?")[0].rpartition("/")[2]
        event = {"pathParameters": {"secret": secret}, "body": request.body.decode()}
        said = answer(event, self._world)
        self.reviews.append(json.loads(request.body))
        return Answer(said["statusCode"], said["body"].encode(), "application/json")

    def close(self) -> None:
        """Stop listening."""
        self._listener.stop()

    def meant(self) -> list[Obj]:
        """Return the questions about Events that somebody meant to write."""
        asked = [one["request"] for one in self.reviews]
        return [one for one in asked if not one["dryRun"]]

    def about(self) -> set[str]:
        """Return the names of those Events, and of what they are about."""
        told = [one["object"] for one in self.meant()]
        names = {one["metadata"]["name"] for one in told}
        return names | {one["regarding"]["name"] for one in told}


def is_heard(admin: Administrator, ear: Ear, name: str) -> bool:
    """Return whether the refusal of a pod with a secret is heard of before its Event is there.

    The API server gives us a second; on a busy machine that is not always enough, and then it lets
    the Event pass without a word.
    """
    keeps_to_itself = pod(name, resources={"limits": {"nvidia.com/gpu": "4096"}})
    main = keeps_to_itself["spec"]["containers"][0]
    main["env"] = [{"name": "PASSWORD", "value": "correct horse"}]
    admin.must("POST", admin.pods, keeps_to_itself)
    admin.until(
        admin.in_group("events.k8s.io/v1", "events"),
        lambda one: one["regarding"].get("name") == name,
    )
    admin.must("DELETE", f"{admin.pods}/{name}", {"gracePeriodSeconds": 0})
    return name in ear.about()


def test_the_webhook_hears_of_refused_pods_and_of_nothing_else(
    uninstalled: Administrator, place: str
) -> None:
    """Other users' Events, other reasons and other objects stay in the cluster, and so do pods."""
    admin, ear = uninstalled, Ear()
    try:
        ours = webhook.configuration("local", ear.url, ca_bundle=ear.ca)
        with calling(admin, ours, lambda: len(ear.reviews)):
            service = {"kind": "Service", "namespace": admin.namespace, "name": "some-service"}
            told(admin, refusal(admin, "by-somebody"), who=None)
            told(admin, refusal(admin, "of-success", reason="Scheduled"))
            told(admin, refusal(admin, "of-a-service", regarding=service))
            assert not ear.about() & {"by-somebody", "of-success", "of-a-service"}
            told(admin, refusal(admin, "of-a-pod"))
            assert "of-a-pod" in ear.about()
            heard = any(is_heard(admin, ear, f"secretive-{number}") for number in range(TRIES))
        assert heard
        assert "correct horse" not in json.dumps(ear.reviews)
        assert ear.hints == ["local"] * len(ear.meant())
        for asked in ear.meant():
            assert asked["userInfo"]["username"] == SCHEDULER["Impersonate-User"]
            assert (asked["operation"], asked["resource"]["resource"]) == ("CREATE", "events")
            assert asked["object"]["reason"] == "FailedScheduling"
            assert asked["object"]["regarding"]["kind"] == "Pod"
            assert not {"spec", "status"} & asked["object"].keys()
    finally:
        ear.close()
