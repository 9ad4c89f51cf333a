"""Examine an account and a cluster: ask every question, note those that nobody answers, judge.

Read-only: the ports have nothing that writes. One refused question never spoils the others; where
the Kubernetes API does not answer at all, it is asked once and its questions are left out. Refuses
to decide what is wrong (`core.doctor`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.doctor import Finding, diagnose
from outrider.core.doctor.cluster import complete
from outrider.core.doctor.facts import (
    AccessEntry,
    ControlPlane,
    Definition,
    Facts,
    Installed,
    Json,
    NodeRole,
    SubnetFacts,
    Unanswered,
)
from outrider.errors import CloudError, ClusterError, Denied, NotFound, OutriderError
from outrider.manifests import rbac

Answer = TypeVar("Answer")


class Account(Protocol):
    """An account, as it is read here."""

    def time(self) -> datetime | None:
        """Return AWS' time; None where an answer does not say."""

    def stack(self, name: str, cluster: str) -> Installed:
        """Return the stack; raise NotFound where there is none, or more than one."""

    def control_plane(self, cluster: str) -> ControlPlane:
        """Return the EKS cluster."""

    def entries(self, cluster: str) -> tuple[AccessEntry, ...]:
        """Return every access entry of *cluster*."""

    def node_role(self, arn: str) -> NodeRole:
        """Return a role that nodes run with."""

    def spot_role(self) -> bool:
        """Return whether the account has Spot's service-linked role."""

    def quotas(self) -> Mapping[str, float]:
        """Return EC2's vCPU quotas by code."""

    def concurrency(self) -> tuple[int, int]:
        """Return the account's concurrent executions, and how many of them are not reserved."""

    def subnets(self, node_class: EC2NodeClass) -> tuple[SubnetFacts, ...]:
        """Return the subnets that *node_class* selects."""

    def security_groups(self, node_class: EC2NodeClass) -> tuple[str, ...]:
        """Return the security groups that *node_class* selects."""

    def rules_off(self, stack: str) -> tuple[str, ...]:
        """Return the stack's rules that are disabled."""

    def depths(self, urls: Iterable[str]) -> Mapping[str, int]:
        """Return how many messages wait in each queue."""


class Cluster(Protocol):
    """A cluster, as it is read here."""

    def version(self) -> str:
        """Return the API server's version."""

    def definitions(self) -> tuple[Definition, ...]:
        """Return the definitions of Karpenter's groups."""

    def access(self) -> tuple[Json, ...]:
        """Return our ClusterRoles and ClusterRoleBindings."""

    def webhook(self) -> Json | None:
        """Return our webhook configuration."""

    def deployments(self) -> Mapping[str, int]:
        """Return the wanted replicas of each Deployment."""

    def heartbeats(self) -> Mapping[str, datetime]:
        """Return when each node last renewed its Lease."""

    def karpenter_is_live(self, now: datetime) -> bool:
        """Return whether another's Karpenter is live."""

    def state(self) -> ClusterState:
        """Return machines, NodePools, node classes and DaemonSets."""


@dataclass(frozen=True, slots=True)
class Patient:
    """Who is examined: the ways in, and what is known before. *catalog* reads a stack's ledger."""

    account: Account
    cluster: Callable[[str], Cluster]
    catalog: Callable[[Installed], Catalog]
    now: Callable[[], datetime]
    stack: str = ""
    name: str = ""


@dataclass(slots=True)
class _Notes:
    """The answers so far, and the questions that got none."""

    unanswered: list[Unanswered] = field(default_factory=list)

    def ask(self, question: str, asked: Callable[[], Answer]) -> Answer | None:
        """Return the answer; note the question where there is none."""
        try:
            return asked()
        except OutriderError as error:
            denied = isinstance(error, Denied) or getattr(error, "status", 0) in {401, 403}
            self.unanswered.append(Unanswered(question, str(error), denied))
            return None


def examine(patient: Patient) -> tuple[str, tuple[Finding, ...]]:
    """Return the cluster's name and what is wrong, the worst first."""
    found = facts(patient)
    return found.cluster, diagnose(found)


