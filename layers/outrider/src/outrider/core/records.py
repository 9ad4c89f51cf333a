"""What the cloud and the ledger tell us: plain values that cross the ports in both directions.

They live here, below flows and adapters, because those two floors are strangers to each other: a
flow reads a `Lease` that an adapter wrote, and both know it by this module. Refuses to know how
any of it is stored or called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Instance:
    """One EC2 instance of ours."""

    id: str
    instance_type: str
    zone: str
    capacity_type: str
    state: str
    launched: datetime
    private_dns: str = ""
    image_id: str = ""
    subnet_id: str = ""
    reservation_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def provider_id(self) -> str:
        """Return the Node's spec.providerID."""
        return f"aws:///{self.zone}/{self.id}"


@dataclass(frozen=True, slots=True)
class FleetError:
    """One entry of CreateFleet's Errors, classed: what it says of which pool."""

    code: str
    message: str
    scope: str  # offering | subnet | account | request | permission (adapters.aws.errors)
    instance_type: str = ""
    zone: str = ""
    capacity_type: str = ""
    subnet_id: str = ""


@dataclass(frozen=True, slots=True)
class FleetResult:
    """What CreateFleet gave: some instances, some errors, possibly both."""

    fleet_id: str
    instances: tuple[Instance, ...]
    errors: tuple[FleetError, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """The planning lease: a fencing *token* that grows with each holder."""

    owner: str
    token: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Intent:
    """A launch that is about to be, or was, asked of EC2: written before CreateFleet."""

    decision: str
    client_token: str
    node_pool: str
    claims: tuple[str, ...]
    request: Json
    state: str = "intended"  # intended | launched | failed
    instances: Mapping[str, str] = field(default_factory=dict)  # claim -> instance id
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reaction:
    """What runs for one instance: an interruption, a rebalance, a repair, a disruption.

    One row an instance. `planned` says that the replacements were decided (possibly none): until
    then a repeat of the signal takes the work up again. `cancelled` ends its drain, which puts the
    node back; `ended` says that the drain is through. `node_pool` names the pool whose budget it
    uses.
    """

    instance_id: str
    reason: str
    decision: str
    deadline: datetime | None
    replacements: tuple[str, ...] = ()
    execution: str = ""
    node: str = ""
    node_pool: str = ""
    planned: bool = False
    cancelled: bool = False
    ended: bool = False
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Debt:
    """A message that has to go out once: *about* an instance, under a *key* of its own."""

    about: str
    key: str
    message: Json
    at: datetime
