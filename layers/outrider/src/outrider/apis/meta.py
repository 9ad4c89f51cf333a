"""ObjectMeta, owners and label selectors: what every kind shares.

Decides what a label selector matches, as `metav1.LabelSelectorAsSelector` does: none matches
nothing, an empty one everything. Refuses to know which kinds carry which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

import orjson

from outrider.apis.fields import (
    Json,
    boolean,
    integer,
    join,
    labels,
    mapping,
    objects,
    one_of,
    string,
    strings,
    time,
)
from outrider.errors import InvalidManifest


@dataclass(frozen=True, slots=True)
class Owner:
    """One ownerReference."""

    kind: str
    name: str
    uid: str = ""
    controller: bool = False
    api_version: str = ""
    block_owner_deletion: bool = False


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What every object says of itself."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[Owner, ...] = ()
    generation: int = 0
    resource_version: str = ""

    @property
    def key(self) -> str:
        """Return `namespace/name`, or the name of a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def parse(document: Json, *, namespaced: bool = False) -> ObjectMeta:
    """Return the metadata of *document*; a namespaced kind without one is in `default`."""
    source = mapping(document, "metadata")
    path = "metadata"
    name = string(source, "name", path)
    if not name:
        raise InvalidManifest("is required", path="metadata.name")
    return ObjectMeta(
        name=name,
        namespace=(string(source, "namespace", path) or "default") if namespaced else "",
        uid=string(source, "uid", path),
        labels=labels(source, "labels", path),
        annotations=labels(source, "annotations", path),
        creation_timestamp=time(source, "creationTimestamp", path),
        deletion_timestamp=time(source, "deletionTimestamp", path),
        finalizers=strings(source, "finalizers", path),
        owner_references=owners(source, path),
        generation=integer(source, "generation", path),
        resource_version=string(source, "resourceVersion", path),
    )


def owners(source: Json, path: str = "metadata") -> tuple[Owner, ...]:
    """Return the ownerReferences in metadata *source*."""
    if not source.get("ownerReferences"):
        return ()
    where = join(path, "ownerReferences")
    return tuple(
        Owner(
            kind=string(item, "kind", where),
            name=string(item, "name", where),
            uid=string(item, "uid", where),
            controller=boolean(item, "controller", where),
            api_version=string(item, "apiVersion", where),
            block_owner_deletion=boolean(item, "blockOwnerDeletion", where),
        )
        for item in objects(source, "ownerReferences", path)
    )


IN, NOT_IN, EXISTS, DOES_NOT_EXIST = "In", "NotIn", "Exists", "DoesNotExist"
GT, LT, GTE, LTE = "Gt", "Lt", "Gte", "Lte"

_SELECTOR_OPERATORS = frozenset({IN, NOT_IN, EXISTS, DOES_NOT_EXIST})


@dataclass(frozen=True, slots=True)
class Expression:
    """One line of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, found: Mapping[str, str]) -> bool:
        """Return whether the labels *found* satisfy the line."""
        value = found.get(self.key)
        if self.operator == EXISTS:
            return value is not None
        if self.operator == DOES_NOT_EXIST:
            return value is None
        if self.operator == IN:
            return value is not None and value in self.values
        return value is None or value not in self.values


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A label selector: every line must hold; one without lines matches everything."""

    expressions: tuple[Expression, ...] = ()

    def matches(self, found: Mapping[str, str]) -> bool:
        """Return whether the labels *found* are selected."""
        return all(expression.matches(found) for expression in self.expressions)

    def also(self, *more: Expression) -> LabelSelector:
        """Return the selector with *more* lines."""
        return LabelSelector(self.expressions + more) if more else self


EVERYTHING = LabelSelector()


def selector(source: Json, name: str, path: str = "") -> LabelSelector | None:
    """Return the label selector under *name*; None where it is absent, which selects nothing."""
    value = source.get(name)
    if value is None:
        return None
    body = mapping(source, name, path)
    where = join(path, name)
    return _selector(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), where)


@lru_cache(maxsize=4096)
def _selector(text: bytes, where: str) -> LabelSelector:
    body: Json = orjson.loads(text)
    lines = [
        Expression(key, IN, (value,)) for key, value in labels(body, "matchLabels", where).items()
    ]
    path = join(where, "matchExpressions")
    for item in objects(body, "matchExpressions", where):
        operator = one_of(item, "operator", _SELECTOR_OPERATORS, path)
        values = strings(item, "values", path)
        if not operator:
            raise InvalidManifest("is required", path=join(path, "operator"))
        if (operator in {IN, NOT_IN}) != bool(values):
            raise InvalidManifest(f"does not go with {operator}", path=join(path, "values"))
        lines.append(Expression(string(item, "key", path), operator, tuple(sorted(values))))
    return LabelSelector(
        tuple(sorted(lines, key=lambda line: (line.key, line.operator, line.values)))
    )
