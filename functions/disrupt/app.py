"""A tick: empty, drifted, expired and too dear nodes go, within their budgets."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import world
from outrider.flows import disrupt
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Decide and carry out voluntary disruption at the tick *event*."""
    return disrupt.disrupt(event, world())
