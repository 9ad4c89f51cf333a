"""A tick: instance types, prices, images and node classes as AWS has them now."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import world
from outrider.flows import catalog
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Renew the catalogue and the status of node classes at the tick *event*."""
    return catalog.refresh(event, world())
