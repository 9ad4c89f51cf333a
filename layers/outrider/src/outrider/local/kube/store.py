"""The memory of the API: objects, one global revision, recent history, watchers and listeners.

Objects are kept as they are shown, in their storage version, without managedFields (those are
beside them, interned). A commit compares the revision that the writer read (optimistic locking, as
etcd), takes the next revision and tells everybody in order; it never calls out. History is bounded:
a watch from a revision that was dropped gets 410, as after etcd's compaction. Refuses to know
kinds; indexes are functions given to it.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from outrider.local.kube.objects import Key, Obj, key_of, uid_of
from outrider.local.kube.ownership import Managers

HISTORY = 8192  # changes kept a kind: enough for a client to list 10,000 pods and then watch
EVERY = "*"
BACKLOG = 50_000  # changes a slow watcher may be behind before it is cut off


class Entry(NamedTuple):
    """One object at one revision."""

    object: Obj
    managers: Managers = ()

    @property
    def revision(self) -> int:
        """Return the revision of the last write."""
        return int(self.object["metadata"]["resourceVersion"])


class Change(NamedTuple):
    """One commit: ADDED, MODIFIED or DELETED, with the state before it."""

    revision: int
    type: str
    storage: str
    entry: Entry
    before: Entry | None


Listener = Callable[[Change], None]
Index = Callable[[Obj], Iterable[str]]


class StaleWriteError(Exception):
    """The object's revision is not the one that the writer read."""


class CompactedError(Exception):
    """The revision asked for was dropped from history."""


class Watcher:
    """A queue of changes of one kind from a revision on."""

    def __init__(self, changes: Iterable[Change], progress: int) -> None:
        self._changes = deque(changes)
        self._ready = threading.Condition()
        self.closed = False
        self.progress = progress

    def offer(self, change: Change) -> None:
        """Queue *change*, or close when the reader is too far behind."""
        with self._ready:
            if len(self._changes) >= BACKLOG:
                self.closed = True
            self._changes.append(change)
            self._ready.notify()

    def take(self, patience: float) -> list[Change]:
        """Return what is queued, waiting at most *patience* seconds of the wall for the first."""
        with self._ready:
            if not self._changes and not self.closed:
                self._ready.wait(patience)
            taken = list(self._changes)
            self._changes.clear()
        return taken

    def close(self) -> None:
        """End the watch after what is queued."""
        with self._ready:
            self.closed = True
            self._ready.notify()


