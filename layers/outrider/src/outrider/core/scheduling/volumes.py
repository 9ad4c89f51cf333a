"""Volumes: where a pod's claims tie it to, and how many attachments it needs.

Decides, for each pod with claims: which label terms its bound volumes and the allowedTopologies
of its unbound claims demand (alternatives, AND-ed over volumes); whether a claim is such that the
pod cannot be planned at all (missing, lost, unbound with Immediate binding, without a class that
exists); and which volumes of which driver it attaches, each claim counted once a node. Says which
volumes are attached to a node still, though no pod claims them. In-tree EBS volumes count for the
CSI driver they migrate to (F83 to F87). Refuses to know nodes' limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from outrider.apis.labels import ZONE, normalise
from outrider.apis.meta import IN, Expression, LabelSelector
from outrider.apis.placement import PodTerm
from outrider.apis.pod import Pod, PodVolume
from outrider.apis.storage import (
    BIND_COMPLETED,
    EBS_DRIVER,
    IMMEDIATE,
    IN_TREE_EBS,
    NO_PROVISIONER,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
    VolumeAttachment,
)
from outrider.core.clusterstate import ClusterState
from outrider.core.requirements import Requirements
from outrider.core.scheduling.terms import NodeRule, term_requirements, without_hostname

_ANYWHERE = NodeRule()
_SHARED = "outrider.dev/volume-of"  # a mark within the planner, never on an object


@dataclass(frozen=True, slots=True)
class VolumeNeeds:
    """What a pod's volumes ask of a node."""

    rule: NodeRule = _ANYWHERE  # on nodes that exist
    launch_rule: NodeRule = _ANYWHERE  # on new nodes: a local volume's own node is gone
    own: tuple[tuple[str, int], ...] = ()  # driver -> claims that only this pod uses
    shared: frozenset[tuple[str, str]] = frozenset()  # (driver, claim) that others use too
    problem: str = ""  # why the pod cannot be planned

    def count(self, driver: str) -> int:
        """Return how many volumes of *driver* the pod alone needs attached."""
        return dict(self.own).get(driver, 0) + sum(1 for name, _ in self.shared if name == driver)


NO_VOLUMES = VolumeNeeds()


