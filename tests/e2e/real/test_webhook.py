"""What the webhook costs the cluster when its endpoint is ill: nothing that a scheduler would feel.

The API server calls it while somebody writes an Event, and kube-scheduler writes Events beside its
loop. So a pod that fits is bound as fast with a hanging endpoint as without any webhook. That the
measure can see the difference is shown on the webhook that we do not install: one on pods/status,
where the scheduler itself waits.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from outrider.manifests import webhook
from tests.conformance.probe import STRATEGIC, Obj, pod
from tests.e2e.real.admin import Administrator
from tests.e2e.real.plugin import Figure

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
OURS = f"{WEBHOOKS}/{webhook.NAME}"
ROUNDS = 7
GREEDY = 10
SLACK_SECONDS = 0.1  # of a machine that does other things, too
TIMES = 1.5
PLACE = {"outrider.test/place": "yes"}


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


@contextmanager
def only(admin: Administrator, configuration: Obj | None) -> Iterator[None]:
    """Let *configuration* be the one webhook, and put ours back afterwards."""
    kept = admin.send("GET", OURS)
    admin.send("DELETE", OURS)
    if configuration is not None:
        admin.must("POST", WEBHOOKS, configuration)
    try:
        yield
    finally:
        admin.send("DELETE", OURS)
        if kept.status == 200:
            meta = {"name": webhook.NAME, "labels": kept.body["metadata"].get("labels", {})}
            body = {**kept.body, "metadata": meta}
            admin.must("POST", WEBHOOKS, body)


def latency(admin: Administrator, mark: str) -> float:
    """Return the seconds from a fitting pod's creation to its binding, behind greedy ones."""
    asked = {"limits": {"nvidia.com/gpu": "4096"}}
    labels = {"round": mark}
    for number in range(GREEDY):
        greedy = pod(f"{mark}-greedy-{number}", labels=labels, resources=asked)
        admin.must("POST", admin.pods, greedy)
    innocent = f"{mark}-innocent"
    began = time.perf_counter()
    admin.must("POST", admin.pods, pod(innocent, labels=labels, nodeSelector=PLACE))
    admin.until(
        admin.pods,
        lambda one: bool(one["spec"].get("nodeName")),
        fieldSelector=f"metadata.name={innocent}",
    )
    took = time.perf_counter() - began
    admin.must("DELETE", admin.pods, {"gracePeriodSeconds": 0}, labelSelector=f"round={mark}")
    return took


def median(admin: Administrator, mark: str, rounds: int = ROUNDS) -> float:
    """Return the median of some rounds."""
    return statistics.median(latency(admin, f"{mark}-{number}") for number in range(rounds))


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


def test_a_hanging_endpoint_does_not_delay_other_pods(
    installed: Administrator, place: str, figures: Figure
) -> None:
    """The innocent pod is bound within 1.5 times what it takes without a webhook."""
    latency(installed, "warm")
    with only(installed, None):
        without = median(installed, "without")
    hole = BlackHole()
    try:
        with only(installed, webhook.configuration("local", hole.url)):
            hanging = median(installed, "hanging")
        assert hole.calls, "the webhook was never called: nothing was measured"
        with only(installed, on_pod_status(hole.url)):
            rejected = latency(installed, "status")
    finally:
        hole.close()
    with only(installed, webhook.configuration("local", hole.url)):
        dead = median(installed, "dead")
    figures(
        "bind latency of an innocent pod, median",
        f"{without * 1000:.0f} ms without a webhook, {hanging * 1000:.0f} ms with ours hanging"
        f" ({hole.calls} calls swallowed), {dead * 1000:.0f} ms with its port closed,"
        f" {rejected * 1000:.0f} ms with one on pods/status hanging",
    )
    bound = without * TIMES + SLACK_SECONDS
    assert hanging < bound
    assert dead < bound
    assert rejected > bound + 1.0, "the measure would not see a scheduler that waits"
