"""EC2 announces that instances go: replacements first, then a drain."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import world
from outrider.flows import interrupt
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Answer the signals in *event*; say which of a queue's batch must come again."""
    return interrupt.interrupt(event, world())
