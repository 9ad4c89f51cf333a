"""Headroom: room kept free for pods to come, as placeholders that are planned and never exist.

Decides which placeholders there are: those of a NodePool's `outrider.dev/headroom` (a resource
list, split into one for each accelerator, else for each two CPUs, or into as many as its `pods`
says), and those of CapacityBuffers as Karpenter counts them (F28): replicas and percentage, the
larger, the percentage rounded up and at least 1, capped by what the limits hold. They are the least
important of all pods; a plan that holds them launches for them, and says so, but names no pod (F29:
they never nominate, are never bound and never evicted).

Refuses to plan, and to judge who may be disrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from outrider.apis import labels
from outrider.apis.placement import Constraints, Toleration
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling.result import Plan
from outrider.errors import InvalidManifest

if TYPE_CHECKING:
    from outrider.apis.buffer import CapacityBuffer
    from outrider.apis.nodepool import NodePool

NAMESPACE = "headroom"
MARK = "~"  # no object in a cluster has it in its name
LOWEST = -(2**31)
MOST = 500
"""So many placeholders one NodePool or buffer has at most."""
SLICE_MILLI_CPU = 2000
_ACCELERATORS = ("nvidia.com/", "amd.com/", "aws.amazon.com/neuron", "habana.ai/")


def placeholders(state: ClusterState) -> tuple[Pod, ...]:
    """Return the placeholders for all the room that *state* asks to be kept free.

    A buffer that is served in two versions of its API counts once.
    """
    found = [pod for pool in state.nodepools for pod in _of_pool(pool)]
    found += [pod for buffer in state.buffers for pod in _of_buffer(buffer, state)]
    by_key = {pod.key: pod for pod in found}
    return tuple(by_key[key] for key in sorted(by_key))


def is_placeholder(key: str) -> bool:
    """Return whether the pod *key* stands for room."""
    return MARK in key


def is_wanted(state: ClusterState) -> bool:
    """Return whether *state* asks for any room at all."""
    return bool(state.buffers) or any(
        labels.HEADROOM in pool.metadata.annotations for pool in state.nodepools
    )


def problem(pool: NodePool) -> str:
    """Return what is wrong with the headroom of *pool*, or ""."""
    from outrider.apis.buffer import headroom  # noqa: PLC0415 (pydantic: only where it is needed)

    try:
        headroom(pool.metadata.annotations.get(labels.HEADROOM, ""))
    except InvalidManifest as error:
        return f"annotation {labels.HEADROOM}: {error}"
    if pool.static and labels.HEADROOM in pool.metadata.annotations:
        return f"annotation {labels.HEADROOM}: a NodePool of fixed size keeps no room"
    return ""


def without_placeholders(made: Plan) -> Plan:
    """Return *made* with no word of placeholders but what its launches hold for them."""
    return replace(
        made,
        placements=tuple(item for item in made.placements if not is_placeholder(item.pod)),
        launches=tuple(
            replace(
                launch,
                pods=tuple(key for key in launch.pods if not is_placeholder(key)),
                headroom=tuple(key for key in launch.pods if is_placeholder(key)),
            )
            if any(is_placeholder(key) for key in launch.pods)
            else launch
            for launch in made.launches
        ),
        rejections=tuple(item for item in made.rejections if not is_placeholder(item.pod)),
    )


def unplaced(made: Plan) -> int:
    """Return how many placeholders *made*, as it was planned, found no place for."""
    return sum(is_placeholder(item.pod) for item in made.rejections)


def _of_pool(pool: NodePool) -> Iterator[Pod]:
    from outrider.apis.buffer import headroom  # noqa: PLC0415 (pydantic: only where it is needed)

    text = pool.metadata.annotations.get(labels.HEADROOM)
    if text is None or not pool.ours or problem(pool):
        return
    amounts = headroom(text)
    pieces = _pieces(amounts)
    constraints = Constraints(
        node_selector=((labels.NODEPOOL, pool.name),),
        tolerations=tuple(
            Toleration(taint.key, "Equal", taint.value, taint.effect)
            for taint in (*pool.taints, *pool.startup_taints)
        ),
    )
    share = {
        name: -(-amount // pieces) for name, amount in sorted(amounts.items()) if name != "pods"
    }
    for number in range(pieces):
        yield Pod(
            namespace=NAMESPACE,
            name=f"{pool.name}{MARK}{number}",
            priority=LOWEST,
            has_priority=True,
            requests={**share, "pods": 1},
            constraints=constraints,
        )


def _pieces(amounts: dict[str, int]) -> int:
    """Return into how many placeholders a resource list is split."""
    if "pods" in amounts:
        return min(max(amounts["pods"], 0), MOST)
    devices = max(
        (amount for name, amount in amounts.items() if name.startswith(_ACCELERATORS)), default=0
    )
    slices = -(-amounts.get("cpu", 0) // SLICE_MILLI_CPU)
    return min(max(devices or slices, 1), MOST) if any(amounts.values()) else 0


def _of_buffer(buffer: CapacityBuffer, state: ClusterState) -> Iterator[Pod]:
    if not buffer.active or buffer.metadata.deletion_timestamp is not None:
        return
    template, standing = _source(buffer, state)
    if template is None:
        return
    count = buffer.size(standing, template.requests)
    for number in range(min(count, MOST)):
        yield replace(
            template,
            namespace=buffer.metadata.namespace,
            name=f"{buffer.metadata.name}{MARK}{number}",
            priority=LOWEST,
            has_priority=True,
            priority_class_name="",
            annotations={},
            workload="",
            pod_group="",
            resource_claims=(),
            volumes=(),
        )


def _source(buffer: CapacityBuffer, state: ClusterState) -> tuple[Pod | None, int]:
    """Return the pod that *buffer* keeps room for, and how many of it its scalable wants."""
    reference = buffer.spec.pod_template_ref or buffer.spec.scalable_ref
    if reference is None:
        return None, 0
    kind = "PodTemplate" if buffer.spec.pod_template_ref else reference.kind
    for item in state.owners:
        if (item.kind, item.namespace, item.name) == (
            kind,
            buffer.metadata.namespace,
            reference.name,
        ):
            return item.pod(), item.wanted
    return None, 0
