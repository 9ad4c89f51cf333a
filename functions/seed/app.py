"""One step of the seed state machine, or the sweep behind one that ended badly."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import world
from outrider.flows import seed
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Run the step of *event* on its input; what it learns joins what the machine carries."""
    state = {**event["input"], **{key: event[key] for key in event.keys() - {"input"}}}
    return {**state, **seed.step(state, world())}
