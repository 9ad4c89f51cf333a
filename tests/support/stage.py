"""A stage for stories: the embedded cloud on discrete time, with a person's few moves and looks.

`Stage` applies manifests, lets time pass until something holds, and reads what happened: the
timeline, the decisions that were published, the objects of the cluster. Since a cloud takes seconds
to start, stories share one: each gets pools, pods and a position in the history of its own, and
`clear` leaves an empty cluster behind. Not faked: nothing but AWS and Kubernetes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib import error, request

from outrider.apis import labels
from outrider.local.clock import DiscreteClock
from outrider.local.cloud import Cloud
from outrider.local.functions import Function, Outcome
from outrider.local.kube.client import LocalClient
from outrider.local.kube.objects import User
from outrider.local.timeline import Entry
from tests.support import decisions

Json = dict[str, Any]
Decision = tuple[float, str, Json]

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
DISCOVERY = [{"tags": {"karpenter.sh/discovery": "local"}}]
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}
TYPES = ("g5.xlarge", "g6.xlarge", "g6.2xlarge")
FOUR_GPUS = ("g5.12xlarge", "g6.12xlarge")  # one node of these holds a whole Deployment
PRECIOUS = {labels.DO_NOT_DISRUPT: "true"}
NAMESPACED = ("deployments.apps", "pods", "poddisruptionbudgets.policy")


@dataclass
class Stage:
    """One embedded cloud, and where the present story began."""

    cloud: Cloud
    since: int = 0
    decisions: list[Decision] = field(default_factory=list)
    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen to what is decided and to how functions end."""
        self.cloud.router.listeners.append(self._decided)
        known = self.cloud.functions.on_outcome

        def ran(function: Function, outcome: Outcome) -> None:
            self.outcomes.append((function.logical_id.removesuffix("Function").lower(), outcome))
            known(function, outcome)

        self.cloud.functions.on_outcome = ran
        self._client = LocalClient(
            self.cloud.kube.api, User("person", ("system:masters",)), "person"
        )

    # --- moves ------------------------------------------------------------------------------------

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or update objects as an administrator."""
        self.cloud.kube.apply(*(dict(one) for one in objects))

    def patch(self, storage: str, name: str, body: Json, namespace: str = "") -> None:
        """Lay a strategic merge patch over an object."""
        self._client.patch(storage, (namespace, name), body)

    def delete(self, storage: str, name: str, namespace: str = "") -> None:
        """Delete an object."""
        self._client.delete(storage, (namespace, name))

    def begin(self) -> None:
        """Forget what happened until now: a story begins."""
        self.since = len(self.cloud.timeline.entries())
        self.decisions.clear()
        self.outcomes.clear()

    def clear(self) -> None:
        """End every fault, take everything off the cluster and wait until it is gone."""
        self.cloud.faults.set({})
        self.cloud.router.listeners[:] = [self._decided]
        for storage in NAMESPACED:
            for one in self.all(storage):
                meta = one["metadata"]
                if meta["namespace"] == "default":
                    self.delete(storage, meta["name"], "default")
        for storage in ("nodepools.karpenter.sh", "nodeclaims.karpenter.sh"):
            for one in self.all(storage):
                self.delete(storage, one["metadata"]["name"])
        self.expect("an empty cluster", 900, lambda: not self._left() and not self.machines())

    def tick(self, flow: str) -> None:
        """Let a schedule's moment come now."""
        detail = {"cluster": "local", "flow": flow}
        self.cloud.put_event({"source": "outrider.ticks", "detail-type": "Tick", "detail": detail})

    def function(self, name: str) -> Function:
        """Return a function of the stack by its short name."""
        wanted = f"{name}function"
        found = [
            one
            for one in self.cloud.functions.functions.values()
            if one.logical_id.lower() == wanted
        ]
        return found[0]

    def update_stack(self, **variables: str) -> dict[str, str]:
        """Change variables of every function, as a stack update does; return what they were."""
        before: dict[str, str] = {}
        for one in self.cloud.functions.functions.values():
            before |= {key: one.environment.get(key, "") for key in variables}
            one.environment = {**one.environment, **variables}
        self.cloud.functions.forget()
        return before

    @contextmanager
    def mode(self, mode: str) -> Iterator[None]:
        """Run the stack in another Mode for a while."""
        before = self.update_stack(OUTRIDER_MODE=mode)
        try:
            yield
        finally:
            self.update_stack(**before)

    @contextmanager
    def without_webhook(self) -> Iterator[None]:
        """Take the webhook's configuration away for a while."""
        storage = "validatingwebhookconfigurations.admissionregistration.k8s.io"
        kept = self.all(storage)
        for one in kept:
            self.delete(storage, one["metadata"]["name"])
        try:
            yield
        finally:
            for one in kept:
                meta = {
                    key: one["metadata"][key]
                    for key in ("name", "labels", "annotations")
                    if key in one["metadata"]
                }
                self.apply({**one, "metadata": meta})

    # --- time -------------------------------------------------------------------------------------

    def expect(
        self, promise: str, seconds: float, holds: Callable[[], Any], *, every: float = 0.5
    ) -> None:
        """Let at most *seconds* pass until *holds*, looking now and then; fail with the *promise*
        and what happened last.
        """
        end = self.cloud.timeline.at() + seconds
        while not holds():
            if self.cloud.timeline.at() >= end:
                last = "\n".join(str(entry)[:200] for entry in self.entries()[-25:])
                raise AssertionError(f"not within {seconds:g} s: {promise}\n{last}")
            self.cloud.run(every)

    def expect_running(self, *pods: str, seconds: float = 300) -> None:
        """Let the named pods of the namespace default come to run."""
        self.expect(f"{', '.join(pods)} run", seconds, lambda: self.run_now(*pods))

    # --- looks ------------------------------------------------------------------------------------

    def entries(self, kind: str = "", **fields: Any) -> list[Entry]:
        """Return what happened in this story, of one *kind* and with these *fields*."""
        return [
            entry
            for entry in self.cloud.timeline.entries(self.since)
            if kind in {"", entry["kind"]} and fields.items() <= entry.items()
        ]

    def decided(self, kind: str) -> list[Json]:
        """Return the details of the decisions of *kind* that were published."""
        return [detail for _, name, detail in self.decisions if name == kind]

    def decided_at(self, kind: str) -> float:
        """Return when the first decision of *kind* was published."""
        return next(at for at, name, _ in self.decisions if name == kind)

    def get(self, storage: str, name: str, namespace: str = "") -> Json | None:
        """Return an object, None where there is none."""
        return self._client.get(storage, (namespace, name))

    def all(self, storage: str) -> list[Json]:
        """Return every object of a kind."""
        return list(self.cloud.kube.store.objects(storage))

    def pods(self, **wanted: str) -> list[Json]:
        """Return the pods of the namespace default with these labels that are not leaving."""
        return [
            one
            for one in self.all("pods")
            if one["metadata"]["namespace"] == "default"
            and wanted.items() <= (one["metadata"].get("labels") or {}).items()
            and "deletionTimestamp" not in one["metadata"]
        ]

    def running(self, **wanted: str) -> int:
        """Return how many pods of the namespace default with these labels run."""
        return sum(one["status"].get("phase") == "Running" for one in self.pods(**wanted))

    def run_now(self, *names: str) -> bool:
        """Return whether each of the named pods of the namespace default runs."""
        found = [self.get("pods", name, "default") for name in names]
        return all(one and one["status"].get("phase") == "Running" for one in found)

    def node_of(self, pod: str) -> Json:
        """Return the Node that a pod of the namespace default is bound to."""
        found = self.get("pods", pod, "default")
        assert found is not None, pod
        node = self.get("nodes", found["spec"]["nodeName"])
        assert node is not None, found["spec"]["nodeName"]
        return node

    def claims(self, pool: str = "") -> list[Json]:
        """Return the NodeClaims, of one *pool*."""
        return [
            one
            for one in self.all("nodeclaims.karpenter.sh")
            if not pool or one["metadata"]["labels"].get(labels.NODEPOOL) == pool
        ]

    def machines(self) -> list[Json]:
        """Return the instances of NodeClaims that EC2 is paid for."""
        pages = self.cloud.client("ec2").get_paginator("describe_instances")
        found = pages.paginate(
            Filters=[
                {"Name": "tag-key", "Values": [labels.NODEPOOL]},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
        )
        return [
            one for page in found for group in page["Reservations"] for one in group["Instances"]
        ]

    def told(self, reason: str, name: str = "") -> list[Json]:
        """Return the Kubernetes Events of a *reason*, about one object, that are ours."""
        return [
            one
            for one in self.all("events")
            if one.get("reason") == reason and name in {"", one["involvedObject"]["name"]}
        ]

    def metric(self, name: str) -> float:
        """Return the sum of a metric's values since the cloud started."""
        key = ("Outrider", name, (("Cluster", "local"),))
        return sum(value for _, value in self.cloud.metrics.points.get(key, ()))

    def post(
        self, body: bytes, *, url: str | None = None, method: str = "POST"
    ) -> tuple[int, bytes]:
        """Call the webhook over HTTP; return the status and the answer."""
        target = url or self.cloud.webhook_url
        assert target is not None
        asked = request.Request(target, body or None, method=method)
        try:
            with request.urlopen(asked, timeout=10) as answer:
                return int(answer.status), answer.read()
        except error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    def dead_letters(self) -> dict[str, int]:
        """Return the depth of each dead-letter queue that holds anything."""
        assert self.cloud.stack is not None
        names = [
            url.rpartition("/")[2]
            for url in self.cloud.stack.outputs["DeadLetterQueueUrls"].split(",")
        ]
        return {name: depth for name in names if (depth := self.cloud.pollers.depth(name)[0])}

    def errors(self) -> list[str]:
        """Return how functions failed in this story, kills left out."""
        return [
            f"{name}: {outcome.error['errorType']}: {outcome.error['errorMessage']}"
            for name, outcome in self.outcomes
            if outcome.error is not None and outcome.error["errorType"] != "Runtime.ExitError"
        ]

    def alarm(self, logical_id: str) -> str:
        """Return the state of an alarm."""
        states = self.cloud.alarms.states()
        return next(state for name, state in states.items() if f"-{logical_id}-" in name)

    def _left(self) -> bool:
        nodes = [one for one in self.all("nodes") if labels.NODEPOOL in one["metadata"]["labels"]]
        return bool(nodes or self.claims() or self.pods())

    def _decided(self, bus: str, event: Mapping[str, Any]) -> None:
        if bus.startswith("outrider-"):
            detail = json.loads(json.dumps(event["detail"]))
            decisions.check(event["detail-type"], detail)
            self.decisions.append((self.cloud.timeline.at(), event["detail-type"], detail))


@contextmanager
def staged(seed: int = 0, **parameters: str) -> Iterator[Stage]:
    """Give a stage with the application deployed and a node class called gpu."""
    clock = DiscreteClock(START)
    with Cloud(template=TEMPLATE, clock=clock, seed=seed, parameters=parameters) as cloud:
        stage = Stage(cloud)
        stage.apply(node_class())
        cloud.run(2)
        stage.begin()
        yield stage


def spot_node(stage: Stage, story: str) -> str:
    """Run a guarded Deployment and a precious pod on one Spot node; return its instance."""
    stage.apply(
        pool(story, types=FOUR_GPUS, capacity=("spot",)),
        budget(story, minAvailable=1),
        deployment(story, story, 2),
        deployment("precious", story, 1, annotations=PRECIOUS, terminationGracePeriodSeconds=20),
    )
    stage.expect("three pods run", 300, lambda: stage.running() == 3)
    (machine,) = stage.machines()
    return str(machine["InstanceId"])


def node_class(name: str = "gpu", **spec: Any) -> Json:
    """Return an EC2NodeClass of the embedded account."""
    return {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": name},
        "spec": {
            "amiSelectorTerms": [{"alias": "al2023@latest"}],
            "role": "outrider-local-node",
            "subnetSelectorTerms": DISCOVERY,
            "securityGroupSelectorTerms": DISCOVERY,
            **spec,
        },
    }


def pool(
    name: str,
    *,
    types: tuple[str, ...] = TYPES,
    capacity: tuple[str, ...] = ("spot", "on-demand"),
    after: str = "Never",
    budgets: list[Json] | None = None,
    annotations: Mapping[str, str] | None = None,
    node_class: str = "gpu",
    **spec: Any,
) -> Json:
    """Return a NodePool of GPU nodes that only pods of its own name ask for."""
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": {
            "template": {
                "metadata": {"labels": {"story": name}},
                "spec": {
                    "nodeClassRef": {
                        "group": "karpenter.k8s.aws",
                        "kind": "EC2NodeClass",
                        "name": node_class,
                    },
                    "taints": [GPU_TAINT],
                    "requirements": [
                        {
                            "key": "node.kubernetes.io/instance-type",
                            "operator": "In",
                            "values": list(types),
                        },
                        {
                            "key": "karpenter.sh/capacity-type",
                            "operator": "In",
                            "values": list(capacity),
                        },
                    ],
                    **spec,
                },
            },
            "disruption": {
                "consolidationPolicy": "WhenEmptyOrUnderutilized",
                "consolidateAfter": after,
                "budgets": budgets or [{"nodes": "100%"}],
            },
        },
    }


