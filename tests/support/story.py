"""A story on the embedded cloud: manifests in, time passes, the timeline tells what happened.

The cloud is the real one (template.yaml, handlers, state machines), on discrete time, so that
minutes cost seconds and every run is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from outrider.local.clock import DiscreteClock
from outrider.local.cloud import Cloud

ROOT = Path(__file__).parents[2]
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
POOL = ROOT / "examples" / "nodepools" / "general.yaml"


class Story:
    """One cluster, from the first pod to the last assertion."""

    def __init__(self, **parameters: str) -> None:
        self.clock = DiscreteClock(START)
        self._deployed: dict[str, Any] = {}
        self.cloud = Cloud(template=ROOT / "template.yaml", clock=self.clock, parameters=parameters)

    def __enter__(self) -> Self:
        """Bring the cloud up, with the NodePool for general work."""
        self.cloud.start()
        try:
            self.apply(*yaml.safe_load_all(POOL.read_text()))
        except BaseException:
            self.cloud.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it down."""
        self.cloud.stop()

    @property
    def kube(self) -> Any:
        """Return the embedded API server."""
        return self.cloud.kube

    def apply(self, *documents: Any) -> None:
        """Apply manifests, empty documents left out."""
        given = [document for document in documents if document]
        self._deployed |= {
            one["metadata"]["name"]: one for one in given if one["kind"] == "Deployment"
        }
        self.kube.apply(*given)

    def forget(self) -> None:
        """Let what was deployed and what it ran on be gone, and the faults too."""
        self.cloud.faults.set({})
        self.apply(
            *({**one, "spec": {**one["spec"], "replicas": 0}} for one in self._deployed.values())
        )
        self.cloud.run(30)
        self.cloud.client("ec2").terminate_instances(InstanceIds=self.instances())
        assert self.cloud.run(300, until=lambda: not self.objects("nodeclaims.karpenter.sh"))

    def objects(self, storage: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return the stored objects of one kind."""
        resource = self.kube.api.resource(storage)
        entries, _ = self.kube.api.select(resource, namespace, None, None)
        return [entry.object for entry in entries]

    def running(self, app: str) -> list[dict[str, Any]]:
        """Return the pods of an app that run and are not leaving."""
        return [
            pod
            for pod in self.objects("pods", "default")
            if pod["metadata"]["labels"].get("app") == app
            and pod["status"].get("phase") == "Running"
            and not pod["metadata"].get("deletionTimestamp")
        ]

    def run(self, seconds: float, app: str, pods: int) -> None:
        """Let time pass until *pods* pods of an app run."""
        assert self.cloud.run(seconds, until=lambda: len(self.running(app)) == pods), self.tail()

    def instances(self) -> list[str]:
        """Return the instances that run."""
        found = self.cloud.client("ec2").describe_instances(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        )
        return [
            entry["InstanceId"]
            for reservation in found["Reservations"]
            for entry in reservation["Instances"]
        ]

    def instance_of(self, pod: dict[str, Any]) -> str:
        """Return the instance on which a pod runs."""
        nodes = {node["metadata"]["name"]: node for node in self.objects("nodes")}
        provider: str = nodes[pod["spec"]["nodeName"]]["spec"]["providerID"]
        return provider.rpartition("/")[2]

    def put(self, payload: str, instance: str) -> float:
        """Put a shipped payload about an instance; return when that was on the timeline."""
        event = json.loads((ROOT / "events" / f"{payload}.json").read_text())
        event["detail"]["instance-id"] = instance
        event["time"] = self.clock.now().isoformat()
        event.pop("id", None)
        at: float = self.cloud.timeline.at()
        self.cloud.put_event(event)
        return at

    def told(self, kind: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Return the timeline's entries of one kind."""
        entries: Iterable[dict[str, Any]] = self.cloud.timeline.entries()
        return [entry for entry in entries if entry["kind"] == kind and entry["at"] >= since]

    def tail(self) -> str:
        """Return the end of the timeline, for a failing assertion."""
        return "\n".join(json.dumps(entry)[:200] for entry in self.cloud.timeline.entries()[-40:])


def deployment(name: str, replicas: int, cpu: str, grace: int = 30, **annotations: str) -> Any:
    """Return a Deployment of small services."""
    container = {
        "name": "c",
        "image": "registry.example/service:1",
        "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {"terminationGracePeriodSeconds": grace, "containers": [container]},
            },
        },
    }


def closed_budget(app: str) -> Any:
    """Return a PodDisruptionBudget that never lets a pod go."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": app}}},
    }
