"""SQS on the clock, and the event source mappings that feed functions from it.

moto holds queues and messages; its time is ours (`mototime`). This module makes delays, visibility
timeouts and retention move on the clock without polling: whatever changes a queue plans the next
look at the instant when another message can become visible. A mapping reads as Lambda's pollers do:
up to a batch, after its window, one batch of a FIFO group at a time, partial batch responses,
failed messages left until their visibility timeout, redrive after maxReceiveCount. FIFO
deduplication holds for five minutes, also after the message was deleted (moto forgets it).
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock, Timer
from outrider.local.functions import Function, Registry, TooManyRequests
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Call

log = logging.getLogger("outrider.local")

DEDUPLICATION_SECONDS = 300.0
# What SQS itself needs between a change and a poller's answer; keeps the order of things readable.
LATENCY_SECONDS = 0.01


@dataclass(slots=True)
class Mapping:
    """One event source mapping."""

    queue: str
    function: Function
    batch_size: int = 10
    window: float = 0.0
    partial: bool = False
    concurrency: int = 5
    enabled: bool = True
    running: int = 0
    opened: float | None = None
    planned: Timer | None = None
    planned_at: float = 0.0


@dataclass(slots=True)
class Pollers:
    """Every queue's consumers."""

    endpoint: Endpoint
    clock: Clock
    functions: Registry
    mappings: list[Mapping] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    _restore: list[Callable[[], None]] = field(default_factory=list)
    _seen: dict[str, dict[str, float]] = field(default_factory=dict)
    # Around what mappings plan and count: messages come on any thread, looks on the clock's.
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def install(self) -> None:
        """Take over the arrival of messages and ReceiveMessage's waiting."""
        from moto.sqs.models import Queue

        original_add, original_url = Queue.add_message, Queue.url

        def add_message(queue: Any, message: Any) -> None:
            if queue.fifo_queue and self._is_repeat(queue, message):
                return
            with queue._messages_lock:
                queue._messages.append(message)
            self.sent[queue.name] = self.sent.get(queue.name, 0) + 1
            self.look(queue.name)

        def url(queue: Any, _request_url: Any) -> str:
            return f"{self.endpoint.url}/{ACCOUNT}/{queue.name}"

        Queue.add_message, Queue.url = add_message, url

        def restore() -> None:
            Queue.add_message, Queue.url = original_add, original_url

        self._restore.append(restore)
        self.endpoint.serve("sqs:ReceiveMessage", self._receive)
        for name in ("ChangeMessageVisibility", "ChangeMessageVisibilityBatch", "DeleteMessage"):
            self.endpoint.after(f"sqs:{name}", self._changed)

    def remove(self) -> None:
        """Give moto its own queues back."""
        while self._restore:
            self._restore.pop()()

    def add(self, mapping: Mapping) -> None:
        """Start a mapping."""
        self.mappings.append(mapping)
        self.look(mapping.queue)

    def queue(self, name: str) -> Any:
        """Return moto's queue, or None."""
        from moto.sqs.models import sqs_backends

        return sqs_backends[ACCOUNT][REGION].queues.get(name)

    def send(self, arn: str, body: str, *, group: str = "", deduplication: str = "") -> None:
        """Send a message to the queue of *arn* as EventBridge and Lambda do."""
        from moto.sqs.models import sqs_backends

        fifo = arn.endswith(".fifo")
        with self.endpoint.lock:
            sqs_backends[ACCOUNT][REGION].send_message(
                queue_name=arn.rpartition(":")[2],
                message_body=body,
                group_id=(group or "default") if fifo else None,
                deduplication_id=deduplication or None,
            )

    def _is_repeat(self, queue: Any, message: Any) -> bool:
        """Return whether a FIFO queue has taken a message of this deduplication id lately."""
        identity = message.deduplication_id
        if not identity:
            return False
        seen = self._seen.setdefault(queue.name, {})
        now = self.clock.at()
        for key in [key for key, at in seen.items() if now - at >= DEDUPLICATION_SECONDS]:
            del seen[key]
        if identity in seen:
            return True
        seen[identity] = now
        return False

    def _changed(self, call: Call) -> None:
        from outrider.local.wire import parameters

        self.look(str(parameters(call).get("QueueUrl", "")).rpartition("/")[2])

    def look(self, name: str) -> None:
        """Have every consumer of a queue look at it, once now and once when more becomes
        visible.
        """
        for mapping in self.mappings:
            if mapping.queue == name and mapping.enabled:
                self._plan(mapping, LATENCY_SECONDS)

    def _plan(self, mapping: Mapping, delay: float) -> None:
        due = self.clock.at() + delay
        with self._lock:  # a look that began before it is noted would be waited for for ever
            if mapping.planned is not None:
                if mapping.planned_at <= due:
                    return
                mapping.planned.cancel()
            mapping.planned_at = due
            mapping.planned = self.clock.call_later(delay, lambda: self._pump(mapping))

    def _pump(self, mapping: Mapping) -> None:
        """Give the function what is there, as far as concurrency and the window allow."""
        with self._lock:
            mapping.planned = None
        queue = self.queue(mapping.queue)
        if queue is None:
            return
        while mapping.running < mapping.concurrency:
            with self.endpoint.lock:
                visible = len(queue.messages)
                if visible and self._window_is_open(mapping, visible):
                    break
                messages = self._take(mapping) if visible else []
            mapping.opened = None
            if not messages:
                break
            with self._lock:
                mapping.running += 1
            self._run(mapping, messages)
        if (wait := self._next_change(queue)) is not None:
            self._plan(mapping, wait + LATENCY_SECONDS)

    def _window_is_open(self, mapping: Mapping, visible: int) -> bool:
        """Return whether the batching window still gathers, and plan its end."""
        if not mapping.window or visible >= mapping.batch_size:
            return False
        now = self.clock.at()
        if mapping.opened is None:
            mapping.opened = now
        left = mapping.opened + mapping.window - now
        if left > 0:
            self._plan(mapping, left)
            return True
        return False

    def _take(self, mapping: Mapping) -> list[Any]:
        from moto.sqs.models import sqs_backends

        queue = self.queue(mapping.queue)
        messages: list[Any] = sqs_backends[ACCOUNT][REGION].receive_message(
            mapping.queue, mapping.batch_size, 0, queue.visibility_timeout, ["All"]
        )
        return messages

    def _next_change(self, queue: Any) -> float | None:
        """Return the seconds until another message of *queue* becomes visible, or None."""
        now = self.clock.now().timestamp() * 1000
        with self.endpoint.lock:
            later = [
                moment
                for message in queue._messages
                if (moment := max(message.visible_at, message.delayed_until)) >= now
            ]
        return (min(later) - now) / 1000 if later else None

    def _run(self, mapping: Mapping, messages: list[Any]) -> None:
        def work() -> None:
            try:
                payload = {"Records": [_record(mapping.queue, message) for message in messages]}
                try:
                    outcome = self.functions.invoke(mapping.function, payload)
                except TooManyRequests:
                    return self._put_back(mapping, messages)
                failed = {message.id for message in messages}
                if outcome.error is None:
                    failed = _failures(mapping, outcome.payload, failed)
                self._delete(mapping, [one for one in messages if one.id not in failed])
                return None
            finally:
                with self._lock:
                    mapping.running -= 1
                self.look(mapping.queue)

        self.clock.spawn(work, f"{mapping.function.logical_id}")

    def _delete(self, mapping: Mapping, messages: list[Any]) -> None:
        queue = self.queue(mapping.queue)
        if queue is None:
            return
        with self.endpoint.lock:
            for message in messages:
                queue.delete_message(message.receipt_handle)

    def _put_back(self, mapping: Mapping, messages: list[Any]) -> None:
        """Make messages visible again after a throttled invocation, a second later."""
        queue = self.queue(mapping.queue)
        with self.endpoint.lock:
            for held in queue._messages:
                if any(held.id == message.id for message in messages):
                    held.change_visibility(1)
                    held.approximate_receive_count -= 1
                    queue.pending_messages.discard(held)

    def _receive(self, wanted: dict[str, Any], call: Call) -> None:
        """Wait on the clock, outside the lock, until a message can be had; moto then hands
        it over.
        """
        queue = self.queue(str(wanted.get("QueueUrl", "")).rpartition("/")[2])
        seconds = float(wanted.get("WaitTimeSeconds", 0) or 0)
        call.body = call.body.replace(b'"WaitTimeSeconds"', b'"WaitedTimeSeconds"')
        if queue is None or not seconds or not self.clock.may_wait():
            return
        end = self.clock.at() + seconds
        while self.clock.at() < end:
            with self.endpoint.lock:
                if queue.messages:
                    return
            self.clock.sleep(min(0.1, end - self.clock.at()))

    def depth(self, name: str) -> tuple[int, float]:
        """Return a queue's visible messages and the age of its oldest in seconds."""
        queue = self.queue(name)
        if queue is None:
            return 0, 0.0
        now = self.clock.now().timestamp() * 1000
        with self.endpoint.lock:
            oldest = min((message.sent_timestamp for message in queue._messages), default=now)
            return len(queue.messages), max(now - oldest, 0.0) / 1000


def _failures(mapping: Mapping, response: Any, everything: set[str]) -> set[str]:
    """Return the message ids that a batch response gives back; a malformed one gives back all."""
    if not mapping.partial or not response:
        return set()
    try:
        failed = {item["itemIdentifier"] for item in response.get("batchItemFailures") or ()}
    except (AttributeError, KeyError, TypeError):
        return everything
    return everything if not failed <= everything else failed


def _record(queue: str, message: Any) -> dict[str, Any]:
    """Return a message as Lambda's event source gives it to a function."""
    attributes = {
        "ApproximateReceiveCount": str(message.approximate_receive_count),
        "SentTimestamp": str(int(message.sent_timestamp)),
        "SenderId": message.sender_id,
        "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
    }
    if message.group_id:
        attributes["MessageGroupId"] = message.group_id
    if message.deduplication_id:
        attributes["MessageDeduplicationId"] = message.deduplication_id
        attributes["SequenceNumber"] = message.sequence_number or uuid.uuid4().hex
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": attributes,
        "messageAttributes": {
            key: {
                "dataType": value.get("DataType", "String"),
                "stringValue": value.get("StringValue"),
            }
            for key, value in message.message_attributes.items()
        },
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}",
        "awsRegion": REGION,
    }