class Volumes:
    """The volumes of a cluster, asked for by pod."""

    def __init__(self, state: ClusterState) -> None:
        self._claims = {claim.key: claim for claim in state.pvcs}
        self._volumes = {volume.name: volume for volume in state.pvs}
        self._classes = {item.name: item for item in state.storage_classes}
        self._default = _default_class(state.storage_classes)
        self._users = Counter(
            f"{pod.namespace}/{volume.claim}"
            for pod in state.pods
            if not pod.finished
            for volume in pod.volumes
            if volume.claim
        )
        self._claimant = {claim.volume: key for key, claim in self._claims.items() if claim.volume}
        self._attachments: dict[str, list[VolumeAttachment]] = {}
        for item in state.volume_attachments:
            self._attachments.setdefault(item.node, []).append(item)
        self._rules: dict[tuple[NodeRule, ...], tuple[NodeRule, NodeRule]] = {}

    def needs(self, pod: Pod) -> VolumeNeeds:
        """Return what the volumes of *pod* ask."""
        if not pod.volumes:
            return NO_VOLUMES
        rules: list[NodeRule] = []
        own: Counter[str] = Counter()
        shared: set[tuple[str, str]] = set()
        for volume in pod.volumes:
            rule, driver, problem = self._need(pod.namespace, volume)
            if problem:
                return VolumeNeeds(problem=problem)
            if not rule.free:
                rules.append(rule)
            identity = volume.volume_id or f"{pod.namespace}/{volume.claim}"
            if driver and self._users[identity] <= 1 and not volume.volume_id:
                own[driver] += 1
            elif driver:
                shared.add((driver, identity))
        here, there = self._joined(tuple(rules))
        return VolumeNeeds(here, there, tuple(sorted(own.items())), frozenset(shared))

    def together(self, pods: Sequence[Pod]) -> tuple[Pod, ...]:
        """Return *pods*, those that share a claim without a volume bound to one zone.

        An EBS volume is made in the zone of the first pod that is scheduled; from then on the
        others can run nowhere else.
        """
        shared = self._shared_unbound(pods)
        if not shared:
            return tuple(pods)
        return tuple(
            _in_company(pod, mine) if (mine := shared.get(pod.key)) else pod for pod in pods
        )

    def _shared_unbound(self, pods: Iterable[Pod]) -> dict[str, list[str]]:
        """Return by pod key the claims, without a volume so far, that others of *pods* want too."""
        wanted: dict[str, list[str]] = {}
        for pod in pods:
            for volume in pod.volumes:
                name = f"{pod.namespace}/{volume.claim}"
                claim = self._claims.get(name)
                if claim is None or claim.volume or self._users[name] <= 1:
                    continue
                storage = self._class_of(claim)
                if storage is not None and _migrated(storage.provisioner) == EBS_DRIVER:
                    wanted.setdefault(pod.key, []).append(name)
        return wanted

    def attached(self, pod: Pod) -> frozenset[tuple[str, str]]:
        """Return (driver, identity) of every volume that a running *pod* has attached."""
        found = set()
        for volume in pod.volumes:
            identity = volume.volume_id or f"{pod.namespace}/{volume.claim}"
            driver = self._driver(pod.namespace, volume)
            if driver:
                found.add((driver, identity))
        return frozenset(found)

    def left_attached(self, node: str) -> frozenset[tuple[str, str]]:
        """Return (driver, identity) of the volumes attached to *node* that no pod claims any more.

        kube-scheduler counts them until they are detached. One that a pod still claims is counted
        where the pod goes: it may well come back here, and needs no second attachment then.
        """
        return frozenset(
            (_migrated(item.driver), f"volume {item.volume}")
            for item in self._attachments.get(node, ())
            if item.volume and not self._users[self._claimant.get(item.volume, "")]
        )

    def _joined(self, rules: tuple[NodeRule, ...]) -> tuple[NodeRule, NodeRule]:
        if rules not in self._rules:
            joined = NodeRule()
            for rule in rules:
                joined = joined.also(rule)
            self._rules[rules] = (joined, without_hostname(joined))
        return self._rules[rules]

    def _need(self, namespace: str, volume: PodVolume) -> tuple[NodeRule, str, str]:
        """Return one volume's rule and driver, or what is wrong with it."""
        if volume.volume_id:
            return _ANYWHERE, EBS_DRIVER, ""
        claim = self._claims.get(f"{namespace}/{volume.claim}")
        if claim is None and volume.ephemeral:
            claim = PersistentVolumeClaim(namespace, volume.claim, {}, volume.storage_class)
        if claim is None:
            return _ANYWHERE, "", f"claim {volume.claim} does not exist"
        if claim.deleted is not None:
            return _ANYWHERE, "", f"claim {volume.claim} is being deleted"
        if claim.phase == "Lost":
            return _ANYWHERE, "", f"claim {volume.claim} has lost its volume"
        if claim.volume:
            return self._bound(claim)
        return self._unbound(claim)

    def _bound(self, claim: PersistentVolumeClaim) -> tuple[NodeRule, str, str]:
        if claim.phase == "Pending" and claim.annotations.get(BIND_COMPLETED) != "yes":
            return _ANYWHERE, "", f"claim {claim.name} is still being bound"
        volume = self._volumes.get(claim.volume)
        if volume is None:
            return _ANYWHERE, "", f"volume {claim.volume} of claim {claim.name} does not exist"
        return _volume_rule(volume), volume.driver, ""

    def _unbound(self, claim: PersistentVolumeClaim) -> tuple[NodeRule, str, str]:
        storage = self._class_of(claim)
        if storage is None:
            named = f"storage class {claim.storage_class}" if claim.storage_class else "its class"
            return _ANYWHERE, "", f"claim {claim.name} is unbound and {named} does not exist"
        if storage.binding_mode == IMMEDIATE:
            return _ANYWHERE, "", f"claim {claim.name} binds immediately and is not bound yet"
        if storage.provisioner == NO_PROVISIONER:
            return _ANYWHERE, "", f"claim {claim.name} waits for a volume made by hand"
        return _class_rule(storage), _migrated(storage.provisioner), ""

    def _driver(self, namespace: str, volume: PodVolume) -> str:
        if volume.volume_id:
            return EBS_DRIVER
        claim = self._claims.get(f"{namespace}/{volume.claim}")
        if claim is not None and claim.volume in self._volumes:
            return self._volumes[claim.volume].driver
        wanted = claim.storage_class if claim is not None else volume.storage_class
        storage = self._default if wanted is None else self._classes.get(wanted)
        return _migrated(storage.provisioner) if storage is not None else ""

    def _class_of(self, claim: PersistentVolumeClaim) -> StorageClass | None:
        if claim.storage_class is None:
            return self._default
        return self._classes.get(claim.storage_class)


