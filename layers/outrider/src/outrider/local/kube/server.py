"""The embedded Kubernetes API as one thing: server, scheduler, kubelets and controllers.

The cloud makes one, gives it a way to authenticate its own tokens, and tells its kubelets what the
instances do. Refuses to know AWS.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from outrider.local.clock import Clock
from outrider.local.kube import controllers
from outrider.local.kube.admission import Transport
from outrider.local.kube.api import API
from outrider.local.kube.bootstrap import furnish
from outrider.local.kube.calls import Call
from outrider.local.kube.chronicle import Chronicle
from outrider.local.kube.client import LocalClient
from outrider.local.kube.eventttl import expire_events
from outrider.local.kube.gateway import Gateway
from outrider.local.kube.kubelets import Faults, Kubelets, Timings
from outrider.local.kube.listener import Authority, Listener
from outrider.local.kube.objects import ADMIN, Obj, User
from outrider.local.kube.scheduler import Scheduler
from outrider.local.kube.status import bad_request
from outrider.local.timeline import Timeline

NODES = User("system:node:outrider", ("system:masters", "system:nodes"))
Authenticate = Callable[[str], tuple[str, Sequence[str]] | None]


class KubeAPI:
    """A cluster in this process."""

    def __init__(
        self,
        clock: Clock,
        timeline: Timeline,
        *,
        authenticate: Authenticate | None = None,
        cluster_name: str = "local",
        seed: int = 0,
        with_controllers: bool = True,
        timings: Timings | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.clock = clock
        self.cluster_name = cluster_name
        self.api = API(clock, seed=seed, transport=transport)
        self.store = self.api.store
        self.url = ""
        self.admin_token = hashlib.sha256(
            f"{cluster_name}/{self.api.new_uid()}".encode()
        ).hexdigest()
        self._authenticate = authenticate
        authority = Authority(f"outrider-{cluster_name}")
        self.ca_pem = authority.pem
        self._gateway = Gateway(self.api, self._user)
        self.answer = self._gateway.answer  # what the port gives, for who is in this process
        self._listener = Listener(self.answer, authority)
        chronicle = Chronicle(timeline)
        client = LocalClient(self.api, NODES, "kubelet")
        furnish(self.api)
        chronicle.follow(client)
        self.api.on_pod_delete = chronicle.asked_to_go
        self.kubelets = Kubelets(
            client,
            clock,
            timeline,
            chronicle,
            cluster_name=cluster_name,
            seed=seed,
            timings=timings,
        )
        if with_controllers:
            expire_events(self.api)
            controllers.start(self.api)
            self.scheduler = Scheduler(self.api, seed=seed)

    def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1 at *port* (0: a free one) and return the URL."""
        bound = self._listener.start(port)
        self.url = f"https://127.0.0.1:{bound}"
        self._gateway.address = f"127.0.0.1:{bound}"
        self.kubelets.endpoint = self.url
        return self.url

    def stop(self) -> None:
        """Close the port, every connection and every watch."""
        self._listener.stop()
        self.store.close()

    @property
    def faults(self) -> Faults:
        """Return what goes wrong on purpose."""
        return self.kubelets.faults

    @faults.setter
    def faults(self, wanted: Mapping[str, Any] | Faults) -> None:
        self.kubelets.faults = wanted if isinstance(wanted, Faults) else Faults.of(wanted)

    def kubeconfig(self) -> str:
        """Return a kubeconfig for the administrator, as YAML."""
        authority = base64.b64encode(self.ca_pem.encode()).decode()
        name = self.cluster_name
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": self.url, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": ADMIN.name, "user": {"token": self.admin_token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": ADMIN.name}}],
            "current-context": name,
        }
        text: str = yaml.safe_dump(config, sort_keys=False)
        return text

    def apply(
        self, *manifests: Obj, namespace: str = "default", manager: str = "outrider-local"
    ) -> list[Obj]:
        """Apply *manifests* server-side as the administrator; a `List` counts for its items."""
        applied = []
        for manifest in manifests:
            if str(manifest.get("kind", "")).endswith("List") and "items" in manifest:
                applied += self.apply(*manifest["items"], namespace=namespace, manager=manager)
                continue
            resource = self.api.table.of_kind(
                manifest.get("apiVersion", ""), manifest.get("kind", "")
            )
            if resource is None:
                raise bad_request(
                    f"no kind {manifest.get('kind')!r} in {manifest.get('apiVersion')!r} is served"
                )
            meta = manifest["metadata"]
            where = (meta.get("namespace") or namespace) if resource.namespaced else ""
            call = Call(user=ADMIN, manager=manager)
            entry, _ = self.api.apply(resource, (where, meta["name"]), manifest, call, force=True)
            applied.append(entry.object)
        return applied

    def _user(self, token: str) -> tuple[str, tuple[str, ...]] | None:
        if token == self.admin_token:
            return ADMIN
        found = self._authenticate(token) if self._authenticate and token else None
        return None if found is None else (found[0], tuple(found[1]))
