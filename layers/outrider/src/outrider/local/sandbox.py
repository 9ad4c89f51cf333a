"""A function's sandbox inside this process: its environment, its standard output, its way out to
AWS, and no way further.

On AWS every function has a process of its own. Here a context variable says which invocation the
running code belongs to, and `os.environ`, `sys.stdout` and botocore's and urllib3's ways out look
at it: a function sees its own variables, its output is its log, its calls are counted and may be
the last one (`Killed`; what a dying function still tries on its way out reaches nobody). Nobody but
AWS and the cluster can be reached: a registry on the Internet does not answer here. `install` and
`remove` bracket the life of one cloud. Refuses to know what a function does.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, TextIO

import boto3
import botocore.handlers
import urllib3.connectionpool
from botocore.awsrequest import AWSPreparedRequest, AWSResponse


class Killed(BaseException):
    """The sandbox dies here, as on an out-of-memory kill; no handler can catch it as an
    Exception.
    """


class TimedOut(BaseException):
    """The function's time is up."""


@dataclass(slots=True)
class Invocation:
    """One run of a function."""

    function: str
    request_id: str
    environment: Mapping[str, str]
    check: Callable[[Invocation], None]
    calls: int = 0
    output: list[str] = field(default_factory=list)
    line: str = ""
    end: Killed | TimedOut | None = None

    def call(self) -> None:
        """Count a call to AWS or Kubernetes that is about to be made; raise if it must not be."""
        if self.end is not None:
            raise self.end  # a `finally` on the way out: the sandbox is dead already
        self.calls += 1
        try:
            self.check(self)
        except (Killed, TimedOut) as end:
            self.end = end
            raise

    def write(self, text: str) -> None:
        """Take standard output, kept line by line; the dead say nothing."""
        if self.end is not None:
            return
        *lines, self.line = (self.line + text).split("\n")
        self.output.extend(lines)


_current: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def current() -> Invocation | None:
    """Return the invocation that the running code belongs to."""
    return _current.get()


@contextmanager
def inside(invocation: Invocation | None) -> Iterator[None]:
    """Run code as part of *invocation*; None steps out of any."""
    token = _current.set(invocation)
    try:
        yield
    finally:
        _current.reset(token)


class Environment(MutableMapping[str, str]):
    """`os.environ` for whoever asks: an invocation's own variables, else the process's."""

    def __init__(self, process: MutableMapping[str, str]) -> None:
        self.process = process

    def _view(self) -> MutableMapping[str, str]:
        invocation = _current.get()
        return dict(invocation.environment) if invocation else self.process

    def __getitem__(self, key: str) -> str:
        return self._view()[key]

    def __setitem__(self, key: str, value: str) -> None:
        invocation = _current.get()
        if invocation:
            invocation.environment = {**invocation.environment, key: value}
        else:
            self.process[key] = value

    def __delitem__(self, key: str) -> None:
        invocation = _current.get()
        if invocation:
            kept = dict(invocation.environment)
            del kept[key]
            invocation.environment = kept
        else:
            del self.process[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._view())

    def __len__(self) -> int:
        return len(self._view())

    def copy(self) -> dict[str, str]:
        """Return the variables as a plain dictionary."""
        return dict(self._view())


class Output(io.TextIOBase):
    """`sys.stdout` for whoever writes: an invocation's log, else the process's own."""

    def __init__(self, process: TextIO) -> None:
        self.process = process

    def write(self, text: str) -> int:
        """Take *text*."""
        invocation = _current.get()
        if invocation:
            invocation.write(text)
            return len(text)
        return self.process.write(text)

    def flush(self) -> None:
        """Flush the process's output; a log needs none."""
        if not _current.get() and not self.process.closed:
            self.process.flush()

    def isatty(self) -> bool:
        """Return whether the process writes to a terminal."""
        return not _current.get() and self.process.isatty()

    def fileno(self) -> int:
        """Return the process's own descriptor."""
        return self.process.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the process's encoding."""
        return self.process.encoding


def listen() -> None:
    """Make sure that what functions print is heard, whoever replaced `sys.stdout` meanwhile.

    A logger that was made before keeps the stream of its day, so its handlers are moved as well.
    """
    output = sys.stdout
    if not isinstance(output, Output):
        output = Output(output)
        sys.stdout = output
    for handler in logging.getLogger("outrider").handlers:
        if isinstance(handler, logging.StreamHandler) and _is_standard(handler.stream, output):
            handler.stream = output


