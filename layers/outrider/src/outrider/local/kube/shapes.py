"""How lists and maps merge: the merge keys that the core types declare, and those of CRD schemas.

Two tables, because Kubernetes has two: strategic merge patch (`patchMergeKey`) and server-side
apply (`listMapKeys`, `listType`, `mapType`). They agree but for ports and spread constraints. What
is not listed is atomic: replaced whole, as Node taints and Pod tolerations are. Refuses to know
values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

ListKind = Literal["map", "set", "atomic"]

# By (the field that holds the list's owner, the list's field), or by the list's field alone.
_MERGED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "conditions"): ("type",),
    ("", "containers"): ("name",),
    ("", "initContainers"): ("name",),
    ("", "ephemeralContainers"): ("name",),
    ("", "env"): ("name",),
    ("", "volumeMounts"): ("mountPath",),
    ("", "volumeDevices"): ("devicePath",),
    ("", "volumes"): ("name",),
    ("", "imagePullSecrets"): ("name",),
    ("", "secrets"): ("name",),
    ("", "hostAliases"): ("ip",),
    ("", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("", "ownerReferences"): ("uid",),
    ("", "schedulingGates"): ("name",),
    ("", "resourceClaims"): ("name",),
    ("", "claims"): ("name",),
    ("", "webhooks"): ("name",),
    ("", "matchConditions"): ("name",),
    ("", "drivers"): ("name",),
    ("status", "addresses"): ("type",),
    ("status", "podIPs"): ("ip",),
    ("status", "hostIPs"): ("ip",),
    ("spec", "ports"): ("port", "protocol"),
    ("containers", "ports"): ("containerPort", "protocol"),
    ("initContainers", "ports"): ("containerPort", "protocol"),
    ("ephemeralContainers", "ports"): ("containerPort", "protocol"),
}
_PATCH_KEY = {"topologySpreadConstraints": "topologyKey"}
_SETS = frozenset({"finalizers", "podCIDRs"})
_ATOMIC_MAPS = frozenset(
    {
        "selector",
        "labelSelector",
        "namespaceSelector",
        "objectSelector",
        "required",
        "involvedObject",
        "regarding",
        "related",
        "secretRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fieldRef",
        "resourceFieldRef",
        "scopeSelector",
    }
)
KEY_DEFAULTS: Mapping[str, Any] = {"protocol": "TCP"}


class Shape(Protocol):
    """What is known of one place in an object."""

    def field(self, name: str) -> Shape:
        """Return the shape of the field *name* of a map."""

    def item(self) -> Shape:
        """Return the shape of the items of a list."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys that tell items of an associative list apart."""

    @property
    def list_kind(self) -> ListKind:
        """Return how a list here merges."""

    @property
    def atomic_map(self) -> bool:
        """Tell whether a map here is owned and replaced whole."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A place in a built-in kind, known by the names of the two fields that lead to it."""

    parent: str = ""
    name: str = ""

    def field(self, name: str) -> Typed:
        """Return the shape of the field *name*."""
        return Typed(self.name, name)

    def item(self) -> Typed:
        """Return the shape of the items: their fields see the list's own name as parent."""
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the list's merge keys under server-side apply."""
        return _MERGED.get((self.parent, self.name)) or _MERGED.get(("", self.name)) or ()

    @property
    def list_kind(self) -> ListKind:
        """Return how a list here merges."""
        if self.keys:
            return "map"
        return "set" if self.name in _SETS else "atomic"

    @property
    def atomic_map(self) -> bool:
        """Tell whether a map here is replaced whole."""
        return self.name in _ATOMIC_MAPS or (
            self.name.startswith("requiredDuring") and self.parent == "nodeAffinity"
        )

    @property
    def patch_key(self) -> str:
        """Return the list's merge key under strategic merge patch, "" where it is replaced."""
        keys = self.keys
        return _PATCH_KEY.get(self.name, keys[0]) if keys else ""


@dataclass(frozen=True, slots=True, eq=False)
class Structural:
    """A place in a custom object, known by its node of the CRD's structural schema."""

    schema: Mapping[str, Any]
    root: bool = False

    def field(self, name: str) -> Shape:
        """Return the shape of the field *name*."""
        if self.root and name == "metadata":
            return Typed("", "metadata")
        properties = self.schema.get("properties") or {}
        found = properties.get(name, self.schema.get("additionalProperties"))
        return Structural(found if isinstance(found, Mapping) else {})

    def item(self) -> Structural:
        """Return the shape of the items."""
        return Structural(self.schema.get("items") or {})

    @property
    def keys(self) -> tuple[str, ...]:
        """Return `x-kubernetes-list-map-keys`."""
        if self.schema.get("x-kubernetes-list-type") != "map":
            return ()
        return tuple(self.schema.get("x-kubernetes-list-map-keys") or ())

    @property
    def list_kind(self) -> ListKind:
        """Return `x-kubernetes-list-type`."""
        kind: ListKind = self.schema.get("x-kubernetes-list-type") or "atomic"
        return kind

    @property
    def atomic_map(self) -> bool:
        """Return whether `x-kubernetes-map-type` is atomic."""
        return self.schema.get("x-kubernetes-map-type") == "atomic"
