"""Pod, as much of it as planning, draining and seeding ask about: a slim record, not the whole object.

Pods are read by the ten thousand, so they are projected straight from the API's JSON into frozen
slotted dataclasses (docs/adr/0006): no pydantic here. `parse` validates what it reads and names the
object and the field of what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Resources = Mapping[str, int]



@dataclass(frozen=True, slots=True)
class Owner:
    """One ownerReference."""

    kind: str
    name: str
    uid: str = ""
    controller: bool = False
    api_version: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """One Pod."""

    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    created: datetime | None = None
    deleted: datetime | None = None  # deletionTimestamp: when the grace period ends
    node_name: str = ""
    nominated_node_name: str = ""
    phase: str = "Pending"
    started: datetime | None = None  # status.startTime
    ready: bool = False
    priority: int = 0
    priority_class_name: str = ""
    grace_seconds: int = 30  # terminationGracePeriodSeconds
    scheduler_name: str = "default-scheduler"
    scheduling_gates: tuple[str, ...] = ()
    requests: Resources = field(default_factory=dict)  # effective, with overhead, and pods: 1
    images: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    # ... plus scheduling fields: node_selector, affinity, tolerations, spread, host_ports, volumes,
    # resource_claims, runtime_class_name, defined by the owner of this file

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"
