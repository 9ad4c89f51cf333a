"""Seeded mixed workloads: what teams run side by side, in miniature, each in a NodePool of its own.

A workload is a handful of small services drawn by its seed: spread over zones or hosts, kept apart,
kept together, with a volume in one zone, with GPUs, or plain; every pod tolerates its pool's taint
and asks for its nodes. The same seed gives the same pods.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.real.karpenter import node_pool, wish
from tests.support.builders import HOSTNAME, ZONE, pod, spread, taint, term, tolerates

Json = dict[str, Any]
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
TAINT = "outrider.test/team"
CLASSES = ["c", "g", "m", "r"]
SERVICES = 4


@dataclass(slots=True)
class Workload:
    """One seed's NodePool, volumes and pods."""

    seed: int
    namespace: str
    town: str = ""  # a NodePool that several workloads share; without it each has its own
    dice: random.Random = field(init=False)
    pods: list[Json] = field(default_factory=list)
    volumes: list[Json] = field(default_factory=list)
    claims: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        kinds = self.dice.sample(KINDS, SERVICES)
        for number, kind in enumerate(kinds):
            kind(self, f"seed-{self.seed}-{kind.__name__.strip('_').replace('_', '-')}-{number}")

    @property
    def pool(self) -> str:
        """Return the NodePool's name."""
        return self.town or f"seed-{self.seed}"

    @property
    def names(self) -> list[str]:
        """Return the pods as namespace/name."""
        return [f"{self.namespace}/{one['metadata']['name']}" for one in self.pods]

    def node_pool(self, node_class: str) -> Json:
        """Return the NodePool: current generations of four families, nothing voluntary."""
        requirements = [
            wish("kubernetes.io/arch", "In", "amd64"),
            wish("karpenter.sh/capacity-type", "In", "spot", "on-demand"),
            wish("karpenter.k8s.aws/instance-category", "In", *CLASSES),
            wish("karpenter.k8s.aws/instance-generation", "Gt", "4"),
            wish("karpenter.k8s.aws/instance-cpu", "Lt", "33"),
        ]
        return node_pool(
            self.pool,
            requirements,
            node_class=node_class,
            template={"taints": [taint(TAINT, value=self.pool)]},
            disruption={"consolidationPolicy": "WhenEmpty", "consolidateAfter": "Never"},
        )

    def add(self, service: str, count: int, **wanted: Any) -> None:
        """Add *count* pods of a service, of one size unless told otherwise."""
        cpu = self.dice.choice(("250m", "500m", "1", "1500m", "2"))
        memory = self.dice.choice(("256Mi", "1Gi", "3Gi", "6Gi"))
        for number in range(count):
            self.pods.append(
                pod(
                    f"{service}-{number}",
                    **{
                        "namespace": self.namespace,
                        "cpu": cpu,
                        "memory": memory,
                        "labels": {"app": service},
                        "selector": {"karpenter.sh/nodepool": self.pool},
                        "tolerations": [tolerates(TAINT, "NoSchedule")],
                        **wanted,
                    },
                )
            )


def _plain(workload: Workload, service: str) -> None:
    """Pods that only want room."""
    workload.add(service, workload.dice.randint(2, 6))


def _spread_by_zone(workload: Workload, service: str) -> None:
    """As many in one zone as in the next, give or take one."""
    rule = spread(ZONE, {"app": service})
    workload.add(service, workload.dice.randint(3, 6), spread=[rule])


def _spread_by_host(workload: Workload, service: str) -> None:
    """As many on one host as on the next, give or take two."""
    rule = spread(HOSTNAME, {"app": service}, skew=2)
    workload.add(service, workload.dice.randint(3, 5), spread=[rule])


def _kept_apart(workload: Workload, service: str) -> None:
    """Never two on one host."""
    workload.add(service, workload.dice.randint(2, 3), apart=[term(HOSTNAME, {"app": service})])


def _kept_together(workload: Workload, service: str) -> None:
    """All in the zone of the first."""
    workload.add(service, workload.dice.randint(2, 4), near=[term(ZONE, {"app": service})])


def _gpus(workload: Workload, service: str) -> None:
    """One GPU each."""
    workload.add(service, workload.dice.randint(1, 2), gpu=1, cpu="2", memory="8Gi")


def _zonal_volume(workload: Workload, service: str) -> None:
    """A disk that lies in one zone already."""
    zone = workload.dice.choice(ZONES)
    amount = {"storage": "10Gi"}
    mode = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": service}
    here = [{"matchExpressions": [wish(ZONE, "In", zone)]}]
    workload.volumes.append(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": service},
            "spec": {
                "capacity": amount,
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": f"/data/{service}"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": here}},
                "claimRef": {"namespace": workload.namespace, "name": service},
            },
        }
    )
    workload.claims.append(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": service, "namespace": workload.namespace},
            "spec": {**mode, "resources": {"requests": amount}},
        }
    )
    workload.add(service, 1, claims=[service])


Service = Callable[[Workload, str], None]
KINDS: tuple[Service, ...] = (
    _plain,
    _spread_by_zone,
    _spread_by_host,
    _kept_apart,
    _kept_together,
    _gpus,
    _zonal_volume,
)
