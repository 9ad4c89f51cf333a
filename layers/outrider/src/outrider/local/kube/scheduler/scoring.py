"""Which of the feasible nodes is best: LeastAllocated and the pod's own preferences.

Matches kube-scheduler's default weights: resources 1, balanced allocation 1, node affinity 2,
taints 3, soft spread 2, pod affinity 2, image locality 1; each score 0 to 100. Equal scores are
drawn by seeded dice, as kube-scheduler draws them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from outrider.local.kube.matching import tolerates
from outrider.local.kube.scheduler.cluster import Cluster, NodeInfo
from outrider.local.kube.scheduler.filters import domain_counts
from outrider.local.kube.scheduler.template import Template

_DEFAULT_CPU, _DEFAULT_MEMORY = 100, 200 * 2**20  # what a pod without requests is taken to need
_LARGE_IMAGE = 1000 * 2**20

Scores = dict[str, float]


def best(
    nodes: Sequence[NodeInfo], template: Template, cluster: Cluster, dice: random.Random
) -> NodeInfo:
    """Return the best of *nodes*."""
    if len(nodes) == 1:
        return nodes[0]
    cpu = template.requests.get("cpu", _DEFAULT_CPU)
    memory = template.requests.get("memory", _DEFAULT_MEMORY)
    scores = [_allocation(info, cpu, memory) for info in nodes]
    for weight, extra in _preferences(nodes, template, cluster):
        for place, info in enumerate(nodes):
            scores[place] += weight * extra.get(info.name, 0.0)
    top = max(scores)
    winners = [info for info, score in zip(nodes, scores, strict=True) if score > top - 1e-6]
    return winners[0] if len(winners) == 1 else dice.choice(winners)


def _allocation(info: NodeInfo, cpu: int, memory: int) -> float:
    have_cpu, have_memory = (
        info.allocatable.get("cpu", 0) or 1,
        info.allocatable.get("memory", 0) or 1,
    )
    cpu_share = min((info.used.get("cpu", 0) + cpu) / have_cpu, 1.0)
    memory_share = min((info.used.get("memory", 0) + memory) / have_memory, 1.0)
    least = 100.0 * (2.0 - cpu_share - memory_share) / 2.0
    balanced = 100.0 * (1.0 - abs(cpu_share - memory_share) / 2.0)
    return least + balanced


def _preferences(
    nodes: Sequence[NodeInfo], template: Template, cluster: Cluster
) -> list[tuple[int, Mapping[str, float]]]:
    found: list[tuple[int, Mapping[str, float]]] = []
    if template.preferred_nodes:
        liked = {
            info.name: float(
                sum(weight for weight, test in template.preferred_nodes if test(info.node))
            )
            for info in nodes
        }
        found.append((2, _normal(liked)))
    disliked = {info.name: float(_soft_taints(info, template)) for info in nodes}
    if any(disliked.values()):
        found.append((3, _normal(disliked, reverse=True)))
    soft = [one for one in template.spreads if not one.hard]
    if soft:
        crowd = {info.name: 0.0 for info in nodes}
        for spread in soft:
            counts = domain_counts(cluster, template, spread)
            for info in nodes:
                crowd[info.name] += counts.get(info.labels.get(spread.key, ""), 0)
        found.append((2, _normal(crowd, reverse=True)))
    if template.preferred:
        found.append((2, _normal(_company(nodes, template, cluster))))
    found.append((1, _by(nodes, lambda info: _has_images(info, template))))
    return found


def _company(nodes: Sequence[NodeInfo], template: Template, cluster: Cluster) -> Scores:
    scores: Scores = {info.name: 0.0 for info in nodes}
    for term in template.preferred:
        per_node = cluster.selected(term, skip_leaving=False).per_node
        domains: dict[str, int] = {}
        for name, count in per_node.items():
            domain = cluster.nodes[name].labels.get(term.key) if name in cluster.nodes else None
            if domain is not None:
                domains[domain] = domains.get(domain, 0) + count
        for info in nodes:
            scores[info.name] += term.weight * domains.get(info.labels.get(term.key, ""), 0)
    return scores


def _soft_taints(info: NodeInfo, template: Template) -> int:
    return sum(
        1
        for taint in (info.node.get("spec") or {}).get("taints") or ()
        if taint.get("effect") == "PreferNoSchedule" and not tolerates(template.tolerations, taint)
    )


def _has_images(info: NodeInfo, template: Template) -> float:
    images = (info.node.get("status") or {}).get("images")
    if not images:
        return 0.0
    size = sum(
        one.get("sizeBytes", 0)
        for one in images
        if any(name in template.images for name in one.get("names") or ())
    )
    return min(100.0 * float(size) / _LARGE_IMAGE, 100.0)


def _by(nodes: Sequence[NodeInfo], score: Callable[[NodeInfo], float]) -> Scores:
    return {info.name: value for info in nodes if (value := score(info))}


def _normal(scores: Scores, *, reverse: bool = False) -> Scores:
    """Stretch *scores* over 0 to 100, the other way round for *reverse*."""
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return {}
    return {
        name: 100.0 * ((high - score) if reverse else (score - low)) / (high - low)
        for name, score in scores.items()
    }
