"""What the cluster itself says about its nodes: how its CNI hands out addresses, what nodes really
have.

Prefix delegation is a setting of the aws-node DaemonSet (`ENABLE_PREFIX_DELEGATION`), custom
networking another (`AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`, which takes the first interface away from
pods). Karpenter looks at neither (aws/karpenter-provider-aws#8210). What registered nodes report as
memory corrects the model's guess of the hypervisor's share (F96).

Refuses to know instance types: `core.catalog.capacity` puts both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.apis import labels
from outrider.core.clusterstate import ClusterState

CNI = ("kube-system", "aws-node")


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Facts that hold for every node of the cluster; the defaults are EKS's own.

    `observed_memory` is the smallest memory capacity seen on a node of a type.
    """

    prefix_delegation: bool = False
    reserved_enis: int = 0
    observed_memory: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, state: ClusterState) -> ClusterFacts:
        """Return what *state* says: the CNI's settings, and memory as nodes report it."""
        environment = _cni_environment(state)
        seen: dict[str, int] = {}
        for node in state.nodes:
            name = node.labels.get(labels.INSTANCE_TYPE)
            memory = node.capacity.get("memory", 0)
            if name and memory and node.labels.get(labels.INITIALIZED) == "true":
                seen[name] = min(seen.get(name, memory), memory)
        return cls(
            prefix_delegation=environment.get("ENABLE_PREFIX_DELEGATION", "") == "true",
            reserved_enis=int(environment.get("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "") == "true"),
            observed_memory=seen,
        )


def _cni_environment(state: ClusterState) -> Mapping[str, str]:
    for daemon in state.daemonsets:
        if (daemon.namespace, daemon.name) == CNI:
            return daemon.environment
    return {}
