"""A work queue on the clock: keys, each worked on once however often it was added meanwhile.

One worker at a time for a queue, started when there is work and gone when there is none, so that a
controller is single-threaded and nothing polls. Work that fails is tried again with backoff.
Refuses to know what a key is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from outrider.local.clock import Clock
from outrider.local.kube.status import StatusError

log = logging.getLogger("outrider.local.kube")

K = TypeVar("K", bound=Hashable)
_FIRST_RETRY = 0.2
_LAST_RETRY = 30.0


class WorkQueue(Generic[K]):
    """Keys to be worked on, in the order in which they were first added."""

    def __init__(self, clock: Clock, name: str, work: Callable[[K], None]) -> None:
        self._clock = clock
        self._name = name
        self._work = work
        self._keys: dict[K, None] = {}
        self._failures: dict[K, int] = {}
        self._busy = False
        self._lock = threading.Lock()

    def add(self, key: K) -> None:
        """Have *key* worked on soon."""
        with self._lock:
            self._keys[key] = None
            if self._busy:
                return
            self._busy = True
        self._clock.spawn(self._drain, self._name)

    def add_after(self, key: K, seconds: float) -> None:
        """Have *key* worked on after *seconds* of the clock."""
        self._clock.call_later(seconds, lambda: self.add(key))

    def _drain(self) -> None:
        try:
            while True:
                with self._lock:
                    if not self._keys:
                        self._busy = False
                        return
                    key = next(iter(self._keys))
                    del self._keys[key]
                self._attempt(key)
        except BaseException:
            with self._lock:  # the clock was stopped: let a later addition start over
                self._busy = False
            raise

    def _attempt(self, key: K) -> None:
        try:
            self._work(key)
        except StatusError as refusal:
            log.debug("%s %s: %s", self._name, key, refusal)
            self._retry(key)
        except Exception:
            log.exception("%s failed on %s", self._name, key)
            self._retry(key)
        else:
            self._failures.pop(key, None)

    def _retry(self, key: K) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, min(_FIRST_RETRY * 2 ** min(failures, 10), _LAST_RETRY))
