"""The demo's story: one chapter a promise, each told while it happens.

Pods arrive and the webhook fires; a plan is made and its fleet created; nodes join and pods run;
a Spot instance is taken back and its pods move in time; load falls and the cluster shrinks; an
image is pushed, seeded, and the next node starts with it. Every chapter waits for what it promises
and says so when it does not come: a demo that cannot fail shows nothing.

The clock is discrete: minutes of the cluster take seconds of yours, and two runs with the same seed
are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from outrider.core.scheduling.result import Plan
from outrider.core.seeding import estimate
from outrider.core.seeding.images import UNPACKED_FACTOR
from outrider.errors import OutriderError
from outrider.local.cloud import Cloud
from outrider.local.demo.charts import clock_text
from outrider.local.demo.push import announce, put_image, reference
from outrider.local.demo.record import NodeLife, PodLife, Record
from outrider.local.demo.recorder import Recorder
from outrider.local.demo.view import View

TITLE = "outrider: a cluster's morning in one minute"
GIB = 1024**3
TRAINING = "gpu-training"
TRAINER = ("ml/trainer", "v42", (3 * GIB, 5 * GIB, 2 * GIB + GIB // 2))
PREPROCESS = ("ml/preprocess", "v7", (GIB // 2, GIB // 4))
# Sizes of the public images that the examples name, compressed, as their registries list them.
PUBLIC_IMAGES = {
    "vllm/vllm-openai": 9.4,
    "nvcr.io/nvidia/tritonserver": 8.2,
    "ghcr.io/huggingface/text-embeddings-inference": 1.1,
    "quay.io/jupyter/pytorch-notebook": 5.3,
    "qdrant/qdrant": 0.07,
    "envoyproxy/envoy": 0.06,
    "quay.io/feastdev/feature-server": 0.6,
}


class Audience(Protocol):
    """Who the story is told to: a terminal, or a test."""

    def chapter(self, title: str) -> None:
        """Begin a chapter."""

    def say(self, text: str) -> None:
        """Tell one line."""

    def progress(self, record: Record) -> None:
        """Show how things stand; called often."""


class PromiseBroken(OutriderError):
    """Something that the demo is there to show did not happen."""


@dataclass
class Story:
    """One telling, on one cloud that has just started."""

    cloud: Cloud
    examples: Path
    audience: Audience
    recorder: Recorder = field(init=False)
    view: View = field(init=False)

    def tell(self) -> Record:
        """Tell the whole story and return its record."""
        self.recorder = Recorder(self.cloud, TITLE)
        self.view = View(self.cloud)
        self._pods_arrive()
        self._interruption()
        self._consolidation()
        self._seed()
        return self._close()

    def _pods_arrive(self) -> None:
        audience = self.audience
        audience.chapter("Pods arrive, and no node is there")
        self._fill_registries()
        for folder in ("00-system", "nodepools"):
            self.view.apply(self.examples / folder)
        self.recorder.daemons = self.view.daemon_sets()
        self._wait("the catalogue knows what EC2 sells", 120, self.view.has_catalog)
        self.recorder.mark("pods arrive")
        self.view.apply(self.examples / "workloads")
        self.cloud.run(0.5)
        first_fit, cost = self.view.rival("first-fit"), self.view.rival("cost")
        self._compare(first_fit, cost)
        self._wait("every pod runs", 1200, self._all_run)
        pods, nodes = self._living_pods(), self._living_nodes()
        audience.say(
            f"{len(pods)} pods run on {len(nodes)} nodes at ${_price(nodes):,.2f}/h; first-fit "
            f"would have paid ${first_fit.price_per_hour:,.2f}/h for the same pods"
        )
        hints = sum(entry["kind"] == "hint" for entry in self.cloud.timeline.entries())
        plans = sum(entry["kind"] == "plan" for entry in self.cloud.timeline.entries())
        audience.say(f"{hints} hints of the webhook became {plans} plans")

    def _interruption(self) -> None:
        audience = self.audience
        audience.chapter("EC2 takes a Spot instance back: two minutes")
        self._settle()
        victim, pods = self._busiest_spot_node()
        audience.say(
            f"{victim.node} ({victim.instance_type}, {victim.zone}) has {pods} pods to move"
        )
        self.recorder.mark("Spot warning", "bad")
        warned = self.cloud.timeline.at()
        self.cloud.reclaim.interrupt(victim.instance)
        self._wait("the interrupted node is gone", 240, lambda: victim.gone is not None)
        self._wait("every pod runs again", 600, self._all_run)
        replaced = self._decision_at("ReplacementLaunched", warned)
        killed = [
            life
            for life in self.recorder.record.pods.values()
            if life.gone is not None and life.gone >= warned and life.how == "killed"
        ]
        evicted = self.recorder.count("PodEvicted", since=warned)
        drained = self._decision_at("NodeDrained", warned)
        audience.say(
            f"replacement asked for {replaced - warned:.1f} s after the warning, node drained "
            f"after {drained - warned:.0f} s of 120; {evicted} evictions, "
            f"{len(killed)} pods killed without SIGTERM"
        )
        facts = self.recorder.record.facts
        facts.append(("warning to replacement", f"{replaced - warned:.1f} s"))
        facts.append(("warning to drained (of 120 s)", f"{drained - warned:.0f} s"))
        facts.append(("killed without SIGTERM", str(len(killed))))
        if killed:
            raise PromiseBroken(f"{len(killed)} pods died without SIGTERM: {killed[0].key}")

    def _consolidation(self) -> None:
        audience = self.audience
        audience.chapter("Load falls, the cluster shrinks")
        before = _price(self._movable_nodes())
        self.recorder.mark("load falls")
        for name, replicas in (("feature-store", 10), ("preprocess", 8), ("gateway", 6)):
            self.view.scale("web", name, replicas)
        for name, replicas in (("vllm-chat", 12), ("triton-vision", 8)):
            self.view.scale("inference", name, replicas)
        self._wait("voluntary disruption has made it cheaper", 1800, lambda: self._shrunk(before))
        self._settle(120)
        self._wait("every pod runs", 600, self._all_run)
        after = _price(self._movable_nodes())
        trained = [life for life in self._living_nodes() if life.node_pool == TRAINING]
        audience.say(
            f"${before:,.2f}/h of inference and services became ${after:,.2f}/h; "
            f"the {len(trained)} training nodes were not touched"
        )
        self.recorder.record.facts.append(("after load fell", f"${before:,.2f} → ${after:,.2f}/h"))

    def _seed(self) -> None:
        audience = self.audience
        audience.chapter("An image is pushed, and the next node starts with it")
        unseeded = self._start_of("training/pretrain")
        self.recorder.mark("image pushed")
        repository, tag, layers = TRAINER
        announce(self.cloud, repository, tag, self._trainer_digest)
        self._wait("the seed is published", 3600, lambda: self.recorder.count("SeedPublished") > 0)
        self.recorder.mark("seed published", "good")
        self.view.apply_objects(_finetune(reference(repository, tag)))
        self._wait("the fine-tuning pod runs", 1200, lambda: self._runs("training/finetune"))
        seeded = self._start_of("training/finetune")
        size = sum(layers)
        on_disk = int(size * UNPACKED_FACTOR)
        boot = self._boot_of("training/finetune")
        speeds = replace(estimate.SPEEDS, boot=boot)
        expected = estimate.ways(size, on_disk, on_disk, speeds=speeds)
        audience.say(
            f"a pull of {size / GIB:.1f} GiB was estimated at {expected.plain:.0f} s, and bound to "
            f"running took {unseeded:.0f} s; seeded the estimate was {expected.seeded:.0f} s, and "
            f"it took {seeded:.0f} s: the first blocks came in the {boot:.0f} s of boot"
        )
        facts = self.recorder.record.facts
        told = f"{unseeded:.0f} s (estimate {expected.plain:.0f} s)"
        facts.append(("bound to running, with a pull", told))
        told = f"{seeded:.0f} s (estimate {expected.seeded:.0f} s)"
        facts.append(("bound to running, seeded volume", told))
        if seeded >= unseeded:
            raise PromiseBroken("the seeded volume was not faster")

    def _close(self) -> Record:
        self.recorder.sample()
        record = self.recorder.record
        record.packing = self.view.packing(record.nodes.values())
        record.stages = self.recorder.stages()
        return record

    def _compare(self, first_fit: Plan, cost: Plan) -> None:
        """Keep what two strategies would pay for the same pods, in all and where there is a choice.

        The training pods fit one kind of node only, so no planner can save there.
        """
        record = self.recorder.record
        record.first_fit_per_hour = first_fit.price_per_hour
        record.plan_per_hour = cost.price_per_hour
        record.lower_bound_per_hour = cost.lower_bound_per_hour
        rival, ours = _chosen(first_fit), _chosen(cost)
        record.facts += [
            ("the plan for all pods", f"${cost.price_per_hour:,.2f}/h"),
            ("first-fit for the same pods", f"${first_fit.price_per_hour:,.2f}/h"),
            ("without training: plan, first-fit", f"${ours:,.2f}, ${rival:,.2f}/h"),
            ("saved where there is a choice", f"{1 - ours / rival:.0%}"),
        ]

    def _fill_registries(self) -> None:
        """Let the registries have the examples' images, and the kubelets know how big they are."""
        sizes = {name: int(gib * GIB) for name, gib in PUBLIC_IMAGES.items()}
        for repository, tag, layers in (PREPROCESS, TRAINER):
            self._trainer_digest = put_image(self.cloud, repository, tag, layers)
            sizes[reference(repository, tag).rpartition(":")[0]] = sum(layers)
        self.cloud.kube.kubelets.image_bytes = sizes

    def _wait(self, promise: str, seconds: float, holds: Callable[[], bool]) -> None:
        """Let the clock run until *holds*; say what was promised and did not come."""
        end = self.cloud.timeline.at() + seconds
        while not holds():
            if self.cloud.timeline.at() >= end:
                raise PromiseBroken(f"after {clock_text(seconds)}: {promise} - {self._trouble()}")
            self.cloud.run(1.0, holds)
            self.audience.progress(self.recorder.record)

    def _settle(self, seconds: float = 45.0) -> None:
        """Let things come to rest."""
        end = self.cloud.timeline.at() + seconds
        while self.cloud.timeline.at() < end:
            self.cloud.run(1.0)
            self.audience.progress(self.recorder.record)

    def _trouble(self) -> str:
        waiting = sorted(life.key for life in self._living_pods() if life.running is None)
        return f"{len(waiting)} pods do not run: {', '.join(waiting[:5])}"

    def _living_pods(self) -> list[PodLife]:
        return [life for life in self.recorder.record.pods.values() if life.gone is None]

    def _living_nodes(self) -> list[NodeLife]:
        return [life for life in self.recorder.record.nodes.values() if life.gone is None]

    def _all_run(self) -> bool:
        pods = self._living_pods()
        return bool(pods) and all(life.running is not None for life in pods)

    def _runs(self, prefix: str) -> bool:
        return any(
            life.key.startswith(prefix) and life.running is not None for life in self._living_pods()
        )

    def _start_of(self, prefix: str) -> float:
        """Return the longest time from bound to running of the pods called so."""
        return max(
            life.running - life.bound
            for life in self._living_pods()
            if life.key.startswith(prefix) and life.running is not None and life.bound is not None
        )

    def _boot_of(self, prefix: str) -> float:
        """Return how long the pods called so waited for their seeded node after its launch."""
        bound = [
            life.bound
            for life in self._living_pods()
            if life.key.startswith(prefix) and life.bound is not None
        ]
        launched = [life.launched for life in self._living_nodes() if life.seeded]
        if not bound or not launched:
            raise PromiseBroken("the pod does not run on a seeded node")
        return max(bound) - max(launched)

    def _busiest_spot_node(self) -> tuple[NodeLife, int]:
        """Return the Spot node that moves most inference pods, and how many."""
        candidates = [
            life for life in self._living_nodes() if life.capacity_type == "spot" and life.node
        ]
        if not candidates:
            raise PromiseBroken("no Spot node to interrupt")
        movable = self.view.movable_pods()
        busiest = max(
            candidates,
            key=lambda life: (
                life.node_pool == "gpu-inference",
                len(movable.get(life.node, ())),
                life.node,
            ),
        )
        return busiest, len(movable.get(busiest.node, ()))

    def _decision_at(self, kind: str, since: float) -> float:
        for at, name, _ in self.recorder.record.decisions:
            if name == kind and at >= since:
                return at
        raise PromiseBroken(f"no {kind} was published")

    def _shrunk(self, before: float) -> bool:
        return _price(self._movable_nodes()) < 0.7 * before

    def _movable_nodes(self) -> list[NodeLife]:
        """Return the living nodes that voluntary disruption may touch."""
        return [life for life in self._living_nodes() if life.node_pool != TRAINING]


def _chosen(plan: Plan) -> float:
    return sum(launch.price_per_hour for launch in plan.launches if launch.node_pool != TRAINING)


def _price(nodes: list[NodeLife]) -> float:
    return sum(life.price_per_hour for life in nodes)


def _finetune(image: str) -> Mapping[str, Any]:
    """Return a Job of one 8-GPU pod that runs *image*, for the examples' training pool."""
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "finetune", "namespace": "training"},
        "spec": {
            "template": {
                "metadata": {"labels": {"job": "finetune"}},
                "spec": {
                    "restartPolicy": "Never",
                    "tolerations": [
                        toleration,
                        {"key": "workload", "value": "training", "effect": "NoSchedule"},
                    ],
                    "nodeSelector": {"team": "training"},
                    "containers": [
                        {
                            "name": "worker",
                            "image": image,
                            "resources": {
                                "requests": {"cpu": "64", "memory": "512Gi"},
                                "limits": {"nvidia.com/gpu": 8},
                            },
                        }
                    ],
                },
            }
        },
    }
