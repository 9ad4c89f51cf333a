"""The one object by which the cluster wakes outrider: a webhook on Events, never on pods.

kube-scheduler writes the Event of a pod that it cannot place from a goroutine of its own, so that a
slow or dead endpoint costs the cluster nothing. The same webhook on pods/status would put our
latency into the scheduling loop, one pod after the other (docs/adr/0003). Failures are ignored:
a lost hint costs a minute at most.

The condition is evaluated in the API server (Kubernetes >= 1.30): only Events with which a
scheduler refused a pod leave the cluster. The URL's last segment is the secret; the API server
offers no other way to authenticate to a plain URL. caBundle stays out where the endpoint's
certificate is publicly trusted, as API Gateway's is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from outrider.manifests.rbac import LABELS

NAME = "outrider"
# Goes nowhere by RFC 2606, and a webhook that fails is ignored: a reminder, not a danger.
PLACEHOLDER = "https://set-webhook-url.invalid/hint/secret"
SCHEDULERS = ("system:kube-scheduler",)


def configuration(
    cluster: str,
    url: str | None = None,
    *,
    ca_bundle: str | None = None,
    schedulers: Sequence[str] = SCHEDULERS,
) -> dict[str, Any]:
    """Return the ValidatingWebhookConfiguration that sends *cluster*'s hints to *url*.

    *ca_bundle* is PEM in base64; *schedulers* are the users that schedulers write Events as.
    """
    client: dict[str, str] = {"url": url or PLACEHOLDER}
    if ca_bundle:
        client["caBundle"] = ca_bundle
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": NAME,
            "labels": dict(LABELS),
            "annotations": {"outrider.dev/cluster": cluster},
        },
        "webhooks": [
            {
                "name": "hints.outrider.dev",
                "clientConfig": client,
                "rules": [
                    {
                        "apiGroups": ["events.k8s.io"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["events"],
                        "scope": "Namespaced",
                    }
                ],
                "matchPolicy": "Equivalent",  # takes core/v1 Events as well, converted
                "matchConditions": [
                    {"name": "scheduler-said-no", "expression": _said_no(schedulers)}
                ],
                "failurePolicy": "Ignore",
                "timeoutSeconds": 1,
                "sideEffects": "NoneOnDryRun",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


def _said_no(schedulers: Sequence[str]) -> str:
    """Return the CEL condition: one of *schedulers* failed to place a pod."""
    who = (
        f"== {json.dumps(schedulers[0])}"
        if len(schedulers) == 1
        else f"in {json.dumps(list(schedulers))}"
    )
    return (
        f'request.userInfo.username {who} && object.reason == "FailedScheduling"'
        ' && has(object.regarding) && object.regarding.kind == "Pod"'
    )