def pod(name: str, story: str, *, image: str = "registry.example/app:1", **more: Any) -> Json:
    """Return a pod that wants a GPU of the pool *story*; *more* goes into metadata and spec."""
    meta = {key: more.pop(key) for key in ("labels", "annotations") if key in more}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **meta},
        "spec": pod_spec(story, image=image, **more),
    }


def pod_spec(story: str, *, image: str = "registry.example/app:1", **more: Any) -> Json:
    """Return the spec of a pod that wants a GPU of the pool *story*."""
    resources = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"nvidia.com/gpu": 1}}
    return {
        "nodeSelector": {"story": story},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [{"name": "main", "image": image, "resources": resources}],
        **more,
    }


def deployment(name: str, story: str, replicas: int, **more: Any) -> Json:
    """Return a Deployment of such pods, labelled `app`."""
    annotations = more.pop("annotations", {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": pod_spec(story, **more),
            },
        },
    }


def budget(app: str, **spec: Any) -> Json:
    """Return a PodDisruptionBudget over the pods of a Deployment."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}, **spec},
    }


def karpenter_lease(stage: Stage) -> Json:
    """Return the Lease of a Karpenter that is live now."""
    now = stage.cloud.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "karpenter-leader-election", "namespace": "kube-system"},
        "spec": {
            "holderIdentity": "karpenter-0",
            "leaseDurationSeconds": 15,
            "acquireTime": now,
            "renewTime": now,
        },
    }
