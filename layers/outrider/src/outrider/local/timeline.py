"""The timeline: what happened in the embedded cloud, in order, for people, tests and reports.

One JSON object a happening: `at` (seconds on the clock since ready), `kind`, and the kind's own
fields. Kinds and fields are the command line's contract: podPending, hint, plan, createFleet,
instance, nodeJoined, nodeReady, nodeInitialized, podBound, podRunning, signal, taint, evict,
podGone, terminate, snapshot, execution, fault.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from outrider.local.clock import Clock

Entry = dict[str, Any]


class Timeline:
    """An append-only record that may be read and listened to while it grows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._zero = clock.at()
        self._entries: list[Entry] = []
        self._listeners: list[Callable[[Entry], None]] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Count `at` from here: the moment at which everything is ready."""
        self._zero = self._clock.at()

    def at(self) -> float:
        """Return the seconds since ready."""
        return self._clock.at() - self._zero

    def record(self, kind: str, **fields: Any) -> None:
        """Append one happening of *kind* and tell the listeners."""
        entry = {"at": round(self.at(), 3), "kind": kind, **fields}
        with self._lock:
            self._entries.append(entry)
        for listen in tuple(self._listeners):
            listen(entry)

    def listen(self, listener: Callable[[Entry], None]) -> None:
        """Call *listener* with each entry from now on, on the thread that records it."""
        self._listeners.append(listener)

    def entries(self, since: int = 0) -> list[Entry]:
        """Return a copy of the entries from position *since* on."""
        with self._lock:
            return self._entries[since:]
