"""An API server that exists (`outrider local up --kubeconfig`), made to look like the EKS cluster.

It knows neither EKS tokens nor our webhook's plain address. So a front stands before it, on
loopback with a certificate of its own: who comes with an EKS token is let in as the user and groups
of the access entry (by impersonation), and the webhook is served over TLS. Its own controllers and
scheduler do their work; the kubelets are ours. CRDs that it has are left as they are.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import urllib3

from outrider.errors import InvalidManifest, Unreachable
from outrider.local.clock import Clock
from outrider.local.cluster import Authenticate, Machines
from outrider.local.httpapi import PREFIX
from outrider.local.instances import Instances
from outrider.local.kube.chronicle import Chronicle
from outrider.local.kube.client import HttpClient, connection
from outrider.local.kube.gateway import Answer, HttpRequest
from outrider.local.kube.kubelets import Faults, Kubelets
from outrider.local.kube.listener import Authority, Listener
from outrider.local.kube.nearby import Respond
from outrider.local.server import Reply
from outrider.local.timeline import Timeline

Gate = Callable[[str, str, Mapping[str, str], bytes], Reply]
_OURS = frozenset({"authorization", "host", "content-length", "connection", "accept-encoding"})
_THEIRS = frozenset({"transfer-encoding", "connection", "content-length", "content-type"})


class ExistingCluster:
    """Somebody's API server behind a front of ours, with kubelets for the account's instances."""

    def __init__(
        self,
        kubeconfig: Path,
        clock: Clock,
        timeline: Timeline,
        *,
        authenticate: Authenticate,
        gateway: Gate,
        name: str,
        seed: int,
        instances: Instances,
    ) -> None:
        try:
            self._server, self._headers, context = connection(kubeconfig)
        except (OSError, ValueError) as error:  # certificates that OpenSSL cannot read
            raise InvalidManifest(f"has no good TLS: {error}", where=str(kubeconfig)) from error
        self._pool = urllib3.PoolManager(maxsize=32, ssl_context=context, retries=False)
        self._kubeconfig = kubeconfig
        self._authenticate = authenticate
        self._gateway = gateway
        self._authority = Authority(f"outrider-{name}")
        self._listener = Listener(self._respond, self._authority)
        client = HttpClient(kubeconfig, clock)
        chronicle = Chronicle(timeline)
        self.kubelets = Kubelets(client, clock, timeline, chronicle, cluster_name=name, seed=seed)
        self._follow = partial(chronicle.follow, client)
        self._machines = Machines(name, self.kubelets, instances)
        self.url = ""
        self.respond: Respond | None = None
        self.ca_pem = self._authority.pem

    def start(self) -> None:
        """Look whether the API server answers, open the front, listen for machines."""
        try:
            self._send("GET", "/version")
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{self._server} does not answer: {error}") from error
        self.url = f"https://127.0.0.1:{self._listener.start(0)}"
        self.kubelets.endpoint = self.url
        self._follow()
        self._machines.listen()

    def stop(self) -> None:
        """Close the front; the API server goes on."""
        self._listener.stop()

    def kubeconfig(self) -> str:
        """Return the kubeconfig that was given."""
        return self._kubeconfig.read_text()

    @property
    def api(self) -> ExistingCluster:
        """Return what stands for the embedded API's kubelets."""
        return self

    @property
    def ca_bundle(self) -> str:
        """Return the front's authority as a webhook configuration wants it."""
        return base64.b64encode(self.ca_pem.encode()).decode()

    def webhook(self, url: str) -> str:
        """Return the webhook's address at the front: an API server calls over TLS only."""
        return self.url + PREFIX + url.partition(PREFIX)[2]

    def set_faults(self, wanted: Mapping[str, Any]) -> None:
        """Take the faults of nodes that join late, never, or without their devices."""
        keys = ("joinDelaySeconds", "neverJoin", "neverInitialize")
        self.kubelets.faults = Faults.of({key: wanted[key] for key in keys if key in wanted})

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Create objects, or update them; a CRD that exists is left alone."""
        for manifest in objects:
            collection = self._path(manifest)
            path = f"{collection}/{manifest['metadata']['name']}"
            is_there = self._send("GET", path)[0] == 200
            if is_there and manifest["kind"] == "CustomResourceDefinition":
                continue
            status, answer = self._send(
                "PATCH",
                f"{path}?fieldManager=outrider-local&force=true",
                orjson.dumps(manifest),
                "application/apply-patch+yaml",
            )
            if status >= 300:
                thing = f"{manifest['kind']} {manifest['metadata']['name']}"
                raise InvalidManifest(answer.decode("utf-8", "replace")[:300], thing=thing)

    def _path(self, manifest: Mapping[str, Any]) -> str:
        version = str(manifest["apiVersion"])
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        _, answer = self._send("GET", root)
        for resource in orjson.loads(answer).get("resources", ()):
            if resource["kind"] == manifest["kind"] and "/" not in resource["name"]:
                namespace = manifest["metadata"].get("namespace", "default")
                where = f"/namespaces/{namespace}" if resource["namespaced"] else ""
                return f"{root}{where}/{resource['name']}"
        raise InvalidManifest(f"the API server has no {manifest['kind']} in {version}")

    def _send(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        headers = {**self._headers, "Content-Type": kind}
        answer = self._pool.request(
            method, self._server + path, body=body, headers=headers, timeout=30.0
        )
        return answer.status, answer.data

    def _respond(self, request: HttpRequest) -> Answer:
        """Answer a request at the front: the webhook's, or one for the API server."""
        if request.target.startswith(PREFIX):
            status, headers, body = self._gateway(
                request.method, request.target, request.headers, request.body
            )
            kind = headers.get("Content-Type", "application/json")
            return Answer(status, body, kind)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        identity = self._authenticate(token) if scheme.lower() == "bearer" else None
        if identity is None:
            refusal = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401}
            return Answer(401, orjson.dumps({**refusal, "reason": "Unauthorized"}))
        return self._forward(request, *identity)

    def _forward(self, request: HttpRequest, user: str, groups: list[str]) -> Answer:
        headers = urllib3.HTTPHeaderDict(
            {key: value for key, value in request.headers.items() if key not in _OURS}
        )
        headers.extend(self._headers)
        headers.add("Impersonate-User", user)
        for group in (*groups, "system:authenticated"):
            headers.add("Impersonate-Group", group)
        is_watch = "watch=" in request.target
        try:
            answer = self._pool.request(
                request.method,
                self._server + request.target,
                body=request.body or None,
                headers=headers,
                preload_content=not is_watch,
                timeout=urllib3.Timeout(connect=10.0, read=None if is_watch else 60.0),
            )
        except urllib3.exceptions.HTTPError as error:
            return Answer(503, str(error).encode(), "text/plain")
        kind = answer.headers.get("Content-Type", "application/json")
        rest = {key: value for key, value in answer.headers.items() if key.lower() not in _THEIRS}
        rest.pop("Content-Encoding", None)
        if is_watch and answer.status == 200:
            return Answer(200, b"", kind, rest, _pieces(answer))
        return Answer(answer.status, answer.data, kind, rest)


def _pieces(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer.stream(65536)
    finally:
        answer.close()
