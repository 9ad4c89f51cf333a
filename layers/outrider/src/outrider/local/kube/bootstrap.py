"""What a new cluster has before anybody asks: namespaces, priority classes, roles, a storage class.

Matches what EKS and kube-apiserver create at start, as far as somebody relies on it.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.calls import Call
from outrider.local.kube.objects import Obj, User

APISERVER = User("system:apiserver", ("system:masters",))
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_RBAC = "rbac.authorization.k8s.io/v1"
_ALL = ["*"]
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_WORKLOAD_RULES: list[Obj] = [
    {"apiGroups": [""], "resources": _ALL, "verbs": _READ},
    {
        "apiGroups": ["apps", "batch", "policy", "autoscaling", "networking.k8s.io"],
        "resources": _ALL,
        "verbs": _READ,
    },
]
_EDIT_RULES: list[Obj] = [
    {
        "apiGroups": [""],
        "resources": [
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "pods",
            "pods/eviction",
            "secrets",
            "serviceaccounts",
            "services",
        ],
        "verbs": _WRITE,
    },
    {"apiGroups": ["apps", "batch", "policy", "autoscaling"], "resources": _ALL, "verbs": _WRITE},
]


def furnish(api: API) -> None:
    """Create the objects that a new cluster has."""
    call = Call(user=APISERVER, manager="kube-apiserver")
    for name in NAMESPACES:
        _put(api, "namespaces", {"metadata": {"name": name}}, call)
    for name, value in (
        ("system-cluster-critical", 2_000_000_000),
        ("system-node-critical", 2_000_001_000),
    ):
        _put(
            api,
            "priorityclasses.scheduling.k8s.io",
            {"metadata": {"name": name}, "value": value},
            call,
        )
    everything: list[Obj] = [
        {"apiGroups": _ALL, "resources": _ALL, "verbs": _ALL},
        {"nonResourceURLs": _ALL, "verbs": _ALL},
    ]
    roles = {
        "cluster-admin": everything,
        "edit": _WORKLOAD_RULES + _EDIT_RULES,
        "view": _WORKLOAD_RULES,
    }
    for name, rules in roles.items():
        _put(
            api,
            "clusterroles.rbac.authorization.k8s.io",
            {"metadata": {"name": name}, "rules": rules},
            call,
        )
    binding: Obj = {
        "metadata": {"name": "cluster-admin"},
        "roleRef": {
            "apiGroup": _RBAC.split("/", maxsplit=1)[0],
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [
            {"apiGroup": _RBAC.split("/", maxsplit=1)[0], "kind": "Group", "name": "system:masters"}
        ],
    }
    _put(api, "clusterrolebindings.rbac.authorization.k8s.io", binding, call)
    storage_class: Obj = {
        "metadata": {"name": "gp2"},
        "provisioner": "kubernetes.io/aws-ebs",
        "parameters": {"type": "gp2", "fsType": "ext4"},
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    _put(api, "storageclasses.storage.k8s.io", storage_class, call)


def _put(api: API, storage: str, body: Obj, call: Call) -> None:
    api.create(api.resource(storage), "", body, call)
