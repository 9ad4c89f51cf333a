"""The Lambda functions of the template, run in this process from CodeUri and Handler as AWS runs
them.

A function has its own environment, access key, timeout and sandbox; the layer is the installed
package. A synchronous invocation returns the payload or the error to its invoker, who owns the
retries; an asynchronous one is tried three times (after 1 and 2 minutes) within its maximum event
age and then goes to its on-failure destination. Matches Lambda's invocation model; refuses to know
what the functions do. A sandbox that is killed or times out is thrown away.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from outrider import bootstrap
from outrider.local.clock import Clock, Stopped
from outrider.local.region import ACCOUNT, REGION
from outrider.local.sandbox import Invocation, Killed, TimedOut, inside, listen

log = logging.getLogger("outrider.local")

Handler = Callable[[Any, Any], Any]
Failure = Callable[[dict[str, Any]], None]

# Lambda's own waits before the second and the third attempt of an asynchronous invocation.
ASYNC_RETRY_SECONDS = (60.0, 120.0)
ASYNC_MAX_AGE_SECONDS = 6 * 3600.0


@dataclass(slots=True)
class Function:
    """One function as the template declares it."""

    logical_id: str
    name: str
    code: Path
    handler: str
    environment: dict[str, str]
    timeout: float
    memory: int
    role: str
    access_key: str
    concurrency: int | None = None
    retries: int = 2
    max_age: float = ASYNC_MAX_AGE_SECONDS
    on_failure: str = ""
    running: int = 0
    loading: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def arn(self) -> str:
        """Return the unqualified ARN."""
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an invocation gave: a payload, or an error as Lambda describes it."""

    payload: Any = None
    error: dict[str, Any] | None = None
    output: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class Context:
    """What a handler gets as its second argument."""

    function_name: str
    function_version: str
    invoked_function_arn: str
    memory_limit_in_mb: str
    aws_request_id: str
    log_group_name: str
    log_stream_name: str
    remaining: Callable[[], float]
    identity: Any = None
    client_context: Any = None

    def get_remaining_time_in_millis(self) -> int:
        """Return the time left before the timeout, on the cloud's clock."""
        return max(int(self.remaining() * 1000), 0)


@dataclass(slots=True)
class _Kill:
    """A fault for one function: of its next invocation, or of the first that makes so many
    calls.
    """

    after_seconds: float | None = None
    at_call: int | None = None


class TooManyRequests(Exception):
    """The reserved concurrency is used up."""


