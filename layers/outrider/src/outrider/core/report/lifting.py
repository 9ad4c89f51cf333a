"""Families of constraints, and the same planning case with one of them lifted.

Decides what belongs to a family: what pods say and what NodePools say about the same thing are
lifted together, since either alone would leave the other in force. Lifting only ever widens: every
plan of the case is a plan of the lifted case, so that the difference of their prices is what the
family costs. Architecture, operating system and labels that people made up are never lifted: images
and habits hang on them, and a plan without them could not be run. Refuses to plan and to judge
whether a constraint is worth its price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from outrider.apis import labels
from outrider.apis.nodepool import NodePool
from outrider.apis.placement import Condition, Constraints, NodeTerm
from outrider.apis.pod import Pod
from outrider.apis.requirement import INSTANCE_LABELS, RequirementSpec
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling.policy import IGNORE, Policy

ZONES = frozenset({labels.ZONE, labels.ZONE_ID})
ANY_CAPACITY = RequirementSpec(
    key=labels.CAPACITY_TYPE,
    operator="In",
    values=(labels.RESERVED, labels.SPOT, labels.ON_DEMAND),
)


@dataclass(frozen=True, slots=True)
class Case:
    """What is planned: *pods* onto *state*, as *policy* wants."""

    state: ClusterState
    pods: tuple[Pod, ...]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Family:
    """One family of constraints: its name, what lifting it means, and how it is lifted."""

    name: str
    says: str
    lift: Callable[[Case], Case]


def differs(case: Case, lifted: Case) -> int:
    """Return how many pods and NodePools of *case* say something that is not in *lifted*."""
    pods = sum(one is not other for one, other in zip(case.pods, lifted.pods, strict=True))
    before, after = case.state.nodepools, lifted.state.nodepools
    pools = sum(one is not other for one, other in zip(before, after, strict=True))
    daemons = len(case.state.daemonsets) - len(lifted.state.daemonsets)
    return pods + pools + daemons


def _of_pods(change: Callable[[Pod], Pod]) -> Callable[[Case], Case]:
    def lift(case: Case) -> Case:
        others = tuple(change(pod) for pod in case.state.pods)
        pods = tuple(change(pod) for pod in case.pods)
        return replace(case, state=case.state.with_pods(others), pods=pods)

    return lift


def _of_constraints(change: Callable[[Constraints], Constraints]) -> Callable[[Case], Case]:
    known = cache(change)  # thousands of pods, a handful of templates

    def changed(pod: Pod) -> Pod:
        constraints = known(pod.constraints)
        return pod if constraints == pod.constraints else replace(pod, constraints=constraints)

    return _of_pods(changed)


def _of_pools(change: Callable[[NodePool], NodePool]) -> Callable[[Case], Case]:
    def lift(case: Case) -> Case:
        pools = tuple(change(pool) for pool in case.state.nodepools)
        return replace(case, state=replace(case.state, nodepools=pools, _index={}))

    return lift


def _both(*lifts: Callable[[Case], Case]) -> Callable[[Case], Case]:
    def lift(case: Case) -> Case:
        for one in lifts:
            case = one(case)
        return case

    return lift


def _keys(
    about: Callable[[str], bool], instead: RequirementSpec | None = None
) -> Callable[[Case], Case]:
    """Return how every requirement on a key that is *about* something is lifted.

    *instead* is what NodePools say then, where saying nothing would mean something narrower.
    """

    def of_pod(constraints: Constraints) -> Constraints:
        return replace(
            constraints,
            node_selector=tuple(
                item for item in constraints.node_selector if not about(labels.normalise(item[0]))
            ),
            required_nodes=_terms(constraints.required_nodes, about),
            preferred_nodes=tuple(
                item
                for item in constraints.preferred_nodes
                if not any(about(labels.normalise(one.key)) for one in item.term.expressions)
            ),
        )

    def of_pool(pool: NodePool) -> NodePool:
        lines = pool.spec.template.spec.requirements
        left = tuple(line for line in lines if not about(labels.normalise(line.key)))
        if instead is not None and pool.ours:
            left = (*left, instead)
        return pool if left == lines else _requiring(pool, left)

    return _both(_of_constraints(of_pod), _of_pools(of_pool))


def _terms(
    terms: tuple[NodeTerm, ...] | None, about: Callable[[str], bool]
) -> tuple[NodeTerm, ...] | None:
    """Return *terms* without what they say *about* it; one that says nothing else allows all."""
    if terms is None:
        return None
    left = []
    for term in terms:
        rest: tuple[Condition, ...] = tuple(
            item for item in term.expressions if not about(labels.normalise(item.key))
        )
        if len(rest) < len(term.expressions) and not rest and not term.fields:
            return None
        left.append(replace(term, expressions=rest))
    return tuple(left)


def _requiring(pool: NodePool, lines: tuple[RequirementSpec, ...]) -> NodePool:
    template = pool.spec.template
    spec = template.spec.model_copy(update={"requirements": lines})
    changed = template.model_copy(update={"spec": spec})
    return replace(pool, spec=pool.spec.model_copy(update={"template": changed}))


def _without_min_values(pool: NodePool) -> NodePool:
    lines = pool.spec.template.spec.requirements
    if not any(line.min_values for line in lines):
        return pool
    return _requiring(pool, tuple(line.model_copy(update={"min_values": None}) for line in lines))


def _untainted(pool: NodePool) -> NodePool:
    template = pool.spec.template
    if not template.spec.taints:
        return pool
    changed = template.model_copy(update={"spec": template.spec.model_copy(update={"taints": ()})})
    return replace(pool, spec=pool.spec.model_copy(update={"template": changed}))


def _plain(name: str) -> Callable[[NodePool], NodePool]:
    """Return how *name* of a NodePool's spec is taken back to its default."""

    def change(pool: NodePool) -> NodePool:
        field = type(pool.spec).model_fields[name]
        default = field.get_default(call_default_factory=True)
        if getattr(pool.spec, name) == default:
            return pool
        return replace(pool, spec=pool.spec.model_copy(update={name: default}))

    return change


