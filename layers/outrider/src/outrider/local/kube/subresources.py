"""Subresources with a body of their own: binding, scale, and the reviews that only answer.

Matches kube-apiserver: a binding sets the node and PodScheduled=True once, 409 on a second one;
Scale maps onto spec.replicas (or a CRD's own paths); access reviews ask RBAC.
"""

from __future__ import annotations

from typing import Any

from outrider.local.kube.api import API
from outrider.local.kube.calls import Call
from outrider.local.kube.objects import Key, Obj, User, is_leaving, with_condition
from outrider.local.kube.rbac import Attributes
from outrider.local.kube.resources import Resource
from outrider.local.kube.selectors import text_of
from outrider.local.kube.status import bad_request, conflict


def bind(api: API, key: Key, body: Obj, call: Call) -> Obj:
    """Bind the pod at *key* to the node that the Binding *body* targets."""
    node = (body.get("target") or {}).get("name")
    if not node:
        raise bad_request("Binding.target.name is required")
    pods = api.resource("pods")
    found = api.entry(pods, key)
    uid = (body.get("metadata") or {}).get("uid")

    def bound(pod: Obj) -> Obj:
        why = _cannot_bind(pod, uid)
        if why:
            raise conflict("pods/binding", "", key[1], why)
        condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None}
        status = dict(pod.get("status") or {})
        status["conditions"] = with_condition(status.get("conditions"), condition, api.now())
        status.pop("nominatedNodeName", None)
        return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status}

    while True:
        changed = bound(found.object)
        entry = api.write_whole(pods, found, changed, call)
        if entry is not None:
            break
        found = api.entry(pods, key)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _cannot_bind(pod: Obj, uid: str | None) -> str:
    meta, spec = pod["metadata"], pod["spec"]
    if uid and uid != meta["uid"]:
        return f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
    if is_leaving(pod):
        return f"pod {meta['name']} is being deleted, cannot be assigned to a host"
    if spec.get("nodeName"):
        return f'pod {meta["name"]} is already assigned to node "{spec["nodeName"]}"'
    if spec.get("schedulingGates"):
        return f"pod {meta['name']} has non-empty .spec.schedulingGates"
    return ""


def read_scale(resource: Resource, obj: Obj) -> Obj:
    """Return the Scale of *obj*."""
    paths = (resource.custom and resource.custom.scale) or {}
    replicas = _at(obj, paths.get("specReplicasPath", ".spec.replicas"))
    current = _at(obj, paths.get("statusReplicasPath", ".status.replicas"))
    if paths:
        selector = _at(obj, paths["labelSelectorPath"]) if "labelSelectorPath" in paths else ""
    else:
        selector = text_of((obj.get("spec") or {}).get("selector") or {})
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": {"replicas": replicas or 0},
        "status": {"replicas": current or 0, "selector": selector or ""},
    }


def with_scale(resource: Resource, obj: Obj, scale: Obj) -> Obj:
    """Return *obj* scaled as *scale* says."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise bad_request("spec.replicas must be an integer of at least 0")
    paths = (resource.custom and resource.custom.scale) or {}
    steps = paths.get("specReplicasPath", ".spec.replicas").strip(".").split(".")
    return _with(obj, steps, replicas)


def _at(obj: Obj, path: str) -> Any:
    here: Any = obj
    for step in path.strip(".").split("."):
        here = here.get(step) if isinstance(here, dict) else None
    return here


def _with(obj: Obj, steps: list[str], value: Any) -> Obj:
    if len(steps) == 1:
        return {**obj, steps[0]: value}
    return {**obj, steps[0]: _with(obj.get(steps[0]) or {}, steps[1:], value)}


def review(api: API, resource: Resource, body: Obj, user: User) -> Obj:
    """Answer an access review or a question about oneself."""
    spec = body.get("spec") or {}
    if resource.kind == "SelfSubjectReview":
        status: Obj = {"userInfo": {"username": user.name, "groups": list(user.groups)}}
    elif resource.kind == "SelfSubjectRulesReview":
        status = _rules(api, user, spec.get("namespace", ""))
    else:
        asked = user
        if resource.kind == "SubjectAccessReview":
            asked = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
        allowed = _allowed(api, asked, spec)
        status = {"allowed": allowed}
        if not allowed:
            status["reason"] = "no RBAC policy matched"
    meta = {"creationTimestamp": api.now()}
    return {
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": meta,
        "spec": spec,
        "status": status,
    }


def _allowed(api: API, user: User, spec: Obj) -> bool:
    path = spec.get("nonResourceAttributes")
    if path:
        return api.authoriser.allows_path(user, path.get("path", ""), path.get("verb", ""))
    wanted = spec.get("resourceAttributes") or {}
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    return api.authoriser.allows(user, Attributes(**{name: wanted.get(name, "") for name in names}))


def _rules(api: API, user: User, namespace: str) -> Obj:
    resource_rules, path_rules = [], []
    if "system:masters" in user.groups:
        resource_rules.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        path_rules.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
    for grant in api.authoriser.grants(user):
        if grant.namespace in {"", namespace}:
            listed = path_rules if grant.rule.get("nonResourceURLs") else resource_rules
            listed.append(grant.rule)
    return {"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": False}
