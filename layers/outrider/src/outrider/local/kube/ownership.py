"""Who set which field: `metadata.managedFields`, kept as sets of leaf paths.

A path is a tuple of FieldsV1 steps (`f:spec`, `k:{"name":"a"}`, `v:"x"`, `.` for an item itself).
Objects made from one template have equal sets, so sets are interned: ten thousand pods of a Job
share one. Refuses to know how a conflict is settled; that is `apply`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import orjson

from outrider.local.kube.objects import Obj
from outrider.local.kube.shapes import KEY_DEFAULTS, Shape

Path = tuple[str, ...]
Paths = frozenset[Path]

_UNOWNED = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
                "selfLink",
            )
        ),
    }
)


class FieldSet:
    """An interned set of paths with its FieldsV1 text."""

    __slots__ = ("__weakref__", "json", "paths")

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.json = orjson.dumps(_tree(paths))


_interned: WeakValueDictionary[Paths, FieldSet] = WeakValueDictionary()


def field_set(paths: Iterable[Path]) -> FieldSet:
    """Return the one FieldSet of *paths*."""
    frozen = frozenset(paths)
    found = _interned.get(frozen)
    if found is None:
        found = _interned[frozen] = FieldSet(frozen)
    return found


class Manager(NamedTuple):
    """One entry of managedFields."""

    name: str
    operation: str  # Apply or Update
    api_version: str
    subresource: str
    time: str
    fields: FieldSet

    def same_as(self, other: Manager) -> bool:
        """Tell whether *other* is the same writer: name, operation, version and subresource."""
        return self[:4] == other[:4]


Managers = tuple[Manager, ...]


def _tree(paths: Paths) -> Obj:
    root: Obj = {}
    for path in sorted(paths):
        here = root
        for step in path:
            here = here.setdefault(step, {})
    return root


def _paths_of(tree: Obj, prefix: Path = ()) -> Iterator[Path]:
    for step, below in tree.items():
        if below:
            yield from _paths_of(below, (*prefix, step))
        else:
            yield (*prefix, step)


def item_step(item: Any, keys: tuple[str, ...]) -> str:
    """Return the step that names *item* in an associative list."""
    named = (
        {key: item.get(key, KEY_DEFAULTS.get(key)) for key in keys}
        if isinstance(item, dict)
        else {}
    )
    return "k:" + orjson.dumps(named, option=orjson.OPT_SORT_KEYS).decode()


def value_step(value: Any) -> str:
    """Return the step that names *value* in a set."""
    return "v:" + orjson.dumps(value).decode()


def leaves(value: Any, shape: Shape, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every leaf of *value*."""
    if path in _UNOWNED:
        return
    if isinstance(value, dict) and value and not (path and shape.atomic_map):
        for name, below in value.items():
            yield from leaves(below, shape.field(name), (*path, f"f:{name}"))
    elif isinstance(value, list) and shape.list_kind == "map":
        for item in value:
            here = (*path, item_step(item, shape.keys))
            yield (*here, ".")
            yield from leaves(item, shape.item(), here)
    elif isinstance(value, list) and shape.list_kind == "set":
        yield from ((*path, value_step(item)) for item in value)
    elif path:
        yield path


def changes(old: Any, new: Any, shape: Shape, path: Path = ()) -> tuple[set[Path], set[Path]]:
    """Return the leaf paths that *new* sets otherwise than *old*, and those that it no longer
    has.
    """
    if old == new or path in _UNOWNED:
        return set(), set()
    if isinstance(old, dict) and isinstance(new, dict) and not (path and shape.atomic_map):
        pairs = [
            (old.get(name), new.get(name), shape.field(name), (*path, f"f:{name}"))
            for name in old.keys() | new.keys()
        ]
    elif isinstance(old, list) and isinstance(new, list) and shape.list_kind == "map":
        before = {item_step(item, shape.keys): item for item in old}
        after = {item_step(item, shape.keys): item for item in new}
        pairs = [
            (before.get(step), after.get(step), shape.item(), (*path, step))
            for step in before.keys() | after.keys()
        ]
    else:
        had, has = _all(old, shape, path), _all(new, shape, path)
        whole = {path} if path in had & has else set()
        return (has - had) | whole, had - has
    written: set[Path] = set()
    removed: set[Path] = set()
    for was, now, below, step in pairs:
        if was is None or now is None:
            had, has = _all(was, below, step), _all(now, below, step)
            more, less = has, had
        else:
            more, less = changes(was, now, below, step)
        written |= more
        removed |= less
    return written, removed


def _all(value: Any, shape: Shape, path: Path) -> set[Path]:
    if value is None:
        return set()
    found = set(leaves(value, shape, path))
    if path and path[-1].startswith("k:"):
        found.add((*path, "."))
    return found


def after_update(
    managers: Managers, writer: Manager, old: Obj | None, new: Obj, shape: Shape
) -> Managers:
    """Return the managers after *writer* wrote *new* over *old* by anything but apply."""
    if old is None:
        return (writer._replace(fields=field_set(leaves(new, shape))),)
    written, removed = changes(old, new, shape)
    if not written and not removed:
        return managers
    result = []
    mine = set(written)
    for manager in managers:
        left = manager.fields.paths - removed - written
        if manager.same_as(writer):
            mine |= left
        elif left:
            result.append(_with(manager, left))
    if mine:
        result.append(writer._replace(fields=field_set(mine)))
    return tuple(result)


def _with(manager: Manager, paths: Paths) -> Manager:
    return manager if paths == manager.fields.paths else manager._replace(fields=field_set(paths))


def rendered(managers: Managers, *, plain: bool = False) -> list[Obj]:
    """Return managedFields for an answer's body, or as *plain* objects that a patch can change."""
    result: list[Obj] = []
    for manager in managers:
        fields: Any = (
            orjson.loads(manager.fields.json) if plain else orjson.Fragment(manager.fields.json)
        )
        entry: Obj = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": manager.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        result.append(entry)
    return result


def parsed(entries: Iterable[Obj]) -> Managers:
    """Return the managers that a client wrote into managedFields itself."""
    return tuple(
        Manager(
            entry.get("manager", ""),
            entry.get("operation", "Update"),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
            entry.get("time", ""),
            field_set(_paths_of(entry.get("fieldsV1") or {})),
        )
        for entry in entries
        if entry.get("manager")
    )
