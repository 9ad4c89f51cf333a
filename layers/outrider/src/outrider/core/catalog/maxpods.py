"""How many pods a node of a type takes, by its network interfaces.

The Amazon VPC CNI gives every pod an address of the default network card's interfaces: each
interface keeps one address for itself, and two pods of the host network come on top (Karpenter's
ENI-limited density, F100). With prefix delegation each of those addresses becomes a /28, sixteen
pods; EKS then caps the number at 110 below 30 vCPUs and at 250 above, as its own max-pods
calculator does. Karpenter does not know about prefix delegation (aws/karpenter-provider-aws#8210);
here it is an input.

Refuses to know how the cluster was found to delegate prefixes (`core.catalog.facts`).
"""

from __future__ import annotations

from outrider.core.catalog.instancetype import Ec2Facts

HOST_NETWORK_PODS = 2  # aws-node and kube-proxy take no address of an interface
PREFIX_ADDRESSES = 16  # a /28
SMALL_NODE_VCPUS = 30
SMALL_NODE_CAP = 110
LARGE_NODE_CAP = 250
FALLBACK = 110  # the kubelet's own default, where EC2 states no interface limits


def eni_limited(ec2: Ec2Facts, reserved_enis: int = 0, efa_only_on_default_card: int = 0) -> int:
    """Return the classic density: one secondary address a pod.

    *reserved_enis* interfaces are kept from the CNI (custom networking's primary one), and so are
    the *efa_only_on_default_card*, which carry no addresses.
    """
    if not ec2.network_cards or not ec2.ipv4_per_eni:
        return FALLBACK
    return _slots(ec2, reserved_enis, efa_only_on_default_card) + HOST_NETWORK_PODS


def prefix_limited(ec2: Ec2Facts, reserved_enis: int = 0, efa_only_on_default_card: int = 0) -> int:
    """Return the density with prefix delegation, under EKS's caps; a Xen type has none."""
    if ec2.hypervisor == "xen":
        return eni_limited(ec2, reserved_enis, efa_only_on_default_card)
    if not ec2.network_cards or not ec2.ipv4_per_eni:
        return FALLBACK
    slots = _slots(ec2, reserved_enis, efa_only_on_default_card)
    cap = SMALL_NODE_CAP if ec2.vcpu < SMALL_NODE_VCPUS else LARGE_NODE_CAP
    return min(slots * PREFIX_ADDRESSES + HOST_NETWORK_PODS, cap)


def prefixes_needed(pods: int) -> int:
    """Return how many free /28 blocks a node with *pods* pods needs: one stays warm."""
    return -(-pods // PREFIX_ADDRESSES) + 1


def _slots(ec2: Ec2Facts, reserved_enis: int, efa_only: int) -> int:
    usable = max(0, ec2.network_cards[0].enis - reserved_enis - efa_only)
    return usable * (ec2.ipv4_per_eni - 1)
