"""The whole of it: the repository's own template, functions and state machines on the embedded
cloud.

A pod waits, is hinted, planned, launched and run; its node is interrupted and survived; an image
that is pushed becomes a seed. Nothing is faked but AWS and Kubernetes themselves, on discrete time.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outrider.local.clock import DiscreteClock
from outrider.local.cloud import Cloud
from outrider.local.demo.push import announce, put_image, reference
from outrider.local.timeline import Entry

pytestmark = pytest.mark.integration

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
DISCOVERY = [{"tags": {"karpenter.sh/discovery": "local"}}]
NODE_CLASS: dict[str, Any] = {
    "apiVersion": "karpenter.k8s.aws/v1",
    "kind": "EC2NodeClass",
    "metadata": {"name": "gpu"},
    "spec": {
        "role": "outrider-local-node",
        "amiSelectorTerms": [{"alias": "al2023@latest"}],
        "subnetSelectorTerms": DISCOVERY,
        "securityGroupSelectorTerms": DISCOVERY,
    },
}
NODE_POOL: dict[str, Any] = {
    "apiVersion": "karpenter.sh/v1",
    "kind": "NodePool",
    "metadata": {"name": "gpu"},
    "spec": {
        "template": {
            "spec": {
                "nodeClassRef": {
                    "group": "karpenter.k8s.aws",
                    "kind": "EC2NodeClass",
                    "name": "gpu",
                },
                "requirements": [
                    {
                        "key": "karpenter.sh/capacity-type",
                        "operator": "In",
                        "values": ["spot", "on-demand"],
                    },
                    {
                        "key": "node.kubernetes.io/instance-type",
                        "operator": "In",
                        "values": ["g6.xlarge", "g5.xlarge", "g6.2xlarge"],
                    },
                ],
            }
        },
        "disruption": {
            "consolidationPolicy": "WhenEmpty",
            "consolidateAfter": "10m",
            "budgets": [{"nodes": "100%"}],
        },
    },
}


def pod(name: str, image: str = "registry.example/app:1") -> dict[str, Any]:
    """Return a pod that wants a GPU."""
    resources = {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": image, "resources": resources}]},
    }


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Give the embedded cloud with the application deployed, a node class and a pool."""
    clock = DiscreteClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    with Cloud(template=TEMPLATE, clock=clock) as running:
        running.kube.apply(NODE_CLASS, NODE_POOL)
        running.run(60)
        yield running


def seen(cloud: Cloud, kind: str, **fields: Any) -> list[Entry]:
    """Return the happenings of a kind."""
    return [
        entry
        for entry in cloud.timeline.entries()
        if entry["kind"] == kind and fields.items() <= entry.items()
    ]


def running(cloud: Cloud, *names: str) -> bool:
    """Return whether each of the pods has come to run."""
    started = {entry["pod"] for entry in seen(cloud, "podRunning")}
    return {f"default/{name}" for name in names} <= started


def test_a_pending_pod_becomes_a_running_one(cloud: Cloud) -> None:
    """Hint to CreateFleet within two seconds, then a node, then the pod on it."""
    cloud.kube.apply(pod("a"))
    assert cloud.run(300, lambda: running(cloud, "a"))
    (pending,) = seen(cloud, "podPending")
    (fleet,) = seen(cloud, "createFleet")
    assert fleet["at"] - pending["at"] < 2
    kinds = [entry["kind"] for entry in cloud.timeline.entries()]
    story = ["podPending", "hint", "createFleet", "nodeJoined", "nodeReady", "podBound"]
    assert sorted(story, key=kinds.index) == story
    assert not any(state == "ALARM" for state in cloud.alarms.states().values())


def test_an_empty_pool_is_answered_with_the_next_in_the_same_second(cloud: Cloud) -> None:
    """Insufficient Spot capacity costs no minute: on-demand is asked for at once."""
    cloud.faults.set(
        {"insufficientCapacity": [{"instanceType": "*", "zone": "*", "capacityType": "spot"}]}
    )
    cloud.kube.apply(pod("a"))
    assert cloud.run(300, lambda: running(cloud, "a"))
    fleets = seen(cloud, "createFleet")
    assert fleets[0]["errors"]
    assert fleets[-1]["launched"]
    assert fleets[-1]["at"] - fleets[0]["at"] < 1


