"""A World of fakes: every port in memory, every call written down, any call made to fail.

`FakeWorld().world` is what a flow gets. Time is virtual and moves only in `sleep`. `calls` is the
list of (port, method, arguments) in order; `fail` makes the next calls of a method raise;
`kill_at` makes the n-th call from now on raise `Killed`, which no flow can catch, as a sandbox
that dies does.

Not faked: the planner, the reactions, the rounds; flows run on the real core.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.protection import Budgets
from outrider.core.records import Debt, FleetResult, Instance, Intent, Lease, Reaction
from outrider.core.taints import Taint
from outrider.errors import Blocked, ClusterError, Gone, NotHolder
from outrider.flows.ports import World
from outrider.settings import Settings
from tests.support import decisions

START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)


class Killed(BaseException):
    """The sandbox died."""


class FakeClock:
    """Time that moves when somebody sleeps."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def now(self) -> datetime:
        """Return the instant."""
        return self.at

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.at += timedelta(seconds=seconds)


class Recorder:
    """Writes calls down, and makes some fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []
        self._failures: dict[str, list[Exception]] = {}
        self._kill_in: int | None = None
        self._meanwhile: tuple[int, Callable[[], None]] | None = None

    def meanwhile(self, call: int, deed: Callable[[], None]) -> None:
        """Freeze whoever makes the *call*-th call from now on while somebody does *deed*."""
        self._meanwhile = call, deed

    def fail(self, method: str, *errors: Exception) -> None:
        """Make the next calls of *method* raise *errors*, one each."""
        self._failures.setdefault(method, []).extend(errors)

    def kill_at(self, call: int) -> None:
        """Let the *call*-th call from now on (1 is the next) end the invocation."""
        self._kill_in = call

    def note(self, port: str, method: str, *args: Any, **kwargs: Any) -> None:
        """Write one call down."""
        if self._meanwhile is not None:
            left, deed = self._meanwhile
            self._meanwhile = (left - 1, deed) if left > 1 else None
            if self._meanwhile is None:
                deed()
        if self._kill_in is not None:
            self._kill_in -= 1
            if self._kill_in <= 0:
                raise Killed(f"{port}.{method}")
        self.calls.append((port, method, args, kwargs))
        waiting = self._failures.get(method)
        if waiting:
            raise waiting.pop(0)

    def revive(self) -> None:
        """Stop killing."""
        self._kill_in = None

    def of(self, method: str) -> list[tuple[Any, ...]]:
        """Return the positional arguments of every call of *method*."""
        return [args for _, name, args, _ in self.calls if name == method]


class FakeCluster:
    """A cluster in memory, changed by the few writes that outrider makes."""

    def __init__(self, recorder: Recorder, clock: FakeClock) -> None:
        self.recorder = recorder
        self.clock = clock
        self.current = ClusterState()
        self.karpenter = False
        self.events: list[tuple[str, str, str]] = []

    def put(self, *objects: object) -> None:
        """Add *objects*, replacing those of the same kind and name."""
        kinds: dict[str, dict[str, Any]] = {}
        state = self.current
        groups = {
            "pods": state.pods,
            "nodes": state.nodes,
            "nodepools": state.nodepools,
            "nodeclasses": state.nodeclasses,
            "nodeclaims": state.nodeclaims,
            "pdbs": state.pdbs,
            "daemonsets": state.daemonsets,
        }
        for place, items in groups.items():
            kinds[place] = {_key(item): item for item in items}
        for place, items in _sorted_out(objects).items():
            for item in items:
                kinds[place][_key(item)] = item
        self.current = replace(
            state, **{place: tuple(items.values()) for place, items in kinds.items()}, _index={}
        )

    def pending(self) -> bool:
        """Return whether any pod waits."""
        self.recorder.note("cluster", "pending")
        return any(not pod.node_name and pod.phase == "Pending" for pod in self.current.pods)

    def waiting(self) -> tuple[Pod, ...]:
        """Return the pods that wait."""
        self.recorder.note("cluster", "waiting")
        return tuple(
            pod for pod in self.current.pods if not pod.node_name and pod.phase == "Pending"
        )

    def state(self) -> ClusterState:
        """Return everything."""
        self.recorder.note("cluster", "state")
        return self.current

    def machines(self) -> ClusterState:
        """Return everything but pods."""
        self.recorder.note("cluster", "machines")
        return self.current.with_pods(())

    def node_state(self, name: str, nodeclaims: Collection[str] = ()) -> ClusterState:
        """Return one node, what is on it, and the NodeClaims that are named."""
        self.recorder.note("cluster", "node_state", name)
        around = self.current.with_pods(self.current.pods_on(name))
        named = tuple(claim for claim in around.nodeclaims if claim.name in set(nodeclaims))
        return replace(around, nodeclaims=named, _index={})

    def karpenter_is_live(self, now: datetime) -> bool:
        """Return whether a Karpenter lives."""
        self.recorder.note("cluster", "karpenter_is_live")
        return self.karpenter

    def create_nodeclaims(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Create one after the other: each is a call that may be the last."""
        for one in manifests:
            self.create_nodeclaim(one)

    def tell_nodeclaims(
        self, told: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    ) -> None:
        """Patch one after the other."""
        for name, (patch, status) in told.items():
            self.patch_nodeclaim(name, patch)
            self.patch_nodeclaim_status(name, status)

    def nominate_all(self, homes: Mapping[str, str]) -> Mapping[str, str]:
        """Nominate one after the other."""
        return _failures(homes, lambda pod: self.nominate(pod, homes[pod]))

    def untaint_all(self, nodes: Sequence[Node], key: str, effect: str) -> Mapping[str, str]:
        """Take a taint off one after the other."""
        names = [node.name for node in nodes]
        return _failures(names, lambda name: self.taint(name, key, effect, present=False))

    def create_nodeclaim(self, manifest: Mapping[str, Any]) -> None:
        """Note it."""
        self.recorder.note("cluster", "create_nodeclaim", manifest)

    def patch_nodeclaim(self, name: str, patch: Mapping[str, Any]) -> None:
        """Note it."""
        self.recorder.note("cluster", "patch_nodeclaim", name, patch)

    def patch_nodeclaim_status(self, name: str, patch: Mapping[str, Any]) -> None:
        """Note it."""
        self.recorder.note("cluster", "patch_nodeclaim_status", name, patch)

    def delete_nodeclaim(self, name: str) -> None:
        """Note it."""
        self.recorder.note("cluster", "delete_nodeclaim", name)

    def release_nodeclaim(self, name: str) -> None:
        """Forget the claim."""
        self.recorder.note("cluster", "release_nodeclaim", name)
        claims = tuple(claim for claim in self.current.nodeclaims if claim.name != name)
        self.current = replace(self.current, nodeclaims=claims, _index={})

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        """Note it; labels are set."""
        self.recorder.note("cluster", "patch_node", name, patch)
        node = self._node(name)
        changes = (patch.get("metadata") or {}).get("labels") or {}
        merged = {**node.labels, **changes}
        self.put(replace(node, labels={k: v for k, v in merged.items() if v is not None}))

    def taint(self, name: str, key: str, effect: str, *, present: bool, value: str = "") -> None:
        """Put a taint on, or take it off."""
        self.recorder.note("cluster", "taint", name, key, present)
        node = self._node(name)
        others = tuple(taint for taint in node.taints if taint.key != key)
        added = (Taint(key, value, effect),) if present else ()
        self.put(replace(node, taints=(*others, *added)))

    def delete_node(self, name: str) -> None:
        """Forget the node and its pods."""
        self.recorder.note("cluster", "delete_node", name)
        nodes = tuple(node for node in self.current.nodes if node.name != name)
        pods = tuple(pod for pod in self.current.pods if pod.node_name != name)
        self.current = replace(self.current, nodes=nodes, pods=pods, _index={})

    def evict(self, pod: str, uid: str, grace_seconds: int | None = None) -> None:
        """Delete a pod unless a budget holds it."""
        self.recorder.note("cluster", "evict", pod)
        found = self.current.pod(pod)
        if found is None:
            return
        holding = Budgets(self.current.pdbs).holding(found)
        if holding:
            raise Blocked(holding, 429)
        self._ends(found, found.grace_seconds if grace_seconds is None else grace_seconds)

    def delete_pod(self, pod: str, uid: str, grace_seconds: int) -> None:
        """Delete a pod."""
        self.recorder.note("cluster", "delete_pod", pod, grace_seconds)
        found = self.current.pod(pod)
        if found is not None:
            self._ends(found, grace_seconds)

    def nominate(self, pod: str, node: str | None) -> None:
        """Set a pod's nominated node."""
        self.recorder.note("cluster", "nominate", pod, node)
        found = self.current.pod(pod)
        if found is not None:
            self.put(replace(found, nominated_node_name=node or ""))

    def patch_status(self, kind: str, name: str, patch: Mapping[str, Any]) -> None:
        """Note it."""
        self.recorder.note("cluster", "patch_status", kind, name, patch)

    def event(
        self, involved: Mapping[str, Any], reason: str, message: str, *, warning: bool = False
    ) -> None:
        """Note it."""
        self.recorder.note("cluster", "event", reason)
        self.events.append((str(involved["name"]), reason, message))

    def pods_leave(self) -> None:
        """Let every pod that was asked to stop be gone."""
        self.current = self.current.with_pods(
            pod for pod in self.current.pods if pod.deleted is None
        )

    def _ends(self, pod: Pod, grace: int) -> None:
        self.put(replace(pod, deleted=self.clock.now() + timedelta(seconds=grace)))

    def _node(self, name: str) -> Node:
        node = self.current.node(name)
        if node is None:
            raise Gone(f"nodes {name} not found", 404)
        return node


