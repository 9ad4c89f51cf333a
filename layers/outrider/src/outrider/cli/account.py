"""A deployed outrider, as a person's command reaches it: the verbs that act on an account share it.

The stack says which cluster, table and state machine there are; AWS is reached by the caller's own
credentials, the cluster by `--kubeconfig` (or KUBECONFIG), else by an EKS token of the caller's.
`--endpoint-url` and `--kubeconfig` lead to the local cloud, where any credentials do. Refuses to
log: what a command has to say it prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from outrider.adapters.aws.session import Session
    from outrider.adapters.kube.client import Client
    from outrider.flows.ports import World

Decorated = Callable[..., Any]

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DEFAULT_REGION = "us-east-1"
# What the functions are told in their environment, and where the stack has it.
FROM_PARAMETERS = {
    "CLUSTER": "ClusterName",
    "MODE": "Mode",
    "SEED_WARM_UP": "SeedWarmUp",
    "SEED_RETENTION_DAYS": "SeedRetentionDays",
}
FROM_OUTPUTS = {
    "LEDGER_TABLE": "LedgerTable",
    "DECISION_BUS": "DecisionBus",
    "SEED_MACHINE_ARN": "SeedStateMachine",
    "DRAIN_MACHINE_ARN": "DrainStateMachine",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command looks: which stack, in which account, by which ways."""

    stack: str | None = None
    cluster: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    kubeconfig: Path | None = None


def located(command: Decorated) -> Decorated:
    """Add the flags that every command on an account takes; it gets them as `place`."""

    def placed(**given: Any) -> Any:
        names = ("stack", "cluster", "region", "endpoint_url", "kubeconfig")
        place = Place(**{name: given.pop(name) for name in names})
        return command(place=place, **given)

    placed.__name__, placed.__doc__ = command.__name__, command.__doc__
    placed.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Decorated = placed
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_OPTIONS = (
    click.option("--stack", metavar="NAME", help="The stack; the only one of outrider by default."),
    click.option("--cluster", metavar="NAME", help="The EKS cluster whose stack is meant."),
    click.option("--region", metavar="NAME", help="The region; AWS' usual settings by default."),
    click.option(
        "--endpoint-url", metavar="URL", help="Another AWS endpoint: that of `outrider local up`."
    ),
    click.option(
        "--kubeconfig",
        metavar="FILE",
        envvar="KUBECONFIG",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="How to reach the cluster; your own EKS token by default.",
    ),
    click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people or for programs.",
    ),
)


class _Silence:
    """Telemetry of a command: none; the functions' own is in the account."""

    def log(self, message: str, **fields: Any) -> None:
        """Say nothing."""

    def count(self, name: str, value: float = 1, unit: str = "", **dimensions: str) -> None:
        """Count nothing."""


def world(place: Place) -> World:
    """Return the World of the stack that *place* leads to."""
    from outrider import bootstrap, settings
    from outrider.adapters.aws import stacks
    from outrider.adapters.clock import clock

    reached = session(place)
    stack = stacks.find(reached, place.stack or "", place.cluster or "")
    environment = {
        **{key: stack.parameters.get(name, "") for key, name in FROM_PARAMETERS.items()},
        **{key: stack.outputs.get(name, "") for key, name in FROM_OUTPUTS.items()},
        "STACK": stack.name,
        "REGION": reached.region,
        "PARTITION": reached.boto.get_partition_for_region(reached.region),
    }
    read = settings.read({f"{settings.PREFIX}{key}": value for key, value in environment.items()})
    found = replace(bootstrap.assemble(read), telemetry=_Silence())
    if place.kubeconfig is None:
        return found
    from outrider.adapters.kube.cluster import KubeCluster

    client = connection(place, reached, read.cluster)
    return replace(found, cluster=KubeCluster(client, clock.now))


def session(place: Place) -> Session:
    """Return the AWS clients that *place* leads to."""
    from outrider.adapters.aws.session import Session, usual_region

    _lead_to(place.endpoint_url)
    return Session(place.region or usual_region() or DEFAULT_REGION)


def connection(place: Place, reached: Session, cluster: str) -> Client:
    """Return the way to the Kubernetes API: the kubeconfig's, else an EKS token of the caller's."""
    from outrider.adapters.clock import clock
    from outrider.adapters.kube.client import Client

    if place.kubeconfig is not None:
        from outrider.adapters.kube import kubeconfig

        endpoint, token = kubeconfig.read(place.kubeconfig)
        return Client(endpoint, token, clock.sleep)
    from outrider import bootstrap

    return bootstrap.connection(reached, cluster)


def _lead_to(endpoint_url: str | None) -> None:
    """Let botocore's own rules find the endpoint; on loopback any credentials do."""
    if endpoint_url:
        os.environ["AWS_ENDPOINT_URL"] = endpoint_url
    host = urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname
    if host in LOOPBACK and not os.environ.get("AWS_PROFILE"):
        os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")
        os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")