@dataclass(slots=True)
class Registry:
    """All functions by name, and how they are run."""

    clock: Clock
    on_outcome: Callable[[Function, Outcome], None] = lambda _function, _outcome: None
    on_killed: Callable[[Function], None] = lambda _function: None
    deliver: Callable[[str, dict[str, Any]], None] = lambda _arn, _record: None
    functions: dict[str, Function] = field(default_factory=dict)
    kills: dict[str, _Kill] = field(default_factory=dict)
    _handlers: dict[str, Handler] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, function: Function) -> None:
        """Make a function invocable."""
        self.functions[function.name] = function

    def find(self, reference: str) -> Function | None:
        """Return the function of a name or an ARN, qualified or not."""
        name = reference
        if ":function:" in reference:
            name = reference.split(":function:")[1].split(":", maxsplit=1)[0]
        return self.functions.get(name) or self.functions.get(name.split(":")[0])

    def set_kills(
        self,
        after: Mapping[str, Any] | None,
        at_call: Mapping[str, Any] | None,
    ) -> None:
        """Arm the faults `kill` and `killAtCall` for the next invocation of their functions."""
        kills: dict[str, _Kill] = {}
        if after:
            name = str(after["function"])
            kills[name.lower()] = _Kill(after_seconds=float(after["afterSeconds"]))
        if at_call:
            name = str(at_call["function"])
            kills.setdefault(name.lower(), _Kill()).at_call = int(at_call["call"])
        self.kills = kills

    def invoke(self, function: Function, payload: Any) -> Outcome:
        """Run *function* on this thread and return what came of it."""
        with self._lock:
            if function.concurrency is not None and function.running >= function.concurrency:
                raise TooManyRequests(function.name)
            function.running += 1
        try:
            outcome = self._run(function, payload)
        finally:
            with self._lock:
                function.running -= 1
        self.on_outcome(function, outcome)
        return outcome

    def invoke_later(self, function: Function, payload: Any, *, delay: float = 0.0) -> None:
        """Run *function* asynchronously, with Lambda's retries and destination."""
        self._attempt(function, payload, 0, self.clock.at(), delay)

    def _attempt(
        self, function: Function, payload: Any, attempt: int, since: float, delay: float
    ) -> None:
        def work() -> None:
            try:
                outcome = self.invoke(function, payload)
            except TooManyRequests:
                if self.clock.at() - since < function.max_age:
                    self._attempt(function, payload, attempt, since, 1.0)
                return
            if outcome.error is not None:
                self._failed(function, payload, attempt, since, outcome)

        def begin() -> None:
            self.clock.spawn(work, f"{function.logical_id}")

        self.clock.call_later(delay, begin)

    def _failed(
        self, function: Function, payload: Any, attempt: int, since: float, outcome: Outcome
    ) -> None:
        wait = ASYNC_RETRY_SECONDS[min(attempt, 1)]
        if attempt < function.retries and self.clock.at() + wait - since <= function.max_age:
            self._attempt(function, payload, attempt + 1, since, wait)
        elif function.on_failure:
            self.deliver(function.on_failure, self._record(function, payload, attempt, outcome))
        else:
            log.error("%s: event dropped after %d attempts", function.logical_id, attempt + 1)

    def _record(
        self, function: Function, payload: Any, attempt: int, outcome: Outcome
    ) -> dict[str, Any]:
        """Return the invocation record that Lambda sends to an on-failure destination."""
        return {
            "version": "1.0",
            "timestamp": self.clock.now().isoformat(),
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": f"{function.arn}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": attempt + 1,
            },
            "requestPayload": payload,
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": outcome.error,
        }

    def _run(self, function: Function, payload: Any) -> Outcome:
        started = self.clock.at()
        kill = self._kill_of(function)

        def check(invocation: Invocation) -> None:
            if kill and kill.at_call is not None and invocation.calls >= kill.at_call:
                kill.at_call = None
                raise Killed(f"before call {invocation.calls}")
            if (
                kill
                and kill.after_seconds is not None
                and self.clock.at() >= started + kill.after_seconds
            ):
                raise Killed(f"after {kill.after_seconds} s")
            if self.clock.at() > started + function.timeout:
                raise TimedOut(f"after {function.timeout:g} seconds")

        request_id = str(uuid.uuid4())
        invocation = Invocation(function.name, request_id, function.environment, check)
        context = Context(
            function_name=function.name,
            function_version="1",
            invoked_function_arn=function.arn,
            memory_limit_in_mb=str(function.memory),
            aws_request_id=request_id,
            log_group_name=f"/aws/lambda/{function.name}",
            log_stream_name="local",
            remaining=lambda: started + function.timeout - self.clock.at(),
        )
        error: dict[str, Any] | None = None
        result: Any = None
        listen()
        with inside(invocation):
            try:
                handler = self._handler(function)
                started = self.clock.at()  # Lambda's initialisation is not of the function's time
                result = handler(json.loads(json.dumps(payload)), context)
                if kill and kill.after_seconds is not None:
                    raise Killed("before it returns")  # noqa: TRY301 - the fault's second half
                check(invocation)
                result = json.loads(json.dumps(result)) if result is not None else None
            except Stopped:
                raise
            except (Killed, TimedOut) as end:
                self._lose_sandbox(function)
                error = _sandbox_error(request_id, end)
                if isinstance(end, Killed):
                    self.on_killed(function)
            except Exception as failure:  # noqa: BLE001 - whatever a function raises is its outcome
                error = _described(failure)
        return Outcome(
            None if error else result, error, tuple(invocation.output), self.clock.at() - started
        )

    def _kill_of(self, function: Function) -> _Kill | None:
        """Return the kill that awaits this invocation; one at a call stays until it comes to it."""
        names = (function.logical_id.lower(), function.name.lower())
        for name, kill in tuple(self.kills.items()):
            if name in names or f"{name}function" in names:
                if kill.at_call is None:
                    del self.kills[name]
                return kill
        return None

    def _handler(self, function: Function) -> Handler:
        with function.loading:  # one function's import keeps no other from answering
            found = self._handlers.get(function.name)
            if found is None:
                found = self._handlers[function.name] = load(function)
        return found

    def warm(self) -> None:
        """Import every handler; one that cannot be imported says so when it is called."""
        for function in tuple(self.functions.values()):
            invocation = Invocation(function.name, "warm", function.environment, _let_pass)
            with suppress(Exception), inside(invocation):
                self._handler(function)

    def _lose_sandbox(self, function: Function) -> None:
        """Forget everything that a function keeps in memory."""
        with function.loading:
            self._handlers.pop(function.name, None)
        bootstrap.forget(function.name)

    def forget(self) -> None:
        """Forget every sandbox: the cloud ends."""
        for function in self.functions.values():
            self._lose_sandbox(function)


def _let_pass(_invocation: Invocation) -> None:
    """Stop no call."""


def load(function: Function) -> Handler:
    """Import a function's handler from its own folder under a name of its own."""
    module_path, _, attribute = function.handler.rpartition(".")
    path = function.code / f"{module_path.replace('.', '/')}.py"
    spec = importlib.util.spec_from_file_location(f"outrider_local_{function.logical_id}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"{function.logical_id}: no module {path}")
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Handler = getattr(module, attribute)
    return handler


def _described(failure: Exception) -> dict[str, Any]:
    """Return an exception as the Lambda runtime describes it."""
    return {
        "errorMessage": str(failure),
        "errorType": type(failure).__name__,
        "stackTrace": traceback.format_tb(failure.__traceback__)[-12:],
    }


def _sandbox_error(request_id: str, end: BaseException) -> dict[str, Any]:
    if isinstance(end, TimedOut):
        message = f"{request_id} Task timed out {end}"
        return {"errorMessage": message, "errorType": "Sandbox.Timedout"}
    message = f"RequestId: {request_id} Error: Runtime exited with error: signal: killed ({end})"
    return {"errorMessage": message, "errorType": "Runtime.ExitError"}
