"""Manifests from files, folders and standard input.

Decides how YAML and JSON become objects: several documents, Lists, folders; the same object twice
counts once, two that differ are an error; a kind that is not read is counted. Input may be
hostile: binary files, aliases that explode or bite their tail, ten megabytes of junk end in one
line that names the file, the object and the field. Refuses to know what the objects mean.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from outrider.apis import labels, manifest
from outrider.errors import InvalidManifest

STANDARD_INPUT = "-"
SUFFIXES = frozenset({".yaml", ".yml", ".json"})
LARGEST_FILE = 512 * 2**20
LARGE_DOCUMENT = 2**20
MOST_VALUES = 20_000_000
DEEPEST = 250  # objects within one another, as deep as JSON is written elsewhere
_KIND = re.compile(r"""(?m)^[ \t]*(?:-[ \t]+)?["']?kind["']?[ \t]*:|["']kind["'][ \t]*:""")


@dataclass(frozen=True, slots=True)
class Manifests:
    """The objects of some files, and how many of each kind were not read."""

    objects: tuple[object, ...]
    ignored: dict[str, int] = field(default_factory=dict)


def read(paths: Iterable[str]) -> Manifests:
    """Return the objects in *paths*; raise InvalidManifest at the first thing that is wrong."""
    seen: dict[tuple[str, str, str, str], tuple[dict[str, Any], str]] = {}
    objects: list[object] = []
    ignored: Counter[str] = Counter()
    documents = 0
    for where, document in _documents(paths):
        documents += 1
        for item in _items(document, where):
            if _known(item, where, seen):
                continue
            try:
                read_item = manifest.parse(item)
                _refuse_odd_headroom(item, read_item)
            except InvalidManifest as error:
                raise error.of(where=where) from None
            if read_item is None:
                ignored[str(item["kind"])] += 1
            else:
                objects.append(read_item)
    if not documents:
        raise InvalidManifest("there is no document", where=", ".join(paths))
    return Manifests(tuple(objects), dict(sorted(ignored.items())))


def _known(
    item: dict[str, Any],
    where: str,
    seen: dict[tuple[str, str, str, str], tuple[dict[str, Any], str]],
) -> bool:
    """Return whether an equal object was there before; refuse one that differs."""
    metadata = item.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    kind, name = str(item.get("kind")), str(names.get("name"))
    group = str(item.get("apiVersion")).rpartition("/")[0]
    namespace = str(names.get("namespace") or "default")
    before = seen.setdefault((group, kind, namespace, name), (item, where))
    if before[0] is item:
        return False
    if before[0] == item:
        return True
    raise InvalidManifest(
        f"is there twice, and differs from the one in {before[1]}",
        where=where,
        thing=manifest.name(item),
    )


def _refuse_odd_headroom(item: dict[str, Any], pool: object) -> None:
    """Refuse a NodePool whose headroom cannot be read; the functions plan without it and say so."""
    if pool is None or labels.HEADROOM not in (item["metadata"].get("annotations") or ()):
        return
    from outrider.apis.nodepool import NodePool
    from outrider.core import headroom

    if isinstance(pool, NodePool) and (problem := headroom.problem(pool)):
        raise InvalidManifest(problem, thing=manifest.name(item))


def _items(document: object, where: str) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise InvalidManifest(
            f"a document must be an object, not {_kind_of(document)}", where=where
        )
    kind = document.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and "items" in document:
        items = document["items"] if document["items"] is not None else []
        if not isinstance(items, list):
            raise InvalidManifest("must be a list", where=where, thing=kind, path="items")
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise InvalidManifest(
                    "must be an object", where=where, thing=kind, path=f"items[{index}]"
                )
            if kind != "List":
                item.setdefault("kind", kind.removesuffix("List"))
                item.setdefault("apiVersion", document.get("apiVersion"))
            yield from _items(item, where)
    else:
        yield document


