"""Network interfaces of a launch template: plain nodes need none spelled out, EFA nodes all of
them.

A template without interfaces names security groups and EC2 makes one interface. As soon as one
thing about an interface matters (a public address, prefixes, connection tracking, EFA, the node
class's own list, a cluster of IPv6) every interface is spelled out, groups move into them, and the
subnet stays with the override.

In a cluster of IPv6 the primary interface gets one IPv6 address, which stays its first (the kubelet
reports it as the node's), and prefixes are IPv6's, as with Karpenter.

For pods that ask for `vpc.amazonaws.com/efa` each network card gets one EFA interface, as many as
the type allows. Card 0 keeps its address: its first interface is `efa` (address and EFA in one), so
no interface is lost to pod density; where card 0 has no EFA (p6-b300) it is a plain one. The other
cards get `efa-only`, which takes no address of the subnet (Karpenter still gives each one an
address).

Refuses to know which type is launched where; `shape` is all that a template depends on.
"""

from __future__ import annotations

from typing import Any

from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.catalog import gpus
from outrider.core.catalog.instancetype import Ec2Facts
from outrider.core.resources import Resources

Interfaces = list[dict[str, Any]]


def wants_efa(requests: Resources) -> bool:
    """Return whether a node's pods ask for EFA."""
    return requests.get(gpus.EFA, 0) > 0


def interfaces(
    node_class: EC2NodeClass,
    groups: list[str],
    ec2: Ec2Facts | None,
    *,
    efa: bool,
    ipv6: bool = False,
) -> Interfaces | None:
    """Return the interfaces to spell out; None where naming security *groups* is enough."""
    spec = node_class.spec
    if spec.network_interfaces:
        listed = [
            {
                "NetworkCardIndex": entry.network_card_index,
                "DeviceIndex": entry.device_index,
                "InterfaceType": entry.interface_type,
            }
            for entry in spec.network_interfaces
        ]
    elif efa and ec2 is not None and ec2.max_efa:
        listed = _efa(ec2)
    elif (
        spec.associate_public_ip_address is not None
        or spec.ip_prefix_count is not None
        or spec.connection_tracking is not None
        or ipv6
    ):
        listed = [{"DeviceIndex": 0, "InterfaceType": "interface"}]
    else:
        return None
    alone = len(listed) == 1
    return [_dressed(node_class, groups, entry, alone=alone, ipv6=ipv6) for entry in listed]


def _efa(ec2: Ec2Facts) -> Interfaces:
    result: Interfaces = []
    left = ec2.max_efa
    for index, card in enumerate(ec2.network_cards):
        kind = "efa-only" if card.efa and left else None
        if index == 0:
            kind = "efa" if kind else "interface"
        if kind is None:
            continue
        left -= kind != "interface"
        result.append({"NetworkCardIndex": index, "DeviceIndex": 0, "InterfaceType": kind})
    return result


def _dressed(
    node_class: EC2NodeClass,
    groups: list[str],
    entry: dict[str, Any],
    *,
    alone: bool,
    ipv6: bool,
) -> dict[str, Any]:
    spec = node_class.spec
    dressed = {**entry, "Groups": groups, "DeleteOnTermination": True}
    if dressed["InterfaceType"] == "interface":
        del dressed["InterfaceType"]  # EC2's default has no name in RequestLaunchTemplateData
    if entry["InterfaceType"] == "efa-only":
        return dressed  # an address, a prefix or a public address on it is refused
    primary = entry.get("NetworkCardIndex", 0) == 0 and entry["DeviceIndex"] == 0
    if primary and alone and spec.associate_public_ip_address is not None:
        dressed["AssociatePublicIpAddress"] = spec.associate_public_ip_address
    if primary and spec.ip_prefix_count is not None:
        dressed["Ipv6PrefixCount" if ipv6 else "Ipv4PrefixCount"] = spec.ip_prefix_count
    if primary and ipv6:
        dressed["PrimaryIpv6"] = True
        dressed["Ipv6AddressCount"] = 1
    tracking = spec.connection_tracking
    if tracking is not None:
        timeouts = {
            "TcpEstablishedTimeout": tracking.tcp_established_timeout,
            "UdpStreamTimeout": tracking.udp_stream_timeout,
            "UdpTimeout": tracking.udp_timeout,
        }
        dressed["ConnectionTrackingSpecification"] = {
            name: value for name, value in timeouts.items() if value is not None
        }
    return dressed
