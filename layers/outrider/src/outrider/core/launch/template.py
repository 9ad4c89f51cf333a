"""Launch templates: what CreateFleet cannot be told otherwise, under a name that is its content.

The image and the subnet go into a fleet's overrides and user data beside the template's name, so
one template serves every type of a node class; only what an override cannot say makes another one:
network interfaces (EFA), volumes with an initialisation rate, a reservation, the class itself. The
name ends in a hash of the content, so a template never has a second version, and requests may name
version 1.

Refuses to know who keeps the templates: the adapter makes a missing one and drops unused ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.launch.tags import owned_by

VERSION = "1"
NAME_ROOM = 128 - len("outrider--") - 20  # a name has 128 characters, the hash 20
CAPACITY_BLOCK = "capacity-block"


@dataclass(frozen=True, slots=True)
class TemplateRequest:
    """A launch template to have: its name, its LaunchTemplateData and its own tags."""

    name: str
    data: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reservation:
    """The capacity reservation that a template targets; *kind* is `default` or `capacity-block`."""

    id: str
    kind: str = "default"


def build(
    cluster: str,
    stack: str,
    node_class: EC2NodeClass,
    *,
    groups: Sequence[str],
    profile: str,
    devices: Sequence[Mapping[str, Any]],
    interfaces: Sequence[Mapping[str, Any]] | None,
    reservation: Reservation | None,
) -> TemplateRequest:
    """Return the template of *node_class* with the given network, volumes and reservation."""
    spec = node_class.spec
    data: dict[str, Any] = {"MetadataOptions": _metadata(node_class)}
    if profile:
        data["IamInstanceProfile"] = {"Name": profile}
    if devices:
        data["BlockDeviceMappings"] = list(devices)
    if interfaces is None:
        data["SecurityGroupIds"] = list(groups)
    else:
        data["NetworkInterfaces"] = list(interfaces)
    if spec.detailed_monitoring:
        data["Monitoring"] = {"Enabled": True}
    if spec.cpu_options is not None and spec.cpu_options.nested_virtualization is not None:
        data["CpuOptions"] = {"NestedVirtualization": spec.cpu_options.nested_virtualization}
    if spec.placement_group_selector is not None:
        data["Placement"] = _placement(spec.placement_group_selector)
    data.update(_reserved(node_class, reservation))
    return TemplateRequest(
        name=f"outrider-{cluster[:NAME_ROOM]}-{content_hash(data)}",
        data=data,
        tags=owned_by(cluster, stack),
    )


def content_hash(content: Any, length: int = 20) -> str:
    """Return a hash of JSON *content*, the same for the same content in any order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _metadata(node_class: EC2NodeClass) -> dict[str, Any]:
    options = node_class.spec.metadata_options
    return {
        "HttpEndpoint": options.http_endpoint,
        "HttpProtocolIpv6": options.http_protocol_ipv6,
        "HttpPutResponseHopLimit": options.http_put_response_hop_limit,
        "HttpTokens": options.http_tokens,
        "InstanceMetadataTags": "disabled",
    }


def _placement(selector: Any) -> dict[str, str]:
    return {"GroupId": selector.id} if selector.id else {"GroupName": selector.name}


def _reserved(node_class: EC2NodeClass, reservation: Reservation | None) -> dict[str, Any]:
    if reservation is None:
        targeted = bool(node_class.spec.capacity_reservation_selector_terms)
        # A class that lists its reservations uses them when it means to, never by accident.
        return (
            {"CapacityReservationSpecification": {"CapacityReservationPreference": "none"}}
            if targeted
            else {}
        )
    specification: dict[str, Any] = {
        "CapacityReservationTarget": {"CapacityReservationId": reservation.id}
    }
    if reservation.kind == CAPACITY_BLOCK:
        return {
            "CapacityReservationSpecification": specification,
            "InstanceMarketOptions": {"MarketType": CAPACITY_BLOCK},
        }
    specification["CapacityReservationPreference"] = "capacity-reservations-only"
    return {"CapacityReservationSpecification": specification}