def _in_company(pod: Pod, claims: Iterable[str]) -> Pod:
    """Return *pod* in the zone of every other pod that uses one of *claims*."""
    marks = {f"{_SHARED} {claim}": "" for claim in claims}
    near = tuple(
        PodTerm(ZONE, LabelSelector((Expression(mark, IN, ("",)),))) for mark in sorted(marks)
    )
    company = (*pod.constraints.company, *near)
    return replace(
        pod,
        labels={**pod.labels, **marks},
        constraints=replace(pod.constraints, company=company),
    )


def _default_class(classes: Iterable[StorageClass]) -> StorageClass | None:
    """Return the default class: the newest of those marked so, then by name."""
    marked = [item for item in classes if item.default]
    return min(
        marked,
        key=lambda item: (-(item.created.timestamp() if item.created else 0.0), item.name),
        default=None,
    )


def _migrated(provisioner: str) -> str:
    return EBS_DRIVER if provisioner == IN_TREE_EBS else provisioner


def _volume_rule(volume: PersistentVolume) -> NodeRule:
    labelled = {
        normalise(key): value for key, value in volume.labels.items() if normalise(key) == ZONE
    }
    rule = NodeRule(
        Requirements.of(
            {"key": key, "operator": "In", "values": value.split("__")}
            for key, value in labelled.items()
        )
    )
    if volume.terms is None:
        return rule
    terms = tuple(
        requirements
        for term in volume.terms
        if (requirements := term_requirements(term)) is not None
    )
    return rule.also(_alternatives(terms))


def _class_rule(storage: StorageClass) -> NodeRule:
    if not storage.topologies:
        return _ANYWHERE
    return _alternatives(tuple(Requirements.of(lines) for lines in storage.topologies))


def _alternatives(terms: tuple[Requirements, ...]) -> NodeRule:
    return NodeRule(terms[0]) if len(terms) == 1 else NodeRule(either=(terms,))


def over_limit(
    attached: frozenset[tuple[str, str]],
    own: Mapping[str, int],
    needs: VolumeNeeds,
    limits: Mapping[str, int],
) -> str | None:
    """Return the driver whose limit a pod with *needs* would break on a node, None if none.

    *attached* and *own* are what the node has: claims by identity, and counts of claims of one pod.
    """
    drivers = {driver for driver, _ in needs.own} | {driver for driver, _ in needs.shared}
    for driver in sorted(drivers & limits.keys()):
        together = {item for item in attached | needs.shared if item[0] == driver}
        if len(together) + own.get(driver, 0) + dict(needs.own).get(driver, 0) > limits[driver]:
            return driver
    return None