def facts(patient: Patient) -> Facts:
    """Return everything that could be found out."""
    notes = _Notes()
    known: dict[str, Any] = {"now": patient.now()}
    known |= _installed(patient, notes)
    name = patient.name
    stack: Installed | None = known.get("stack")
    if stack is not None:
        name = stack.parameters.get("ClusterName", name)
    known |= _of_account(patient.account, name, stack, notes)
    known |= _of_cluster(patient, name, notes)
    state: ClusterState | None = known.get("state")
    if state is not None:
        known |= _network(patient.account, state, notes)
    return Facts(cluster=name, unanswered=tuple(notes.unanswered), **known)


def _installed(patient: Patient, notes: _Notes) -> dict[str, Any]:
    try:
        stack = patient.account.stack(patient.stack, patient.name)
    except NotFound as error:
        return {"stack_missing": str(error)}
    except CloudError as error:
        denied = isinstance(error, Denied)
        notes.unanswered.append(Unanswered("the stack", str(error), denied))
        return {}
    try:
        return {"stack": stack, "catalog": patient.catalog(stack)}
    except NotFound:
        return {"stack": stack, "catalog_missing": True}
    except OutriderError as error:
        notes.unanswered.append(Unanswered("the catalogue", str(error)))
        return {"stack": stack}


def _of_account(
    account: Account, name: str, stack: Installed | None, notes: _Notes
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "aws_time": notes.ask("AWS' time", account.time),
        "spot_role": notes.ask("Spot's service-linked role", account.spot_role),
        "quotas": notes.ask("EC2's vCPU quotas", account.quotas),
        "concurrency": notes.ask("Lambda's concurrency", account.concurrency),
    }
    if name:
        found["control_plane"] = notes.ask("the EKS cluster", lambda: account.control_plane(name))
        found["entries"] = notes.ask("access entries", lambda: account.entries(name))
    if stack is not None:
        arns = [one for one in stack.parameters.get("NodeRoleArns", "").split(",") if one]
        urls = [one for one in stack.outputs.get("DeadLetterQueueUrls", "").split(",") if one]
        found["node_roles"] = notes.ask(
            "node roles", lambda: tuple(account.node_role(arn) for arn in arns)
        )
        found["rules_off"] = notes.ask("the stack's rules", lambda: account.rules_off(stack.name))
        found["dead_letters"] = notes.ask("dead-letter queues", lambda: account.depths(urls))
    return found


def _of_cluster(patient: Patient, name: str, notes: _Notes) -> dict[str, Any]:
    try:
        cluster = patient.cluster(name)
        cluster.version()
    except (CloudError, ClusterError) as error:
        return {"unreachable": str(error)}
    before = len(notes.unanswered)
    webhook = notes.ask("the webhook", cluster.webhook)
    answered = len(notes.unanswered) == before
    definitions = notes.ask("CustomResourceDefinitions", cluster.definitions)
    state = None
    if definitions is None or complete(definitions):  # else that is the finding
        state = notes.ask("NodePools and nodes", cluster.state)
    return {
        "webhook": webhook,
        "webhook_known": answered,
        "definitions": definitions,
        "access": notes.ask("ClusterRoles", cluster.access),
        "wanted_access": tuple(rbac.objects()),
        "deployments": notes.ask("Deployments", cluster.deployments),
        "heartbeats": notes.ask("Leases of nodes", cluster.heartbeats),
        "karpenter_live": notes.ask(
            "Karpenter's Lease", lambda: cluster.karpenter_is_live(patient.now())
        ),
        "state": state,
    }


def _network(account: Account, state: ClusterState, notes: _Notes) -> dict[str, Any]:
    classes = state.nodeclasses
    return {
        "subnets": notes.ask(
            "subnets", lambda: {one.name: account.subnets(one) for one in classes}
        ),
        "security_groups": notes.ask(
            "security groups", lambda: {one.name: account.security_groups(one) for one in classes}
        ),
    }
