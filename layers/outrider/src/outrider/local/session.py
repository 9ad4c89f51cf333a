"""One `outrider local up` on this machine: who runs it, where, and how to end it.

A small file in the temporary folder, named after the user and the port, says that a cloud runs; it
goes with the cloud. A file whose process is gone counts for nothing, also where another process has
come to its number: the file says when its own began.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

END_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A cloud that runs: its process and its port."""

    pid: int
    port: int
    path: Path
    began: str = ""

    @property
    def alive(self) -> bool:
        """Return whether the process is there."""
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False  # another user's is not ours: the number has changed hands
        state, began = _of_process(self.pid)
        # A child that ended but was not waited for still has a number.
        return state != "Z" and began == (self.began or began)

    def end(self) -> bool:
        """Ask the process to end and wait for it; return whether it did."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        patience = time.monotonic() + END_SECONDS
        while time.monotonic() < patience:
            if not self.alive:
                self.path.unlink(missing_ok=True)
                return True
            time.sleep(0.05)  # real time: another process ends
        return False


def _of_process(pid: int) -> tuple[str, str]:
    """Return a process's state and when it began, as /proc writes them (proc(5)); empty where a
    machine has no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


def _path(port: int) -> Path:
    return Path(tempfile.gettempdir()) / f"outrider-local-{os.getuid()}-{port}.json"


def running() -> list[Running]:
    """Return the clouds of this user that run."""
    found = []
    for path in sorted(_path(0).parent.glob(f"outrider-local-{os.getuid()}-*.json")):
        try:
            note = json.loads(path.read_text())
            one = Running(int(note["pid"]), int(note["port"]), path, str(note.get("began", "")))
        except (OSError, ValueError, KeyError):
            continue
        if one.alive:
            found.append(one)
        else:
            path.unlink(missing_ok=True)
    return found


@contextmanager
def noted(port: int) -> Iterator[None]:
    """Note that this process serves *port*, for as long as the block lasts."""
    path = _path(port)
    pid = os.getpid()
    path.write_text(json.dumps({"pid": pid, "port": port, "began": _of_process(pid)[1]}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
