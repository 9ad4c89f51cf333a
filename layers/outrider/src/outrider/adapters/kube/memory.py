"""What was parsed before: an object that has not changed since is not parsed again.

A sandbox that stays warm reads the same cluster every minute, and most of a read is parsing. The
API server gives every object a uid and every write of it a new resourceVersion, so the two name one
state of one object for ever; what is parsed is frozen and may be handed out again. A list that is
read whole leaves in memory what was in it and nothing else; one that is read in part adds to it, to
a bound. An object without uid or resourceVersion is parsed every time, and so is one that does not
parse. Refuses to know any kind.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from outrider.apis import manifest

MOST_OF_PARTS = 20_000

Known = dict[str, tuple[str, object | None]]
"""uid -> resourceVersion and what was parsed from it."""


@contextmanager
def unhurried() -> Iterator[None]:
    """Keep Python's collector away while a cluster is read.

    JSON has no cycles, so there is nothing for it to find, and looking for that takes as long as
    the reading itself.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Memory:
    """What the lists of one cluster held, by the list's path."""

    def __init__(self) -> None:
        self._lists: dict[str, Known] = {}

    def reading(self, path: str, *, whole: bool) -> Callable[[Mapping[str, Any]], object | None]:
        """Begin to read the list at *path* and return what parses its items.

        It answers as `manifest.parse` does. Where the *whole* list is read, what is not met on the
        way is forgotten.
        """
        before = self._lists.setdefault(path, {})
        if whole or len(before) > MOST_OF_PARTS:
            now: Known = {}
            self._lists[path] = now
        else:
            now = before

        def parse(document: Mapping[str, Any]) -> object | None:
            uid, version = _state(document)
            known = before.get(uid)
            if known is not None and known[0] == version:
                now[uid] = known
                return known[1]
            read = manifest.parse(document)
            if uid and version:
                now[uid] = version, read
            return read

        return parse


def _state(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return the uid and the resourceVersion of *document*, "" for what is not there."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return "", ""
    uid, version = metadata.get("uid"), metadata.get("resourceVersion")
    return uid if isinstance(uid, str) else "", version if isinstance(version, str) else ""
