"""The Kubernetes API server calls: an Event was created. Answer first, hint second."""

from __future__ import annotations

from typing import Any

from outrider.bootstrap import webhook_world
from outrider.flows import webhook
from outrider.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Answer one AdmissionReview, given as an HTTP API *event* of payload version 2."""
    return webhook.answer(event, webhook_world())