class FakeCloud:
    """Instances by id; CreateFleet gives what it is asked for."""

    def __init__(self, recorder: Recorder, clock: FakeClock) -> None:
        self.recorder = recorder
        self.clock = clock
        self.found: dict[str, Instance] = {}
        self.statuses: tuple[Mapping[str, Any], ...] = ()

    def instances(
        self, ids: Iterable[str] = (), *, tags: Mapping[str, str] | None = None
    ) -> tuple[Instance, ...]:
        """Return the instances that have not ended."""
        wanted = set(ids)
        self.recorder.note("cloud", "instances", tuple(sorted(wanted)))
        return tuple(item for name, item in self.found.items() if not wanted or name in wanted)

    def terminate(self, ids: Sequence[str]) -> None:
        """End instances."""
        self.recorder.note("cloud", "terminate", tuple(ids))
        for name in ids:
            self.found.pop(name, None)

    def instance_status(self) -> tuple[Mapping[str, Any], ...]:
        """Return what is wrong with instances."""
        self.recorder.note("cloud", "instance_status")
        return self.statuses

    def create_fleet(self, call: Mapping[str, Any]) -> FleetResult:
        """Refuse: flows that launch have their own tests."""
        self.recorder.note("cloud", "create_fleet", call)
        return FleetResult("fleet-1", (), ())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method that only writes its call down."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.recorder.note("cloud", name, *args, **kwargs)
            return ()

        return noted


