"""The Cluster port: the reader, the writer and evictions over one connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from outrider.adapters.kube import evictions
from outrider.adapters.kube.client import Client
from outrider.adapters.kube.reader import Reader
from outrider.adapters.kube.writer import Writer


class KubeCluster(Reader, Writer):
    """One cluster, as the flows see it."""

    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        Reader.__init__(self, client)
        Writer.__init__(self, client, now)

    def evict(self, pod: str, uid: str, grace_seconds: int | None = None) -> None:
        """Ask the Eviction API; raise Blocked where a PodDisruptionBudget holds the pod."""
        evictions.evict(self._client, pod, uid, grace_seconds)
