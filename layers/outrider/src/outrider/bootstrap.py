"""The only place that wires: settings in, a World out, once for each function's sandbox.

Here alone flows and adapters meet, and mypy checks that the ones fit the others' ports. Everything
is imported when it is asked for: the webhook's world needs neither pydantic nor the planner, and a
cold start pays for nothing that its function does not use.

SnapStart is the exception: while AWS takes the picture of a planning function, time costs nobody
anything, so everything that its first invocation would import is imported then.

On AWS a process is one function's sandbox. In the embedded cloud all functions share one process,
so worlds are kept by function name and `forget` drops one, as AWS drops a sandbox that died;
`use_clock` puts that cloud's time in the place of the wall's.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from typing import TYPE_CHECKING

from outrider.adapters.clock import clock
from outrider.observability import Telemetry

if TYPE_CHECKING:
    from outrider.adapters.aws.bus import Bus
    from outrider.adapters.aws.secrets import Secrets
    from outrider.adapters.aws.session import Session
    from outrider.adapters.kube.client import Client
    from outrider.adapters.kube.cluster import KubeCluster
    from outrider.core.launch.bootstrap import ClusterIdentity
    from outrider.flows.ports import Cloud, World
    from outrider.flows.webhook import WebhookWorld
    from outrider.settings import Settings

PRELOADED = (
    "outrider.settings",
    "outrider.flows.ports",
    "outrider.adapters.aws.bus",
    "outrider.adapters.aws.cloud",
    "outrider.adapters.aws.ekstoken",
    "outrider.adapters.aws.ledger",
    "outrider.adapters.aws.session",
    "outrider.adapters.aws.workflows",
    "outrider.adapters.kube.client",
    "outrider.adapters.kube.cluster",
    "numpy",
    "highspy",
)

_worlds: dict[str, World] = {}
_webhooks: dict[str, WebhookWorld] = {}
_lock = RLock()
_webhook_lock = RLock()  # of its own: an API server waits a second, a World's imports take longer


def world() -> World:
    """Return this function's World, made on its first call."""
    key = _sandbox()
    with _lock:
        if key not in _worlds:
            from outrider import settings

            _worlds[key] = assemble(settings.read())
        return _worlds[key]


def webhook_world() -> WebhookWorld:
    """Return the webhook's World: EventBridge, the secrets in force, logs and metrics."""
    key = _sandbox()
    with _webhook_lock:
        if key not in _webhooks:
            _webhooks[key] = _assemble_webhook()
        return _webhooks[key]


def assemble(settings: Settings) -> World:
    """Return a World on the real adapters, as *settings* say."""
    from outrider.adapters.aws.bus import Bus
    from outrider.adapters.aws.cloud import Cloud as Ec2
    from outrider.adapters.aws.ledger import Ledger
    from outrider.adapters.aws.session import Session
    from outrider.adapters.aws.workflows import Workflows
    from outrider.flows.ports import World

    session = Session(settings.region)
    tag = settings.discovery_tag
    cloud = Ec2(session, settings.cluster, settings.stack, clock.now, discovery_tag=tag)
    machines = {"drain": settings.drain_machine_arn, "seed": settings.seed_machine_arn}
    return World(
        settings=settings,
        clock=clock,
        cluster=_cluster(settings, session, cloud),
        cloud=cloud,
        ledger=Ledger(
            session,
            settings.ledger_table,
            clock.now,
            launches_per_minute=settings.max_launches_per_minute,
            dollars_per_hour=settings.max_dollars_per_hour,
        ),
        bus=Bus(session, settings.decision_bus, clock.now),
        workflows=Workflows(session, machines, settings.join_queue_url, settings.hint_queue_url),
        telemetry=Telemetry(settings.cluster),
    )


def use_clock(
    now: Callable[[], datetime] | None, sleep: Callable[[float], None] | None = None
) -> None:
    """Run every function of this process by *now* and *sleep*; None goes back to the wall's."""
    clock.use(now, sleep)


def forget(function: str) -> None:
    """Drop what the sandbox of *function* holds in memory."""
    with _lock:
        _worlds.pop(function, None)
    with _webhook_lock:
        _webhooks.pop(function, None)


def _sandbox() -> str:
    return os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")


def connection(
    session: Session,
    cluster: str,
    partition: str = "",
    identity: Callable[[], ClusterIdentity] | None = None,
) -> Client:
    """Return the way to the API of an EKS *cluster*, by a token of whoever *session* is.

    *identity* describes the cluster; without it EKS is asked on first use.
    """
    from outrider.adapters.aws.cloud import Cloud as Ec2
    from outrider.adapters.aws.ekstoken import EksToken
    from outrider.adapters.kube.client import Client, Endpoint

    described = identity or Ec2(session, cluster, "", clock.now).cluster

    def endpoint() -> Endpoint:
        found = described()
        authority = b64decode(found.certificate_authority).decode()
        return Endpoint(found.endpoint.rstrip("/"), authority)

    where = partition or session.boto.get_partition_for_region(session.region)
    return Client(endpoint, EksToken(session, cluster, clock.now, where), clock.sleep)


def _cluster(settings: Settings, session: Session, cloud: Cloud) -> KubeCluster:
    from outrider.adapters.kube.cluster import KubeCluster

    client = connection(session, settings.cluster, settings.partition, cloud.cluster)
    client.writers = settings.kubernetes_writers
    return KubeCluster(client, clock.now)


def _assemble_webhook() -> WebhookWorld:
    from outrider.flows.webhook import WebhookWorld

    region = os.environ.get("OUTRIDER_REGION") or os.environ.get("AWS_REGION", "")
    cluster = os.environ.get("OUTRIDER_CLUSTER", "")
    name = os.environ.get("OUTRIDER_WEBHOOK_SECRET_NAME", "")
    reach = _Reach(region, name)
    return WebhookWorld(cluster, reach.secrets, reach.hint, Telemetry(cluster))


class _Reach:
    """The webhook's way out; boto3 is imported by the first call that gets this far."""

    def __init__(self, region: str, secret: str) -> None:
        self._region = region
        self._secret = secret

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets in force."""
        return self._wired[0]()

    def hint(self, cluster: str) -> None:
        """Wake the planner of *cluster*."""
        self._wired[1].hint(cluster)

    @cached_property
    def _wired(self) -> tuple[Secrets, Bus]:
        from outrider.adapters.aws.bus import Bus
        from outrider.adapters.aws.secrets import Secrets
        from outrider.adapters.aws.session import Session

        session = Session(self._region)
        return Secrets(session, self._secret, clock.now), Bus(session, "", clock.now)


def _preload() -> None:
    """Import what an invocation will need: a sandbox restored from the picture has it already."""
    for name in PRELOADED:
        if find_spec(name) is not None:
            import_module(name)


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    _preload()