def _without_volumes(pod: Pod) -> Pod:
    return replace(pod, volumes=()) if pod.volumes else pod


def _without_host_ports(pod: Pod) -> Pod:
    return replace(pod, host_ports=()) if pod.host_ports else pod


def _without_wishes(constraints: Constraints) -> Constraints:
    return replace(
        constraints, preferred_nodes=(), preferred_affinity=(), preferred_anti_affinity=()
    )


def _ignoring(case: Case) -> Case:
    lifted = _of_constraints(_without_wishes)(case)
    return replace(lifted, policy=replace(case.policy, preference_policy=IGNORE))


def _without_daemons(case: Case) -> Case:
    return replace(case, state=replace(case.state, daemonsets=(), _index={}))


def _is_type(key: str) -> bool:
    return key == labels.INSTANCE_TYPE or key.startswith(INSTANCE_LABELS)


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            "capacity types",
            "pods and NodePools take Spot, on-demand and reserved capacity alike",
            _keys(lambda key: key == labels.CAPACITY_TYPE, ANY_CAPACITY),
        ),
        Family(
            "instance types",
            "pods and NodePools take every type that has the room and the devices",
            _keys(_is_type),
        ),
        Family(
            "zones",
            "pods and NodePools take every zone; volumes keep theirs",
            _keys(lambda key: key in ZONES),
        ),
        Family(
            "topology spread",
            "no topologySpreadConstraints",
            _of_constraints(lambda said: replace(said, spread=())),
        ),
        Family(
            "pod affinity",
            "pods need no company",
            _of_constraints(lambda said: replace(said, affinity=())),
        ),
        Family(
            "pod anti-affinity",
            "pods keep off nobody",
            _of_constraints(lambda said: replace(said, anti_affinity=())),
        ),
        Family("preferences", "what pods only prefer is ignored", _ignoring),
        Family(
            "volumes", "volumes bind no zone and need no attachment", _of_pods(_without_volumes)
        ),
        Family("host ports", "two pods may want the same host port", _of_pods(_without_host_ports)),
        Family("taints", "NodePools keep nobody off", _of_pools(_untainted)),
        Family("weights", "all NodePools weigh the same", _of_pools(_plain("weight"))),
        Family("limits", "NodePools have no limits", _of_pools(_plain("limits"))),
        Family("minValues", "NodePools need no choice of types", _of_pools(_without_min_values)),
        Family("DaemonSets", "nodes carry no DaemonSet pods", _without_daemons),
    )
}
