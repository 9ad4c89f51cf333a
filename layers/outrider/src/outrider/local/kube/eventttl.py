"""Events are forgotten an hour after their last change, as etcd's lease on them does
(`--event-ttl`).
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.objects import Key, key_of
from outrider.local.kube.store import Change, StaleWriteError

EVENT_TTL = 3600.0


def expire_events(api: API) -> None:
    """Remove every Event of *api* one TTL after its last write."""

    def remove(key: Key, revision: int) -> None:
        found = api.store.get("events", key)
        if found is not None and found.revision == revision:
            try:
                api.store.remove("events", key, revision)
            except StaleWriteError:
                return  # written again meanwhile: its own timer runs

    def heard(change: Change) -> None:
        if change.type != "DELETED":
            key, revision = key_of(change.entry.object), change.revision
            api.clock.call_later(EVENT_TTL, lambda: remove(key, revision))

    api.store.subscribe("events", heard)
