"""Validation of the built-in kinds, as far as clients meet it, in kube-apiserver's words.

Names and labels of everything; containers, quantities and immutable fields of pods; selectors of
workloads; the two ways of a PodDisruptionBudget; taints. Custom objects are validated by `schema`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from outrider.local.kube.objects import Obj
from outrider.local.kube.quantities import amount
from outrider.local.kube.selectors import structured
from outrider.local.kube.status import Cause, StatusError

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_SUBDOMAIN_SAYS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
    "or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex "
    "used for validation is ''[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_LABEL_KEY = re.compile(
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)
_FREE_NAMES = frozenset(
    {
        "roles.rbac.authorization.k8s.io",
        "rolebindings.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
    }
)
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_WORKLOADS = frozenset(
    {"deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps"}
)


def problems(obj: Obj, storage: str, old: Obj | None, before: Obj | None = None) -> Iterator[Cause]:
    """Yield what is wrong with *obj*; *old* is the object that it replaces, *before* the one whose
    status it replaces.
    """
    yield from _metadata(obj["metadata"], storage)
    if storage == "pods":
        yield from _pod_spec(obj.get("spec") or {}, "spec")
        if old is not None:
            yield from _pod_update(old["spec"], obj["spec"])
        if before is not None:
            yield from _nomination(before, obj)
    elif storage in _WORKLOADS or storage == "jobs.batch":
        yield from _workload(obj, storage, old)
    elif storage == "nodes":
        yield from _taints((obj.get("spec") or {}).get("taints") or ())
    elif storage == "poddisruptionbudgets.policy":
        spec = obj.get("spec") or {}
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            message = "Invalid value: minAvailable and maxUnavailable cannot be both set"
            yield "spec", "FieldValueInvalid", message


def _metadata(meta: Obj, storage: str) -> Iterator[Cause]:
    name = meta.get("name") or ""
    if storage not in _FREE_NAMES and (len(name) > 253 or not _SUBDOMAIN.match(name)):
        yield "metadata.name", "FieldValueInvalid", f'Invalid value: "{name}": {_SUBDOMAIN_SAYS}'
    for key, value in (meta.get("labels") or {}).items():
        if not _LABEL_KEY.match(key):
            yield (
                "metadata.labels",
                "FieldValueInvalid",
                f'Invalid value: "{key}": name part is invalid',
            )
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.match(value):
            message = (
                f'Invalid value: "{value}": a valid label must be an empty string or consist of '
            )
            message += "alphanumeric characters, '-', '_' or '.', at most 63 of them"
            yield "metadata.labels", "FieldValueInvalid", message
    for key, value in (meta.get("annotations") or {}).items():
        if not isinstance(value, str):
            yield f"metadata.annotations[{key}]", "FieldValueInvalid", "Invalid value: not a string"


def _pod_spec(spec: Obj, path: str) -> Iterator[Cause]:
    containers = spec.get("containers")
    if not containers:
        yield f"{path}.containers", "FieldValueRequired", "Required value"
        return
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for place, container in enumerate(spec.get(field) or ()):
            yield from _container(container, f"{path}.{field}[{place}]", seen)
    if spec.get("restartPolicy") not in {"Always", "OnFailure", "Never"}:
        message = f'Unsupported value: "{spec.get("restartPolicy")}"'
        message += ': supported values: "Always", "OnFailure", "Never"'
        yield f"{path}.restartPolicy", "FieldValueNotSupported", message
    for place, one in enumerate(spec.get("tolerations") or ()):
        if one.get("operator", "Equal") not in {"Equal", "Exists", "Lt", "Gt"}:
            message = f'Unsupported value: "{one.get("operator")}"'
            yield f"{path}.tolerations[{place}].operator", "FieldValueNotSupported", message
        if not one.get("key") and one.get("operator", "Equal") != "Exists":
            message = 'Invalid value: "Equal": operator must be Exists when `key` is empty'
            yield f"{path}.tolerations[{place}].operator", "FieldValueInvalid", message


def _container(container: Obj, path: str, seen: set[str]) -> Iterator[Cause]:
    name = container.get("name")
    if not name:
        yield f"{path}.name", "FieldValueRequired", "Required value"
    elif name in seen:
        yield f"{path}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'
    seen.add(name or "")
    if not container.get("image"):
        yield f"{path}.image", "FieldValueRequired", "Required value"
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, listed in (("limits", limits), ("requests", requests)):
        for resource, quantity in listed.items():
            if _amount(resource, quantity) is None:
                message = (
                    f'Invalid value: "{quantity}": quantities must match the regular expression'
                )
                yield f"{path}.resources.{kind}[{resource}]", "FieldValueInvalid", message
    for resource, quantity in requests.items():
        asked, most = _amount(resource, quantity), _amount(resource, limits.get(resource, quantity))
        if asked is None or most is None:
            continue
        extended = "/" in resource and not resource.startswith("kubernetes.io/")
        if asked > most or (extended and (asked != most or resource not in limits)):
            what = "must be equal to" if extended else "must be less than or equal to"
            message = f'Invalid value: "{quantity}": {what} {resource} limit'
            yield f"{path}.resources.requests", "FieldValueInvalid", message


def _amount(resource: str, quantity: Any) -> int | None:
    try:
        return amount(resource, quantity)
    except ValueError:
        return None


def _pod_update(old: Obj, new: Obj) -> Iterator[Cause]:
    gated = bool(old.get("schedulingGates"))
    kept = all(one in new.get("tolerations", ()) for one in old.get("tolerations", ()))
    if kept and _frozen(old, gated=gated) == _frozen(new, gated=gated):
        return
    message = (
        "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
        "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be "
        "set to 1 if it was previously negative)"
    )
    yield "spec", "FieldValueForbidden", message


def _nomination(old: Obj, new: Obj) -> Iterator[Cause]:
    """Yield what is wrong with a node that is promised to a pod: a bound pod needs no promise."""
    promised = (new.get("status") or {}).get("nominatedNodeName")
    had = (old.get("status") or {}).get("nominatedNodeName")
    if promised and promised != had and new["spec"].get("nodeName"):
        message = "Forbidden: may not be set on pods that are already bound to a node"
        yield "status.nominatedNodeName", "FieldValueForbidden", message


def _frozen(spec: Obj, *, gated: bool) -> Obj:
    free = {"activeDeadlineSeconds", "tolerations", "schedulingGates"}
    if gated:
        free |= {"nodeSelector", "affinity"}
    rest = {name: value for name, value in spec.items() if name not in free}
    for field in ("containers", "initContainers"):
        rest[field] = [
            {
                name: value
                for name, value in container.items()
                if name not in {"image", "imagePullPolicy"}
            }
            for container in spec.get(field) or ()
        ]
    return rest


def _workload(obj: Obj, storage: str, old: Obj | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _pod_spec(spec.get("template", {}).get("spec") or {}, "spec.template.spec")
    replicas = spec.get("replicas", 0)
    if isinstance(replicas, int) and replicas < 0:
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        yield "spec.replicas", "FieldValueInvalid", message
    if storage == "jobs.batch":
        if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
            yield (
                "spec.completions",
                "FieldValueRequired",
                "Required value: when completion mode is Indexed",
            )
        return
    selector = spec.get("selector")
    if not selector:
        yield "spec.selector", "FieldValueRequired", "Required value"
        return
    if old is not None and old["spec"].get("selector") != selector:
        yield "spec.selector", "FieldValueInvalid", "Invalid value: field is immutable"
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not structured(selector)(labels):
        message = "Invalid value: `selector` does not match template `labels`"
        yield "spec.template.metadata.labels", "FieldValueInvalid", message


def _taints(taints: Any) -> Iterator[Cause]:
    seen = set()
    for place, taint in enumerate(taints):
        path = f"metadata.taints[{place}]"
        if not taint.get("key"):
            yield f"{path}.key", "FieldValueRequired", "Required value"
        if taint.get("effect") not in _EFFECTS:
            listed = ", ".join(f'"{effect}"' for effect in _EFFECTS)
            message = f'Unsupported value: "{taint.get("effect")}": supported values: {listed}'
            yield f"{path}.effect", "FieldValueNotSupported", message
        name = taint.get("key"), taint.get("effect")
        if name in seen:
            yield (
                path,
                "FieldValueDuplicate",
                "Duplicate value: taints must be unique by key and effect pair",
            )
        seen.add(name)


def body_is_object(body: Any) -> Obj:
    """Return *body* when it is an object with a metadata map, else refuse it."""
    if not isinstance(body, dict):
        raise StatusError(
            400, "BadRequest", "the object provided is unrecognized (must be of type Object)"
        )
    meta = body.get("metadata")
    if meta is None:
        body["metadata"] = {}
    elif not isinstance(meta, Mapping):
        raise StatusError(400, "BadRequest", "metadata must be an object")
    return body
