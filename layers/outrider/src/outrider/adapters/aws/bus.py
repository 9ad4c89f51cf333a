"""EventBridge: hints in on the default bus, decisions out on our own.

A hint is one PutEvents call with a 300 ms limit and no retry; whether it arrived is the caller's
metric, never its error. Decisions are collected during an invocation and sent ten at a time at its
end; they report what happened, so a failure to send them is logged and nothing else. Refuses to
know who listens.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from outrider.adapters.aws.session import Session
from outrider.core.records import Debt
from outrider.core.stateversion import VERSION
from outrider.errors import CloudError

HINTS = "outrider.hints"
DECISIONS = "outrider"
AT_ONCE = 10

log = logging.getLogger(__name__)


class Bus:
    """The default bus for hints and the bus called *name* for decisions."""

    def __init__(self, session: Session, name: str, clock: Callable[[], datetime]) -> None:
        self._session = session
        self._name = name
        self._clock = clock
        self._waiting: list[tuple[dict[str, Any], Debt | None]] = []

    def hint(self, cluster: str) -> None:
        """Put PodUnschedulable on the default bus: one call, 300 ms, no retry."""
        entry = {
            "Source": HINTS,
            "DetailType": "PodUnschedulable",
            "Detail": json.dumps({"version": VERSION, "cluster": cluster}),
        }
        try:
            answer = self._session.hinting().put_events(Entries=[entry])
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"PutEvents: {error}") from error
        if answer.get("FailedEntryCount"):
            raise CloudError(f"PutEvents: {answer['Entries'][0].get('ErrorCode')}")

    def publish(
        self, detail_type: str, detail: Mapping[str, Any], *, debt: Debt | None = None
    ) -> None:
        """Queue a decision for our bus, *debt* where it is owed; `flush` sends it."""
        entry = {
            "Source": DECISIONS,
            "DetailType": detail_type,
            "Detail": json.dumps(detail, default=str),
            "EventBusName": self._name,
            "Time": self._clock(),
        }
        self._waiting.append((entry, debt))

    def flush(self) -> tuple[Debt, ...]:
        """Send what was published, ten entries a call; return the debts that are thereby paid.

        A failure is logged, never raised: what was owed stays owed.
        """
        waiting, self._waiting = self._waiting, []
        paid: list[Debt] = []
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            try:
                answer = self._session.client("events").put_events(
                    Entries=[entry for entry, _ in part]
                )
            except (BotoCoreError, ClientError):
                log.warning("%d decisions were not published", len(part), exc_info=True)
                continue
            if answer.get("FailedEntryCount"):
                log.warning("%d decisions were not published", answer["FailedEntryCount"])
            results = answer.get("Entries") or [{}] * len(part)
            paid += [
                debt
                for (_, debt), result in zip(part, results, strict=True)
                if debt is not None and not result.get("ErrorCode")
            ]
        return tuple(paid)
