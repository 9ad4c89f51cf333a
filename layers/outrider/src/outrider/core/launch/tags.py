"""The tags on what we make in the account: how it is found again, and whose it is.

Policies let us terminate and delete only what carries them, so everything carries them from its
first moment: they go on the request, never afterwards. Karpenter's keys are reserved; a user's own
tags come first and cannot replace them. Refuses to know which API takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from outrider.apis import labels

EKS_CLUSTER = "eks:eks-cluster-name"
NAME = "Name"


def owned_by(cluster: str, stack: str) -> dict[str, str]:
    """Return the tags that say whose a thing is: the *cluster*'s, made by *stack*."""
    return {
        EKS_CLUSTER: cluster,
        f"kubernetes.io/cluster/{cluster}": "owned",
        labels.MANAGED_BY: stack,
    }


def of_node(
    cluster: str,
    stack: str,
    node_pool: str,
    node_class: str,
    decision: str,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the tags of a node's resources; *extra* are the node class's own."""
    return {
        **(extra or {}),
        **owned_by(cluster, stack),
        labels.NODEPOOL: node_pool,
        labels.NODECLASS_LABEL: node_class,
        labels.DECISION: decision,
    }


def of_seed(cluster: str, stack: str, key: str, expires: str) -> dict[str, str]:
    """Return the tags of a builder, its volumes and its snapshot: the seed *key* and an expiry."""
    return {
        **owned_by(cluster, stack),
        labels.SEED: key,
        labels.EXPIRES: expires,
        NAME: f"outrider-seed-{key[:12]}",
    }


def listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return *tags* as EC2's list, sorted by key."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def specifications(kinds: Iterable[str], tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return TagSpecifications that put *tags* on each of *kinds*."""
    return [{"ResourceType": kind, "Tags": listed(tags)} for kind in kinds]


def read(entries: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """Return EC2's list of tags as a mapping."""
    return {entry["Key"]: entry["Value"] for entry in entries or ()}
