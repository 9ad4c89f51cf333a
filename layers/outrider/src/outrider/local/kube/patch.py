"""The three patches: JSON (RFC 6902), merge (RFC 7396) and strategic merge with its directives.

Every function returns a new tree and leaves its arguments alone. Server-side apply, the fourth, has
a memory and lives in `apply`. Refuses to know what a field means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outrider.local.kube.objects import Obj, clone
from outrider.local.kube.shapes import Typed
from outrider.local.kube.status import StatusError, bad_request

_REJECTED = "the server rejected our request due to an error in our request"


def merge(target: Any, patch: Any) -> Any:
    """Return *target* with a JSON merge *patch* laid over it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic(target: Any, patch: Any, shape: Typed) -> Any:
    """Return *target* with a strategic merge *patch* laid over it, as *shape* says lists merge."""
    if not isinstance(patch, dict):
        return patch
    match patch.get("$patch"):
        case "replace":
            return {name: value for name, value in patch.items() if name != "$patch"}
        case "delete":
            return {}
        case None | "merge":
            pass
        case other:
            raise bad_request(f"unknown patch directive: {other}")
    result = _retained(target, patch.get("$retainKeys"))
    for name, value in patch.items():
        if name.startswith("$"):
            _directive(result, name, value, shape)
        elif value is None:
            result.pop(name, None)
        elif isinstance(value, list):
            merged = _strategic_list(result.get(name), value, shape.field(name))
            result[name] = _ordered(
                merged, patch.get(f"$setElementOrder/{name}"), shape.field(name)
            )
        else:
            result[name] = strategic(result.get(name), value, shape.field(name))
    return result


def _retained(target: Any, only: list[str] | None) -> Obj:
    have = target if isinstance(target, dict) else {}
    return {name: value for name, value in have.items() if not only or name in only}


def _directive(result: Obj, name: str, value: Any, shape: Typed) -> None:
    directive, _, field = name.partition("/")
    if directive == "$deleteFromPrimitiveList":
        result[field] = [item for item in result.get(field) or () if item not in value]
    elif directive == "$setElementOrder" and field in result and isinstance(result[field], list):
        result[field] = _ordered(result[field], value, shape.field(field))
    elif directive not in {"$patch", "$retainKeys", "$setElementOrder"}:
        raise bad_request(f"unknown patch directive: {name}")


def _strategic_list(target: Any, patch: list[Any], shape: Typed) -> list[Any]:
    have = list(target) if isinstance(target, list) else []
    if shape.list_kind == "set":
        return have + [item for item in patch if item not in have]
    key = shape.patch_key
    if not key:
        return patch
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        places = [place for place, old in enumerate(have) if old.get(key) == item[key]]
        if item.get("$patch") == "delete":
            have = [old for old in have if old.get(key) != item[key]]
        elif places:
            have[places[0]] = strategic(have[places[0]], item, shape.item())
        else:
            have.append(strategic({}, item, shape.item()))
    return have


def _ordered(items: list[Any], order: list[Any] | None, shape: Typed) -> list[Any]:
    if not order:
        return items
    key = shape.patch_key
    wanted = [entry.get(key) if isinstance(entry, dict) else entry for entry in order]

    def place(item: Any) -> int:
        name = item.get(key) if isinstance(item, dict) else item
        return wanted.index(name) if name in wanted else len(wanted)

    return sorted(items, key=place)


def json_patch(target: Obj, operations: Any) -> Obj:
    """Return *target* after the RFC 6902 *operations*; one that does not hold refuses all of
    them.
    """
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    root: Any = clone(target)
    for operation in operations:
        if not isinstance(operation, dict) or operation.get("op") not in _OPERATIONS:
            raise bad_request(f"unknown JSON patch operation: {operation}")
        try:
            root = _OPERATIONS[operation["op"]](root, operation)
        except (KeyError, IndexError, TypeError, ValueError) as cause:
            raise StatusError(422, "Invalid", _REJECTED) from cause
    if not isinstance(root, dict):
        raise StatusError(422, "Invalid", _REJECTED)
    return root


def _steps(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise ValueError(pointer)
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _walk(root: Any, steps: list[str]) -> Any:
    for step in steps:
        root = root[int(step)] if isinstance(root, list) else root[step]
    return root


def _insert(root: Any, pointer: str, value: Any, *, must_exist: bool = False) -> Any:
    steps = _steps(pointer)
    if not steps:
        return value
    parent, last = _walk(root, steps[:-1]), steps[-1]
    if isinstance(parent, list):
        place = len(parent) if last == "-" else int(last)
        if not 0 <= place <= len(parent) - must_exist:
            raise IndexError(pointer)
        parent[place : place + must_exist] = [value]
    else:
        if must_exist and last not in parent:
            raise KeyError(pointer)
        parent[last] = value
    return root


def _remove(root: Any, pointer: str) -> Any:
    steps = _steps(pointer)
    parent, last = _walk(root, steps[:-1]), steps[-1]
    del parent[int(last) if isinstance(parent, list) else last]
    return root


def _test(root: Any, operation: Obj) -> Any:
    try:
        found = _walk(root, _steps(operation["path"]))
    except (KeyError, IndexError):
        found = None
    if found != operation.get("value"):
        raise ValueError(operation["path"])
    return root


def _move(root: Any, operation: Obj) -> Any:
    value = _walk(root, _steps(operation["from"]))
    return _insert(_remove(root, operation["from"]), operation["path"], value)


def _copy(root: Any, operation: Obj) -> Any:
    value = _walk(root, _steps(operation["from"]))
    return _insert(root, operation["path"], clone({"value": value})["value"])


_OPERATIONS: dict[str, Callable[[Any, Obj], Any]] = {
    "add": lambda root, one: _insert(root, one["path"], one["value"]),
    "remove": lambda root, one: _remove(root, one["path"]),
    "replace": lambda root, one: _insert(root, one["path"], one["value"], must_exist=True),
    "move": _move,
    "copy": _copy,
    "test": _test,
}
