"""What the flows ask of the world: one Protocol a neighbour, and `World`, the bundle of them.

The adapters fit these by shape; mypy checks it in `bootstrap`. Every method may raise the errors of
`outrider.errors` and nothing else. Every write is repeatable: doing it twice is doing it once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from outrider.apis.node import Node
from outrider.apis.nodeclass import EC2NodeClass
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.launch.bootstrap import ClusterIdentity
from outrider.core.launch.fleet import Subnet
from outrider.core.launch.readiness import Found
from outrider.core.launch.template import TemplateRequest
from outrider.core.records import Debt, FleetResult, Instance, Intent, Json, Lease, Reaction
from outrider.core.seeding import Image, Seed
from outrider.settings import Settings


class Clock(Protocol):
    """The only clock."""

    def now(self) -> datetime:
        """Return the instant, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Hold the caller for *seconds* of this clock."""


class Cluster(Protocol):
    """The Kubernetes API: reads become a ClusterState, writes are the few that we are allowed."""

    def pending(self) -> bool:
        """Return whether any pod waits for a node: the cheap look before `state`."""

    def waiting(self) -> tuple[Pod, ...]:
        """Return the pods that wait for a node, malformed ones left out."""

    def state(self) -> ClusterState:
        """Return the cluster as it is now; malformed objects are left out and listed in it."""

    def node_state(self, name: str, nodeclaims: Collection[str] = ()) -> ClusterState:
        """Return one Node, its pods and what holds them: the budgets, claims and attachments; and
        of the NodeClaims those that are named.
        """

    def machines(self) -> ClusterState:
        """Return Nodes, NodeClaims, NodePools and node classes, without any pod."""

    def karpenter_is_live(self, now: datetime) -> bool:
        """Return whether another's Karpenter has renewed its Lease within a minute of *now*."""

    def create_nodeclaim(self, manifest: Json) -> None:
        """Create a NodeClaim; one of that name is left as it is."""

    def create_nodeclaims(self, manifests: Sequence[Json]) -> None:
        """Create NodeClaims, several at a time; those whose names are taken stay as they are."""

    def tell_nodeclaims(self, told: Mapping[str, tuple[Json, Json]]) -> None:
        """Merge a patch of metadata, then one of status, into each NodeClaim of *told*."""

    def patch_nodeclaim(self, name: str, patch: Json) -> None:
        """Merge *patch* into a NodeClaim's metadata or spec."""

    def patch_nodeclaim_status(self, name: str, patch: Json) -> None:
        """Merge *patch* into a NodeClaim's status."""

    def delete_nodeclaim(self, name: str) -> None:
        """Delete a NodeClaim; its finalizer keeps it until `release_nodeclaim`."""

    def release_nodeclaim(self, name: str) -> None:
        """Take our finalizer off a NodeClaim; one that is gone is fine."""

    def patch_node(self, name: str, patch: Json) -> None:
        """Strategic-merge *patch* into a Node."""

    def taint(self, name: str, key: str, effect: str, *, present: bool, value: str = "") -> None:
        """Put a taint on a Node or take it off, keeping all others, against concurrent writers."""

    def untaint_all(self, nodes: Sequence[Node], key: str, effect: str) -> Mapping[str, str]:
        """Take a taint off each of *nodes*; return why not, for those that failed."""

    def delete_node(self, name: str) -> None:
        """Delete a Node and take our finalizer off it; one that is gone is fine."""

    def evict(self, pod: str, uid: str, grace_seconds: int | None = None) -> None:
        """Ask the Eviction API; raise Blocked where a PodDisruptionBudget holds the pod."""

    def delete_pod(self, pod: str, uid: str, grace_seconds: int) -> None:
        """Delete a pod outright with *grace_seconds* (1 at least)."""

    def nominate(self, pod: str, node: str | None) -> None:
        """Set a pod's status.nominatedNodeName, or clear it."""

    def nominate_all(self, homes: Mapping[str, str]) -> Mapping[str, str]:
        """Nominate each pod of *homes* to its node; return why not, for those that failed."""

    def patch_status(self, kind: str, name: str, patch: Json) -> None:
        """Merge *patch* into the status of a NodePool or an EC2NodeClass."""

    def event(self, involved: Json, reason: str, message: str, *, warning: bool = False) -> None:
        """Write a Kubernetes Event about *involved* (apiVersion, kind, name, namespace, uid)."""


