"""Step Functions executions, the queue that watches nodes join, and hints that come again.

An execution's name is the work's identity: starting it twice is starting it once. AWS says so for
an equal input while it runs and refuses with ExecutionAlreadyExists otherwise; either way it is
there. Refuses to know what a machine does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.core.stateversion import VERSION
from outrider.errors import NotFound

EXISTS = "ExecutionAlreadyExists"
AT_ONCE = 10
CLAIMS_A_MESSAGE = 50
LONGEST_DELAY = 900


class Workflows:
    """The machines by their short names, the join queue and the hint queue."""

    def __init__(
        self,
        session: Session,
        machines: Mapping[str, str],
        join_queue_url: str,
        hint_queue_url: str = "",
    ) -> None:
        self._session = session
        self._machines = machines
        self._join_queue_url = join_queue_url
        self._hint_queue_url = hint_queue_url

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> str:
        """Start *machine* under *name*; a repeat returns the same execution's ARN."""
        arn = self._machines.get(machine, "")
        if not arn:
            raise NotFound(f"no state machine {machine} is configured for this function")
        legal = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:80]
        try:
            started = self._session.client("stepfunctions").start_execution(
                stateMachineArn=arn, name=legal, input=json.dumps(payload, default=str)
            )
        except ClientError as error:
            if errors.code_of(error) != EXISTS:
                raise errors.translated(error, "StartExecution") from error
            return f"{arn.replace(':stateMachine:', ':execution:')}:{legal}"
        return str(started["executionArn"])

    def watch_join(self, claims: Sequence[str], delay_seconds: int) -> None:
        """Queue a look at joining NodeClaims in *delay_seconds*."""
        if not claims or not self._join_queue_url:
            return
        bodies = [
            json.dumps(
                {"version": VERSION, "claims": list(claims[start : start + CLAIMS_A_MESSAGE])}
            )
            for start in range(0, len(claims), CLAIMS_A_MESSAGE)
        ]
        for start in range(0, len(bodies), AT_ONCE):
            entries = [
                {
                    "Id": str(place),
                    "MessageBody": body,
                    "DelaySeconds": max(0, min(LONGEST_DELAY, delay_seconds)),
                }
                for place, body in enumerate(bodies[start : start + AT_ONCE])
            ]
            with errors.speaking("SendMessageBatch"):
                self._session.client("sqs").send_message_batch(
                    QueueUrl=self._join_queue_url, Entries=entries
                )

    def show_again(self, receipts: Sequence[str], delay_seconds: int) -> None:
        """Let hints that were received come again in *delay_seconds*, with those behind them."""
        if not receipts or not self._hint_queue_url:
            return
        for start in range(0, len(receipts), AT_ONCE):
            entries = [
                {"Id": str(place), "ReceiptHandle": receipt, "VisibilityTimeout": delay_seconds}
                for place, receipt in enumerate(receipts[start : start + AT_ONCE])
            ]
            with errors.speaking("ChangeMessageVisibilityBatch"):
                self._session.client("sqs").change_message_visibility_batch(
                    QueueUrl=self._hint_queue_url, Entries=entries
                )
