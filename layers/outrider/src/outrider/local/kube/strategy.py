"""What a write may touch and when an object may go: the strategies of the built-in kinds.

Status and the other subresources are fenced off from the main object and from each other; identity
never changes; generation counts changes of what is wanted; deletion waits for finalizers, for a
pod's grace and for a namespace's content. All functions are pure but for the object that the caller
owns.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from outrider.local.kube.objects import Obj, is_finished, is_leaving, stamp
from outrider.local.kube.resources import Resource
from outrider.local.kube.status import conflict, invalid

_FIXED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)
_POD_GRACE = 30


def isolated(resource: Resource, subresource: str, old: Obj, new: Obj) -> Obj:
    """Return *new* with everything that *subresource* does not own put back as in *old*."""
    match subresource:
        case "":
            return _without_status(resource, old, new)
        case "status":
            return _only_status(resource, old, new)
        case "finalize":
            return {
                **old,
                "spec": {
                    **old.get("spec", {}),
                    "finalizers": (new.get("spec") or {}).get("finalizers") or [],
                },
            }
        case "resize":
            return {**old, "spec": _resized(old["spec"], new["spec"])}
        case _:
            spec = {
                **old["spec"],
                "ephemeralContainers": new["spec"].get("ephemeralContainers") or [],
            }
            return {**old, "spec": spec}


def _without_status(resource: Resource, old: Obj, new: Obj) -> Obj:
    result = dict(new)
    if "status" in resource.subresources:
        result.pop("status", None)
        if "status" in old:
            result["status"] = old["status"]
    result["metadata"] = dict(new["metadata"])
    return result


def _only_status(resource: Resource, old: Obj, new: Obj) -> Obj:
    result = {name: value for name, value in old.items() if name != "status"}
    if "status" in new:
        result["status"] = new["status"]
    meta = dict(old["metadata"])
    if resource.custom is None:  # the status of a custom object carries no metadata changes
        for name in ("labels", "annotations"):
            if name in new["metadata"]:
                meta[name] = new["metadata"][name]
            else:
                meta.pop(name, None)
    result["metadata"] = meta
    return result


def _resized(old: Obj, new: Obj) -> Obj:
    wanted = {one["name"]: one.get("resources") or {} for one in new.get("containers") or ()}
    containers = [
        {**one, "resources": wanted.get(one["name"], one.get("resources") or {})}
        for one in old["containers"]
    ]
    return {**old, "containers": containers}


def keep_identity(resource: Resource, old: Obj, new: Obj) -> None:
    """Put back, in place, what no write may change; refuse another object under the same name."""
    meta = new["metadata"] = dict(new["metadata"])
    was = old["metadata"]
    if meta.get("uid") and meta["uid"] != was["uid"]:
        why = (
            f"Precondition failed: UID in precondition: {meta['uid']}, "
            f"UID in object meta: {was['uid']}"
        )
        raise conflict(resource.plural, resource.group, was["name"], why)
    meta.pop("managedFields", None)
    meta["name"] = was["name"]
    if "namespace" in was:
        meta["namespace"] = was["namespace"]
    for name in _FIXED:
        if name in was:
            meta[name] = was[name]
        else:
            meta.pop(name, None)
    meta["resourceVersion"] = was["resourceVersion"]
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        if name in meta and not meta[name]:
            del meta[name]
    if is_leaving(old):
        added = set(meta.get("finalizers") or ()) - set(was.get("finalizers") or ())
        if added:
            message = (
                "Forbidden: no new finalizers can be added if the object is being deleted, "
                f"found new finalizers {sorted(added)}"
            )
            cause = ("metadata.finalizers", "FieldValueForbidden", message)
            raise invalid(resource.kind, resource.group, was["name"], [cause])
    _keep_provider_id(resource, old, new)
    if resource.storage == "nodes" and (new.get("spec") or {}).get("taints") == []:
        new["spec"] = {name: value for name, value in new["spec"].items() if name != "taints"}


def _keep_provider_id(resource: Resource, old: Obj, new: Obj) -> None:
    if resource.storage != "nodes":
        return
    was = (old.get("spec") or {}).get("providerID")
    if was and (new.get("spec") or {}).get("providerID") != was:
        message = "Forbidden: node updates may not change spec.providerID once it is set"
        cause = ("spec.providerID", "FieldValueForbidden", message)
        raise invalid(resource.kind, resource.group, old["metadata"]["name"], [cause])


def count_generation(resource: Resource, old: Obj, new: Obj) -> None:
    """Raise the generation of *new*, in place, when anything but metadata and status changed."""
    if "generation" not in old["metadata"]:
        return
    fields = (old.keys() | new.keys()) - {"metadata", "apiVersion"}
    if resource.custom is None or "status" in resource.subresources:
        fields -= {"status"}
    changed = any(old.get(name) != new.get(name) for name in fields)
    new["metadata"]["generation"] = old["metadata"]["generation"] + changed


def is_held(resource: Resource, obj: Obj) -> bool:
    """Tell whether a namespace still has its own finalizer."""
    return resource.storage == "namespaces" and bool((obj.get("spec") or {}).get("finalizers"))


def may_go(resource: Resource, obj: Obj) -> bool:
    """Tell whether an object that is leaving has nothing more to wait for."""
    meta = obj["metadata"]
    if not is_leaving(obj) or meta.get("finalizers") or is_held(resource, obj):
        return False
    return resource.storage != "pods" or not meta.get("deletionGracePeriodSeconds")


def grace_of(resource: Resource, obj: Obj, asked: int | None) -> int:
    """Return for how many seconds the deletion of *obj* waits for its kubelet."""
    if resource.storage != "pods":
        return 0
    if not obj["spec"].get("nodeName") or is_finished(obj):
        return 0
    grace = obj["spec"].get("terminationGracePeriodSeconds", _POD_GRACE) if asked is None else asked
    if is_leaving(obj):
        return min(grace, obj["metadata"].get("deletionGracePeriodSeconds") or 0)
    return max(int(grace), 0)


def finalizers_for(resource: Resource, obj: Obj, propagation: str) -> list[str]:
    """Return the finalizers that a deletion with *propagation* leaves to wait for."""
    finalizers = list(obj["metadata"].get("finalizers") or ())
    extra = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation)
    if (
        extra
        and extra not in finalizers
        and resource.storage not in {"pods", "nodes", "namespaces"}
    ):
        finalizers.append(extra)
    return finalizers


def marked(
    resource: Resource, obj: Obj, finalizers: list[str], grace: int, now: datetime
) -> Obj | None:
    """Return *obj* marked as leaving, or None where it is marked like this already."""
    meta = dict(obj["metadata"])
    was = meta.get("deletionGracePeriodSeconds")
    if (
        is_leaving(obj)
        and was is not None
        and grace >= was
        and meta.get("finalizers", []) == finalizers
    ):
        return None
    meta["deletionTimestamp"] = stamp(now + timedelta(seconds=grace))
    meta["deletionGracePeriodSeconds"] = grace
    if finalizers:
        meta["finalizers"] = finalizers
    if "generation" in meta and not is_leaving(obj):
        meta["generation"] += 1
    result = {**obj, "metadata": meta}
    if resource.storage == "namespaces":
        result["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    return result
