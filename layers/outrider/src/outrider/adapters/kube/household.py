"""What `outrider manifests` put into a cluster, and our marks on Nodes and NodeClaims: found,
removed.

Found by the label that all of it carries. Marks are the finalizer, every annotation whose name is
ours, and the taint of a drain that we began. Refuses to touch definitions, NodePools and node
classes: they are the user's.
"""

from __future__ import annotations

from typing import Any

from outrider.adapters.kube.client import MERGE_PATCH, Client
from outrider.apis import labels
from outrider.errors import Conflict, Gone

MARK = "labelSelector"
OURS = "app.kubernetes.io/name=outrider"
PREFIX = "outrider.dev/"
PLACES = {
    "ValidatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    ),
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
}
MARKED = {"Node": "/api/v1/nodes", "NodeClaim": "/apis/karpenter.sh/v1/nodeclaims"}
TRIES = 6


class Household:
    """Our objects in the cluster behind *client*."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def belongings(self) -> tuple[str, ...]:
        """Return `Kind/name` of our webhook, ClusterRoles and ClusterRoleBindings."""
        return tuple(
            f"{kind}/{one['metadata']['name']}"
            for kind, path in PLACES.items()
            for one in self._client.items(path, **{MARK: OURS})
        )

    def discard(self, thing: str) -> None:
        """Delete `Kind/name`; one that is gone is fine."""
        kind, _, name = thing.partition("/")
        try:
            self._client.send("DELETE", f"{PLACES[kind]}/{name}")
        except Gone:
            return

    def release(self, kind: str, name: str) -> None:
        """Take our finalizer, annotations and drain taint off a Node or a NodeClaim."""
        path = f"{MARKED[kind]}/{name}"
        for attempt in range(TRIES):
            try:
                found = self._client.get(path)
                self._client.send("PATCH", path, _unmarked(found), content_type=MERGE_PATCH)
            except Gone:
                return
            except Conflict:
                if attempt + 1 == TRIES:
                    raise
            else:
                return


def _unmarked(found: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch that takes our marks off *found*."""
    metadata = found["metadata"]
    finalizers = [
        one for one in metadata.get("finalizers") or () if one != labels.TERMINATION_FINALIZER
    ]
    marks = [key for key in metadata.get("annotations") or () if key.startswith(PREFIX)]
    patch: dict[str, Any] = {
        "metadata": {
            "resourceVersion": metadata.get("resourceVersion"),
            "finalizers": finalizers or None,
            "annotations": dict.fromkeys(marks),
        }
    }
    taints = (found.get("spec") or {}).get("taints") or ()
    others = [one for one in taints if one.get("key") != labels.DISRUPTED_TAINT]
    if len(others) != len(taints):
        patch["spec"] = {"taints": others or None}
    return patch
