"""CreateFleet requests for the launches of one plan: as few calls and templates as the API allows.

Launches that are equal but for their pods become one `instant` request for N instances; a gang's
become one request that launches all or nothing (MinTargetCapacity in a single zone). Reserved
capacity comes before Spot, Spot before on-demand, one capacity type a call, because an instant
fleet never falls back by itself: what it does not give is marked and planned again
(`flows.launch`). Overrides are types x zones with one subnet a zone, at most 60 types and 300
overrides, cheapest first. EC2 weighs prices by itself, by its own; where a NodeOverlay states them,
it is told the order instead (prioritized strategies, the cheaper the higher). The image goes into
the override and user data beside the template's name, so types that differ only in these share a
template.

The client token is a hash of decision, attempt and content: a replay returns what the first call
launched. Requests are values; the adapter sends `FleetRequest.to_json()` as it is.

Matches Karpenter's launch (F110 to F118). Refuses to know what is in stock.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from outrider.apis import labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.catalog.family import family_of
from outrider.core.catalog.instancetype import InstanceType
from outrider.core.launch import network, tags, template
from outrider.core.launch.bootstrap import ClusterIdentity
from outrider.core.launch.flexibility import flexible
from outrider.core.launch.machine import Kit, Wish, Workbench
from outrider.core.launch.template import TemplateRequest
from outrider.core.scheduling.result import Choice, Launch
from outrider.core.seeding import Seed
from outrider.errors import InvalidManifest

MAX_OVERRIDES = 300
MAX_INSTANCES = 100  # an intent must fit one item of the ledger
SPOT_STRATEGIES = {False: "price-capacity-optimized", True: "capacity-optimized-prioritized"}
ON_DEMAND_STRATEGIES = {False: "lowest-price", True: "prioritized"}
PRECEDENCE = (labels.RESERVED, labels.SPOT, labels.ON_DEMAND)

_KUBERNETES_DOMAINS = ("kubernetes.io", "k8s.io")
_KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_KUBELET_LABELS = frozenset(
    {labels.ARCH, labels.OS, labels.HOSTNAME, labels.ZONE, labels.REGION, labels.INSTANCE_TYPE}
)


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet that a node class selects, with its free addresses now, and its Outpost if any."""

    id: str
    zone: str
    zone_id: str = ""
    free_addresses: int = 0
    outpost: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A launch with the name of the NodeClaim that it is for."""

    claim: str
    launch: Launch


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a request depends on besides the launches.

    `subnets` are by node class, the unavailable ones left out; `images` by pod; `attempt` makes the
    tokens of a second try differ from the first's; `at_once` is how many nodes one request of a
    NodePool may ask for where a brake says so, gangs excepted.
    """

    cluster: ClusterIdentity
    stack: str
    decision: str
    node_classes: Mapping[str, EC2NodeClass]
    subnets: Mapping[str, tuple[Subnet, ...]]
    types: Mapping[str, InstanceType]
    seeds: tuple[Seed, ...] = ()
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attempt: int = 0
    at_once: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pool:
    """One capacity pool of a request: a type in a zone, through one subnet."""

    instance_type: str
    zone: str
    subnet_id: str
    price_per_hour: float


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """One LaunchTemplateConfig: a template, the user data beside it, its overrides."""

    template: TemplateRequest
    user_data: str
    overrides: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """One CreateFleet call for `claims`, in their order."""

    capacity_type: str
    node_pool: str
    node_class: str
    claims: tuple[str, ...]
    uses: tuple[TemplateUse, ...]
    pools: tuple[Pool, ...]
    tags: Mapping[str, str]
    client_token: str = ""
    gang: bool = False
    capacity_block: bool = False
    context: str | None = None
    price_per_hour: float = 0.0
    prioritized: bool = False

    @property
    def templates(self) -> tuple[TemplateRequest, ...]:
        """Return the templates that must exist before the call."""
        return tuple({use.template.name: use.template for use in self.uses}.values())

    def to_json(self) -> dict[str, Any]:
        """Return the parameters of the CreateFleet call."""
        count = len(self.claims)
        call: dict[str, Any] = {
            "ClientToken": self.client_token,
            "Type": "instant",
            "LaunchTemplateConfigs": [_config(use) for use in self.uses],
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": count,
                "DefaultTargetCapacityType": self._target(),
            },
            "TagSpecifications": self._tag_specifications(),
        }
        whole = {"SingleAvailabilityZone": True, "MinTargetCapacity": count} if self.gang else {}
        if self.capacity_type == labels.SPOT:
            strategy = SPOT_STRATEGIES[self.prioritized]
            call["SpotOptions"] = {"AllocationStrategy": strategy, **whole}
        elif not self.capacity_block:
            strategy = ON_DEMAND_STRATEGIES[self.prioritized]
            call["OnDemandOptions"] = {"AllocationStrategy": strategy, **whole}
        if self.context:
            call["Context"] = self.context
        return call

    def _target(self) -> str:
        if self.capacity_type == labels.SPOT:
            return "spot"
        return "capacity-block" if self.capacity_block else "on-demand"

    def _tag_specifications(self) -> list[dict[str, Any]]:
        own = {**self.tags}
        if len(self.claims) == 1:
            own[labels.NODECLAIM_TAG] = self.claims[0]
            own[tags.NAME] = self.tags.get(tags.NAME, f"{self.node_pool}/{self.claims[0]}")
        return tags.specifications(("instance",), own) + tags.specifications(
            ("fleet", "volume", "network-interface"), self.tags
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """An order that no request can be made for, with what to fix."""

    order: Order
    reason: str


@dataclass(frozen=True, slots=True)
class Requests:
    """The calls to make, and the orders that none of them serves."""

    requests: tuple[FleetRequest, ...]
    refused: tuple[Refused, ...]


def requests(orders: Iterable[Order], around: Surroundings) -> Requests:
    """Return the CreateFleet calls for *orders*."""
    made: list[FleetRequest] = []
    refused: list[Refused] = []
    room = _Room(around.subnets)
    benches = _benches(around)
    for group in _alike(orders, around):
        try:
            made += [_request(part, around, room, benches) for part in _parts(group, around)]
        except (_Impossible, InvalidManifest) as problem:
            refused += [Refused(order, str(problem)) for order in group]
    return Requests(tuple(made), tuple(refused))


class _Impossible(Exception):
    """No request can be made; the message says what to fix."""


class _Room:
    """Free addresses left in each subnet while the requests of one plan are made."""

    def __init__(self, subnets: Mapping[str, tuple[Subnet, ...]]) -> None:
        self._subnets = subnets
        self._taken: dict[str, int] = {}

    def best(self, node_class: str) -> dict[str, Subnet]:
        """Return zone -> the subnet with most free addresses."""
        result: dict[str, Subnet] = {}
        for subnet in sorted(self._subnets.get(node_class, ()), key=self._order):
            result.setdefault(subnet.zone, subnet)
        return result

    def take(self, subnets: Iterable[str], count: int) -> None:
        """Count *count* machines against each of *subnets*: any of them may get all."""
        for subnet in subnets:
            self._taken[subnet] = self._taken.get(subnet, 0) + count

    def _order(self, subnet: Subnet) -> tuple[int, str]:
        return self._taken.get(subnet.id, 0) - subnet.free_addresses, subnet.id


def _benches(around: Surroundings) -> dict[str, Workbench]:
    """Return a workbench for each node class whose AMI family is spoken here."""
    return {
        name: Workbench(found, family, around.cluster, around.stack, around.types, around.seeds)
        for name, found in around.node_classes.items()
        if (family := family_of(found)) is not None
    }


def _alike(orders: Iterable[Order], around: Surroundings) -> list[list[Order]]:
    groups: dict[Any, list[Order]] = {}
    for order in orders:
        launch = order.launch
        key = (
            launch.node_pool,
            launch.node_class,
            launch.gang,
            launch.choices,
            tuple(sorted(launch.labels.items())),
            launch.taints,
            launch.startup_taints,
            tuple(sorted(launch.max_pods.items())),
            network.wants_efa(launch.requests),
            _images(launch, around),
        )
        groups.setdefault(key, []).append(order)
    return list(groups.values())


def _images(launch: Launch, around: Surroundings) -> frozenset[str]:
    """Return the images of a launch's pods that some seed holds: nothing else splits a batch."""
    held = {name for seed in around.seeds for name in seed.images}
    return frozenset(
        image for pod in launch.pods for image in around.images.get(pod, ()) if image in held
    )


def _parts(group: Sequence[Order], around: Surroundings) -> Iterable[Sequence[Order]]:
    if group[0].launch.gang:
        return (group,)
    most = min(MAX_INSTANCES, around.at_once.get(group[0].launch.node_pool, MAX_INSTANCES))
    return (group[at : at + most] for at in range(0, len(group), most))


def _request(
    orders: Sequence[Order],
    around: Surroundings,
    room: _Room,
    benches: Mapping[str, Workbench],
) -> FleetRequest:
    launch = orders[0].launch
    node_class = around.node_classes.get(launch.node_class)
    if node_class is None:
        raise _Impossible(f"EC2NodeClass {launch.node_class} does not exist")
    bench = benches.get(launch.node_class)
    if bench is None:
        raise _Impossible(f"EC2NodeClass {launch.node_class} has an AMI family that is not spoken")
    choices = _bought_together(launch)
    subnets = room.best(launch.node_class)
    if not subnets:
        raise _Impossible(f"EC2NodeClass {launch.node_class} has no subnet with free addresses")
    builder = _Builder(launch, bench, around)
    uses, pools = builder.uses(choices, subnets)
    if not pools:
        raise _Impossible(builder.problem(choices, subnets))
    room.take({pool.subnet_id for pool in pools}, len(orders))
    request = FleetRequest(
        capacity_type=choices[0].capacity_type,
        node_pool=launch.node_pool,
        node_class=launch.node_class,
        claims=tuple(order.claim for order in orders),
        uses=uses,
        pools=pools,
        tags=tags.of_node(
            around.cluster.name,
            around.stack,
            launch.node_pool,
            launch.node_class,
            around.decision,
            node_class.spec.tags,
        ),
        gang=launch.gang is not None and len(orders) > 1,
        capacity_block=builder.is_block(choices[0]),
        context=node_class.spec.context,
        price_per_hour=choices[0].price_per_hour * len(orders),
        prioritized=any(choice.stated for choice in choices),
    )
    content = [request.to_json(), request.claims, around.decision, around.attempt]
    return replace(request, client_token=template.content_hash(content, 64))


def _bought_together(launch: Launch) -> tuple[Choice, ...]:
    """Return the choices of the first capacity type by precedence, cut to what a call may name."""
    for capacity_type in PRECEDENCE:
        same = [choice for choice in launch.choices if choice.capacity_type == capacity_type]
        if same:
            return flexible(same, launch.requirements)[:MAX_OVERRIDES]
    raise _Impossible(f"launch {launch.name} has no offering left")


class _Builder:
    """Turns the choices of one launch into template uses, on its node class's workbench."""

    def __init__(self, launch: Launch, bench: Workbench, around: Surroundings) -> None:
        self._launch = launch
        self._bench = bench
        wanted = {image for pod in launch.pods for image in around.images.get(pod, ())}
        self._images = frozenset(wanted)

    def uses(
        self, choices: Sequence[Choice], subnets: Mapping[str, Subnet]
    ) -> tuple[tuple[TemplateUse, ...], tuple[Pool, ...]]:
        """Return the template uses for *choices*, and the pools they name."""
        wish = Wish(
            labels=node_labels(self._launch, choices[0].capacity_type),
            taints=(*self._launch.taints, *self._launch.startup_taints),
            images=self._images,
            efa=network.wants_efa(self._launch.requests),
        )
        grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        templates: dict[str, TemplateRequest] = {}
        pools: list[Pool] = []
        ranks = _ranks(choices)
        for choice in self._one_a_pool(choices):
            subnet = subnets.get(choice.zone)
            image = self._bench.image(choice.instance_type)
            if subnet is None or image is None:
                continue
            kit = self._kit(choice, wish)
            templates[kit.template.name] = kit.template
            override: dict[str, Any] = {
                "InstanceType": choice.instance_type,
                "SubnetId": subnet.id,
                "AvailabilityZone": choice.zone,
                "ImageId": image,
            }
            if ranks:
                override["Priority"] = ranks[choice.price_per_hour]
            grouped.setdefault((kit.template.name, kit.user_data), []).append(override)
            pools.append(Pool(choice.instance_type, choice.zone, subnet.id, choice.price_per_hour))
        uses = tuple(
            TemplateUse(templates[name], user_data, tuple(overrides))
            for (name, user_data), overrides in grouped.items()
        )
        return uses, tuple(pools)

    def problem(self, choices: Sequence[Choice], subnets: Mapping[str, Subnet]) -> str:
        """Return why no pool is left of *choices*."""
        name = self._launch.node_class
        if not any(choice.zone in subnets for choice in choices):
            zones = ", ".join(sorted({choice.zone for choice in choices}))
            return f"EC2NodeClass {name} has no usable subnet in {zones}"
        types = ", ".join(sorted({choice.instance_type for choice in choices})[:3])
        return f"EC2NodeClass {name} has no AMI for {types}"

    def is_block(self, choice: Choice) -> bool:
        """Return whether a choice buys from a capacity block."""
        return self._bench.is_block(choice.reservation_id)

    def _kit(self, choice: Choice, wish: Wish) -> Kit:
        reserved = choice.capacity_type == labels.RESERVED
        return self._bench.kit(
            choice.instance_type,
            wish,
            self._launch.max_pods.get(choice.instance_type),
            choice.reservation_id if reserved else None,
        )

    def _one_a_pool(self, choices: Sequence[Choice]) -> Iterable[Choice]:
        """Yield one choice a (type, zone), and of one capacity block only: the API's rules."""
        block = choices[0].reservation_id if self.is_block(choices[0]) else None
        seen: set[tuple[str, str]] = set()
        for choice in choices:
            pool = (choice.instance_type, choice.zone)
            if pool in seen or self.is_block(choice) != (block is not None):
                continue
            if block is not None and choice.reservation_id != block:
                continue
            seen.add(pool)
            yield choice


def _ranks(choices: Sequence[Choice]) -> dict[float, float]:
    """Return price -> priority where a NodeOverlay states any price: whole numbers, 0 the highest.

    Karpenter sends the price itself (F114); EC2's documentation asks for whole numbers.
    """
    if not any(choice.stated for choice in choices):
        return {}
    prices = sorted({choice.price_per_hour for choice in choices})
    return {price: float(rank) for rank, price in enumerate(prices)}


def node_labels(launch: Launch, capacity_type: str) -> dict[str, str]:
    """Return the labels that the kubelet registers with: the launch's, and whose the node is.

    NodeRestriction lets a kubelet set few labels of the kubernetes.io domains, and it refuses to
    start with others; those are put on by `flows.lifecycle` when the node has registered.
    """
    wanted = {
        **launch.labels,
        labels.NODEPOOL: launch.node_pool,
        labels.NODECLASS_LABEL: launch.node_class,
        labels.CAPACITY_TYPE: capacity_type,
    }
    return {key: value for key, value in wanted.items() if _kubelet_may_set(key)}


def _kubelet_may_set(key: str) -> bool:
    domain, _, _ = key.rpartition("/")
    if not domain.endswith(_KUBERNETES_DOMAINS):
        return True
    return domain.endswith(_KUBELET_DOMAINS) or key in _KUBELET_LABELS


def _config(use: TemplateUse) -> dict[str, Any]:
    specification = {"LaunchTemplateName": use.template.name, "Version": template.VERSION}
    if use.user_data:
        encoded = base64.b64encode(use.user_data.encode()).decode()
        specification["LaunchTemplateSpecificationUserData"] = encoded
    return {"LaunchTemplateSpecification": specification, "Overrides": list(use.overrides)}