def _is_standard(stream: Any, output: Output) -> bool:
    """Return whether *stream* is a standard output, today's or one that was replaced."""
    if stream is output:
        return False
    return stream in (sys.__stdout__, output.process) or isinstance(stream, Output) or stream.closed


Serve = Callable[..., AWSResponse | None]
Reachable = Callable[[str], bool]
Nearby = Callable[..., urllib3.HTTPResponse | None]
_serve: Serve | None = None
_hooked = False
_installed: list[Callable[[], None]] = []
_lock = threading.Lock()


def install(serve: Serve, reachable: Reachable, nearby: Nearby) -> None:
    """Put the sandbox in place; *serve* answers what botocore is about to send, *reachable* says
    which hosts a function can talk to by itself, *nearby* answers for those in this process.
    """
    global _serve  # noqa: PLW0603 - the process has one cloud
    with _lock:
        if _installed:
            raise RuntimeError("an embedded cloud runs in this process already")
        _serve = serve
        _hook_botocore()
        listen()
        _installed.extend(
            (
                _patch_environment(),
                _patch_sessions(),
                _patch_urllib3(reachable, nearby),
                _patch_pools(),
                _mute,
            )
        )


def remove() -> None:
    """Put everything back as it was."""
    global _serve  # noqa: PLW0603 - see install
    with _lock:
        _serve = None
        while _installed:
            _installed.pop()()


def _mute() -> None:
    if isinstance(sys.stdout, Output):
        sys.stdout = sys.stdout.process


def _before_send(request: AWSPreparedRequest, **event: Any) -> AWSResponse | None:
    """Count a call of a function, and answer it here if it is meant for here."""
    invocation = _current.get()
    if invocation:
        invocation.call()
    if _serve is None:
        return None
    with inside(None):
        return _serve(request, **event)


def _hook_botocore() -> None:
    """Have every session made from now on ask `_before_send`; once for the process's life."""
    global _hooked  # noqa: PLW0603 - a session keeps its hooks, so there must be one of them
    if not _hooked:
        _hooked = True
        botocore.handlers.BUILTIN_HANDLERS.append(("before-send", _before_send))


def _patch_sessions() -> Callable[[], None]:
    """Give each function a default session of its own: a session remembers its credentials."""
    original = boto3._get_default_session
    sessions: dict[str, boto3.Session] = {}

    def default_session() -> boto3.Session:
        invocation = _current.get()
        if invocation is None:
            return original()
        if invocation.function not in sessions:
            sessions[invocation.function] = boto3.Session()
        return sessions[invocation.function]

    boto3._get_default_session = default_session

    def undo() -> None:
        boto3._get_default_session = original

    return undo


def _patch_environment() -> Callable[[], None]:
    original = os.environ
    os.environ = Environment(original)  # type: ignore[assignment]  # noqa: B003 - os.getenv reads it too

    def undo() -> None:
        os.environ = original  # noqa: B003 - the process's own again

    return undo


def _patch_urllib3(reachable: Reachable, nearby: Nearby) -> Callable[[], None]:
    pool = urllib3.connectionpool.HTTPConnectionPool
    original = pool.urlopen

    def urlopen(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        invocation = _current.get()
        if invocation:
            invocation.call()
            if not reachable(self.host):
                message = f"{self.host} cannot be reached from the embedded cloud"
                raise urllib3.exceptions.NewConnectionError(self, message)
            if not args:
                with inside(None):
                    answer = nearby(self.host, self.port, method, url, **kwargs)
                if answer is not None:
                    return answer
        return original(self, method, url, *args, **kwargs)

    pool.urlopen = urlopen  # type: ignore[method-assign]

    def undo() -> None:
        pool.urlopen = original  # type: ignore[method-assign]

    return undo


def _patch_pools() -> Callable[[], None]:
    original = ThreadPoolExecutor.submit

    def submit(
        self: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if _current.get() is None:
            return original(self, call, *args, **kwargs)
        return original(self, copy_context().run, call, *args, **kwargs)

    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]

    def undo() -> None:
        ThreadPoolExecutor.submit = original  # type: ignore[method-assign]

    return undo
