"""Who may do what in the cluster: one group a function, named by its EKS access entry.

All that plan or follow nodes read the same lists; beyond that each has the verbs of its flow and
no more: webhook has no entry at all, nobody reads Secrets, only drain evicts, only those who end
nodes delete them. A role for reading is bound to all groups, a role for writing to one.

Refuses to know the adapters; a test compares the reading role with the lists they ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]
Rule = tuple[str, Sequence[str], Sequence[str]]  # API group, resources, verbs

LABELS: Mapping[str, str] = {"app.kubernetes.io/name": "outrider"}
READER = "outrider:reader"
FUNCTIONS = ("provision", "interrupt", "drain", "disrupt", "lifecycle", "seed", "catalog")

READ: Sequence[tuple[str, Sequence[str]]] = (
    ("", ("namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes", "pods")),
    ("", ("podtemplates",)),
    ("apps", ("daemonsets", "deployments", "replicasets", "statefulsets")),
    ("autoscaling.x-k8s.io", ("capacitybuffers",)),
    ("batch", ("jobs",)),
    ("jobset.x-k8s.io", ("jobsets",)),
    ("karpenter.k8s.aws", ("ec2nodeclasses",)),
    ("karpenter.sh", ("nodeclaims", "nodeoverlays", "nodepools")),
    ("kueue.x-k8s.io", ("workloads",)),
    ("node.k8s.io", ("runtimeclasses",)),
    ("policy", ("poddisruptionbudgets",)),
    ("resource.k8s.io", ("deviceclasses", "resourceclaims", "resourceclaimtemplates")),
    ("resource.k8s.io", ("resourceslices",)),
    ("scheduling.k8s.io", ("podgroups", "priorityclasses", "workloads")),
    ("scheduling.x-k8s.io", ("podgroups",)),
    ("storage.k8s.io", ("csinodes", "storageclasses", "volumeattachments")),
)

SAY: Sequence[Rule] = (("", ("events",), ("create", "patch")),)
LAUNCH: Sequence[Rule] = (
    ("karpenter.sh", ("nodeclaims",), ("create", "delete", "patch")),
    ("karpenter.sh", ("nodeclaims/status", "nodepools/status"), ("patch",)),
    # A NodeClaim blocks the deletion of the NodePool that owns it; where the API server checks
    # who may say so (OwnerReferencesPermissionEnforcement), this is what it asks for.
    ("karpenter.sh", ("nodepools/finalizers",), ("update",)),
    ("karpenter.k8s.aws", ("ec2nodeclasses/status",), ("patch",)),
    ("", ("pods/status",), ("patch",)),  # status.nominatedNodeName
)
# A registered Node blocks the deletion of its NodeClaim, by the same rule.
REGISTER: Sequence[Rule] = (("karpenter.sh", ("nodeclaims/finalizers",), ("update",)),)
CORDON: Sequence[Rule] = (("", ("nodes",), ("patch",)),)
END: Sequence[Rule] = (
    ("", ("nodes",), ("delete", "patch")),
    ("karpenter.sh", ("nodeclaims",), ("delete", "patch")),
    ("karpenter.sh", ("nodeclaims/status",), ("patch",)),
    ("", ("pods/status",), ("patch",)),
)
EVICT: Sequence[Rule] = (
    ("", ("pods/eviction",), ("create",)),
    ("", ("pods",), ("delete",)),  # past the deadline, when the Eviction API still says no
)
STATUS: Sequence[Rule] = (
    ("karpenter.sh", ("nodepools", "nodepools/status"), ("patch",)),
    ("karpenter.k8s.aws", ("ec2nodeclasses", "ec2nodeclasses/status"), ("patch",)),
)

WRITE: Mapping[str, Sequence[Rule]] = {
    "provision": (*SAY, *LAUNCH),
    "interrupt": (*SAY, *LAUNCH, *CORDON),
    "drain": (*SAY, *END, *EVICT),
    "disrupt": (*SAY, *LAUNCH, *CORDON),
    "lifecycle": (*SAY, *LAUNCH, *REGISTER, *END, *STATUS),  # the sweep replaces what no event told
    "seed": SAY,
    "catalog": (*SAY, *STATUS),
}


def objects() -> list[Json]:
    """Return ClusterRoles and ClusterRoleBindings for every function's group."""
    reader = _role(READER, [*_reading(), _karpenter_lease()])
    listed = [reader, _binding(READER, [f"outrider:{name}" for name in FUNCTIONS])]
    for name in FUNCTIONS:
        role = f"outrider:{name}"
        listed.append(_role(role, [_rule(*rule) for rule in WRITE[name]]))
        listed.append(_binding(role, [role]))
    return listed


def _reading() -> list[Json]:
    return [_rule(group, resources, ("get", "list")) for group, resources in READ]


def _karpenter_lease() -> Json:
    """Return leave to look whether a Karpenter is alive, and at no other Lease."""
    rule = _rule("coordination.k8s.io", ("leases",), ("get", "list"))
    return {**rule, "resourceNames": ["karpenter-leader-election"]}


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Json:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def _role(name: str, rules: list[Json]) -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "rules": rules,
    }


def _binding(role: str, groups: Sequence[str]) -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role, "labels": dict(LABELS)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}
            for group in groups
        ],
    }
