"""What pods ask of devices: their claims read against classes, templates and allocations.

Decides, for every pod, which requests it brings to a node (`Need`), where a claim that is allocated
already lets it go, with whom it shares a claim that is not, and whether any of it is beyond what
can be judged exactly; then its pod is unschedulable, with the claim, the request and the reason
named. Matches resource.k8s.io/v1 and the scheduler's DynamicResources plugin: 32 devices a claim,
256 pods a claim, classes looked up by name, `firstAvailable` in its order; an extended resource
that only a DeviceClass serves is a claim like any other. A pod that leaves its node brings its
claims anew: they are released with it. Refuses to know which devices exist.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product

from outrider.apis.devices import ALL, ClaimSpec, DeviceRequest, MatchConstraint, ResourceClaim
from outrider.apis.labels import HOSTNAME
from outrider.apis.node import Node
from outrider.apis.placement import NodeTerm, Toleration
from outrider.apis.pod import Pod, PodClaim
from outrider.core.clusterstate import ClusterState
from outrider.core.requirements import Requirement
from outrider.core.scheduling.nodes import is_leaving
from outrider.core.scheduling.terms import NODE_NAME, NodeRule, term_requirements

MOST_DEVICES = 32
"""Devices that one claim can hold (AllocationResultsMaxSize)."""
MOST_PODS = 256
"""Pods that one claim can be reserved for."""
MOST_COMBINATIONS = 16
"""Combinations of `firstAvailable` choices that are tried for one pod."""

CLASS_RESOURCE = "deviceclass.resource.kubernetes.io/"
EXACT, EVERY, ADMIN, BUNDLE = "exact", "every", "admin", "bundle"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which devices a request takes, constraints between requests aside."""

    expressions: tuple[str, ...]
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class Agreement:
    """Devices of all *members* must have the same value of *attribute*.

    Where it is `bundled`, what differs among a node's devices is counted by bundles of them.
    """

    attribute: str
    members: tuple[Filter, ...]
    bundled: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """One kind of device that somebody asks for.

    `before` are alternatives that are tried first: where one of them fails, so does all of it. For
    a bundle, `counts` says how many devices it takes for each member of its one agreement.
    """

    filter: Filter
    agreements: tuple[Agreement, ...] = ()
    before: tuple[Filter, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def expressions(self) -> frozenset[str]:
        """Return every expression that is evaluated on the way."""
        members = (each for item in self.agreements for each in item.members)
        every = (self.filter, *members, *self.before)
        return frozenset(text for item in every for text in item.expressions)

    @property
    def order(self) -> tuple[object, ...]:
        """Return a key by which kinds are sorted, whatever the order of the input."""
        return (
            self.filter.expressions,
            tuple(map(_told, self.filter.tolerations)),
            tuple(
                (item.attribute, tuple(member.expressions for member in item.members))
                for item in self.agreements
            ),
            tuple(map(_by_text, self.before)),
            self.counts,
        )


@dataclass(frozen=True, slots=True)
class Need:
    """*count* devices of a kind; EVERY asks for all there are, ADMIN looks without taking.

    A BUNDLE asks for nothing beside what its requests ask: it says that they must agree.
    """

    wanted: Wanted
    count: int
    mode: str = EXACT


@dataclass(frozen=True, slots=True)
class Asked:
    """What one pod asks; `words` name its claims and requests.

    `choices` is how many combinations of alternatives it has. `terms` are where its allocated
    claims can be used, `shared` the claims that it has in common with other pods, each with its
    needs. `takes_slices` says that a selector names the memory or the product, and so a GPU's share
    will do.
    """

    needs: tuple[Need, ...] = ()
    words: str = ""
    choices: int = 1
    terms: tuple[tuple[NodeTerm, ...], ...] = ()
    shared: tuple[tuple[str, tuple[Need, ...]], ...] = ()
    takes_slices: bool = False
    dropped: tuple[str, ...] = ()  # extended resources that are claims in truth
    problem: str = ""


def _meets(node: Node, asked: Requirement) -> bool:
    value = node.name if asked.key in {NODE_NAME, HOSTNAME} else node.labels.get(asked.key)
    return asked.absent if value is None else asked.has(value)


class _Refused(Exception):
    """A claim cannot be judged, or cannot be had; the text says why."""


def _told(toleration: Toleration) -> tuple[str, str, str, str]:
    return toleration.key, toleration.operator, toleration.value, toleration.effect


class Claims:
    """Reads the claims of pods in one cluster."""

    def __init__(
        self, state: ClusterState, pods: Sequence[Pod], advertised: Callable[[str], bool]
    ) -> None:
        self._claims = {item.key: item for item in state.resource_claims}
        self._templates = {item.key: item for item in state.resource_claim_templates}
        self._classes = {item.name: item for item in state.device_classes}
        self._moving = {pod.uid for pod in pods if pod.node_name and pod.uid}
        self._planned = {pod.uid for pod in pods}
        self._nodes = [node for node in state.nodes if not is_leaving(node, state.claim_of(node))]
        self._released: dict[str, bool] = {}
        self._extended = {
            item.extended_resource: item.name
            for item in sorted(state.device_classes, key=lambda item: item.name, reverse=True)
            if item.extended_resource and not advertised(item.extended_resource)
        }
        users: dict[str, int] = {}
        for pod in pods:
            for key in {f"{pod.namespace}/{item.claim}" for item in pod.resource_claims}:
                users[key] = users.get(key, 0) + 1
        self._users = users

    def held(self) -> set[tuple[str, str, str]]:
        """Return the devices that allocated claims keep, those of leaving pods released."""
        return {
            device
            for claim in self._claims.values()
            if not self._is_released(claim)
            for device in claim.held
        }

    def concerned(self, pods: Iterable[Pod]) -> list[Pod]:
        """Return those of *pods* that ask for devices at all."""
        by_requests: dict[int, bool] = {}  # pods of one owner share theirs

        def claims_by_name(pod: Pod) -> bool:
            known = by_requests.get(id(pod.requests))
            if known is None:
                known = any(map(self._class_of, pod.requests))
                by_requests[id(pod.requests)] = known
            return known

        return [pod for pod in pods if pod.resource_claims or claims_by_name(pod)]

    def asked(self, pod: Pod, choice: int = 0) -> Asked:
        """Return what *pod* asks, the *choice*-th of its combinations of alternatives."""
        try:
            return self._asked(pod, choice)
        except _Refused as why:
            return Asked(problem=str(why))

    def _class_of(self, resource: str) -> str:
        """Return the DeviceClass that an extended resource stands for, "" where none does."""
        if resource.startswith(CLASS_RESOURCE):
            return resource.removeprefix(CLASS_RESOURCE)
        return self._extended.get(resource, "")

    def _is_released(self, claim: ResourceClaim) -> bool:
        """Return whether an allocated claim will be given up: whoever has it is planned anew.

        Those pods are leaving their node, or the node is gone already.
        """
        known = self._released.get(claim.key)
        if known is None:
            users = set(claim.reserved_for)
            leaves = bool(users) and users <= self._moving
            known = leaves or (users <= self._planned and not self._is_reached(claim))
            self._released[claim.key] = known
        return known

    def _is_reached(self, claim: ResourceClaim) -> bool:
        """Return whether a node that stays can use an allocated claim."""
        if claim.node_terms is None:
            return True
        terms = tuple(filter(None, map(term_requirements, claim.node_terms)))
        rule = NodeRule(either=(terms,))
        return any(rule.holds(partial(_meets, node)) for node in self._nodes)

    def _asked(self, pod: Pod, choice: int) -> Asked:
        specs: list[tuple[str, str, ClaimSpec]] = []
        terms: list[tuple[NodeTerm, ...]] = []
        names = []
        for item in pod.resource_claims:
            words, shared, spec, where = self._claim(pod, item)
            names.append(words)
            if where is not None:
                terms.append(where)
            if spec is not None:
                specs.append((words, shared, spec))
        dropped = tuple(sorted(filter(self._class_of, pod.requests)))
        for resource in dropped:
            spec = _of_class(self._class_of(resource), pod.requests[resource])
            names.append(resource)
            specs.append((resource, "", spec))
        return self._combined(specs, tuple(names), tuple(terms), dropped, choice)

    def _combined(
        self,
        specs: Sequence[tuple[str, str, ClaimSpec]],
        names: tuple[str, ...],
        terms: tuple[tuple[NodeTerm, ...], ...],
        dropped: tuple[str, ...],
        choice: int,
    ) -> Asked:
        lists = [options for _, _, spec in specs for options in spec.requests]
        combinations = 1
        for options in lists:
            combinations *= len(options)
        if combinations > MOST_COMBINATIONS:
            raise _Refused(
                f"{', '.join(names)}: {combinations} combinations of alternatives cannot be judged"
            )
        chosen = next(islice(product(*lists), choice, None), ())
        mine: list[Need] = []
        shared: list[tuple[str, tuple[Need, ...]]] = []
        words, start = [], 0
        for name, claim, spec in specs:
            requests = chosen[start : start + len(spec.requests)]
            start += len(spec.requests)
            needs = self._needs(name, spec, requests)
            words.append(f"{name} ({', '.join(map(_described, requests))})")
            if claim:
                shared.append((claim, needs))
            else:
                mine += needs
        return Asked(
            needs=tuple(mine),
            words=", ".join(words) or ", ".join(names),
            choices=max(combinations, 1),
            terms=terms,
            shared=tuple(shared),
            takes_slices=bool(chosen) and any(map(_names_a_slice, chosen)),
            dropped=dropped,
        )

    def _claim(
        self, pod: Pod, item: PodClaim
    ) -> tuple[str, str, ClaimSpec | None, tuple[NodeTerm, ...] | None]:
        """Return a claim's words, its key if others share it, what it asks, where it must go."""
        key = f"{pod.namespace}/{item.claim}"
        template = self._templates.get(f"{pod.namespace}/{item.template}")
        claim = self._claims.get(key) if item.claim else None
        if item.template and (claim is None or self._is_released(claim)):
            words = f"ResourceClaimTemplate {item.template}"
            if template is None:
                raise _Refused(f"{words} does not exist")
            return words, "", template.spec, None
        words = f"ResourceClaim {item.claim or item.name}"
        if claim is None:
            raise _Refused(f"{words} does not exist")
        if claim.is_deleted:
            raise _Refused(f"{words} is being deleted")
        if len(claim.reserved_for) >= MOST_PODS and pod.uid not in claim.reserved_for:
            raise _Refused(f"{words} is reserved for {MOST_PODS} pods, as many as it can be")
        if claim.is_allocated and not self._is_released(claim):
            return words, "", None, claim.node_terms
        return words, key if self._users.get(key, 0) > 1 else "", claim.spec, None

    def _needs(
        self, words: str, spec: ClaimSpec, requests: Sequence[DeviceRequest]
    ) -> tuple[Need, ...]:
        if spec.beyond:
            raise _Refused(f"{words}: {spec.beyond} cannot be judged")
        modes = {item.name: _mode(words, item, alone=len(requests) == 1) for item in requests}
        exact = sum(item.count for item in requests if modes[item.name] != EVERY)
        if exact > MOST_DEVICES:
            raise _Refused(f"{words}: {exact} devices are more than a claim holds ({MOST_DEVICES})")
        filters = {item.name: self._filter(words, item) for item in requests}
        before = {
            item.name: tuple(self._filter(words, each) for each in options[: options.index(item)])
            for item, options in zip(requests, spec.requests, strict=True)
        }
        agreed = [
            _agreement(item, requests, filters, spec.constraints) for item in spec.constraints
        ]
        needs = tuple(
            Need(
                wanted=Wanted(
                    filters[item.name],
                    tuple(
                        agreement
                        for constraint, agreement in zip(spec.constraints, agreed, strict=True)
                        if _concerns(constraint, item.name)
                    ),
                    before[item.name],
                ),
                count=item.count,
                mode=modes[item.name],
            )
            for item in requests
        )
        return (*needs, *_bundles(requests, filters, spec.constraints, agreed))

    def _filter(self, words: str, request: DeviceRequest) -> Filter:
        found = self._classes.get(request.device_class)
        if found is None:
            raise _Refused(
                f"{words}, request {request.name}: DeviceClass {request.device_class}"
                " does not exist"
            )
        # An expression twice says no more than once; order matters only to who fails first.
        expressions = tuple(dict.fromkeys((*found.selectors, *request.selectors)))
        tolerations = tuple(sorted(set(request.tolerations), key=_told))
        return Filter(expressions, tolerations)


def _mode(words: str, request: DeviceRequest, *, alone: bool) -> str:
    where = f"{words}, request {request.name}"
    if request.beyond:
        raise _Refused(f"{where}: {request.beyond} cannot be judged")
    if request.admin_access:
        if request.mode == ALL or not alone:
            raise _Refused(f"{where}: admin access to all devices, or beside others, {_CANNOT}")
        return ADMIN
    return EVERY if request.mode == ALL else EXACT


_CANNOT = "cannot be judged"


def _agreement(
    constraint: MatchConstraint,
    requests: Sequence[DeviceRequest],
    filters: Mapping[str, Filter],
    constraints: Sequence[MatchConstraint],
) -> Agreement:
    """Return what the devices of the requests that *constraint* concerns must agree on.

    A single device agrees with itself: there are no members then.
    """
    members = [item for item in requests if _concerns(constraint, item.name)]
    every = any(item.mode == ALL for item in members)
    if not every and sum(item.count for item in members) <= 1:
        return Agreement(constraint.attribute, ())
    named = tuple(sorted({filters[item.name] for item in members}, key=_by_text))
    return Agreement(constraint.attribute, named, bundled=not every and len(constraints) == 1)


def _bundles(
    requests: Sequence[DeviceRequest],
    filters: Mapping[str, Filter],
    constraints: Sequence[MatchConstraint],
    agreed: Sequence[Agreement],
) -> Iterable[Need]:
    """Yield the bundle that a claim's one constraint makes of its requests."""
    for constraint, agreement in zip(constraints, agreed, strict=True):
        if agreement.bundled:
            counts = tuple(
                sum(
                    item.count
                    for item in requests
                    if _concerns(constraint, item.name) and filters[item.name] == member
                )
                for member in agreement.members
            )
            kind = Wanted(agreement.members[0], (agreement,), counts=counts)
            yield Need(kind, 1, BUNDLE)


def _by_text(item: Filter) -> tuple[object, ...]:
    return item.expressions, tuple(map(_told, item.tolerations))


def _concerns(constraint: MatchConstraint, name: str) -> bool:
    """Return whether *constraint* names a request; `request/choice` goes with its request."""
    names: Collection[str] = constraint.requests
    return not names or name in names or name.partition("/")[0] in names


def _of_class(device_class: str, count: int) -> ClaimSpec:
    return ClaimSpec(requests=((DeviceRequest("container", device_class, count=count),),))


def _described(request: DeviceRequest) -> str:
    return f"request {request.name} of class {request.device_class}"


_SLICE_WORDS = ("memory", "productName", "brand")


def _names_a_slice(request: DeviceRequest) -> bool:
    return any(word in text for text in request.selectors for word in _SLICE_WORDS)
