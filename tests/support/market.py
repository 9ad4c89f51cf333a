"""A world to launch in: a market with stock, a ledger with intents, NodeClaims that are kept.

Built on the fakes of `tests.support.world`; every call is written down there and can kill the
invocation. CreateFleet honours its client token, hands out what is in stock and says what is not,
as EC2 does. Not faked: the planner, the requests, the errands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from outrider.apis import duration, labels, manifest
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.launch.bootstrap import ClusterIdentity
from outrider.core.launch.fleet import Subnet
from outrider.core.launch.template import TemplateRequest
from outrider.core.records import FleetError, FleetResult, Instance, Intent, Lease
from outrider.core.seeding import Seed, State
from outrider.errors import AlreadyDone, Gone, NotFound, NotHolder
from outrider.flows.ports import World
from outrider.settings import Settings
from tests.support.launches import CLUSTER, ZONES
from tests.support.world import FakeCloud, FakeCluster, FakeLedger, FakeWorld

Json = Mapping[str, Any]
Pool = tuple[str, str, str]


class ClaimCluster(FakeCluster):
    """A cluster that keeps the NodeClaims it is given."""

    documents: dict[str, dict[str, Any]]

    def _claims(self) -> dict[str, dict[str, Any]]:
        if not hasattr(self, "documents"):
            self.documents = {}
        return self.documents

    def _claim(self, name: str) -> dict[str, Any]:
        if name not in self._claims():
            raise Gone(f"nodeclaims {name} not found", 404)
        return self._claims()[name]

    def _refresh(self) -> None:
        claims = tuple(manifest.parse(one) for one in self._claims().values())
        self.current = replace(self.current, nodeclaims=claims, _index={})

    def create_nodeclaim(self, document: Json) -> None:
        """Keep a NodeClaim; one of that name stays as it is."""
        name = document["metadata"]["name"]
        self.recorder.note("cluster", "create_nodeclaim", name)
        kept = deepcopy(dict(document))
        kept["metadata"] |= {"uid": f"uid-{name}"}
        kept["metadata"]["creationTimestamp"] = duration.stamp(self.clock.now())
        self._claims().setdefault(name, kept)
        self._refresh()

    def patch_nodeclaim(self, name: str, patch: Json) -> None:
        """Merge labels and annotations."""
        self.recorder.note("cluster", "patch_nodeclaim", name)
        for part, values in (patch.get("metadata") or {}).items():
            self._claim(name)["metadata"].setdefault(part, {}).update(values)
        self._refresh()

    def patch_nodeclaim_status(self, name: str, patch: Json) -> None:
        """Merge the status."""
        self.recorder.note("cluster", "patch_nodeclaim_status", name)
        self._claim(name).setdefault("status", {}).update(patch)
        self._refresh()

    def delete_nodeclaim(self, name: str) -> None:
        """Mark a NodeClaim as deleted: its finalizer keeps it."""
        self.recorder.note("cluster", "delete_nodeclaim", name)
        if name in self._claims():
            stamp = duration.stamp(self.clock.now())
            self._claims()[name]["metadata"].setdefault("deletionTimestamp", stamp)
            self._refresh()

    def release_nodeclaim(self, name: str) -> None:
        """Let a deleted NodeClaim go."""
        self.recorder.note("cluster", "release_nodeclaim", name)
        self._claims().pop(name, None)
        self._refresh()


class Market(FakeCloud):
    """EC2 with so much in stock of each pool; what is not named is plentiful."""

    stock: dict[Pool, int]
    tokens: dict[str, FleetResult]
    count: int

    def furnish(self) -> None:
        """Begin with nothing sold."""
        self.stock, self.tokens, self.count = {}, {}, 0
        self.templates: set[str] = set()
        self.named: dict[str, str] = {}

    def cluster(self) -> ClusterIdentity:
        """Return the EKS cluster."""
        self.recorder.note("cloud", "cluster")
        return CLUSTER

    def subnets(self, ids: Sequence[str]) -> tuple[Subnet, ...]:
        """Return subnets with room."""
        self.recorder.note("cloud", "subnets")
        return tuple(
            Subnet(f"subnet-{zone[-1]}", zone, "", 200)
            for zone in ZONES
            if f"subnet-{zone[-1]}" in set(ids)
        )

    def ensure_template(self, template: TemplateRequest) -> tuple[str, int]:
        """Make a template."""
        self.recorder.note("cloud", "ensure_template", template.name)
        self.templates.add(template.name)
        return template.name, 1

    def create_fleet(self, call: Json) -> FleetResult:
        """Sell what is in stock, cheapest first; the same token gets the same answer."""
        self.recorder.note("cloud", "create_fleet", call)
        token = str(call["ClientToken"])
        if token in self.tokens:
            return self.tokens[token]
        kind = call["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
        wanted = int(call["TargetCapacitySpecification"]["TotalTargetCapacity"])
        options = call.get("SpotOptions") or call.get("OnDemandOptions") or {}
        overrides = []
        for config in call["LaunchTemplateConfigs"]:
            name = config["LaunchTemplateSpecification"]["LaunchTemplateName"]
            if name not in self.templates:
                raise NotFound("no template", "InvalidLaunchTemplateName.NotFoundException")
            overrides += config["Overrides"]
        sold, errors = self._sell(overrides, kind, wanted)
        if len(sold) < int(options.get("MinTargetCapacity", 0)):
            for one in sold:
                self.stock[one["InstanceType"], one["AvailabilityZone"], kind] += 1
            sold = []
        tags = {
            tag["Key"]: tag["Value"]
            for one in call["TagSpecifications"]
            if one["ResourceType"] == "instance"
            for tag in one["Tags"]
        }
        instances = tuple(self._instance(one, kind, tags) for one in sold)
        self.found |= {one.id: one for one in instances}
        self.tokens[token] = FleetResult(f"fleet-{token[:8]}", instances, tuple(errors))
        return self.tokens[token]

    def name_instance(self, instance_id: str, claim: str) -> None:
        """Remember the name."""
        self.recorder.note("cloud", "name_instance", instance_id, claim)
        self.named[instance_id] = claim

    def _sell(
        self, overrides: Iterable[Json], kind: str, wanted: int
    ) -> tuple[list[Json], list[FleetError]]:
        sold: list[Json] = []
        errors = []
        for one in overrides:
            pool = (one["InstanceType"], one["AvailabilityZone"], kind)
            left = self.stock.setdefault(pool, 1000)
            taken = min(left, wanted - len(sold))
            self.stock[pool] = left - taken
            sold += [one] * taken
            if len(sold) < wanted:
                errors.append(FleetError("InsufficientInstanceCapacity", "none", "offering", *pool))
        return sold, errors

    def _instance(self, one: Json, kind: str, tags: Mapping[str, str]) -> Instance:
        self.count += 1
        return Instance(
            id=f"i-{self.count:017x}",
            instance_type=one["InstanceType"],
            zone=one["AvailabilityZone"],
            capacity_type=kind,
            state="pending",
            launched=self.clock.now(),
            image_id=one["ImageId"],
            tags=tags,
        )


class IntentLedger(FakeLedger):
    """The ledger with intents, instances, seeds and brakes."""

    def furnish(self) -> None:
        """Begin with nothing written."""
        self.written: dict[str, Intent] = {}
        self.kept: dict[str, Seed] = {}
        self.held_back = False

    def intend(self, intent: Intent, lease: Lease) -> Intent:
        """Write an intent while the lease is held; return the one that stands."""
        self.recorder.note("ledger", "intend", intent.client_token)
        if self.holder is None or self.holder.token != lease.token:
            raise NotHolder("another holder")
        return self.written.setdefault(intent.client_token, intent)

    def settle(self, intent: Intent) -> None:
        """Write what became of an intent."""
        self.recorder.note("ledger", "settle", intent.client_token, intent.state)
        if intent.client_token not in self.written:
            raise AlreadyDone(intent.client_token)
        self.written[intent.client_token] = intent

    def intents(
        self, *, since: datetime | None = None, unfinished: bool = False
    ) -> tuple[Intent, ...]:
        """Return the intents."""
        self.recorder.note("ledger", "intents")
        return tuple(self.written.values())

    def record_instance(self, instance: Instance, claim: str, decision: str) -> None:
        """Remember an instance."""
        self.recorder.note("ledger", "record_instance", instance.id, claim)
        self.known[instance.id] = {"claim": claim, "decision": decision}

    def spend(self, launches: int, dollars_per_hour: float, now: datetime) -> bool:
        """Hold back where the test says so."""
        self.recorder.note("ledger", "spend", launches)
        return not self.held_back

    def seeds(self) -> tuple[Seed, ...]:
        """Return the seeds."""
        return tuple(self.kept.values())

    def update_seed(self, seed: Seed) -> bool:
        """Keep a seed that is still ready."""
        known = self.kept.get(seed.key)
        if known is None or known.state != State.READY:
            return False
        self.put_seed(seed)
        return True

    def put_seed(self, seed: Seed) -> None:
        """Keep a seed."""
        self.recorder.note("ledger", "put_seed", seed.key, seed.state)
        self.kept[seed.key] = seed


@dataclass
class MarketWorld(FakeWorld):
    """A World in which launches really happen."""

    seed_machine_arn: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Wire the fakes."""
        super().__post_init__()
        self.cluster: ClaimCluster = ClaimCluster(self.recorder, self.clock)
        self.cloud: Market = Market(self.recorder, self.clock)
        self.ledger: IntentLedger = IntentLedger(self.recorder, self.clock)
        self.cloud.furnish()
        self.ledger.furnish()

    @property
    def world(self) -> World:
        """Return what a flow gets."""
        plain = super().world
        changed = {"seed_machine_arn": self.seed_machine_arn, **self.settings}
        settings = Settings.model_validate({**plain.settings.model_dump(), **changed})
        return replace(plain, settings=settings)

    def furnish(self, catalog: Catalog, *objects: object) -> None:
        """Put a catalogue and *objects* into the world."""
        self.ledger.stored = catalog
        self.cluster.put(*objects)

    @property
    def state(self) -> ClusterState:
        """Return the cluster as it is."""
        return self.cluster.current

    def claims(self) -> dict[str, str]:
        """Return NodeClaim -> instance id of those that have one."""
        return {
            one.name: one.instance_id for one in self.state.nodeclaims if one.status.provider_id
        }

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.at += timedelta(seconds=seconds)


def pool(name: str = "gpu", **spec: Any) -> object:
    """Return a ready NodePool of node class `gpu`."""
    requirements = spec.pop("requirements", [])
    return manifest.parse(
        {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodePool",
            "metadata": {"name": name, "uid": f"uid-{name}"},
            "spec": {
                "template": {
                    "spec": {
                        "nodeClassRef": {
                            "group": labels.NODECLASS_GROUP,
                            "kind": "EC2NodeClass",
                            "name": "gpu",
                        },
                        "requirements": requirements,
                    }
                },
                **spec,
            },
        }
    )


def waiting(name: str, **requests: str) -> Any:
    """Return a pod that waits, with its *requests*."""
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "reg.example.com/ml/trainer:1",
                    "resources": {"requests": {"cpu": "1", **requests}},
                }
            ]
        },
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
        },
    }
    return manifest.parse(document)


def some_types(catalog: Catalog, *names: str) -> Catalog:
    """Return *catalog* with only the types called *names*, in our three zones."""
    kinds = (catalog.get(name) for name in names)
    return Catalog(
        tuple(
            replace(
                kind,
                offerings=tuple(one for one in kind.offerings if one.zone in ZONES),
            )
            for kind in kinds
            if kind is not None
        ),
        version="test",
    )
