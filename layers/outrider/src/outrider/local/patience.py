"""botocore's waits between two attempts, on the cloud's clock and with its dice.

A throttled call is tried again after a random wait. Here that wait belongs to the virtual minute
like every other one, and the same seed waits the same. Refuses to know which calls are tried again:
that is botocore's `standard` mode, untouched.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from botocore import endpoint
from botocore.retries.standard import ExponentialBackoff, RetryHandler

from outrider.local.clock import Clock


def install(clock: Clock, seed: int) -> Callable[[], None]:
    """Put the waits of clients made from now on onto *clock*; return what undoes it."""
    dice = random.Random(f"{seed}/patience")  # noqa: S311 - repeatable, not secret
    make_handler, make_backoff = RetryHandler.__init__, ExponentialBackoff.__init__

    def wait(seconds: float) -> None:
        if clock.may_wait():
            clock.sleep(seconds)

    def handler(self: Any, *args: Any, **kwargs: Any) -> None:
        make_handler(self, *args, **kwargs)
        self._sleep = wait

    def backoff(self: Any, *args: Any, **kwargs: Any) -> None:
        make_backoff(self, *args, **kwargs)
        self._random = dice.random

    RetryHandler.__init__, ExponentialBackoff.__init__ = handler, backoff
    # The wait itself is in the endpoint, which knows the module `time` and uses `sleep` alone.
    known = endpoint.time
    endpoint.time = SimpleNamespace(sleep=wait)

    def undo() -> None:
        RetryHandler.__init__, ExponentialBackoff.__init__ = make_handler, make_backoff
        endpoint.time = known

    return undo
