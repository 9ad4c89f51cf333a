"""Server-side apply: merge a manifest into an object by who owns which leaf.

A field that another manager owns with another value is a conflict, unless the caller forces it; a
field that this manager applied before, leaves out now and owns alone is removed. Matches
structured-merge-diff at the level of leaves. Refuses to know about storage and admission.
"""

from __future__ import annotations

from typing import Any

from outrider.local.kube.objects import Obj, clone
from outrider.local.kube.ownership import (
    Manager,
    Managers,
    Path,
    field_set,
    item_step,
    leaves,
    value_step,
)
from outrider.local.kube.shapes import Shape
from outrider.local.kube.status import apply_conflict

_ABSENT: Any = object()


def apply(
    live: Obj, manifest: Obj, shape: Shape, managers: Managers, writer: Manager, *, force: bool
) -> tuple[Obj, Managers]:
    """Return *live* with *manifest* applied by *writer*, and the managers after it."""
    wanted = frozenset(leaves(manifest, shape))
    before = next((one.fields.paths for one in managers if one.same_as(writer)), frozenset())
    others = [one for one in managers if not one.same_as(writer)]
    contested = {
        path
        for path in wanted
        if path[-1] != "." and _at(live, path, shape) != _at(manifest, path, shape)
    }
    conflicts = [
        (one.name, _using(one), _shown(path))
        for one in others
        for path in sorted(contested & one.fields.paths)
    ]
    if conflicts and not force:
        raise apply_conflict(conflicts)
    kept = [
        one._replace(fields=field_set(one.fields.paths - contested))
        for one in others
        if one.fields.paths - contested
    ]
    merged = _merged(clone(live), manifest, shape)
    held = frozenset[Path]().union(*(one.fields.paths for one in kept), wanted)
    for path in sorted(before - held, key=len, reverse=True):
        _drop(merged, path, shape, held)
    mine = writer._replace(fields=field_set(wanted))
    unchanged = merged == live and before == wanted
    return merged, managers if unchanged else (*kept, mine)


def _using(manager: Manager) -> str:
    if manager.operation == "Apply":
        return ""
    part = f' with subresource "{manager.subresource}"' if manager.subresource else ""
    return f"{part} using {manager.api_version}"


def _shown(path: Path) -> str:
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            text += "[" + rest.strip("{}").replace('":', '"=').replace('"', "", 2) + "]"
        elif kind == "v":
            text += f"[={rest}]"
    return text


def _merged(live: Any, wanted: Any, shape: Shape) -> Any:
    if isinstance(live, dict) and isinstance(wanted, dict) and not shape.atomic_map:
        for name, value in wanted.items():
            if value is not None:
                live[name] = _merged(live.get(name), value, shape.field(name))
        return live
    if isinstance(live, list) and isinstance(wanted, list):
        if shape.list_kind == "map":
            return _merged_items(live, wanted, shape)
        if shape.list_kind == "set":
            return live + [item for item in wanted if item not in live]
    return wanted


def _merged_items(live: list[Any], wanted: list[Any], shape: Shape) -> list[Any]:
    places = {item_step(item, shape.keys): place for place, item in enumerate(live)}
    for item in wanted:
        step = item_step(item, shape.keys)
        if step in places:
            live[places[step]] = _merged(live[places[step]], item, shape.item())
        else:
            places[step] = len(live)
            live.append(item)
    return live


def _below(value: Any, step: str, shape: Shape) -> tuple[Any, Shape]:
    kind, _, rest = step.partition(":")
    if kind == "f":
        found = value.get(rest, _ABSENT) if isinstance(value, dict) else _ABSENT
        return found, shape.field(rest)
    items = value if isinstance(value, list) else []
    if kind == "k":
        matching = (item for item in items if item_step(item, shape.keys) == step)
        return next(matching, _ABSENT), shape.item()
    found = any(value_step(item) == step for item in items)
    return (step if found else _ABSENT), shape


def _at(root: Any, path: Path, shape: Shape) -> Any:
    here = root
    for step in path:
        if step == ".":
            return here is not _ABSENT
        here, shape = _below(here, step, shape)
        if here is _ABSENT:
            return _ABSENT
    return here


def _drop(root: Obj, path: Path, shape: Shape, held: frozenset[Path]) -> None:
    """Remove what *path* names, and the maps that become empty by it."""
    if path[-1] == ".":
        path = path[:-1]
        if any(other[: len(path)] == path for other in held):
            return
    trail: list[Any] = [root]
    here_shape = shape
    for step in path[:-1]:
        below, here_shape = _below(trail[-1], step, here_shape)
        if below is _ABSENT:
            return
        trail.append(below)
    _remove_step(trail[-1], path[-1], here_shape)
    for depth in range(len(trail) - 1, 0, -1):
        if trail[depth] or path[depth - 1].startswith("k:"):
            return
        _remove_step(trail[depth - 1], path[depth - 1], shape)


def _remove_step(parent: Any, step: str, shape: Shape) -> None:
    kind, _, rest = step.partition(":")
    if kind == "f" and isinstance(parent, dict):
        parent.pop(rest, None)
    elif kind == "k" and isinstance(parent, list):
        parent[:] = [item for item in parent if item_step(item, shape.keys) != step]
    elif kind == "v" and isinstance(parent, list):
        parent[:] = [item for item in parent if value_step(item) != step]