class Cloud(Protocol):
    """EC2, its neighbours and its price lists."""

    def cluster(self) -> ClusterIdentity:
        """Return the EKS cluster as its nodes must know it."""

    def ensure_template(self, template: TemplateRequest) -> tuple[str, int]:
        """Return (launch template id, version) for *template*, made if its hash is new."""

    def create_fleet(self, call: Json) -> FleetResult:
        """Send a CreateFleet *call*; no capacity is a result with errors, not an exception."""

    def subnets(self, ids: Sequence[str]) -> tuple[Subnet, ...]:
        """Return subnets by id with their free addresses now."""

    def sweep_templates(self, age: timedelta) -> int:
        """Delete our launch templates older than *age*; return how many."""

    def instances(
        self, ids: Iterable[str] = (), *, tags: Mapping[str, str] | None = None
    ) -> tuple[Instance, ...]:
        """Return instances by id, or all of this cluster's by tag; unknown ids are left out."""

    def terminate(self, ids: Sequence[str]) -> None:
        """Terminate instances; an unknown id does not keep the others alive."""

    def name_instance(self, instance_id: str, claim: str) -> None:
        """Tag an instance with the NodeClaim that it serves."""

    def adopt_instance(self, instance_id: str) -> None:
        """Tag an instance of this cluster that somebody else launched as this stack's."""

    def instance_status(self) -> tuple[Json, ...]:
        """Return impaired statuses and scheduled events of this cluster's instances."""

    def catalog_facts(
        self, zones: Collection[str], reservations: Iterable[Json], now: datetime
    ) -> Catalog:
        """Return what is sold in *zones* (everywhere if none are named), with prices."""

    def reservations(self, node_class: EC2NodeClass) -> tuple[Json, ...]:
        """Return the active capacity reservations that *node_class* selects."""

    def resolve(self, node_class: EC2NodeClass) -> Found:
        """Return what an EC2NodeClass's selectors find now."""

    def image(self, reference: str) -> Image:
        """Return digest, size and architectures of an image; NotFound or Denied say why not."""

    def builder_image(self, path: str) -> str | None:
        """Return the AMI in the public SSM parameter at *path*."""

    def run_seeder(self, request: Json) -> str:
        """Launch one seed builder idempotently (client token in *request*); return its id."""

    def builders(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return the seed builders that carry the *wanted* tags."""

    def stop_builder(self, instance_id: str) -> None:
        """Stop a seed builder; one that is stopped stays so."""

    def console(self, instance_id: str, state: str) -> str:
        """Return what a seed builder in *state* wrote to its serial console."""

    def create_snapshot(self, volume_id: str, description: str, marks: Mapping[str, str]) -> str:
        """Snapshot a builder's data volume, once per seed tag; return the snapshot id."""

    def snapshots(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return this stack's snapshots that carry the *wanted* tags."""

    def delete_snapshot(self, snapshot_id: str) -> bool:
        """Delete a snapshot; one that is gone is fine, one in use gives False."""

    def seed_volumes(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return loose volumes of seed builders with the *wanted* tags."""

    def delete_seed_volume(self, volume_id: str) -> None:
        """Delete a loose volume; one that is gone is fine, one that is held again stays."""

    def fast_restore(self, snapshot_id: str, zones: Sequence[str]) -> Mapping[str, str]:
        """Ask for fast restores of a snapshot in *zones*; return zone -> why not, where refused."""

    def fast_restores(self, snapshot_id: str) -> Mapping[str, str]:
        """Return zone -> state of a snapshot's fast restores, those that are off left out."""

    def end_fast_restores(self, snapshot_id: str) -> None:
        """Switch a snapshot's fast restores off in every zone."""


class Ledger(Protocol):
    """Our DynamoDB table: what must survive a function and is nobody else's business."""

    def acquire(self, owner: str, seconds: float) -> Lease | None:
        """Take the cluster's planning lease; None while another holds it."""

    def renew(self, lease: Lease, seconds: float) -> None:
        """Hold the lease for *seconds* more; raise NotHolder where it is somebody else's."""

    def release(self, lease: Lease) -> None:
        """Give the lease back, if it is still ours."""

    def flag(self, name: str, until: datetime) -> None:
        """Raise a flag, such as `interruption-waiting`, that others look at."""

    def flagged(self, name: str, now: datetime) -> bool:
        """Return whether the flag is up."""

    def lower(self, name: str) -> None:
        """Take the flag down."""

    def once(self, key: str, until: datetime) -> bool:
        """Return True the first time *key* is seen, False on every repeat until *until*."""

    def catalog(self) -> Catalog:
        """Return the newest whole catalogue."""

    def put_catalog(self, catalog: Catalog) -> None:
        """Store a catalogue in chunks, the pointer last."""

    def unavailable(self, now: datetime) -> Mapping[tuple[str, str, str], datetime]:
        """Return the pools marked unavailable: (type, zone, capacity type) -> until."""

    def mark(self, pools: Iterable[tuple[str, str, str]], now: datetime) -> None:
        """Mark pools unavailable: 180 s at first, longer on repeats."""

    def intend(self, intent: Intent, lease: Lease) -> Intent:
        """Write an intent before its CreateFleet, fenced by *lease*; return the one that stands."""

    def settle(self, intent: Intent) -> None:
        """Record what CreateFleet gave."""

    def intents(
        self, *, since: datetime | None = None, unfinished: bool = False
    ) -> tuple[Intent, ...]:
        """Return intents, newest last: those *since* then, those that are *unfinished*."""

    def record_instance(self, instance: Instance, claim: str, decision: str) -> None:
        """Remember an instance as ours, so that signals for others' are dropped without a read."""

    def record_instances(self, claims: Mapping[str, Instance], decision: str) -> None:
        """Remember the instances of *claims* as ours, in as few calls as the table takes."""

    def ours(self, instance_ids: Sequence[str]) -> Mapping[str, Json]:
        """Return, of *instance_ids*, those that are this cluster's, with what was recorded."""

    def forget_instance(self, instance_id: str) -> None:
        """Forget a terminated instance."""

    def reaction(self, instance_id: str) -> Reaction | None:
        """Return the reaction that runs for an instance."""

    def react(self, reaction: Reaction) -> bool:
        """Record a reaction; False where one with the same or an earlier deadline runs already.

        A row that is `ended` or `cancelled` stands in nobody's way; no deadline is later than any.
        """

    def update_reaction(self, reaction: Reaction) -> None:
        """Write what is known now of a reaction that `react` recorded, whatever its deadline."""

    def reactions(self) -> tuple[Reaction, ...]:
        """Return every reaction that has not ended, for budgets and the sweep."""

    def defer(self, instance_id: str, since: datetime) -> None:
        """Remember a recommendation that its NodePool's budget has no room for yet."""

    def deferred(self) -> Mapping[str, datetime]:
        """Return the instances whose recommendations wait, and since when."""

    def undefer(self, instance_id: str) -> None:
        """Forget that an instance's recommendation waits."""

    def owe(self, debt: Debt) -> bool:
        """Write a message down before what it tells of; False where it is not ours to send."""

    def owed(self, about: str) -> tuple[Debt, ...]:
        """Return the messages *about* an instance that nobody is known to have sent."""

    def pay(self, paid: Iterable[Debt]) -> None:
        """Remember that messages were sent."""

    def waive(self, debt: Debt) -> None:
        """Forget a message: what it tells of did not happen."""

    def seeds(self) -> tuple[Seed, ...]:
        """Return the published seeds."""

    def put_seed(self, seed: Seed) -> None:
        """Write a seed row, whatever its state."""

    def update_seed(self, seed: Seed) -> bool:
        """Write a seed row that is still ready; False where somebody has retired it meanwhile."""

    def lock_seed(self, key: str, owner: str, seconds: float) -> bool:
        """Take the build lock of a seed."""

    def seed_locks(self) -> Mapping[str, str]:
        """Return the build locks that are held: seed key to owner."""

    def unlock_seed(self, key: str, owner: str) -> None:
        """Give a build lock back."""

    def spend(self, launches: int, dollars_per_hour: float, now: datetime) -> bool:
        """Count *launches* against MaxLaunchesPerMinute; False when a brake holds.

        *dollars_per_hour* is what would run afterwards, compared with MaxDollarsPerHour.
        """


class Bus(Protocol):
    """EventBridge."""

    def hint(self, cluster: str) -> None:
        """Put PodUnschedulable on the default bus: one call, 300 ms, no retry."""

    def publish(
        self, detail_type: str, detail: Mapping[str, Any], *, debt: Debt | None = None
    ) -> None:
        """Queue a decision for our bus, *debt* where it is owed; `flush` sends it."""

    def flush(self) -> tuple[Debt, ...]:
        """Send what was published, ten entries a call; return the debts that are thereby paid.

        A failure is logged, never raised: what was owed stays owed.
        """


class Workflows(Protocol):
    """Step Functions, the join watch and the hints."""

    def start(self, machine: str, name: str, payload: Json) -> str:
        """Start `drain` or `seed` under *name*; a repeat returns the same execution's ARN."""

    def watch_join(self, claims: Sequence[str], delay_seconds: int) -> None:
        """Queue a look at joining NodeClaims in *delay_seconds*."""

    def show_again(self, receipts: Sequence[str], delay_seconds: int) -> None:
        """Let hints that were received come again in *delay_seconds*, with those behind them."""


class Telemetry(Protocol):
    """Logs and metrics, one structured line a decision."""

    def log(self, message: str, **fields: Any) -> None:
        """Write one line."""

    def count(self, name: str, value: float = 1, unit: str = "", **dimensions: str) -> None:
        """Add to a metric of `observability.METRICS`."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside, wired once per sandbox by `bootstrap`."""

    settings: Settings
    clock: Clock
    cluster: Cluster
    cloud: Cloud
    ledger: Ledger
    bus: Bus
    workflows: Workflows
    telemetry: Telemetry