class FakeLedger:
    """The table in memory, with its conditions."""

    def __init__(self, recorder: Recorder, clock: FakeClock) -> None:
        self.recorder = recorder
        self.clock = clock
        self.holder: Lease | None = None
        self.tokens = 0
        self.flags: dict[str, datetime] = {}
        self.seen: dict[str, datetime] = {}
        self.stored = Catalog(())
        self.marks: dict[tuple[str, str, str], datetime] = {}
        self.known: dict[str, Mapping[str, Any]] = {}
        self.rows: dict[str, Reaction] = {}
        self.waiting: dict[str, datetime] = {}
        self.debts: dict[tuple[str, str], Debt] = {}
        self.paid: set[tuple[str, str]] = set()

    def acquire(self, owner: str, seconds: float) -> Lease | None:
        """Take the lease."""
        self.recorder.note("ledger", "acquire")
        now = self.clock.now()
        if self.holder is not None and self.holder.owner != owner and self.holder.until > now:
            return None
        self.tokens += 1
        self.holder = Lease(owner, self.tokens, now + timedelta(seconds=seconds))
        return self.holder

    def renew(self, lease: Lease, seconds: float) -> None:
        """Hold the lease for longer."""
        self.recorder.note("ledger", "renew")
        if self.holder is None or self.holder.token != lease.token:
            raise NotHolder("another holder")
        self.holder = replace(self.holder, until=self.clock.now() + timedelta(seconds=seconds))

    def release(self, lease: Lease) -> None:
        """Give the lease back."""
        self.recorder.note("ledger", "release")
        if self.holder is not None and self.holder.token == lease.token:
            self.holder = None

    def flag(self, name: str, until: datetime) -> None:
        """Raise a flag."""
        self.recorder.note("ledger", "flag", name)
        self.flags[name] = until

    def flagged(self, name: str, now: datetime) -> bool:
        """Return whether a flag is up."""
        return self.flags.get(name, now) > now

    def lower(self, name: str) -> None:
        """Take a flag down."""
        self.recorder.note("ledger", "lower", name)
        self.flags.pop(name, None)

    def once(self, key: str, until: datetime) -> bool:
        """Return True the first time."""
        self.recorder.note("ledger", "once", key)
        if self.seen.get(key, self.clock.now()) > self.clock.now():
            return False
        self.seen[key] = until
        return True

    def catalog(self) -> Catalog:
        """Return the catalogue."""
        return self.stored

    def unavailable(self, now: datetime) -> Mapping[tuple[str, str, str], datetime]:
        """Return the marks."""
        return {pool: until for pool, until in self.marks.items() if until > now}

    def mark(self, pools: Iterable[tuple[str, str, str]], now: datetime) -> None:
        """Mark pools for three minutes."""
        found = tuple(pools)
        self.recorder.note("ledger", "mark", found)
        self.marks |= dict.fromkeys(found, now + timedelta(seconds=180))

    def intents(
        self, *, since: datetime | None = None, unfinished: bool = False
    ) -> tuple[Intent, ...]:
        """Return none."""
        return ()

    def ours(self, instance_ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return the instances of ours."""
        self.recorder.note("ledger", "ours", tuple(instance_ids))
        return {name: self.known[name] for name in instance_ids if name in self.known}

    def forget_instance(self, instance_id: str) -> None:
        """Forget one."""
        self.recorder.note("ledger", "forget_instance", instance_id)
        self.known.pop(instance_id, None)

    def record_instance(self, instance: Instance, claim: str, decision: str) -> None:
        """Know an instance."""
        self.recorder.note("ledger", "record_instance", instance.id, claim)
        self.known[instance.id] = {"claim": claim, "decision": decision}

    def record_instances(self, claims: Mapping[str, Instance], decision: str) -> None:
        """Know several, in one call."""
        self.recorder.note("ledger", "record_instances", tuple(claims))
        for claim, instance in claims.items():
            self.known[instance.id] = {"claim": claim, "decision": decision}

    def defer(self, instance_id: str, since: datetime) -> None:
        """Let a recommendation wait."""
        self.recorder.note("ledger", "defer", instance_id)
        self.waiting[instance_id] = since

    def deferred(self) -> Mapping[str, datetime]:
        """Return the recommendations that wait."""
        return dict(self.waiting)

    def undefer(self, instance_id: str) -> None:
        """Let a recommendation wait no longer."""
        self.recorder.note("ledger", "undefer", instance_id)
        self.waiting.pop(instance_id, None)

    def owe(self, debt: Debt) -> bool:
        """Write a debt down unless it is paid, or fresh."""
        self.recorder.note("ledger", "owe", debt.key)
        place = debt.about, debt.key
        before = self.debts.get(place)
        if place in self.paid or (before and debt.at - before.at < timedelta(seconds=15)):
            return False
        self.debts[place] = debt
        return True

    def owed(self, about: str) -> tuple[Debt, ...]:
        """Return what is owed about an instance."""
        self.recorder.note("ledger", "owed", about)
        return tuple(debt for (of, _), debt in self.debts.items() if of == about)

    def pay(self, paid: Iterable[Debt]) -> None:
        """Strike debts off."""
        found = tuple(paid)
        self.recorder.note("ledger", "pay", tuple(debt.key for debt in found))
        for debt in found:
            self.debts.pop((debt.about, debt.key), None)
            self.paid.add((debt.about, debt.key))

    def waive(self, debt: Debt) -> None:
        """Forget a debt."""
        self.recorder.note("ledger", "waive", debt.key)
        self.debts.pop((debt.about, debt.key), None)

    def reaction(self, instance_id: str) -> Reaction | None:
        """Return the row of an instance."""
        return self.rows.get(instance_id)

    def react(self, reaction: Reaction) -> bool:
        """Record a reaction unless one with the same or an earlier deadline runs."""
        self.recorder.note("ledger", "react", reaction.instance_id, reaction.reason)
        before = self.rows.get(reaction.instance_id)
        if before is not None and not before.ended and not before.cancelled:
            latest = datetime.max.replace(tzinfo=UTC)
            if (before.deadline or latest) <= (reaction.deadline or latest):
                return False
        self.rows[reaction.instance_id] = reaction
        return True

    def update_reaction(self, reaction: Reaction) -> None:
        """Write a row."""
        self.recorder.note("ledger", "update_reaction", reaction.instance_id)
        self.rows[reaction.instance_id] = reaction

    def reactions(self) -> tuple[Reaction, ...]:
        """Return the rows that have not ended."""
        return tuple(row for row in self.rows.values() if not row.ended)

    def spend(self, launches: int, dollars_per_hour: float, now: datetime) -> bool:
        """Hold nothing back."""
        return True

    def seeds(self) -> tuple[Any, ...]:
        """Return none."""
        return ()


class FakeBus:
    """What was published, and how often somebody hinted."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.waiting: list[tuple[str, Mapping[str, Any], Debt | None]] = []
        self.sent: list[tuple[str, Mapping[str, Any]]] = []
        self.hints = 0

    def hint(self, cluster: str) -> None:
        """Count a hint."""
        self.recorder.note("bus", "hint", cluster)
        self.hints += 1

    def publish(
        self, detail_type: str, detail: Mapping[str, Any], *, debt: Debt | None = None
    ) -> None:
        """Keep a message until it is sent; one that breaks its promise is sent by nobody."""
        decisions.check(detail_type, detail)
        self.waiting.append((detail_type, detail, debt))

    def flush(self) -> tuple[Debt, ...]:
        """Send what waits."""
        self.recorder.note("bus", "flush")
        waiting, self.waiting = self.waiting, []
        self.sent += [(name, detail) for name, detail, _ in waiting]
        return tuple(debt for _, _, debt in waiting if debt is not None)

    def forget(self) -> None:
        """Lose what waits: the sandbox died."""
        self.waiting.clear()

    @property
    def published(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return every message, sent or about to be."""
        return [*self.sent, *((name, detail) for name, detail, _ in self.waiting)]

    def of(self, detail_type: str) -> list[Mapping[str, Any]]:
        """Return the details of every message of one type."""
        return [detail for name, detail in self.published if name == detail_type]


class FakeWorkflows:
    """Executions by name."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.started: dict[str, Mapping[str, Any]] = {}
        self.delays: list[int] = []

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> str:
        """Start once under each name."""
        self.recorder.note("workflows", "start", machine, name)
        self.started.setdefault(name, payload)
        return f"arn:{machine}:{name}"

    def watch_join(self, claims: Sequence[str], delay_seconds: int) -> None:
        """Note it."""
        self.recorder.note("workflows", "watch_join", tuple(claims))
        self.delays.append(delay_seconds)

    def show_again(self, receipts: Sequence[str], delay_seconds: int) -> None:
        """Note it."""
        self.recorder.note("workflows", "show_again", tuple(receipts), delay_seconds)


class FakeTelemetry:
    """What was counted and logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []
        self.counts: list[tuple[str, float, Mapping[str, str]]] = []

    def log(self, message: str, **fields: Any) -> None:
        """Keep a line."""
        self.lines.append((message, fields))

    def count(self, name: str, value: float = 1, unit: str = "", **dimensions: str) -> None:
        """Keep a count."""
        self.counts.append((name, value, dimensions))

    def total(self, name: str, **dimensions: str) -> float:
        """Return the sum of a metric, under *dimensions* if any are given."""
        return sum(
            value
            for counted, value, given in self.counts
            if counted == name and dimensions.items() <= given.items()
        )


@dataclass
class FakeWorld:
    """All fakes, and the World made of them."""

    mode: str = "full"
    clock: FakeClock = field(default_factory=FakeClock)
    recorder: Recorder = field(default_factory=Recorder)

    def __post_init__(self) -> None:
        """Wire the fakes."""
        self.cluster = FakeCluster(self.recorder, self.clock)
        self.cloud = FakeCloud(self.recorder, self.clock)
        self.ledger = FakeLedger(self.recorder, self.clock)
        self.bus = FakeBus(self.recorder)
        self.workflows = FakeWorkflows(self.recorder)
        self.telemetry = FakeTelemetry()

    @property
    def world(self) -> World:
        """Return what a flow gets."""
        settings = Settings.model_validate(
            {
                "cluster": "test",
                "region": "us-east-1",
                "mode": self.mode,
                "function": "test",
                "node_role_arns": "arn:aws:iam::123456789012:role/node",
            }
        )
        parts: dict[str, Any] = {
            "clock": self.clock,
            "cluster": self.cluster,
            "cloud": self.cloud,
            "ledger": self.ledger,
            "bus": self.bus,
            "workflows": self.workflows,
            "telemetry": self.telemetry,
        }
        return World(settings=settings, **parts)

    def join(self, node: Node, *pods: Pod) -> str:
        """Put a node with its pods and its running instance into the world; return its instance."""
        self.cluster.put(node, *pods)
        instance_id = node.instance_id
        self.cloud.found[instance_id] = Instance(
            id=instance_id,
            instance_type=node.labels.get(labels.INSTANCE_TYPE, "m5.large"),
            zone=node.labels.get(labels.ZONE, "us-east-1a"),
            capacity_type=node.labels.get(labels.CAPACITY_TYPE, labels.SPOT),
            state="running",
            launched=self.clock.now(),
        )
        self.ledger.known[instance_id] = {"claim": "", "decision": "d"}
        return instance_id


def _failures(names: Iterable[str], write: Callable[[str], None]) -> dict[str, str]:
    """Do *write* for each name; return what went wrong."""
    failed = {}
    for name in names:
        try:
            write(name)
        except ClusterError as error:
            failed[name] = str(error)
    return failed


def _key(item: Any) -> str:
    metadata = getattr(item, "metadata", None)
    if metadata is not None:
        return str(metadata.key)
    return str(getattr(item, "key", None) or item.name)


def _sorted_out(objects: Iterable[object]) -> dict[str, tuple[Any, ...]]:
    state = ClusterState.of(objects)
    places = ("pods", "nodes", "nodepools", "nodeclasses", "nodeclaims", "pdbs", "daemonsets")
    return {place: getattr(state, place) for place in places}
