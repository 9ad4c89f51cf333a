"""What the functions wrote about a decision: CloudWatch Logs, filtered by the field `decision`.

Log groups are called `/outrider/<cluster>/<function>`, as template.yaml names them. Refuses to
know what a line means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import orjson

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.core.trace import Link

MOST = 200  # lines of a group about one decision
LEFT_OUT = frozenset(
    {"level", "location", "message", "timestamp", "service", "decision", "xray_trace_id"}
)


def lines(
    session: Session, cluster: str, decisions: Sequence[str], since: datetime
) -> tuple[Link, ...]:
    """Return the lines about *decisions* in the logs of *cluster*'s functions."""
    prefix = f"/outrider/{cluster}/"
    with errors.speaking("DescribeLogGroups"):
        pages = session.client("logs").get_paginator("describe_log_groups")
        groups = [
            str(group["logGroupName"])
            for page in pages.paginate(logGroupNamePrefix=prefix)
            for group in page["logGroups"]
        ]
    return tuple(
        link
        for group in groups
        for decision in decisions
        for link in _about(session, group, decision, since)
    )


def _about(session: Session, group: str, decision: str, since: datetime) -> Iterator[Link]:
    with errors.speaking("FilterLogEvents"):
        pages = (
            session.client("logs")
            .get_paginator("filter_log_events")
            .paginate(
                logGroupName=group,
                filterPattern=f'{{ $.decision = "{decision}" }}',
                startTime=int(since.timestamp() * 1000),
                PaginationConfig={"MaxItems": MOST},
            )
        )
        found = [event for page in pages for event in page["events"]]
    name = group.rpartition("/")[2]
    for event in found:
        try:
            said = orjson.loads(event["message"])
        except orjson.JSONDecodeError:
            continue
        if not isinstance(said, dict) or said.get("decision") != decision:
            continue
        at = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
        more = ", ".join(
            f"{key}={value}"
            for key, value in sorted(said.items())
            if key not in LEFT_OUT and not key.startswith(("function_", "cold_"))
        )
        what = f"{said.get('message', '')}: {more}" if more else str(said.get("message", ""))
        yield Link(at, f"function {name}", what, decision, "log")
