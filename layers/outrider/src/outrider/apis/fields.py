"""Reading fields out of API JSON with errors that name the path.

The bulk kinds (Pod, Node, volumes…) are projected by hand into slim records; these few functions
say what a field must be, and what is wrong when it is not. Refuses to know any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from outrider.apis.duration import instant
from outrider.errors import InvalidManifest

Json = Mapping[str, Any]
Item = TypeVar("Item")

_EMPTY: Json = {}


def mapping(source: Json, name: str, path: str = "") -> Json:
    """Return the object under *name*, an empty one where it is absent."""
    value = source.get(name)
    if value is None:
        return _EMPTY
    if not isinstance(value, Mapping):
        raise InvalidManifest("must be an object", path=join(path, name))
    return value


def sequence(source: Json, name: str, path: str = "") -> Sequence[Any]:
    """Return the list under *name*, an empty one where it is absent."""
    value = source.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidManifest("must be a list", path=join(path, name))
    return value


def objects(source: Json, name: str, path: str = "") -> Sequence[Json]:
    """Return the list of objects under *name*."""
    items = sequence(source, name, path)
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InvalidManifest("must be an object", path=f"{join(path, name)}[{index}]")
    return items


def string(source: Json, name: str, path: str = "", *, default: str = "") -> str:
    """Return the text under *name*."""
    value = source.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise InvalidManifest("must be a string", path=join(path, name))
    return value


def strings(source: Json, name: str, path: str = "") -> tuple[str, ...]:
    """Return the list of texts under *name*."""
    items = sequence(source, name, path)
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise InvalidManifest("must be a string", path=f"{join(path, name)}[{index}]")
    return tuple(items)


def integer(source: Json, name: str, path: str = "", *, default: int = 0, least: int = 0) -> int:
    """Return the whole number under *name*, not below *least*."""
    value = source.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidManifest("must be an integer", path=join(path, name))
    if value < least:
        raise InvalidManifest(f"must be at least {least}", path=join(path, name))
    return value


def boolean(source: Json, name: str, path: str = "", *, default: bool = False) -> bool:
    """Return the truth value under *name*."""
    value = source.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidManifest("must be true or false", path=join(path, name))
    return value


def labels(source: Json, name: str, path: str = "") -> Mapping[str, str]:
    """Return the map of texts under *name* (labels, annotations, selectors)."""
    value = source.get(name)
    if not value:
        return _EMPTY if value is None or value == {} else mapping(source, name, path)
    if not isinstance(value, Mapping):
        raise InvalidManifest("must be an object", path=join(path, name))
    for key, text in value.items():
        if text.__class__ is not str:
            raise InvalidManifest("must be a string", path=f"{join(path, name)}.{key}")
    return value


def time(source: Json, name: str, path: str = "") -> datetime | None:
    """Return the timestamp under *name*."""
    value = source.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidManifest("must be a timestamp", path=join(path, name))
    return at(join(path, name), instant, value)


def one_of(
    source: Json, name: str, allowed: frozenset[str], path: str = "", default: str = ""
) -> str:
    """Return the text under *name*, which must be one of *allowed*."""
    value = string(source, name, path, default=default)
    if value not in allowed and value != default:
        raise InvalidManifest(
            f"{value[:64]!r} is not one of {', '.join(sorted(allowed))}", path=join(path, name)
        )
    return value


def at(path: str, read: Callable[[Any], Item], value: object) -> Item:
    """Return *read*(*value*), with *path* put into an error that has none."""
    try:
        return read(value)
    except InvalidManifest as error:
        raise InvalidManifest(error.problem, path=join(path, error.path)) from None


def join(path: str, name: str) -> str:
    """Return the path of *name* under *path*."""
    return f"{path}.{name}" if path and name and name[0] != "[" else path + name
