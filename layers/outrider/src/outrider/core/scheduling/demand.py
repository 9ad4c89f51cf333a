"""Demand: pods that ask the same, gathered into classes, each with a ladder of asks.

Decides which pods are interchangeable for the planner (same requests, constraints, volumes, ports,
priority and the same part in every count of spread and affinity), and turns constraints into what a
bin is asked: vectors, rules, indices of tallies. A class has one `Ask` for each step of its
preferences' ladder. Planning works on classes, so ten thousand pods of fifty kinds cost as much as
fifty. Refuses to know nodes, NodePools and offerings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from outrider.apis.placement import HONOR, Constraints, PodTerm, Spread, Toleration
from outrider.apis.pod import HostPort, Pod
from outrider.apis.quantity import Resources
from outrider.core.catalog.instancetype import ACCELERATORS
from outrider.core.scheduling.preferences import Bound, ladder
from outrider.core.scheduling.shelf import DEVICES, TAKES_SLICES, Axis, names_a_sliver
from outrider.core.scheduling.supply import Amounts
from outrider.core.scheduling.tally import (
    EVERY_NODE,
    Matcher,
    Namespaces,
    NodeFilter,
    Tallies,
    Tally,
    spread_matcher,
    term_matcher,
)
from outrider.core.scheduling.terms import NodeRule, node_rule
from outrider.core.scheduling.volumes import NO_VOLUMES, VolumeNeeds, Volumes

_ACCELERATOR_FAMILIES = (
    "nvidia.com/",
    "amd.com/gpu",
    "aws.amazon.com/neuron",
    "habana.ai/",
    DEVICES,
)


@dataclass(frozen=True, slots=True)
class SpreadUse:
    """One spread constraint of an ask: the tally it reads and what it allows."""

    tally: int
    max_skew: int
    min_domains: int | None
    counts_itself: bool
    nodes: NodeFilter
    rule: NodeRule  # what the pod must have of a node, whatever it prefers: who serves it (rule 4)
    tolerations: tuple[Toleration, ...]
    soft: bool = False


@dataclass(frozen=True, slots=True)
class NearUse:
    """One affinity of an ask: a pod must be counted in the domain of every tally."""

    tallies: tuple[int, ...]
    matches_itself: bool
    soft: bool = False


@dataclass(eq=False)
class Ask:
    """What a pod of one class asks of a bin, at one step of its ladder."""

    index: int
    request: Amounts
    requests: Resources
    rule: NodeRule
    tolerations: tuple[Toleration, ...]
    spreads: tuple[SpreadUse, ...]
    near: tuple[NearUse, ...]
    apart: tuple[int, ...]  # tallies that must be 0 in the domain
    wanted_apart: tuple[int, ...]  # those of them that are only preferred
    repelled: tuple[int, ...]  # tallies of holders that must be 0 in the domain
    counted: tuple[int, ...]  # tallies that count the pod once it is placed
    ports: tuple[HostPort, ...]
    volumes: VolumeNeeds
    accelerated: bool
    takes_slices: bool  # a share of a GPU will do: a requirement or a device selector names it
    keys: tuple[str, ...]  # topology keys other than the hostname that have to be settled

    @property
    def tied(self) -> bool:
        """Return whether other pods matter to where the pod may go, or it matters to theirs."""
        return bool(self.spreads or self.near or self.apart or self.repelled or self.counted)


@dataclass(eq=False)
class PodClass:
    """Pods that ask the same."""

    index: int
    pods: list[int]  # indices into the planned pods
    asks: tuple[Ask, ...]
    priority: int
    problem: str = ""  # why no pod of the class can be planned: its volumes
    devices: str = ""  # why no pod of the class can be planned: its device claims


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a ladder with its terms resolved to tallies."""

    bound: Bound
    spreads: tuple[tuple[int, Spread, NodeFilter, bool], ...]
    near: tuple[tuple[tuple[int, ...], bool], ...]
    apart: tuple[int, ...]
    wanted_apart: tuple[int, ...]
    holds: tuple[int, ...]
    rule: NodeRule  # of the requirements alone


@dataclass(eq=False)
class _Built:
    """The classes made so far, by what makes them one, and how many asks they have."""

    classes: dict[tuple[object, ...], PodClass] = field(default_factory=dict)
    asks: int = 0


