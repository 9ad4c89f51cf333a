"""Logs and metrics: one Logger, one way to count, and the name of every metric.

`METRICS` is the list: the alarms and the dashboard in template.yaml name only these, and counting a
name that is not on it is an error. Metrics go out as CloudWatch Embedded Metric Format under the
namespace `Outrider` with the dimension `Cluster` (a second one, such as NodePool or Reason, makes a
separate record, so that an alarm on the cluster alone never misses it).

An invocation collects its own metrics and prints them once at its end. Powertools' shared `Metrics`
keeps them in class attributes, which two handlers in one process (the embedded cloud) would mix.

What must not be known is not written: a field whose name says that it is a secret is redacted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

NAMESPACE = "Outrider"
DIMENSION = "Cluster"

Handler = Callable[[Any, Any], Any]
Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """What one metric counts, and in which unit; `by` names its second dimension, if it has one."""

    unit: str
    meaning: str
    by: str = ""


METRICS: Mapping[str, Metric] = {
    # The trigger
    "HintsReceived": Metric("Count", "webhook calls that became a hint"),
    "HintsRefused": Metric("Count", "webhook calls that were refused", by="Reason"),
    "HintsLost": Metric(
        "Count", "hints that EventBridge did not take; the minute tick covers them"
    ),
    # Planning and launching
    "ReconcileHeartbeat": Metric("Count", "provision looked at the cluster, with or without work"),
    "OldestPendingPodSeconds": Metric("Seconds", "age of the oldest pod that waits for a node"),
    "PendingPods": Metric("Count", "pods that wait for a node"),
    "UnschedulablePods": Metric("Count", "pods that no plan could place"),
    "PlanSeconds": Metric("Seconds", "time spent planning"),
    "PlanGap": Metric("Percent", "price of the plan above its proven lower bound"),
    "PricePerHour": Metric("None", "USD per hour of this cluster's nodes", by="NodePool"),
    "LaunchesAttempted": Metric("Count", "instances asked of EC2"),
    "LaunchesFailed": Metric("Count", "instances that EC2 did not give"),
    "InsufficientCapacity": Metric("Count", "capacity pools found empty"),
    "LaunchesHeldBack": Metric("Count", "launches that a brake held", by="Brake"),
    "LeaseHeldSeconds": Metric("Seconds", "how long the planning lease was held"),
    "LeaseWaitSeconds": Metric("Seconds", "how long the planning lease was waited for"),
    "InvalidObjects": Metric("Count", "cluster objects left out because they do not parse"),
    "BesideKarpenter": Metric("Count", "passes that only observed because a Karpenter is live"),
    # Nodes
    "NodeReadySeconds": Metric("Seconds", "from CreateFleet to Ready", by="NodePool"),
    "NodeInitializedSeconds": Metric("Seconds", "from CreateFleet to Initialized", by="NodePool"),
    "ClaimsNotInitialized": Metric("Count", "NodeClaims over the initialisation limit"),
    "InstancesOrphaned": Metric("Count", "instances without NodeClaim that were terminated"),
    "CatalogAgeSeconds": Metric("Seconds", "age of the stored instance catalogue"),
    # Interruption and drain
    "SignalsReceived": Metric("Count", "messages that said something", by="Kind"),
    "SignalsIgnored": Metric("Count", "messages acknowledged without action", by="Reason"),
    "NodesInterrupted": Metric("Count", "nodes that a signal takes away", by="Reason"),
    "NoticeToReplacementSeconds": Metric("Seconds", "from the notice to the replacement's launch"),
    "NoticeToDrainedSeconds": Metric("Seconds", "from the notice to the last pod gone"),
    "PodsEvicted": Metric("Count", "pods that the Eviction API took"),
    "PodsForced": Metric("Count", "pods deleted because their deadline came"),
    "PodsKilled": Metric("Count", "pods that went with their instance, no time for SIGTERM left"),
    "GraceLostSeconds": Metric("Seconds", "grace that a deadline did not leave to pods"),
    "DrainPastDeadline": Metric("Count", "nodes with pods left when their deadline passed"),
    "NodesTerminated": Metric("Count", "instances terminated after their drain", by="Reason"),
    "RepairHeldBack": Metric("Count", "repairs held because too many nodes are unhealthy at once"),
    # Voluntary disruption
    "DisruptionsDecided": Metric("Count", "commands carried out", by="Reason"),
    "DisruptionsRolledBack": Metric("Count", "commands undone before a pod was evicted"),
    "DisruptionBlocked": Metric("Count", "nodes that may not go", by="Code"),
    "SavingsPerHour": Metric("None", "USD per hour that commands save"),
    # The shadow report
    "ShadowPricePerHour": Metric("None", "USD per hour of the compared nodes as they are"),
    "ShadowPlannedPricePerHour": Metric("None", "USD per hour of our plan for the same pods"),
    # Seeding
    "SeedsPublished": Metric("Count", "snapshots with images that became usable"),
    "SeedsFailed": Metric("Count", "seed builds that failed"),
    "SeedBuildSeconds": Metric("Seconds", "from the push to the published snapshot"),
}

REDACTED = "[redacted]"
RESERVED = {"name": "called", "message": "said", "args": "given", "module": "part"}  # logging's own
SECRET_WORDS = ("secret", "token", "password", "user_data", "authorization")

logger = Logger(service="outrider", utc=True)


@dataclass(slots=True)
class Collector:
    """The metrics of one invocation, one record for each set of dimensions."""

    records: dict[Dimensions, EphemeralMetrics] = field(default_factory=dict)

    def add(self, name: str, unit: str, value: float, dimensions: Mapping[str, str]) -> None:
        """Add *value* to *name* under *dimensions*."""
        key = tuple(sorted(dimensions.items()))
        record = self.records.get(key)
        if record is None:
            record = EphemeralMetrics(namespace=NAMESPACE, default_dimensions=dict(key))
            record.service = ""  # no `service` dimension: alarms name Cluster alone
            self.records[key] = record
        record.add_metric(name=name, unit=unit, value=value)

    def flush(self) -> None:
        """Print every record and forget it."""
        records, self.records = self.records, {}
        for record in records.values():
            if record.metric_set:
                record.flush_metrics()


_collecting: ContextVar[Collector | None] = ContextVar("collecting", default=None)


class Metrics:
    """What handlers are decorated with; the counting itself goes through `Telemetry`."""

    def log_metrics(self, handler: Handler) -> Handler:
        """Decorate a *handler* so that the metrics of each invocation are printed at its end."""

        @wraps(handler)
        def collected(event: Any, context: Any) -> Any:
            collector = Collector()
            before = _collecting.set(collector)
            try:
                return handler(event, context)
            finally:
                _collecting.reset(before)
                collector.flush()

        return collected


metrics = Metrics()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The flows' way to log and count, for one *cluster*."""

    cluster: str

    def log(self, message: str, **fields: Any) -> None:
        """Write one structured line."""
        extra = {RESERVED.get(key, key): _public(key, value) for key, value in fields.items()}
        logger.info(message, extra=extra, stacklevel=3)

    def count(self, name: str, value: float = 1, unit: str = "", **dimensions: str) -> None:
        """Add *value* to the metric *name*: under the cluster, and under *dimensions* as well."""
        unit = unit or METRICS[name].unit
        collector = _collecting.get()
        open_end = collector is None
        collector = collector or Collector()
        collector.add(name, unit, value, {DIMENSION: self.cluster})
        if dimensions:
            collector.add(name, unit, value, {DIMENSION: self.cluster, **dimensions})
        if open_end:  # outside of an invocation nobody else would print it
            collector.flush()


def _public(key: str, value: Any) -> Any:
    """Return *value*, or a placeholder where its *key* says that it is nobody's business."""
    return REDACTED if any(word in key.lower() for word in SECRET_WORDS) else value
