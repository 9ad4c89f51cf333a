"""What the doctor asks of a cluster: definitions, access, the webhook, neighbours, heartbeats.

Reads that no function needs and no function is allowed: they are asked as whoever runs the
command. A kind that a cluster does not serve is an empty answer. Refuses to judge (`core.doctor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from outrider.adapters.kube.client import Client
from outrider.adapters.kube.reader import Reader
from outrider.apis import duration
from outrider.core.clusterstate import ClusterState
from outrider.core.doctor.facts import Definition
from outrider.errors import Gone, InvalidManifest

Json = Mapping[str, Any]

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
WEBHOOK = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/outrider"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
OURS = "outrider:"
GROUPS = ("karpenter.sh", "karpenter.k8s.aws")


class Examination:
    """One cluster, as the doctor reads it over *client*."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reader = Reader(client)

    def version(self) -> str:
        """Return the API server's version: the cheapest proof that it answers."""
        return str(self._client.get("/version").get("gitVersion", ""))

    def definitions(self) -> tuple[Definition, ...]:
        """Return the CustomResourceDefinitions of Karpenter's groups."""
        return tuple(
            _definition(one)
            for one in self._client.items(DEFINITIONS)
            if one["spec"]["group"] in GROUPS
        )

    def access(self) -> tuple[Json, ...]:
        """Return the ClusterRoles and ClusterRoleBindings that are called as ours are."""
        return tuple(
            {**one, "kind": kind}
            for kind in ("ClusterRole", "ClusterRoleBinding")
            for one in self._client.items(f"{RBAC}/{kind.lower()}s")
            if one["metadata"]["name"].startswith(OURS)
        )

    def webhook(self) -> Json | None:
        """Return our ValidatingWebhookConfiguration, None where there is none."""
        try:
            found: Json = self._client.get(WEBHOOK)
        except Gone:
            return None
        return found

    def deployments(self) -> Mapping[str, int]:
        """Return how many replicas of each Deployment are wanted, by namespace/name."""
        return {
            f"{one['metadata']['namespace']}/{one['metadata']['name']}": int(
                one.get("spec", {}).get("replicas", 1)
            )
            for one in self._client.items("/apis/apps/v1/deployments")
        }

    def heartbeats(self) -> Mapping[str, datetime]:
        """Return when each node last renewed its Lease, by the node's own clock."""
        found = {}
        for lease in self._client.items(LEASES):
            renewed = (lease.get("spec") or {}).get("renewTime")
            try:
                if renewed:
                    found[str(lease["metadata"]["name"])] = duration.instant(renewed)
            except InvalidManifest:
                continue
        return found

    def karpenter_is_live(self, now: datetime) -> bool:
        """Return whether another's Karpenter has renewed its Lease within a minute of *now*."""
        return self._reader.karpenter_is_live(now)

    def state(self) -> ClusterState:
        """Return machines, NodePools, node classes, DaemonSets and device classes; no pods."""
        return self._reader.terrain()


def _definition(one: Json) -> Definition:
    conversion = one["spec"].get("conversion") or {}
    service = (conversion.get("webhook") or {}).get("clientConfig", {}).get("service") or {}
    conditions = (one.get("status") or {}).get("conditions") or ()
    return Definition(
        name=str(one["metadata"]["name"]),
        served=tuple(str(item["name"]) for item in one["spec"]["versions"] if item.get("served")),
        established=all(
            item.get("status") == "True" for item in conditions if item["type"] == "Established"
        ),
        converter=f"{service['namespace']}/{service['name']}"
        if conversion.get("strategy") == "Webhook" and service
        else "",
    )
