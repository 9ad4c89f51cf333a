"""An errand: one CreateFleet call with all that goes with it, as a value that survives a function.

The intent in the ledger carries it. Whoever finds an unfinished one (the same invocation, a repeat
after a kill, the lifecycle tick) carries it out the same way: NodeClaims, templates, the call with
its client token, the instances handed out in the order of their ids. Refuses to do any of it
(`flows.errands`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outrider.apis import labels
from outrider.core import stateversion
from outrider.core.launch.fleet import FleetRequest, Order, Pool
from outrider.core.launch.template import TemplateRequest
from outrider.core.records import FleetResult, Instance

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Errand:
    """What one intent is about.

    `manifests` are the NodeClaims to create, in order of the claims;
    `reservations` the reservation of each reserved pool; `max_pods` what each type's kubelet was
    told.
    """

    decision: str
    node_pool: str
    node_class: str
    capacity_type: str
    call: Json
    templates: tuple[TemplateRequest, ...]
    manifests: tuple[Json, ...]
    pods: Mapping[str, tuple[str, ...]]
    pools: tuple[Pool, ...]
    max_pods: Mapping[str, int]
    reservations: Mapping[str, str]
    price_per_hour: float
    gang: str | None = None

    @property
    def claims(self) -> tuple[str, ...]:
        """Return the names of the NodeClaims, in order."""
        return tuple(str(manifest["metadata"]["name"]) for manifest in self.manifests)

    @property
    def client_token(self) -> str:
        """Return the call's client token."""
        return str(self.call["ClientToken"])

    def to_json(self) -> dict[str, Any]:
        """Return the errand as JSON."""
        return {
            "version": stateversion.VERSION,
            "decision": self.decision,
            "nodePool": self.node_pool,
            "nodeClass": self.node_class,
            "capacityType": self.capacity_type,
            "call": self.call,
            "templates": [
                {"name": one.name, "data": one.data, "tags": one.tags} for one in self.templates
            ],
            "manifests": list(self.manifests),
            "pods": {name: list(pods) for name, pods in self.pods.items()},
            "pools": [
                [pool.instance_type, pool.zone, pool.subnet_id, pool.price_per_hour]
                for pool in self.pools
            ],
            "maxPods": dict(self.max_pods),
            "reservations": dict(self.reservations),
            "pricePerHour": self.price_per_hour,
            "gang": self.gang,
        }

    @classmethod
    def read(cls, document: Json) -> Errand:
        """Return the errand that `to_json` wrote, of this release or one beside it."""
        stateversion.check(document.get("version"), "an errand")
        return cls(
            decision=str(document["decision"]),
            node_pool=str(document["nodePool"]),
            node_class=str(document["nodeClass"]),
            capacity_type=str(document["capacityType"]),
            call=document["call"],
            templates=tuple(
                TemplateRequest(one["name"], one["data"], one["tags"])
                for one in document["templates"]
            ),
            manifests=tuple(document["manifests"]),
            pods={name: tuple(pods) for name, pods in document["pods"].items()},
            pools=tuple(Pool(*pool) for pool in document["pools"]),
            max_pods=document["maxPods"],
            reservations=document["reservations"],
            price_per_hour=float(document["pricePerHour"]),
            gang=document.get("gang"),
        )


def errand(
    request: FleetRequest, orders: Sequence[Order], manifests: Sequence[Json], decision: str
) -> Errand:
    """Return the errand of *request* for *orders*, whose NodeClaims are *manifests*."""
    launch = orders[0].launch
    return Errand(
        decision=decision,
        node_pool=request.node_pool,
        node_class=request.node_class,
        capacity_type=request.capacity_type,
        call=request.to_json(),
        templates=request.templates,
        manifests=tuple(manifests),
        pods={order.claim: order.launch.pods for order in orders},
        pools=request.pools,
        max_pods=dict(launch.max_pods),
        reservations={
            f"{choice.instance_type}/{choice.zone}": choice.reservation_id
            for choice in reversed(launch.choices)
            if choice.capacity_type == labels.RESERVED and choice.reservation_id
        },
        price_per_hour=request.price_per_hour,
        gang=launch.gang,
    )


def assigned(work: Errand, result: FleetResult) -> dict[str, Instance]:
    """Return claim -> instance: ids in order, so that a repeat hands them out the same way."""
    ordered = sorted(result.instances, key=lambda instance: instance.id)
    return {
        claim: bought(work, instance) for claim, instance in zip(work.claims, ordered, strict=False)
    }


def surplus(work: Errand, result: FleetResult) -> tuple[str, ...]:
    """Return the ids of instances that no NodeClaim of the errand is there for."""
    ordered = sorted(instance.id for instance in result.instances)
    return tuple(ordered[len(work.claims) :])


def bought(work: Errand, instance: Instance) -> Instance:
    """Return *instance* as the errand bought it: a reservation is seen from the request only."""
    if work.capacity_type != labels.RESERVED:
        return replace(instance, capacity_type=work.capacity_type)
    reservation = work.reservations.get(f"{instance.instance_type}/{instance.zone}")
    return replace(instance, capacity_type=labels.RESERVED, reservation_id=reservation)
