"""Watch: the store's changes as one client sees them, from a revision on.

An object that begins or ceases to match a selector arrives as ADDED or DELETED. Bookmarks tell a
client how far it is; the first one after `sendInitialEvents` is marked. A revision that was
compacted away ends the watch with an ERROR event of 410, as kube-apiserver answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson

from outrider.local.kube.api import API
from outrider.local.kube.objects import Obj, key_of
from outrider.local.kube.resources import Resource
from outrider.local.kube.selectors import LabelTest, ObjectTest
from outrider.local.kube.status import expired
from outrider.local.kube.store import Change, CompactedError, Entry, Watcher

HEARTBEAT = 5.0  # wall seconds between looks at a silent connection
BOOKMARK_BEATS = 6
INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind somebody wants to see."""

    resource: Resource
    namespace: str
    labels: LabelTest | None
    fields: ObjectTest | None
    fixed: dict[str, str]

    def wants(self, obj: Obj) -> bool:
        """Tell whether *obj* is among them."""
        if self.namespace and key_of(obj)[0] != self.namespace:
            return False
        if self.labels is not None and not self.labels(obj["metadata"].get("labels") or {}):
            return False
        return self.fields is None or self.fields(obj)


def changes_as_events(
    api: API,
    chosen: Selection,
    *,
    since: int | None,
    initial: bool,
    mark_initial: bool,
    bookmarks: bool,
    seconds: int | None,
    render: Callable[[Obj], Obj],
) -> Iterator[bytes]:
    """Yield watch events as lines of JSON; an empty line of bytes asks the caller to check its
    client.
    """
    resource = chosen.resource
    storage = resource.storage

    def line(kind: str, entry: Entry) -> bytes:
        event = {"type": kind, "object": render(api.show(entry, resource))}
        return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)

    try:
        with api.store.lock:
            first = (
                api.select(resource, chosen.namespace, chosen.labels, chosen.fields)
                if initial
                else ([], 0)
            )
            watcher = api.store.watch(storage, None if initial else since)
    except CompactedError:
        refusal = expired(f"too old resource version: {since} ({api.store.revision})")
        return iter(
            [
                orjson.dumps(
                    {"type": "ERROR", "object": refusal.body()}, option=orjson.OPT_APPEND_NEWLINE
                )
            ]
        )
    if seconds is not None:
        api.clock.call_later(seconds, watcher.close)

    def bookmark(revision: int, *, marked: bool = False) -> bytes:
        meta: Obj = {"resourceVersion": str(revision), "creationTimestamp": None}
        if marked:
            meta["annotations"] = {INITIAL_END: "true"}
        shown = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
        return orjson.dumps({"type": "BOOKMARK", "object": shown}, option=orjson.OPT_APPEND_NEWLINE)

    def stream() -> Iterator[bytes]:
        try:
            for entry in first[0]:
                yield line("ADDED", entry)
            if mark_initial:
                yield bookmark(watcher.progress, marked=True)
            yield from _follow(api, watcher, chosen, line, bookmark if bookmarks else None)
            if bookmarks:
                yield bookmark(watcher.progress)
        finally:
            api.store.unwatch(storage, watcher)

    return stream()


def _follow(
    api: API,
    watcher: Watcher,
    chosen: Selection,
    line: Callable[[str, Entry], bytes],
    bookmark: Callable[[int], bytes] | None,
) -> Iterator[bytes]:
    silent = 0
    while True:
        before = api.store.revision
        changes = watcher.take(HEARTBEAT)
        for change in changes:
            watcher.progress = change.revision
            kind = _seen_as(change, chosen)
            if kind == "LEFT":
                yield _departed(line, change)
            elif kind:
                yield line(kind, change.entry)
        if not changes:
            if watcher.closed:
                return
            silent += 1
            watcher.progress = max(watcher.progress, before)
            if bookmark is not None and silent % BOOKMARK_BEATS == 0:
                yield bookmark(watcher.progress)
            else:
                yield b""


def _seen_as(change: Change, chosen: Selection) -> str:
    was = change.before is not None and chosen.wants(change.before.object)
    now = change.type != "DELETED" and chosen.wants(change.entry.object)
    if was and now:
        return "MODIFIED"
    if now:
        return "ADDED"
    if was:
        return "DELETED" if change.type == "DELETED" else "LEFT"
    return ""


def _departed(line: Callable[[str, Entry], bytes], change: Change) -> bytes:
    """Show an object that no longer matches: its last matching state, at the new revision."""
    before = change.before or change.entry
    meta = {**before.object["metadata"], "resourceVersion": str(change.revision)}
    return line("DELETED", Entry({**before.object, "metadata": meta}, before.managers))
