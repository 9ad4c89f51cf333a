"""What the functions asked of the API server, read in its audit log, which no code of ours writes.

Each line is read once, however often somebody asks: a suite that waits for what a function does
asks at every happening. Requests of others (kubelets, the administrator) are passed over.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import orjson

OURS = "outrider:"
_OURS_IN_JSON = f'"{OURS}'.encode()


class Deed(NamedTuple):
    """What somebody of ours asked of the API server, and the answer's code."""

    group: str
    verb: str
    resource: str
    name: str
    code: int
    at: str


class AuditLog:
    """The API server's audit log in a file, which may grow while it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read = 0
        self._deeds: list[Deed] = []

    def deeds(self) -> list[Deed]:
        """Return what the functions have asked so far, oldest first."""
        with self._lock:
            with self._path.open("rb") as log:
                log.seek(self._read)
                whole, end, _half = log.read().rpartition(b"\n")
            self._read += len(whole) + len(end)
            for line in whole.splitlines():
                if _OURS_IN_JSON in line:
                    self._deeds += _deeds_in(orjson.loads(line))
            return list(self._deeds)


def _deeds_in(event: dict[str, Any]) -> list[Deed]:
    """Read one line of the log; nothing where it tells of somebody else."""
    about = event.get("objectRef", {})
    resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
    if about.get("apiGroup"):
        resource += f".{about['apiGroup']}"
    code = event.get("responseStatus", {}).get("code", 0)
    at = event["requestReceivedTimestamp"]
    return [
        Deed(group.removeprefix(OURS), event["verb"], resource, about.get("name", ""), code, at)
        for group in event.get("impersonatedUser", {}).get("groups", ())
        if group.startswith(OURS)
    ]
