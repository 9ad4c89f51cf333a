"""moto's queues, without a look at every message for each message.

To tell whether one message is older than its queue keeps them, moto counts all that the queue
holds, so a thousand hints cost a million looks. Same answer, from the one setting that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def install() -> Callable[[], None]:
    """Ask the queue for its period from now on; return what undoes it."""
    from moto.core.utils import unix_time
    from moto.sqs.models import SQSBackend

    original = SQSBackend.is_message_valid_based_on_retention_period

    def is_kept(self: Any, queue_name: str, message: Any) -> bool:
        period = self.get_queue(queue_name).message_retention_period
        return bool(period + message.sent_timestamp / 1000 > unix_time())

    SQSBackend.is_message_valid_based_on_retention_period = is_kept

    def undo() -> None:
        SQSBackend.is_message_valid_based_on_retention_period = original

    return undo
