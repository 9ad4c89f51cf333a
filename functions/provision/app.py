"""A hint or the minute tick: look for pods that wait and launch what they need."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import world
from outrider.flows import provision
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Plan once for everything that waits, whatever *event* said."""
    return provision.provision(event, world())
