"""Nodes that join, and what was left behind: running instances, join looks and the tick."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import world
from outrider.flows import lifecycle
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Judge NodeClaims, Nodes and instances; *event* says where to look first."""
    return lifecycle.lifecycle(event, world())
