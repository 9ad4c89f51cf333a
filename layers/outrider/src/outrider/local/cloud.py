"""The whole embedded cloud: one AWS account with one cluster, and the application deployed into it.

`Cloud` wires the rooms, furnishes the account, deploys template.yaml, starts the Kubernetes API and
installs in it what `outrider manifests` prints. On a ScaledClock it serves people and clients; on a
DiscreteClock a test moves it by `run`, and the same seed gives the same run. One cloud at a time in
a process: moto's state is the process's.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from urllib3 import HTTPResponse

from outrider.errors import InvalidManifest
from outrider.local import (
    heap,
    images,
    library,
    motoqueues,
    mototables,
    mototags,
    mototime,
    patience,
    sandbox,
)
from outrider.local.account import ADMIN_KEY, NODE_ROLE_ARN, Desk, Network, furnish
from outrider.local.alarms import Alarms, Metrics
from outrider.local.aws import Endpoint
from outrider.local.clock import Clock, DiscreteClock, ScaledClock
from outrider.local.cluster import Cluster, EmbeddedCluster
from outrider.local.eks import Eks
from outrider.local.fastrestore import FastRestores
from outrider.local.faults import BadFault, Faults
from outrider.local.fleet import Fleets
from outrider.local.functions import Function, Outcome, Registry
from outrider.local.httpapi import PREFIX as API_PREFIX
from outrider.local.httpapi import Gateway
from outrider.local.instances import Instances
from outrider.local.kube import nearby
from outrider.local.machine import Machines
from outrider.local.market import Market
from outrider.local.queues import Pollers
from outrider.local.quotas import Quotas
from outrider.local.reclaim import Reclaim
from outrider.local.region import ACCOUNT, REGION
from outrider.local.reservations import Reservations
from outrider.local.router import Router
from outrider.local.schedules import Schedules
from outrider.local.seeds import Builders
from outrider.local.server import Reply, Server
from outrider.local.stack import Rooms, Stack
from outrider.local.template import translate
from outrider.local.timeline import Timeline

log = logging.getLogger("outrider.local")

CLUSTER = "local"
STACK = "outrider-local"
CONTROL = "/_outrider/"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Ticks rarer than this run once at the start: a stack that has been up for a while has had them.
RARE_SECONDS = 300.0


class Cloud:
    """One embedded cloud; use it as a context manager, or `start` and `stop` it."""

    def __init__(
        self,
        *,
        template: Path,
        clock: Clock | None = None,
        port: int = 0,
        seed: int = 0,
        parameters: Mapping[str, str] | None = None,
        kubeconfig: Path | None = None,
        with_cluster: bool = True,
        verbose: bool = False,
    ) -> None:
        self.clock: Clock = clock or ScaledClock()
        self.timeline = Timeline(self.clock)
        self.faults = Faults(self.timeline)
        self.metrics = Metrics(self.clock)
        self.verbose = verbose
        self.stack: Stack | None = None
        self.network: Network | None = None
        self.cluster: Cluster | None = None
        self._template = template
        self._parameters = dict(parameters or {})
        self._port = port
        self._kubeconfig = kubeconfig
        self._with_cluster = with_cluster
        self._dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._seed = seed
        self._clients: dict[str, Any] = {}
        self._undo: list[Callable[[], None]] = []
        self._client_lock = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Bring everything up; on an error everything that was begun is undone."""
        try:
            self._wire()
            self._furnish()
            if self._with_cluster:
                self._start_cluster()
            self._deploy()
            if self.cluster is not None:
                self._install_manifests()
            self.timeline.start()
            self.schedules.start_rare(RARE_SECONDS)
            self._undo.append(heap.settle())
            if isinstance(self.clock, ScaledClock):
                self.clock.spawn(self._warm, "warm")
        except BaseException:
            self.stop()
            raise

    def _warm(self) -> None:
        """Import every function and parse every machine, so that nobody's first call pays for it.

        On AWS a snapshot (SnapStart) does that; here it runs beside the first clients.
        """
        self.functions.warm()
        self.machines.warm()

    def stop(self) -> None:
        """Take everything down, in the opposite order."""
        self.clock.stop()
        while self._undo:
            try:
                self._undo.pop()()
            except Exception:
                log.exception("stopping")

    def _wire(self) -> None:
        """Make the rooms and let each answer its operations."""
        _speak_up()
        self._undo.append(library.install())
        self._undo.append(patience.install(self.clock, self._seed))
        self._undo.append(mototags.install())
        self._undo.append(motoqueues.install())
        self._undo.append(mototables.install())
        self.endpoint = Endpoint()
        self._undo.append(lambda: mototime.use(None))
        mototime.use(self.clock)
        self._undo.append(_fresh_account(self._seed))
        self.server = Server(self._port, self._answer)
        self.url = self.endpoint.url = f"http://127.0.0.1:{self.server.port}"
        self.server.start()
        self._undo.append(self.server.stop)
        sandbox.install(self.endpoint.in_process, self._may_reach, self._nearby)
        self._session = boto3.Session(
            aws_access_key_id=ADMIN_KEY,
            aws_secret_access_key="local",  # noqa: S106 - opens nothing
            region_name=REGION,
        )
        self._undo.append(sandbox.remove)
        self._undo.append(_put_functions_on(self.clock))
        self.endpoint.gatekeeper = self.faults
        self.functions = Registry(self.clock, self._ran, self._killed, self._destination)
        self.pollers = Pollers(self.endpoint, self.clock, self.functions)
        self.router = Router(
            self.endpoint,
            self.clock,
            self.timeline,
            self.functions,
            self.pollers,
            self.client,
            self._dice,
        )
        publish = self._publish
        self.schedules = Schedules(
            self.endpoint, self.clock, self.router.deliver, self.router.event
        )
        self.gateway = Gateway(self.clock, self.functions, self.url)
        self.machines = Machines(self.endpoint, self.clock, self.timeline, self.client, publish)
        self.alarms = Alarms(self.endpoint, self.clock, self.metrics, publish, self.client)
        self.market = Market(self.endpoint, self.clock)
        self.reservations = Reservations(self.endpoint, self.clock, publish)
        self.instances = Instances(
            self.endpoint, self.clock, self.timeline, self.client, publish, self._dice
        )
        self.fleets = Fleets(
            self.instances, self.market, self.reservations, self.timeline, self.clock.now
        )
        self.reclaim = Reclaim(self.instances, self.clock, publish)
        self.builders = Builders(self.instances, self.clock, self.client)
        self.restores = FastRestores(
            self.endpoint, self.clock, lambda: self.instances.backend.snapshots, publish
        )
        self.quotas = Quotas(self.endpoint)
        self.desk = Desk(self.endpoint, self.clock, self.functions)
        self.eks = Eks(self.endpoint, self.clock, CLUSTER, images.KUBERNETES, self.desk.role_of)
        self._connect()

    def _connect(self) -> None:
        for room in (
            self.pollers,
            self.router,
            self.schedules,
            self.machines,
            self.market,
            self.reservations,
            self.instances,
            self.fleets,
            self.builders,
            self.restores,
            self.quotas,
            self.desk,
            self.eks,
        ):
            room.install()
        self._undo.append(self.functions.forget)
        self._undo.append(self.pollers.remove)
        self._undo.append(self.machines.remove)
        self.endpoint.serve("monitoring:PutMetricData", self.metrics.put_metric_data)
        self.metrics.gauges.append(self._queue_depths)
        self.reservations.on_block_end.append(self.reclaim.block_ended)
        self.instances.on_state.append(self.reservations.release)
        self.instances.blocks = self.restores.blocks
        self.faults.on_change.append(self._set_faults)

    def _furnish(self) -> None:
        images.publish(self.endpoint)
        self.network = furnish(self.client, CLUSTER)
        self.instances.settle_snapshots()
        self.eks.network = {
            "subnetIds": list(self.network.subnets),
            "securityGroupIds": [self.network.security_group],
            "clusterSecurityGroupId": self.network.security_group,
            "vpcId": self.network.vpc,
        }

    def _deploy(self) -> None:
        values = {
            "ClusterName": CLUSTER,
            "NodeRoleArns": NODE_ROLE_ARN,
            "Mode": "full",
            "CreateNodeAccessEntry": "true",
            **self._parameters,
        }
        template = translate(self._template, values)
        parameters = {
            name: values.get(name, declared.get("Default", ""))
            for name, declared in template.parameters.items()
        }
        rooms = Rooms(
            client=self.client,
            url=self.url,
            functions=self.functions,
            pollers=self.pollers,
            schedules=self.schedules,
            gateway=self.gateway,
            alarms=self.alarms,
        )
        self.stack = self.desk.stack = Stack(template, parameters, rooms, STACK)
        self.stack.deploy()

    def _start_cluster(self) -> None:
        self.cluster = self._make_cluster()
        self._undo.append(self.cluster.stop)
        self.cluster.start()
        self.eks.address, self.eks.ca_pem = self.cluster.url, self.cluster.ca_pem
        self.faults.on_change.append(self.cluster.set_faults)

    def _make_cluster(self) -> Cluster:
        if self._kubeconfig is None:
            return EmbeddedCluster(
                self.clock,
                self.timeline,
                authenticate=self.eks.authenticate,
                name=CLUSTER,
                seed=self._seed,
                instances=self.instances,
            )
        from outrider.local.existing import ExistingCluster

        return ExistingCluster(
            self._kubeconfig,
            self.clock,
            self.timeline,
            authenticate=self.eks.authenticate,
            gateway=self.gateway.handle,
            name=CLUSTER,
            seed=self._seed,
            instances=self.instances,
        )

    def _install_manifests(self) -> None:
        from outrider import manifests

        if self.cluster is None:
            return
        url = self.webhook_url
        self.cluster.apply(
            manifests.render(
                cluster=CLUSTER,
                webhook_url=url and self.cluster.webhook(url),
                ca_bundle=self.cluster.ca_bundle,
            )
        )

    @property
    def kube(self) -> Any:
        """Return the Kubernetes API."""
        if self.cluster is None:
            raise RuntimeError("this cloud was started without a cluster")
        return self.cluster.api

    @property
    def webhook_url(self) -> str | None:
        """Return the webhook's URL with its secret; None where the template has none."""
        if self.stack is None or "WebhookUrl" not in self.stack.outputs:
            return None
        made = self.stack.made.get("WebhookSecret")
        secret_id = made.physical_id if made else self.stack.parameters.get("WebhookSecretName")
        if not secret_id:
            return None
        value = self.client("secretsmanager").get_secret_value(SecretId=secret_id)
        return f"{self.stack.outputs['WebhookUrl']}/{value['SecretString']}"

    def client(self, service: str) -> Any:
        """Return a boto3 client of this account's administrator."""
        with self._client_lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self.url,
                    config=Config(retries={"total_max_attempts": 1}),
                )
            return self._clients[service]

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let *seconds* of the clock pass, or fewer when *until* holds; return whether it does."""
        if isinstance(self.clock, DiscreteClock):
            return self.clock.run(seconds, until)
        end = self.clock.at() + seconds
        while not until() and self.clock.at() < end:
            time.sleep(0.01)  # real time: a person waits for a clock that runs by itself
        return until()

    def put_event(self, payload: Mapping[str, Any], bus: str = "default") -> None:
        """Put an event as `events:PutEvents` would: a payload of events/ goes in as it is."""
        entry = {
            "Source": payload["source"],
            "DetailType": payload["detail-type"],
            "Detail": json.dumps(payload["detail"]),
            "Resources": payload.get("resources", []),
            "EventBusName": bus,
        }
        if "time" in payload:
            entry["Time"] = datetime.fromisoformat(payload["time"])
        answer = self.client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise InvalidManifest(str(answer["Entries"][0]), thing="event")

    def _may_reach(self, host: str) -> bool:
        """Return whether functions can talk to *host*: this machine, or the cluster's API."""
        return host in LOOPBACK or host == urlsplit(self.eks.address).hostname

    def _nearby(
        self, host: str, port: int | None, method: str, target: str, **options: Any
    ) -> HTTPResponse | None:
        """Answer a function's request to the cluster's API, where that runs in this process."""
        if self.cluster is None or self.cluster.respond is None:
            return None
        at = urlsplit(self.cluster.url)
        if (host, port) != (at.hostname, at.port):
            return None
        return nearby.ask(self.cluster.respond, method, target, **options)

    def _publish(
        self, source: str, detail_type: str, detail: dict[str, Any], resources: list[str]
    ) -> None:
        self.router.put(self.router.event(source, detail_type, detail, resources))

    def _destination(self, arn: str, record: dict[str, Any]) -> None:
        """Deliver a failed asynchronous invocation to its destination."""
        self.router.deliver({"Arn": arn, "Input": json.dumps(record)}, record, "on-failure")

    def _set_faults(self, wanted: Mapping[str, Any]) -> None:
        self.market.set_faults(wanted)
        self.functions.set_kills(wanted.get("kill"), wanted.get("killAtCall"))
        self.router.duplicates = int(wanted.get("duplicateEvents", 1))
        self.router.reorder = bool(wanted.get("reorderEvents", False))

    def _ran(self, function: Function, outcome: Outcome) -> None:
        """Take a function's output and outcome into metrics and the log."""
        dimensions = {"FunctionName": function.name}
        self.metrics.add("AWS/Lambda", "Invocations", dimensions, 1)
        self.metrics.add("AWS/Lambda", "Duration", dimensions, outcome.seconds * 1000)
        self.metrics.add("AWS/Lambda", "Errors", dimensions, float(outcome.error is not None))
        for line in outcome.output:
            if not self.metrics.read_line(line) and self.verbose:
                log.info("%s: %s", function.logical_id, line)
        if outcome.error is not None:
            log.error(
                "%s failed: %s: %s",
                function.logical_id,
                outcome.error.get("errorType"),
                outcome.error.get("errorMessage"),
            )
            if self.verbose:
                log.info("%s", "".join(outcome.error.get("stackTrace", [])))

    def _killed(self, function: Function) -> None:
        self.timeline.record("fault", killed=function.logical_id)

    def _queue_depths(self) -> list[tuple[str, str, dict[str, str], float]]:
        from moto.sqs.models import sqs_backends

        rows: list[tuple[str, str, dict[str, str], float]] = []
        with self.endpoint.lock:
            names = list(sqs_backends[ACCOUNT][REGION].queues)
        for name in names:
            visible, age = self.pollers.depth(name)
            dimensions = {"QueueName": name}
            rows.append(
                ("AWS/SQS", "ApproximateNumberOfMessagesVisible", dimensions, float(visible))
            )
            rows.append(("AWS/SQS", "ApproximateAgeOfOldestMessage", dimensions, age))
        return rows

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer a request to the endpoint: control, HTTP APIs, AWS."""
        if path.startswith(CONTROL):
            return self._control(method, path.removeprefix(CONTROL).partition("?")[0], body)
        if path.startswith(API_PREFIX):
            return self.gateway.handle(method, path, headers, body)
        return self.endpoint.handle(method, f"{self.url}{path}", headers, body)

    def _control(self, method: str, what: str, body: bytes) -> Reply:
        match method, what:
            case "GET", "clock":
                now = self.clock.now().isoformat(timespec="milliseconds")
                at = round(self.timeline.at(), 3)
                reply = _json(200, {"now": now, "at": at, "speed": self.clock.speed})
            case "GET", "timeline":
                lines = "".join(json.dumps(entry) + "\n" for entry in self.timeline.entries())
                reply = 200, {"Content-Type": "application/x-ndjson"}, lines.encode()
            case "GET", "faults":
                reply = _json(200, self.faults.current)
            case "POST", "faults":
                reply = self._new_faults(body)
            case _:
                reply = _json(404, {"error": f"no {method} {CONTROL}{what}"})
        return reply

    def _new_faults(self, body: bytes) -> Reply:
        try:
            self.faults.set(json.loads(body or b"{}"))
        except BadFault as error:
            return _json(400, {"error": str(error)})
        except ValueError as error:
            return _json(400, {"error": f"the body is no JSON: {error}"})
        return _json(200, self.faults.current)


def _json(status: int, document: Any) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _speak_up() -> None:
    """Keep the cloud's own words out of the functions' log, whose logger is our parent, and moto's
    out of everybody's: it logs as errors what a state machine may well ask (IsPresent).
    """
    log.propagate = False
    if not log.handlers and logging.lastResort is not None:
        log.addHandler(logging.lastResort)
    for name in ("moto", "werkzeug"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _fresh_account(seed: int) -> Callable[[], None]:
    """Empty moto's state, and let its dice fall the same for the same seed; return the undoing."""
    import moto.settings
    from moto.moto_api._internal import mock_random
    from moto.moto_api._internal.models import moto_api_backend

    # The 1,301 images that moto brings cost a second and fit no node class.
    loads = moto.settings.ec2_load_default_amis
    moto.settings.ec2_load_default_amis = lambda: False
    moto_api_backend.reset()
    mock_random.seed(seed)

    def undo() -> None:
        moto.settings.ec2_load_default_amis = loads
        moto_api_backend.reset()

    return undo


def _put_functions_on(clock: Clock) -> Callable[[], None]:
    """Put the functions' own clock on *clock*; return what undoes it."""
    from outrider import bootstrap

    def sleep(seconds: float) -> None:
        if clock.may_wait():
            clock.sleep(seconds)

    bootstrap.use_clock(clock.now, sleep)
    return lambda: bootstrap.use_clock(None)
