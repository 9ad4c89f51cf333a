"""Groups of pods that start together: Workload and PodGroup, JobSet, Kueue's Workload.

Slim records: names and the number of members that must run at once. Refuses to decide which pods
belong to which group: `core.scheduling.gang` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.apis import meta
from outrider.apis.fields import Json, integer, mapping, objects, string
from outrider.apis.meta import Owner


@dataclass(frozen=True, slots=True)
class PodGroup:
    """One group that starts together: *least* members or none."""

    namespace: str
    name: str
    least: int
    workload: str = ""


@dataclass(frozen=True, slots=True)
class JobSet:
    """One JobSet: how many pods all its jobs have together."""

    namespace: str
    name: str
    uid: str
    pods: int
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueuedWorkload:
    """One Kueue Workload: its pod sets are admitted together."""

    namespace: str
    name: str
    pods: int
    owners: tuple[Owner, ...] = ()


def parse_workload(document: Json) -> tuple[PodGroup, ...]:
    """Return the pod groups that a scheduling.k8s.io Workload lists."""
    identity = meta.parse(document, namespaced=True)
    groups = []
    for item in objects(mapping(document, "spec"), "podGroups", "spec"):
        name = string(item, "name", "spec.podGroups")
        policy = mapping(item, "policy", "spec.podGroups") or mapping(
            item, "schedulingPolicy", "spec.podGroups"
        )
        least = _least(policy, "spec.podGroups.policy")
        groups.append(PodGroup(identity.namespace, name, least, identity.name))
    return tuple(groups)


def parse_pod_group(document: Json) -> PodGroup:
    """Return the PodGroup in *document* (scheduling.k8s.io, or the coscheduling plugin's)."""
    identity = meta.parse(document, namespaced=True)
    spec = mapping(document, "spec")
    policy = mapping(spec, "schedulingPolicy", "spec") or mapping(spec, "policy", "spec")
    least = integer(spec, "minMember", "spec") or _least(policy, "spec.schedulingPolicy")
    return PodGroup(identity.namespace, identity.name, least)


def _least(policy: Json, path: str) -> int:
    return integer(mapping(policy, "gang", path), "minCount", f"{path}.gang")


def parse_job_set(document: Json) -> JobSet:
    """Return the JobSet in *document*."""
    identity = meta.parse(document, namespaced=True)
    pods = 0
    for item in objects(mapping(document, "spec"), "replicatedJobs", "spec"):
        path = "spec.replicatedJobs"
        job = mapping(mapping(item, "template", path), "spec", f"{path}.template")
        parallelism = integer(job, "parallelism", f"{path}.template.spec", default=1)
        pods += integer(item, "replicas", path, default=1) * parallelism
    return JobSet(identity.namespace, identity.name, identity.uid, pods, identity.annotations)


def parse_queued(document: Json) -> QueuedWorkload:
    """Return the Kueue Workload in *document*."""
    identity = meta.parse(document, namespaced=True)
    pods = sum(
        integer(item, "count", "spec.podSets", default=1)
        for item in objects(mapping(document, "spec"), "podSets", "spec")
    )
    return QueuedWorkload(identity.namespace, identity.name, pods, identity.owner_references)
