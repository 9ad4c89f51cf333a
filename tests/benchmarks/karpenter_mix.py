"""Karpenter's own benchmark mix: a fifth each of five kinds of pods, over 400 instance types.

Generic pods, zonal spread, hostname spread, zonal affinity and hostname anti-affinity; seven
labels; sizes drawn as kubernetes-sigs/karpenter's scheduling_benchmark_test.go draws them.
"""

from __future__ import annotations

import random
from typing import Any

from outrider.apis import manifest
from outrider.core.catalog import codec
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    ZONE,
    catalog,
    expression,
    instance_type,
    nodepool,
    pod,
    spread,
    term,
)

LABELS = "abcdefg"
CPUS = ("100m", "250m", "500m", "1", "1500m")
MEMORIES = ("100Mi", "256Mi", "512Mi", "1Gi", "2Gi", "4Gi")
SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)


def goods(types: int = 400) -> Catalog:
    """Return a catalogue of so many types, prices by size."""
    entries = []
    for place in range(types):
        cpu = SIZES[place % len(SIZES)]
        gibibytes = cpu * (2, 4, 8)[place % 3]
        price = round((cpu * 0.025 + gibibytes * 0.001) * (1 + place // 30 / 100), 6)
        entries.append(
            instance_type(
                f"fake-{place}", cpu=str(cpu), memory=f"{gibibytes}Gi", price=price, spot=0.7
            )
        )
    return codec.read(catalog(*entries))


def cluster(pods: int, seed: int = 42) -> ClusterState:
    """Return a cluster in which so many pods wait."""
    draw = random.Random(seed)
    documents = [nodepool(requirements=[expression(CAPACITY_TYPE, "In", "spot", "on-demand")])]
    kinds = (_generic, _zonal, _by_host, _near, _apart)
    for place in range(pods):
        labels, more = kinds[min(place * len(kinds) // pods, 4)](draw)
        documents.append(
            pod(
                f"p{place:05}",
                cpu=draw.choice(CPUS),
                memory=draw.choice(MEMORIES),
                labels=labels,
                **more,
            )
        )
    return ClusterState.of(
        [read for item in documents if (read := manifest.parse(item)) is not None]
    )


Kind = tuple[dict[str, str], dict[str, Any]]


def _label(draw: random.Random, key: str = "my-label") -> dict[str, str]:
    return {key: draw.choice(LABELS)}


def _generic(draw: random.Random) -> Kind:
    return _label(draw), {}


def _zonal(draw: random.Random) -> Kind:
    return _label(draw), {"spread": [spread(ZONE, _label(draw))]}


def _by_host(draw: random.Random) -> Kind:
    return _label(draw), {"spread": [spread(HOSTNAME, _label(draw))]}


def _near(draw: random.Random) -> Kind:
    labels = _label(draw, "my-affinity")
    return labels, {"near": [term(ZONE, labels)]}


def _apart(draw: random.Random) -> Kind:
    del draw
    labels = {"app": "nginx"}
    return labels, {"apart": [term(HOSTNAME, labels)]}
