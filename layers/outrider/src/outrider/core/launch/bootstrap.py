"""What a node has to be told to join: one value, whatever the dialect of its user data.

Refuses to know any dialect; `core.launch.userdata` speaks them. Karpenter's rule holds: nodes
register with the taint `karpenter.sh/unregistered:NoExecute`, so that nothing runs before the
NodeClaim's labels and taints are on the Node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outrider.apis import labels
from outrider.apis.placement import Taint

UNREGISTERED = Taint(key=labels.UNREGISTERED_TAINT, value="", effect="NoExecute")


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """The EKS cluster as its nodes must know it (DescribeCluster)."""

    name: str
    endpoint: str
    certificate_authority: str
    service_cidr: str
    version: str = ""
    ip_family: str = "ipv4"
    security_group_id: str = ""

    @property
    def ipv6(self) -> bool:
        """Return whether pods and nodes of the cluster have IPv6 addresses."""
        return self.ip_family == "ipv6"

    @property
    def dns_ip(self) -> str:
        """Return the cluster DNS address: the tenth of the service range, as EKS assigns it."""
        network, _, _ = self.service_cidr.partition("/")
        if ":" in network:
            return network.rstrip(":") + "::a"
        head, _, _ = network.rpartition(".")
        return f"{head}.10" if head else ""


@dataclass(frozen=True, slots=True)
class NodeBootstrap:
    """One kind of node: everything that its user data says.

    `kubelet` is the node class's KubeletConfiguration as written there; `max_pods` is what the plan
    counted on. `seeded` says that the data volume holds images, which local NVMe must not hide.
    `local_storage` says that NVMe becomes the node's ephemeral storage.
    """

    cluster: ClusterIdentity
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    max_pods: int | None
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    local_storage: bool = False
    seeded: bool = False
    seed_device: str = ""

    @property
    def registered_taints(self) -> tuple[Taint, ...]:
        """Return the taints to register with: the NodeClaim's, and `unregistered`."""
        return (*self.taints, UNREGISTERED)

    @property
    def dns(self) -> tuple[str, ...]:
        """Return the DNS servers of pods: the node class's, else the cluster's."""
        named = self.kubelet.get("clusterDNS")
        if named:
            return tuple(named)
        return (self.cluster.dns_ip,) if self.cluster.dns_ip else ()
