"""From claims and devices to pods that ask for amounts, and places that have them.

Decides what the rest of the planner sees of dynamic resource allocation: pods whose requests carry
amounts of the resources that `kinds` makes of devices, and nodes and types that have them; pods
kept where their allocated claims are; pods that
follow another onto its node because they share its claim; and pods with a problem in words.

Of pods that share a claim that is not
allocated yet the first one leads: it alone asks for the devices, the others must join its node.

Refuses to choose devices: kube-scheduler does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from outrider.apis.labels import HOSTNAME
from outrider.apis.meta import IN, Expression, LabelSelector
from outrider.apis.placement import Constraints, NodeTerm, PodTerm
from outrider.apis.pod import Pod
from outrider.apis.quantity import Resources
from outrider.core.catalog import gpus
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling.devices import supply as supplies_of
from outrider.core.scheduling.devices.claims import Asked, Claims, Need
from outrider.core.scheduling.shelf import TAKES_SLICES

LEADS = "claim.outrider.dev/"
"""Prefix of the label by which pods find the one that leads a claim they share."""


@dataclass(eq=False)
class Allotment:
    """Pods and places with devices as resources.

    `problems` are by pod key, `tied` the words for pods that only certain nodes can serve, `words`
    the claims and requests of each pod, `choices` how many combinations of alternatives it has.
    `unjudged` gives, by resource and type, why no device of the type could be counted; `devices`
    how many a type has of any kind.
    """

    pods: tuple[Pod, ...]
    problems: dict[str, str] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    choices: dict[str, int] = field(default_factory=dict)
    of_types: dict[str, Resources] = field(default_factory=dict)
    of_places: dict[str, Resources] = field(default_factory=dict)
    unjudged: dict[str, dict[str, str]] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)

    def told(self, key: str, message: str) -> str:
        """Return *message* about the pod *key* with its claims in front, or what ties it."""
        return self.tied.get(key) or f"{self.words.get(key, '')}: {message}"


def allot(
    state: ClusterState,
    pods: Sequence[Pod],
    catalog: Catalog,
    choice: Mapping[str, int] | None = None,
) -> Allotment:
    """Return *pods* with their claims as requests; *choice* picks among alternatives, by key."""
    if not any(pod.resource_claims for pod in pods) and not state.device_classes:
        return Allotment(tuple(pods))
    claims = Claims(state, pods, _advertised(state, catalog))
    concerned = claims.concerned(pods)
    if not concerned:
        return Allotment(tuple(pods))
    picked = choice or {}
    asked = {pod.key: claims.asked(pod, picked.get(pod.key, 0)) for pod in concerned}
    result = Allotment(tuple(pods))
    result.problems = {key: item.problem for key, item in asked.items() if item.problem}
    result.words = {key: item.words for key, item in asked.items()}
    result.choices = {key: item.choices for key, item in asked.items()}
    by_key = {pod.key: pod for pod in concerned}
    leaders = _leaders(concerned, asked)
    needs = {
        pod.key: _own(pod.key, asked[pod.key], leaders)
        for pod in concerned
        if pod.key not in result.problems
    }
    from outrider.core.scheduling.devices.kinds import Kinds  # noqa: PLC0415 (brings CEL)

    types = supplies_of.of_types(catalog)
    waiting = frozenset(key for key in needs if needs[key])
    nodes = supplies_of.of_nodes(state, types, claims.held(), waiting)
    kinds = Kinds.of(needs, types, nodes, supplies_of.anywhere(state))
    for key, mine in needs.items():
        problem = kinds.problem(mine) or _tangled(by_key[key], asked[key], leaders)
        if problem:
            result.problems[key] = f"{asked[key].words}: {problem}"
    result.of_types = {name: kinds.room((supply,)) for name, supply in types.items()}
    result.of_places = {name: kinds.room(options) for name, options in nodes.items()}
    result.unjudged = kinds.unjudged(types)
    result.devices = {
        name: sum(group.count for group in supply.groups) for name, supply in types.items()
    }
    changed = {
        pod.key: _changed(pod, asked[pod.key], kinds.amounts(needs[pod.key]), leaders, result.tied)
        for pod in concerned
        if pod.key not in result.problems
    }
    _follow(result, concerned, asked, leaders)
    result.pods = tuple(changed.get(pod.key, pod) for pod in pods)
    return result


def _advertised(state: ClusterState, catalog: Catalog) -> Callable[[str], bool]:
    """Return a test whether a device plugin serves an extended resource, on a type or a node."""

    def test(resource: str) -> bool:
        return (
            any(resource in node.capacity for node in state.nodes)
            or any(resource in overlay.spec.capacity for overlay in state.overlays)
            or any(
                resource in kind.capacity
                or (kind.ec2 is not None and resource in gpus.devices(kind.ec2))
                for kind in catalog.instance_types
            )
        )

    return test


def _leaders(pods: Iterable[Pod], asked: Mapping[str, Asked]) -> dict[str, Pod]:
    """Return the pod that leads each shared claim: the most important, then the first by name."""
    found: dict[str, Pod] = {}
    for pod in sorted(pods, key=lambda pod: (-pod.priority, pod.key)):
        if not asked[pod.key].problem:
            for claim, _ in asked[pod.key].shared:
                found.setdefault(claim, pod)
    return found


def _own(key: str, asked: Asked, leaders: Mapping[str, Pod]) -> tuple[Need, ...]:
    """Return what a pod asks itself: its own needs, and those of the shared claims it leads."""
    led = (need for claim, needs in asked.shared if leaders[claim].key == key for need in needs)
    return (*asked.needs, *led)


def _tangled(pod: Pod, asked: Asked, leaders: Mapping[str, Pod]) -> str:
    """Return why a pod cannot be made to follow those that lead its shared claims."""
    led_by = {leaders[claim].key for claim, _ in asked.shared} - {pod.key}
    if len(led_by) > 1:
        return "claims shared with different pods cannot be judged"
    if led_by and pod.constraints.affinity:
        return "a shared claim beside pod affinity cannot be judged"
    return ""


def _changed(
    pod: Pod,
    asked: Asked,
    requests: Resources,
    leaders: Mapping[str, Pod],
    tied: dict[str, str],
) -> Pod:
    """Return *pod* as the planner sees it; *tied* takes the words where only a node matters."""
    kept = {name: value for name, value in pod.requests.items() if name not in asked.dropped}
    more = {**requests, TAKES_SLICES: 0} if asked.takes_slices and requests else requests
    constraints, labels = pod.constraints, dict(pod.labels)
    if asked.terms:
        for terms in asked.terms:
            constraints = _also(constraints, terms)
        tied[pod.key] = f"{asked.words} is allocated where no node has room for the pod"
    for claim, _ in asked.shared:
        label = LEADS + _label(leaders[claim], leaders.values())
        if leaders[claim].key == pod.key:
            labels[label] = ""
        else:
            follows = LabelSelector((Expression(label, IN, ("",)),))
            constraints = replace(constraints, affinity=(PodTerm(HOSTNAME, follows),))
            tied[pod.key] = (
                f"{asked.words} is shared: the node of {leaders[claim].key} has no room for the pod"
            )
    return replace(pod, requests={**kept, **more}, constraints=constraints, labels=labels)


def _label(leader: Pod, leaders: Iterable[Pod]) -> str:
    return str(sorted({pod.key for pod in leaders}).index(leader.key))


def _also(constraints: Constraints, terms: tuple[NodeTerm, ...]) -> Constraints:
    """Return *constraints* that demand one of *terms* as well."""
    if constraints.required_nodes is None:
        return replace(constraints, required_nodes=terms)
    both = tuple(
        NodeTerm(one.expressions + two.expressions, one.fields + two.fields)
        for one in constraints.required_nodes
        if one.expressions or one.fields
        for two in terms
        if two.expressions or two.fields
    )
    return replace(constraints, required_nodes=both or (NodeTerm(),))


def _follow(
    result: Allotment,
    pods: Iterable[Pod],
    asked: Mapping[str, Asked],
    leaders: Mapping[str, Pod],
) -> None:
    """Give the pods of a shared claim the problem that its leader has."""
    for pod in pods:
        for claim, _ in asked[pod.key].shared:
            leader = leaders.get(claim)
            if leader is not None and leader.key in result.problems:
                result.problems.setdefault(pod.key, result.problems[leader.key])