def _kind_of(value: object) -> str:
    names = {"NoneType": "nothing", "str": "text", "list": "a list", "bool": "a truth value"}
    return names.get(type(value).__name__, "a number")


def _documents(paths: Iterable[str]) -> Iterator[tuple[str, object]]:
    for path in paths:
        if path == STANDARD_INPUT:
            yield from _parsed("standard input", sys.stdin.buffer.read())
            continue
        for file in _files(Path(path)):
            yield from _parsed(str(file), _content(file))


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return sorted(
                item for item in path.rglob("*") if item.suffix in SUFFIXES and item.is_file()
            )
    except OSError as error:
        raise InvalidManifest(error.strerror or "cannot be read", where=str(path)) from None
    return [path]


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise InvalidManifest("is larger than 512 MiB", where=str(file))
        return file.read_bytes()
    except OSError as error:
        raise InvalidManifest(error.strerror or "cannot be read", where=str(file)) from None


def _parsed(where: str, content: bytes) -> Iterator[tuple[str, object]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"is not UTF-8 text (byte {error.start})", where=where) from None
    if "\0" in text:
        raise InvalidManifest("is not text", where=where)
    start = text.lstrip()[:1]
    if start in {"{", "["}:
        try:
            yield where, orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # YAML may begin with a brace as well, and several JSON documents are YAML
        else:
            return
    yield from _yaml(where, text)


def _yaml(where: str, text: str) -> Iterator[tuple[str, object]]:
    import yaml

    if len(text) > LARGE_DOCUMENT and not _KIND.search(text):
        raise InvalidManifest("no document in it has a kind", where=where)
    try:
        for document in yaml.load_all(text, Loader=_loader()):
            if document is not None:
                _check(document, where)
                yield where, document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise InvalidManifest(f"is not YAML: {problem}{place}", where=where) from None
    except RecursionError:
        raise InvalidManifest("is nested too deeply", where=where) from None
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidManifest(f"is not YAML: {error}", where=where) from None


@cache
def _loader() -> Any:
    """Return a loader that reads as Kubernetes does: no timestamps, no yes and no."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    skipped = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"}
    resolvers = {
        first: [(tag, pattern) for tag, pattern in entries if tag not in skipped]
        for first, entries in base.yaml_implicit_resolvers.items()
    }
    depth = {"descend_resolver": _deeper, "ascend_resolver": _back, "depth": 0}
    loader: Any = type("KubernetesLoader", (base,), {"yaml_implicit_resolvers": resolvers, **depth})
    loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool",
        re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
        list("tTfF"),
    )
    return loader


def _deeper(loader: Any, _parent: object, _index: object) -> None:
    """Count one level more: libyaml's composer calls itself for each, until the stack is gone."""
    loader.depth += 1
    if loader.depth > DEEPEST:
        raise RecursionError


def _back(loader: Any) -> None:
    loader.depth -= 1


def _check(document: object, where: str) -> None:
    """Refuse what JSON could not say: cycles, explosions, keys and values of other types."""
    sizes: dict[int, int] = {}
    open_now: set[int] = set()

    def size(value: Any) -> int:
        if value is None or isinstance(value, (str, bool, int, float)):
            return 1
        if not isinstance(value, (dict, list)):
            raise InvalidManifest(f"has a {type(value).__name__} in it", where=where)
        identity = id(value)
        if identity in open_now:
            raise InvalidManifest("has an alias that contains itself", where=where)
        if identity not in sizes:
            open_now.add(identity)
            if isinstance(value, dict):
                for key in value:
                    if not isinstance(key, str):
                        raise InvalidManifest(
                            f"has the key {str(key)[:64]!r}, which is no text", where=where
                        )
            children = value.values() if isinstance(value, dict) else value
            sizes[identity] = 1 + sum(size(child) for child in children)
            open_now.discard(identity)
        return sizes[identity]

    if size(document) > MOST_VALUES:
        raise InvalidManifest("has aliases that expand beyond all measure", where=where)
