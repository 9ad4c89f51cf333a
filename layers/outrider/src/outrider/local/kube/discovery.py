"""Discovery: what is served, told to clients; and as much OpenAPI as kubectl asks before it writes.

kubectl reads groups and resources, and looks in OpenAPI v3 for one thing: whether a kind's PATCH
takes `fieldValidation`, in which case the server validates. The documents say so for every kind,
and carry the schemas of custom kinds so that `kubectl explain` has an answer.
"""

from __future__ import annotations

from typing import Any

from outrider.local.kube.objects import Obj
from outrider.local.kube.resources import Resource, ResourceTable

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.3-eks-outrider",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.26",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_SUBRESOURCES: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    # subresource: kind ("" for the parent's), verbs, group, version
    "status": ("", ("get", "patch", "update"), "", ""),
    "scale": ("Scale", ("get", "patch", "update"), "autoscaling", "v1"),
    "binding": ("Binding", ("create",), "", "v1"),
    "eviction": ("Eviction", ("create",), "policy", "v1"),
    "resize": ("", ("get", "patch", "update"), "", ""),
    "ephemeralcontainers": ("", ("get", "patch", "update"), "", ""),
    "finalize": ("", ("update",), "", ""),
}


def versions(address: str) -> Obj:
    """Return APIVersions: the legacy group."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def groups(table: ResourceTable) -> Obj:
    """Return APIGroupList: every group but the legacy one."""
    found = [_group(name, versions) for name, versions in table.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(table: ResourceTable, name: str) -> Obj | None:
    """Return APIGroup of *name*, None where it is not served."""
    versions = table.groups().get(name)
    if not versions or not name:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: list[str]) -> Obj:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(table: ResourceTable, group: str, version: str) -> Obj | None:
    """Return APIResourceList of a group's version, None where it is not served."""
    rows = [row for row in table if row.group == group and row.version == version]
    if not rows:
        return None
    listed: list[Obj] = []
    for row in rows:
        listed.append(_resource(row))
        listed.extend(
            _subresource(row, name) for name in sorted(row.subresources) if name in _SUBRESOURCES
        )
    group_version = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": listed,
    }


def _resource(row: Resource) -> Obj:
    entry: Obj = {
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    if row.short:
        entry["shortNames"] = list(row.short)
    if row.categories:
        entry["categories"] = list(row.categories)
    return entry


def _subresource(row: Resource, name: str) -> Obj:
    kind, verbs, group, version = _SUBRESOURCES[name]
    entry: Obj = {
        "name": f"{row.plural}/{name}",
        "singularName": "",
        "namespaced": row.namespaced,
        "kind": kind or row.kind,
        "verbs": list(verbs),
    }
    if version:
        entry["version"] = version
    if group:
        entry["group"] = group
    return entry


def openapi_index(table: ResourceTable) -> Obj:
    """Return the index of OpenAPI v3 documents."""
    paths = {
        _base(group, version) for group, versions in table.groups().items() for version in versions
    }
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in sorted(paths)}}


def _base(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def openapi(table: ResourceTable, path: str) -> Obj | None:
    """Return the OpenAPI v3 document of one group's version, None where it is not served."""
    rows = [row for row in table if _base(row.group, row.version) == path]
    if not rows:
        return None
    paths: Obj = {}
    schemas: Obj = {}
    for row in rows:
        where = (
            f"/{path}/namespaces/{{namespace}}/{row.plural}"
            if row.namespaced
            else f"/{path}/{row.plural}"
        )
        kind = {"group": row.group, "version": row.version, "kind": row.kind}
        paths[f"{where}/{{name}}"] = {"patch": _operation(kind)}
        if row.custom is not None:
            name = f"{'.'.join(reversed(row.group.split('.')))}.{row.version}.{row.kind}"
            schemas[name] = {**row.custom.schema, "x-kubernetes-group-version-kind": [kind]}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(kind: Obj) -> Obj:
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation", "force")
    ]
    return {
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": kind,
    }


def openapi_v2() -> dict[str, Any]:
    """Return an OpenAPI v2 document that promises nothing; v3 is the one to read."""
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {},
        "definitions": {},
    }


# Asked for with an @, answered with a dot: Go takes no @ in a media type.
OPENAPI_V2_MESSAGE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def openapi_v2_message() -> bytes:
    """Return the same as the protocol buffer that kubectl asks for before it applies a List.

    Fields of openapi.v2.Document: 1 swagger, 2 info (1 title, 2 version), 8 paths, 9 definitions.
    """

    def field(number: int, content: bytes) -> bytes:
        return bytes((number << 3 | 2, len(content))) + content

    info = field(1, b"Kubernetes") + field(2, VERSION["gitVersion"].encode())
    return field(1, b"2.0") + field(2, info) + field(8, b"") + field(9, b"")
