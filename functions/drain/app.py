"""One step of the drain state machine."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import world
from outrider.flows import drain
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Run the step of *event* on its input; what it learns joins what the machine carries."""
    state = {**event["input"], "step": event["step"]}
    return {**state, **drain.step(state, world())}