@dataclass(eq=False)
class Demands:
    """Gathers pods into classes."""

    axis: Axis
    tallies: Tallies
    namespaces: Namespaces
    volumes: Volumes
    ignore_preferences: bool = False
    soft_taints: bool = False
    _steps: dict[tuple[Constraints, str, tuple[tuple[str, str], ...]], tuple[_Step, ...]] = field(
        default_factory=dict
    )
    _vectors: dict[tuple[tuple[str, int], ...], Amounts] = field(default_factory=dict)

    def classes(
        self, pods: Sequence[Pod], gangs: Mapping[str, str], devices: Mapping[str, str]
    ) -> list[PodClass]:
        """Return the classes of *pods* in order of first appearance.

        *gangs* and *devices* give, by pod key, the pod's gang and what is wrong with its claims.
        """
        free: dict[int, tuple[_Step, ...]] = {}
        steps = [
            free.get(id(pod.constraints)) or self._steps_of(pod, free) for pod in pods
        ]  # registers every tally before any is counted
        built = _Built()
        alike: dict[tuple[object, ...], PodClass] = {}
        for place, profile in enumerate(self._profiles(pods, steps, gangs, devices)):
            known = alike.get(profile)
            if known is None:
                pod = pods[place]
                known = self._class_of(pod, steps[place], built, gangs, devices)
                alike[profile] = known
            known.pods.append(place)
        return list(built.classes.values())

    def _profiles(
        self,
        pods: Sequence[Pod],
        steps: Sequence[tuple[_Step, ...]],
        gangs: Mapping[str, str],
        devices: Mapping[str, str],
    ) -> Iterator[tuple[object, ...]]:
        """Return what shows quickly that two pods are of one class: parts that are the same object.

        Pods of one owner share theirs since they were parsed; those that do not are compared by
        value, once each.
        """
        labelled = bool(self.tallies.items)
        marked = bool(gangs or devices)
        nothing = [None] * len(pods)
        return zip(
            map(id, steps),
            [id(pod.requests) for pod in pods],
            [pod.priority for pod in pods],
            [id(pod.host_ports) for pod in pods],
            [pod.key if pod.volumes else None for pod in pods],
            [self.tallies.members(pod.namespace, pod.labels) for pod in pods]
            if labelled
            else nothing,
            [pod.key for pod in pods] if marked else nothing,
            strict=True,
        )

    def _class_of(
        self,
        pod: Pod,
        steps: tuple[_Step, ...],
        built: _Built,
        gangs: Mapping[str, str],
        devices: Mapping[str, str],
    ) -> PodClass:
        """Return the class of *pod* among those *built*, a new one if it is the first."""
        members = self.tallies.members(pod.namespace, pod.labels)
        requests = tuple(sorted(pod.requests.items()))
        needs = self.volumes.needs(pod) if pod.volumes else NO_VOLUMES
        key = (
            id(steps),
            requests,
            members,
            pod.host_ports,
            needs,
            pod.priority,
            gangs.get(pod.key),
            devices.get(pod.key),
        )
        known = built.classes.get(key)
        if known is None:
            asks = tuple(
                self._ask(built.asks + level, step, pod, requests, members, needs)
                for level, step in enumerate(steps)
            )
            built.asks += len(asks)
            known = built.classes[key] = PodClass(
                index=len(built.classes),
                pods=[],
                asks=asks,
                priority=pod.priority,
                problem=needs.problem,
                devices=devices.get(pod.key, ""),
            )
        return known

    def holders(self, pod: Pod) -> tuple[int, ...]:
        """Return the tallies of anti-affinity terms that a running *pod* holds."""
        return tuple(
            self._owner_tally(term, pod.namespace, pod.labels)
            for term in pod.constraints.anti_affinity
        )

    def _steps_of(self, pod: Pod, free: dict[int, tuple[_Step, ...]]) -> tuple[_Step, ...]:
        """Return the ladder of *pod*; where it is its constraints' alone, it is put in *free* by
        their id."""
        constraints = pod.constraints
        keys = _label_keys(constraints)
        values = tuple((key, pod.labels[key]) for key in keys if key in pod.labels)
        profile = (constraints, pod.namespace if _is_tied(constraints) else "", values)
        known = self._steps.get(profile)
        if known is None:
            rungs = ladder(
                constraints, ignore=self.ignore_preferences, soft_taints=self.soft_taints
            )
            known = tuple(
                self._resolve(bound, constraints, pod.namespace, pod.labels) for bound in rungs
            )
            self._steps[profile] = known
        if not _is_tied(constraints):
            free[id(constraints)] = known
        return known

    def _resolve(
        self, bound: Bound, constraints: Constraints, namespace: str, labels: Mapping[str, str]
    ) -> _Step:
        def tally(term: PodTerm) -> int:
            matcher = term_matcher(term, namespace, labels, self.namespaces)
            return self.tallies.index(Tally(term.topology_key, matcher))

        spreads = []
        for spread in (*bound.spread, *bound.wanted_spread):
            nodes = _node_filter(spread, constraints)
            matcher = spread_matcher(spread, namespace, labels)
            index = self.tallies.index(Tally(spread.topology_key, matcher, nodes))
            spreads.append((index, spread, nodes, spread in bound.wanted_spread))
        near = (
            [(self._together(bound.affinity, namespace, labels), False)] if bound.affinity else []
        )
        near += [((tally(term),), False) for term in bound.company]
        near += [((tally(term),), True) for term in bound.wanted_affinity]
        wanted_apart = tuple(tally(term) for term in bound.wanted_anti_affinity)
        return _Step(
            bound=bound,
            spreads=tuple(spreads),
            near=tuple(near),
            apart=(*(tally(term) for term in bound.anti_affinity), *wanted_apart),
            wanted_apart=wanted_apart,
            holds=tuple(self._owner_tally(term, namespace, labels) for term in bound.anti_affinity),
            rule=node_rule(constraints),
        )

    def _together(
        self, terms: Sequence[PodTerm], namespace: str, labels: Mapping[str, str]
    ) -> tuple[int, ...]:
        """Return a tally for each key of required affinity: pods count that match every term."""
        matchers = [term_matcher(term, namespace, labels, self.namespaces) for term in terms]
        namespaces: frozenset[str] | None = None
        for matcher in matchers:
            if matcher.namespaces is not None:
                namespaces = (
                    matcher.namespaces if namespaces is None else namespaces & matcher.namespaces
                )
        selectors = tuple(dict.fromkeys(item for each in matchers for item in each.selectors))
        if not all(matcher.selectors for matcher in matchers):
            selectors = ()
        joint = Matcher(namespaces, selectors)
        keys = sorted({term.topology_key for term in terms})
        return tuple(self.tallies.index(Tally(key, joint)) for key in keys)

    def _owner_tally(self, term: PodTerm, namespace: str, labels: Mapping[str, str]) -> int:
        matcher = term_matcher(term, namespace, labels, self.namespaces)
        return self.tallies.index(Tally(term.topology_key, matcher, EVERY_NODE, owners=True))

    def _ask(
        self,
        index: int,
        step: _Step,
        pod: Pod,
        requests: tuple[tuple[str, int], ...],
        members: tuple[int, ...],
        needs: VolumeNeeds,
    ) -> Ask:
        vector = self._vectors.get(requests)
        if vector is None:
            vector = self.axis.vector(dict(requests))
            self._vectors[requests] = vector
        spreads = tuple(
            SpreadUse(
                tally=tally,
                max_skew=spread.max_skew,
                min_domains=spread.min_domains,
                counts_itself=tally in members,
                nodes=nodes,
                rule=step.rule,
                tolerations=pod.constraints.tolerations,
                soft=soft,
            )
            for tally, spread, nodes, soft in step.spreads
        )
        near = tuple(
            NearUse(tallies, all(tally in members for tally in tallies), soft)
            for tallies, soft in step.near
        )
        repelled = self.tallies.repelling(members)
        counted = tuple(sorted({*self.tallies.matched(members), *step.holds}))
        used = {
            *counted,
            *repelled,
            *step.apart,
            *(use.tally for use in spreads),
            *(tally for use in near for tally in use.tallies),
        }
        return Ask(
            index=index,
            request=vector,
            requests={name: value for name, value in requests if not name.startswith(DEVICES)},
            rule=step.bound.nodes,
            tolerations=step.bound.tolerations,
            spreads=spreads,
            near=near,
            apart=step.apart,
            wanted_apart=step.wanted_apart,
            repelled=repelled,
            counted=counted,
            ports=pod.host_ports,
            volumes=needs,
            accelerated=any(
                name in ACCELERATORS or name.startswith(_ACCELERATOR_FAMILIES)
                for name, _ in requests
            ),
            takes_slices=names_a_sliver(step.bound.nodes.keys())
            or any(name == TAKES_SLICES for name, _ in requests),
            keys=tuple(
                sorted(
                    {
                        self.tallies.items[tally].key
                        for tally in used
                        if not self.tallies.items[tally].hosted
                    }
                )
            ),
        )


def _is_tied(constraints: Constraints) -> bool:
    return bool(
        constraints.spread
        or constraints.affinity
        or constraints.anti_affinity
        or constraints.preferred_affinity
        or constraints.preferred_anti_affinity
        or constraints.company
    )


def _label_keys(constraints: Constraints) -> tuple[str, ...]:
    """Return the pod's label keys that its own terms take values from."""
    if not _is_tied(constraints):
        return ()
    terms: Iterable[PodTerm] = (
        *constraints.affinity,
        *constraints.anti_affinity,
        *(item.term for item in constraints.preferred_affinity),
        *(item.term for item in constraints.preferred_anti_affinity),
    )
    keys = {key for spread in constraints.spread for key in spread.match_label_keys}
    for term in terms:
        keys.update(term.match_label_keys, term.mismatch_label_keys)
    return tuple(sorted(keys))


def _node_filter(spread: Spread, constraints: Constraints) -> NodeFilter:
    rule = node_rule(constraints) if spread.node_affinity_policy == HONOR else None
    return NodeFilter(
        rule=None if rule is None or rule.free else rule,
        tolerations=constraints.tolerations if spread.node_taints_policy == HONOR else None,
    )
