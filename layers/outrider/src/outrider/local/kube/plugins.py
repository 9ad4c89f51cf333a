"""Built-in admission: what the API server's own plugins do to a new object.

NamespaceLifecycle, Priority, DefaultTolerationSeconds, RuntimeClass, DefaultStorageClass and pod
scheduling-gate rules. Not kept: LimitRanger, ResourceQuota, ServiceAccount (no token is ever
mounted here) and PodSecurity. Webhooks are in `admission`.
"""

from __future__ import annotations

from outrider.local.kube.objects import Obj, annotations_of, is_leaving
from outrider.local.kube.resources import Resource
from outrider.local.kube.status import forbidden, not_found
from outrider.local.kube.store import Store

_PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"
_STORAGE_CLASSES = "storageclasses.storage.k8s.io"
_RUNTIME_CLASSES = "runtimeclasses.node.k8s.io"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_TOLERATED_SECONDS = 300
_LIVE_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})


def admit_create(store: Store, resource: Resource, obj: Obj) -> None:
    """Complete a new *obj* in place, or refuse it."""
    if resource.namespaced:
        _namespace_lives(store, resource, obj)
    if resource.storage == "pods":
        _priority(store, resource, obj)
        _runtime_class(store, resource, obj)
        _default_tolerations(obj["spec"])
    elif resource.storage == "persistentvolumeclaims":
        _default_storage_class(store, obj)


def admit_update(resource: Resource, old: Obj, new: Obj) -> None:
    """Put back into *new*, in place, what admission chose when a pod was created."""
    if resource.storage != "pods":
        return
    for name in ("priority", "priorityClassName", "preemptionPolicy", "overhead"):
        if name in old["spec"]:
            new["spec"].setdefault(name, old["spec"][name])
    _default_tolerations(new["spec"])


def admit_delete(resource: Resource, name: str) -> None:
    """Refuse to delete what the cluster cannot be without."""
    if resource.storage == "namespaces" and name in _LIVE_NAMESPACES:
        raise forbidden(resource.plural, resource.group, name, "this namespace may not be deleted")


def _namespace_lives(store: Store, resource: Resource, obj: Obj) -> None:
    name = obj["metadata"]["namespace"]
    entry = store.get("namespaces", ("", name))
    if entry is None:
        raise not_found("namespaces", "", name)
    if is_leaving(entry.object):
        why = f"unable to create new content in namespace {name} because it is being terminated"
        refusal = forbidden(resource.plural, resource.group, obj["metadata"].get("name", ""), why)
        refusal.details = {
            **(refusal.details or {}),
            "causes": [
                {"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"}
            ],
        }
        raise refusal


def _priority(store: Store, resource: Resource, pod: Obj) -> None:
    spec = pod["spec"]
    name = spec.get("priorityClassName")
    if name:
        entry = store.get(_PRIORITY_CLASSES, ("", name))
        if entry is None:
            why = f"no PriorityClass with name {name} was found"
            raise forbidden(resource.plural, resource.group, pod["metadata"].get("name", ""), why)
        chosen: Obj | None = entry.object
    else:
        defaults = [one for one in store.objects(_PRIORITY_CLASSES) if one.get("globalDefault")]
        chosen = max(defaults, key=lambda one: int(one["value"]), default=None)
        if chosen is not None:
            spec["priorityClassName"] = chosen["metadata"]["name"]
    spec["priority"] = int(chosen["value"]) if chosen else 0
    policy = (chosen or {}).get("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("preemptionPolicy", policy)


def _runtime_class(store: Store, resource: Resource, pod: Obj) -> None:
    spec = pod["spec"]
    name = spec.get("runtimeClassName")
    if not name:
        return
    entry = store.get(_RUNTIME_CLASSES, ("", name))
    if entry is None:
        why = f'pod rejected: RuntimeClass "{name}" not found'
        raise forbidden(resource.plural, resource.group, pod["metadata"].get("name", ""), why)
    fixed = (entry.object.get("overhead") or {}).get("podFixed")
    if fixed:
        spec["overhead"] = dict(fixed)
    scheduling = entry.object.get("scheduling") or {}
    if scheduling.get("nodeSelector"):
        spec["nodeSelector"] = {**scheduling["nodeSelector"], **(spec.get("nodeSelector") or {})}
    for toleration in scheduling.get("tolerations") or ():
        if toleration not in spec.setdefault("tolerations", []):
            spec["tolerations"].append(toleration)


def _default_tolerations(spec: Obj) -> None:
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        known = any(
            one.get("key") in {key, None, ""} and one.get("effect") in {"NoExecute", None, ""}
            for one in tolerations
        )
        if not known:
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATED_SECONDS,
                }
            )


def _default_storage_class(store: Store, claim: Obj) -> None:
    if claim["spec"].get("storageClassName") is not None:
        return
    for one in store.objects(_STORAGE_CLASSES):
        if annotations_of(one).get(_DEFAULT_CLASS) == "true":
            claim["spec"]["storageClassName"] = one["metadata"]["name"]
            return