def test_an_interruption_is_survived(cloud: Cloud) -> None:
    """The replacement is launched first, the pod evicted when it is there, the machine
    given back.
    """
    cloud.kube.apply(pod("a"))
    assert cloud.run(300, lambda: running(cloud, "a"))
    (instance,) = (entry["id"] for entry in seen(cloud, "instance", state="running"))
    cloud.reclaim.interrupt(instance)
    assert cloud.run(130, lambda: bool(seen(cloud, "terminate", instance=instance)))
    (evicted,) = seen(cloud, "evict")
    joined = seen(cloud, "nodeJoined")
    assert len(joined) == 2
    assert joined[1]["at"] < evicted["at"] < seen(cloud, "terminate", instance=instance)[0]["at"]
    (gone,) = seen(cloud, "podGone")
    assert gone["how"] == "exited after SIGTERM"
    cloud.run(30)
    assert [entry["status"] for entry in seen(cloud, "execution")] == ["RUNNING", "SUCCEEDED"]


def test_an_image_push_becomes_a_seed(cloud: Cloud) -> None:
    """A builder pulls, powers off and leaves a snapshot; the next node's volume is made of it."""
    layers = (3_000_000_000, 2_000_000_000)
    put_image(cloud, "ml/trainer", "v1", layers)
    cloud.kube.apply(pod("a", reference("ml/trainer", "v1")))
    assert cloud.run(300, lambda: running(cloud, "a"))
    announce(cloud, "ml/trainer", "v2", put_image(cloud, "ml/trainer", "v2", layers))
    assert cloud.run(900, lambda: bool(seen(cloud, "execution", status="SUCCEEDED")))
    (done,) = seen(cloud, "snapshot", state="completed")
    cloud.kube.apply(pod("b", reference("ml/trainer", "v2")))
    assert cloud.run(300, lambda: running(cloud, "b"))
    ec2 = cloud.client("ec2")
    volumes = ec2.describe_volumes(Filters=[{"Name": "snapshot-id", "Values": [done["id"]]}])
    assert len(volumes["Volumes"]) == 1


def test_the_webhook_is_only_open_to_who_knows_its_secret(cloud: Cloud) -> None:
    """A wrong or missing secret is refused, garbage is no error of ours."""

    def post(url: str, body: bytes) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    url = cloud.webhook_url
    assert url is not None
    base = url.rpartition("/")[0]
    assert post(f"{base}/{'0' * 32}", b"{}") in (403, 404)
    assert post(base, b"{}") in (403, 404)
    assert post(url, b"no json") in (200, 400)
    assert post(url, b"x" * 100_000) in (200, 400, 413)


def test_the_same_seed_gives_the_same_run() -> None:
    """Two clouds with one seed tell the same story, to the millisecond."""

    def story() -> list[Entry]:
        clock = DiscreteClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
        with Cloud(template=TEMPLATE, clock=clock, seed=7) as cloud:
            cloud.kube.apply(NODE_CLASS, NODE_POOL, pod("a"), pod("b"))
            cloud.run(180)
            return cloud.timeline.entries()

    assert story() == story()


def test_every_payload_under_events_is_taken(cloud: Cloud) -> None:
    """Each can be put as it is, about machines that are nobody's, and none ends as a dead
    letter.
    """
    assert cloud.stack is not None
    for path in sorted((TEMPLATE.parent / "events").glob("*.json")):
        cloud.put_event(json.loads(path.read_text()))
    cloud.run(120)
    dead = cloud.stack.outputs["DeadLetterQueueUrls"].split(",")
    assert {url: cloud.pollers.depth(url.rpartition("/")[2])[0] for url in dead} == dict.fromkeys(
        dead, 0
    )
