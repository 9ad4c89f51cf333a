"""One document in, one object out: the door through which every manifest comes.

Decides by group and kind which parser reads a document, and names the object in every error. A kind
that is not read gives None. Refuses to read files: the command line and the cluster reader do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from outrider.apis.fields import Json
from outrider.errors import InvalidManifest

KINDS: dict[tuple[str, str], tuple[str, str]] = {
    ("", "Pod"): ("pod", "parse"),
    ("", "Node"): ("node", "parse"),
    ("", "PodTemplate"): ("workload", "parse_pod_template"),
    ("", "Namespace"): ("policy", "parse_namespace"),
    ("", "PersistentVolumeClaim"): ("storage", "parse_claim"),
    ("", "PersistentVolume"): ("storage", "parse_volume"),
    ("scheduling.k8s.io", "PriorityClass"): ("policy", "parse_priority_class"),
    ("scheduling.k8s.io", "Workload"): ("gang", "parse_workload"),
    ("scheduling.k8s.io", "PodGroup"): ("gang", "parse_pod_group"),
    ("scheduling.x-k8s.io", "PodGroup"): ("gang", "parse_pod_group"),
    ("node.k8s.io", "RuntimeClass"): ("policy", "parse_runtime_class"),
    ("apps", "DaemonSet"): ("workload", "parse_daemon_set"),
    ("apps", "Deployment"): ("workload", "parse_workload"),
    ("apps", "StatefulSet"): ("workload", "parse_workload"),
    ("apps", "ReplicaSet"): ("workload", "parse_workload"),
    ("batch", "Job"): ("workload", "parse_workload"),
    ("policy", "PodDisruptionBudget"): ("policy", "parse_budget"),
    ("storage.k8s.io", "StorageClass"): ("storage", "parse_class"),
    ("storage.k8s.io", "CSINode"): ("storage", "parse_csi_node"),
    ("storage.k8s.io", "VolumeAttachment"): ("storage", "parse_attachment"),
    ("resource.k8s.io", "ResourceClaim"): ("devices", "parse_claim"),
    ("resource.k8s.io", "ResourceClaimTemplate"): ("devices", "parse_template"),
    ("resource.k8s.io", "ResourceSlice"): ("devices", "parse_slice"),
    ("resource.k8s.io", "DeviceClass"): ("devices", "parse_class"),
    ("karpenter.sh", "NodePool"): ("nodepool", "parse"),
    ("karpenter.sh", "NodeClaim"): ("nodeclaim", "parse"),
    ("karpenter.sh", "NodeOverlay"): ("overlay", "parse"),
    ("karpenter.k8s.aws", "EC2NodeClass"): ("nodeclass", "parse"),
    ("jobset.x-k8s.io", "JobSet"): ("gang", "parse_job_set"),
    ("kueue.x-k8s.io", "Workload"): ("gang", "parse_queued"),
    ("autoscaling.x-k8s.io", "CapacityBuffer"): ("buffer", "parse"),
}
"""(API group, kind) -> the module of `outrider.apis` and the function in it."""

_parsers: dict[tuple[str, str], Callable[[Json], object]] = {}


def parse(document: Json) -> object | None:
    """Return the object in *document*; None for a kind that is not read.

    Raises InvalidManifest with the object's name and the field's path. A scheduling.k8s.io Workload
    gives a tuple of pod groups.
    """
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        raise InvalidManifest("is required", path="kind", thing=name(document))
    if not isinstance(version, str) or not version:
        raise InvalidManifest("is required", path="apiVersion", thing=name(document))
    group = version.rpartition("/")[0]
    parser = _parsers.get((group, kind)) or _load(group, kind)
    if parser is None:
        return None
    try:
        return parser(document)
    except InvalidManifest as error:
        raise error.of(thing=name(document)) from None
    except (AttributeError, TypeError, RecursionError) as error:
        raise InvalidManifest(f"is malformed ({error})", thing=name(document)) from error


def _load(group: str, kind: str) -> Callable[[Json], object] | None:
    place = KINDS.get((group, kind))
    if place is None:
        return None
    module, function = place
    parser: Callable[[Json], object] = getattr(import_module(f"outrider.apis.{module}"), function)
    _parsers[group, kind] = parser
    return parser


def name(document: Json) -> str:
    """Return what errors call the object in *document*: its kind, namespace and name."""
    metadata = document.get("metadata")
    fields = metadata if isinstance(metadata, dict) else {}
    called = "/".join(
        str(part)[:253] for part in (fields.get("namespace"), fields.get("name")) if part
    )
    return f"{str(document.get('kind') or 'object')[:63]} {called}".strip()
