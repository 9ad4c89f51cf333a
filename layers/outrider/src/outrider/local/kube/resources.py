"""What is served: the table of group, version, plural, kind, scope and subresources.

Built-in kinds are rows below; CustomResourceDefinitions add rows at run time. One *storage* may be
served under several versions: core/v1 and events.k8s.io/v1 Events are the same objects. Refuses to
know what an object means; the merge keys of its lists are in `shapes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from outrider.local.kube.status import qualified

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One row: a kind as one version of one group serves it."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    storage: str = ""
    categories: tuple[str, ...] = ()
    generation: bool = False
    verbs: tuple[str, ...] = ALL_VERBS
    custom: CustomVersion | None = None

    @property
    def api_version(self) -> str:
        """Return the apiVersion that objects of this row carry."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """Return the kind of a list of them."""
        return f"{self.kind}List"

    @property
    def qualified(self) -> str:
        """Return the name that messages use: `pods`, `deployments.apps`."""
        return qualified(self.plural, self.group)


@dataclass(frozen=True, slots=True)
class CustomVersion:
    """What a CustomResourceDefinition says about one of its versions."""

    schema: dict[str, Any] = field(hash=False, compare=False)
    columns: tuple[dict[str, Any], ...] = field(default=(), hash=False, compare=False)
    scale: dict[str, str] | None = field(default=None, hash=False, compare=False)


def _row(
    group_version: str,
    names: str,
    kind: str,
    *,
    cluster: bool = False,
    sub: str = "",
    cat: str = "",
    storage: str = "",
    generation: bool = False,
    verbs: tuple[str, ...] = ALL_VERBS,
) -> Resource:
    group, _, version = group_version.rpartition("/")
    plural, *short = names.split()
    return Resource(
        group=group,
        version=version,
        plural=plural,
        singular=kind.lower(),
        kind=kind,
        short=tuple(short),
        namespaced=not cluster,
        subresources=frozenset(sub.split()),
        storage=storage or qualified(plural, group),
        categories=tuple(cat.split()),
        generation=generation,
        verbs=verbs,
    )


_RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"
_AUTHZ = "authorization.k8s.io/v1"
_AUTHN = "authentication.k8s.io/v1"
_ONLY_CREATE = ("create",)

BUILT_IN: tuple[Resource, ...] = (
    _row("v1", "configmaps cm", "ConfigMap"),
    _row("v1", "endpoints ep", "Endpoints"),
    _row("v1", "events ev", "Event", storage="events"),
    _row("v1", "limitranges limits", "LimitRange"),
    _row("v1", "namespaces ns", "Namespace", cluster=True, sub="status finalize"),
    _row("v1", "nodes no", "Node", cluster=True, sub="status"),
    _row("v1", "persistentvolumeclaims pvc", "PersistentVolumeClaim", sub="status"),
    _row("v1", "persistentvolumes pv", "PersistentVolume", cluster=True, sub="status"),
    _row(
        "v1",
        "pods po",
        "Pod",
        sub="status binding eviction resize ephemeralcontainers",
        cat="all",
        generation=True,
    ),
    _row("v1", "podtemplates", "PodTemplate"),
    _row("v1", "replicationcontrollers rc", "ReplicationController", sub="status scale", cat="all"),
    _row("v1", "resourcequotas quota", "ResourceQuota", sub="status"),
    _row("v1", "secrets", "Secret"),
    _row("v1", "serviceaccounts sa", "ServiceAccount"),
    _row("v1", "services svc", "Service", sub="status", cat="all"),
    _row("apps/v1", "controllerrevisions", "ControllerRevision"),
    _row("apps/v1", "daemonsets ds", "DaemonSet", sub="status", cat="all", generation=True),
    _row(
        "apps/v1",
        "deployments deploy",
        "Deployment",
        sub="status scale",
        cat="all",
        generation=True,
    ),
    _row("apps/v1", "replicasets rs", "ReplicaSet", sub="status scale", cat="all", generation=True),
    _row(
        "apps/v1", "statefulsets sts", "StatefulSet", sub="status scale", cat="all", generation=True
    ),
    _row("batch/v1", "cronjobs cj", "CronJob", sub="status", cat="all", generation=True),
    _row("batch/v1", "jobs", "Job", sub="status", cat="all", generation=True),
    _row(
        "policy/v1",
        "poddisruptionbudgets pdb",
        "PodDisruptionBudget",
        sub="status",
        generation=True,
    ),
    _row("coordination.k8s.io/v1", "leases", "Lease"),
    _row("events.k8s.io/v1", "events ev", "Event", storage="events"),
    _row("storage.k8s.io/v1", "csidrivers", "CSIDriver", cluster=True),
    _row("storage.k8s.io/v1", "csinodes", "CSINode", cluster=True),
    _row("storage.k8s.io/v1", "csistoragecapacities", "CSIStorageCapacity"),
    _row("storage.k8s.io/v1", "storageclasses sc", "StorageClass", cluster=True),
    _row("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", cluster=True, sub="status"),
    _row(
        "scheduling.k8s.io/v1", "priorityclasses pc", "PriorityClass", cluster=True, generation=True
    ),
    _row("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", cluster=True),
    _row("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", generation=True),
    _row("networking.k8s.io/v1", "ingresses ing", "Ingress", sub="status", generation=True),
    _row("networking.k8s.io/v1", "ingressclasses", "IngressClass", cluster=True, generation=True),
    _row("networking.k8s.io/v1", "networkpolicies netpol", "NetworkPolicy", generation=True),
    _row("autoscaling/v2", "horizontalpodautoscalers hpa", "HorizontalPodAutoscaler", sub="status"),
    _row("resource.k8s.io/v1", "deviceclasses", "DeviceClass", cluster=True, generation=True),
    _row("resource.k8s.io/v1", "resourceclaims", "ResourceClaim", sub="status"),
    _row("resource.k8s.io/v1", "resourceclaimtemplates", "ResourceClaimTemplate"),
    _row("resource.k8s.io/v1", "resourceslices", "ResourceSlice", cluster=True, generation=True),
    _row(_RBAC, "clusterrolebindings", "ClusterRoleBinding", cluster=True),
    _row(_RBAC, "clusterroles", "ClusterRole", cluster=True),
    _row(_RBAC, "rolebindings", "RoleBinding"),
    _row(_RBAC, "roles", "Role"),
    _row(
        _ADMISSION,
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        cluster=True,
        generation=True,
    ),
    _row(
        _ADMISSION,
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        cluster=True,
        generation=True,
    ),
    _row(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions crd crds",
        "CustomResourceDefinition",
        cluster=True,
        sub="status",
        cat="api-extensions",
        generation=True,
    ),
    _row(
        _AUTHZ,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        cluster=True,
        verbs=_ONLY_CREATE,
    ),
    _row(_AUTHZ, "subjectaccessreviews", "SubjectAccessReview", cluster=True, verbs=_ONLY_CREATE),
    _row(
        _AUTHZ,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        cluster=True,
        verbs=_ONLY_CREATE,
    ),
    _row(_AUTHN, "selfsubjectreviews", "SelfSubjectReview", cluster=True, verbs=_ONLY_CREATE),
)


class ResourceTable:
    """The rows that are served now; lookups never block, changes replace the maps."""

    def __init__(self, rows: Iterable[Resource] = BUILT_IN) -> None:
        self._rows: dict[tuple[str, str, str], Resource] = {}
        self._kinds: dict[tuple[str, str], Resource] = {}
        self.add(*rows)

    def add(self, *rows: Resource) -> None:
        """Serve *rows*, in place of those with the same group, version and plural."""
        by_path, by_kind = dict(self._rows), dict(self._kinds)
        for row in rows:
            by_path[row.group, row.version, row.plural] = row
            by_kind[row.api_version, row.kind] = row
        self._rows, self._kinds = by_path, by_kind

    def remove_custom(self, storage: str) -> None:
        """Stop serving every version of the custom kind kept in *storage*."""
        keep = [row for row in self if not (row.custom and row.storage == storage)]
        self._rows, self._kinds = {}, {}
        self.add(*keep)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._rows.values())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the row served at that path."""
        return self._rows.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the row of objects that carry *api_version* and *kind*."""
        return self._kinds.get((api_version, kind))

    def named(self, storage: str) -> Resource:
        """Return the first row over *storage*, such as `pods` or `deployments.apps`."""
        for row in self:
            if row.storage == storage:
                return row
        raise KeyError(storage)

    def versions(self, storage: str) -> list[Resource]:
        """Return every row over *storage*."""
        return [row for row in self if row.storage == storage]

    def groups(self) -> dict[str, list[str]]:
        """Return the versions of each group, in order of registration."""
        groups: dict[str, list[str]] = {}
        for row in self:
            versions = groups.setdefault(row.group, [])
            if row.version not in versions:
                versions.append(row.version)
        return groups


def custom_rows(definition: dict[str, Any]) -> list[Resource]:
    """Return the rows that a CustomResourceDefinition asks for, its storage version first."""
    spec = definition["spec"]
    names = spec["names"]
    rows = []
    for version in sorted(spec["versions"], key=lambda one: not one.get("storage")):
        if not version.get("served"):
            continue
        sub = version.get("subresources") or {}
        rows.append(
            Resource(
                group=spec["group"],
                version=version["name"],
                plural=names["plural"],
                singular=names.get("singular") or names["kind"].lower(),
                kind=names["kind"],
                short=tuple(names.get("shortNames") or ()),
                namespaced=spec.get("scope") == "Namespaced",
                subresources=frozenset(sub),
                storage=qualified(names["plural"], spec["group"]),
                categories=tuple(names.get("categories") or ()),
                generation=True,
                custom=CustomVersion(
                    schema=(version.get("schema") or {}).get("openAPIV3Schema") or {},
                    columns=tuple(version.get("additionalPrinterColumns") or ()),
                    scale=sub.get("scale"),
                ),
            )
        )
    return rows