class Store:
    """Every object, by storage and key."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._objects: dict[str, dict[Key, Entry]] = defaultdict(dict)
        self._history: dict[str, deque[Change]] = defaultdict(lambda: deque(maxlen=HISTORY))
        self._compacted: dict[str, int] = defaultdict(int)
        self._revision = 1
        self._listeners: dict[str, list[Listener]] = defaultdict(list)
        self._watchers: dict[str, list[Watcher]] = defaultdict(list)
        self._indexes: dict[str, dict[str, Index]] = defaultdict(dict)
        self._indexed: dict[tuple[str, str, str], dict[Key, Entry]] = defaultdict(dict)
        self._owned: dict[str, dict[tuple[str, Key], Entry]] = defaultdict(dict)
        self._by_uid: dict[str, tuple[str, Key]] = {}

    @property
    def revision(self) -> int:
        """Return the revision of the newest commit."""
        return self._revision

    def get(self, storage: str, key: Key) -> Entry | None:
        """Return the object at *key*."""
        return self._objects[storage].get(key)

    def entry(self, storage: str, key: Key) -> tuple[list[Entry], int]:
        """Return the object at *key*, if there is one, and the revision at which this is the
        truth.
        """
        with self.lock:
            found = self._objects[storage].get(key)
            return ([found] if found else []), self._revision

    def entries(
        self, storage: str, namespace: str = "", index: tuple[str, str] | None = None
    ) -> tuple[list[Entry], int]:
        """Return the objects of a kind in key order, and the revision at which this is the
        truth; only those with a value of an *index*, where one is given.
        """
        with self.lock:
            entries = (
                self._objects[storage]
                if index is None
                else self._indexed.get((storage, *index), {})
            )
            found = [
                (key, entry)
                for key, entry in entries.items()
                if not namespace or key[0] == namespace
            ]
            revision = self._revision
        found.sort(key=lambda pair: pair[0])
        return [entry for _, entry in found], revision

    def objects(self, storage: str, namespace: str = "") -> list[Obj]:
        """Return the objects of a kind in order of creation: a reading for controllers."""
        with self.lock:
            entries = list(self._objects[storage].items())
        return [entry.object for key, entry in entries if not namespace or key[0] == namespace]

    def count(self, storage: str) -> int:
        """Return how many objects of a kind there are."""
        return len(self._objects[storage])

    def storages(self) -> Iterator[str]:
        """Yield the kinds that have objects."""
        with self.lock:
            names = [name for name, entries in self._objects.items() if entries]
        return iter(names)

    def add_index(self, storage: str, name: str, index: Index) -> None:
        """Keep the objects of *storage* findable by the values of *index*."""
        with self.lock:
            self._indexes[storage][name] = index
            for key, entry in self._objects[storage].items():
                for value in index(entry.object):
                    self._indexed[storage, name, value][key] = entry

    def indexed(self, storage: str, name: str, value: str) -> list[Obj]:
        """Return the objects of *storage* whose index *name* has *value*, in order of creation."""
        with self.lock:
            return [
                entry.object for entry in self._indexed.get((storage, name, value), {}).values()
            ]

    def owned_by(self, uid: str) -> list[tuple[str, Obj]]:
        """Return the objects that have an owner reference to *uid*, with their storages."""
        with self.lock:
            found = list(self._owned.get(uid, {}).items())
        return [(storage, entry.object) for (storage, _), entry in found]

    def with_uid(self, uid: str) -> tuple[str, Obj] | None:
        """Return the object that has *uid*, with its storage."""
        with self.lock:
            place = self._by_uid.get(uid)
            return (place[0], self._objects[place[0]][place[1]].object) if place else None

    def subscribe(self, storage: str, listener: Listener) -> None:
        """Call *listener* with every change of *storage* ("*": of all) from now on, under the lock:
        be brief.
        """
        with self.lock:
            self._listeners[storage].append(listener)

    def commit(self, storage: str, entry: Entry, expected: int | None) -> Entry:
        """Write *entry*, new when *expected* is None, else over that revision; return what is
        stored.

        The object must belong to the caller: its resourceVersion is set in place.
        """
        key = key_of(entry.object)
        with self.lock:
            before = self._objects[storage].get(key)
            if (before.revision if before else None) != expected:
                raise StaleWriteError
            revision = self._next(entry.object)
            self._place(storage, key, entry, before)
            kind = "ADDED" if before is None else "MODIFIED"
            self._tell(Change(revision, kind, storage, entry, before))
        return entry

    def remove(self, storage: str, key: Key, expected: int) -> Entry:
        """Remove the object at *key* that was read at revision *expected*; return its last
        state.
        """
        with self.lock:
            before = self._objects[storage].get(key)
            if before is None or before.revision != expected:
                raise StaleWriteError
            last = {**before.object, "metadata": dict(before.object["metadata"])}
            revision = self._next(last)
            entry = Entry(last, before.managers)
            self._place(storage, key, None, before)
            self._tell(Change(revision, "DELETED", storage, entry, before))
        return entry

    def watch(self, storage: str, since: int | None) -> Watcher:
        """Return a watcher of what came after the revision *since*, or from now on for None."""
        with self.lock:
            missed: list[Change] = []
            if since is not None and since < self._revision:
                if since < self._compacted[storage]:
                    raise CompactedError
                newest_first = itertools.takewhile(
                    lambda change: change.revision > since, reversed(self._history[storage])
                )
                missed = list(newest_first)[::-1]
            watcher = Watcher(missed, self._revision)
            self._watchers[storage].append(watcher)
        return watcher

    def unwatch(self, storage: str, watcher: Watcher) -> None:
        """Forget *watcher*."""
        with self.lock:
            if watcher in self._watchers[storage]:
                self._watchers[storage].remove(watcher)

    def compact(self) -> None:
        """Drop all history, as etcd's compaction does."""
        with self.lock:
            for changes in self._history.values():
                changes.clear()
            self._compacted = defaultdict(lambda revision=self._revision: revision)  # type: ignore[misc]

    def close(self) -> None:
        """End every watch."""
        with self.lock:
            watchers = [watcher for group in self._watchers.values() for watcher in group]
        for watcher in watchers:
            watcher.close()

    def _next(self, obj: Obj) -> int:
        self._revision += 1
        obj["metadata"]["resourceVersion"] = str(self._revision)
        return self._revision

    def _place(self, storage: str, key: Key, entry: Entry | None, before: Entry | None) -> None:
        old = before.object if before else None
        new = entry.object if entry else None
        for name, index in self._indexes[storage].items():
            had = set(index(old)) if old else set()
            has = list(index(new)) if new else []
            for value in had.difference(has):
                place = storage, name, value
                self._indexed[place].pop(key, None)
                if not self._indexed[place]:
                    del self._indexed[place]
            if entry is not None:
                for value in has:
                    self._indexed[storage, name, value][key] = entry
        had, has = _owners(old), list(_owners(new))
        for uid in had.difference(has):
            self._owned[uid].pop((storage, key), None)
            if not self._owned[uid]:
                del self._owned[uid]
        if entry is None:
            del self._objects[storage][key]
            self._by_uid.pop(uid_of(old) if old else "", None)
            return
        self._objects[storage][key] = entry
        self._by_uid[uid_of(entry.object)] = storage, key
        for uid in has:
            self._owned[uid][storage, key] = entry

    def _tell(self, change: Change) -> None:
        history = self._history[change.storage]
        if len(history) == HISTORY:
            self._compacted[change.storage] = history[0].revision
        history.append(change)
        for watcher in self._watchers[change.storage]:
            watcher.offer(change)
        for listener in (*self._listeners[change.storage], *self._listeners[EVERY]):
            listener(change)


def _owners(obj: Obj | None) -> set[str]:
    references = obj["metadata"].get("ownerReferences") if obj else None
    return {reference.get("uid", "") for reference in references or ()}


def same_object(one: Obj, other: Obj) -> bool:
    """Tell whether both are states of one object, not of two that had the same name."""
    return key_of(one) == key_of(other) and uid_of(one) == uid_of(other)
