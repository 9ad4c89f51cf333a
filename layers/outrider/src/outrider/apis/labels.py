"""Names with a meaning: labels, annotations, taints and finalizers of Kubernetes, Karpenter and
ours.

Karpenter's names keep Karpenter's meaning; ours begin with `outrider.dev/`.
"""

from __future__ import annotations

from collections.abc import Mapping

# Kubernetes
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"
ZONE_ID = "topology.k8s.aws/zone-id"
ARCH = "kubernetes.io/arch"
OS = "kubernetes.io/os"
HOSTNAME = "kubernetes.io/hostname"
EXCLUDE_FROM_LOAD_BALANCERS = "node.kubernetes.io/exclude-from-external-load-balancers"

# Karpenter
NODEPOOL = "karpenter.sh/nodepool"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
REGISTERED = "karpenter.sh/registered"
INITIALIZED = "karpenter.sh/initialized"
DO_NOT_SYNC_TAINTS = "karpenter.sh/do-not-sync-taints"
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
NODEPOOL_HASH = "karpenter.sh/nodepool-hash"
NODEPOOL_HASH_VERSION = "karpenter.sh/nodepool-hash-version"
TERMINATION_FINALIZER = "karpenter.sh/termination"
TERMINATION_TIMESTAMP = "karpenter.sh/nodeclaim-termination-timestamp"
UNREGISTERED_TAINT = "karpenter.sh/unregistered"
DISRUPTED_TAINT = "karpenter.sh/disrupted"
NODECLASS_LABEL = "karpenter.k8s.aws/ec2nodeclass"
NODECLASS_HASH = "karpenter.k8s.aws/ec2nodeclass-hash"
NODECLASS_HASH_VERSION = "karpenter.k8s.aws/ec2nodeclass-hash-version"
CAPACITY_RESERVATION_ID = "karpenter.k8s.aws/capacity-reservation-id"
NODECLAIM_TAG = "karpenter.sh/nodeclaim"
NODECLASS_GROUP = "karpenter.k8s.aws"

SPOT = "spot"
ON_DEMAND = "on-demand"
RESERVED = "reserved"

# Ours
DECISION = "outrider.dev/decision"
MANAGED_BY = "outrider.dev/managed-by"
REBALANCE = "outrider.dev/rebalance"
GANG = "outrider.dev/gang"
GANG_SIZE = "outrider.dev/gang-size"
GANG_ZONE = "outrider.dev/gang-zone"
GPU_FRACTION = "outrider.dev/gpu-fraction"
GPU_SHARING = "outrider.dev/gpu-sharing"  # on an EC2NodeClass: time-slicing, MPS, MIG
HEADROOM = "outrider.dev/headroom"
SEED = "outrider.dev/seed"
EXPIRES = "outrider.dev/expires"
PAUSED = "outrider.dev/paused"
MAX_LAUNCHES = "outrider.dev/max-launches-per-minute"  # on a NodePool, as the next: its brakes
MAX_DOLLARS = "outrider.dev/max-dollars-per-hour"
PODS = "outrider.dev/pods"  # on a NodeClaim: the pods that it was planned for
SUBNET = "outrider.dev/subnet"  # on a NodeClaim, as the next two: what drift compares
SECURITY_GROUPS = "outrider.dev/security-groups"
PLACEMENT_GROUP = "outrider.dev/placement-group"
MOVED = "outrider.dev/moved"  # on a Node: how often its pods were moved within a day, and when
PODS_SEEN = "outrider.dev/pods-seen"

NORMALISED = {
    "failure-domain.beta.kubernetes.io/zone": ZONE,
    "failure-domain.beta.kubernetes.io/region": REGION,
    "beta.kubernetes.io/arch": ARCH,
    "beta.kubernetes.io/os": OS,
    "beta.kubernetes.io/instance-type": INSTANCE_TYPE,
    "topology.ebs.csi.aws.com/zone": ZONE,
}


def normalise(key: str) -> str:
    """Return the stable name of a label *key* that has an older or a driver's own spelling."""
    return NORMALISED.get(key, key)


def normalised(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return *labels* with today's names added for older ones; a name of today's wins."""
    old = NORMALISED.keys() & labels.keys()
    if not old:
        return labels
    return {**{NORMALISED[key]: labels[key] for key in sorted(old)}, **labels}
