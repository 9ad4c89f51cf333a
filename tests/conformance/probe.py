"""A Kubernetes client that hides nothing: method, path, body in; status, body out.

Waiting is done by watching, never by sleeping, so that the same probe is quick on the embedded API
and patient on a real one.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
import urllib3

from outrider.local.kube.client import connection

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
PATIENCE = 60


class Reply(NamedTuple):
    """What the server said."""

    status: int
    body: Obj
    headers: Any


class Probe:
    """Asks one cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.server, self.headers, context = connection(kubeconfig)
        self._pool = urllib3.PoolManager(ssl_context=context, retries=False, maxsize=8)
        self.namespace = f"probe-{uuid.uuid4().hex[:8]}"

    @property
    def pods(self) -> str:
        """Return the path of the namespace's pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def configmaps(self) -> str:
        """Return the path of the namespace's configmaps."""
        return f"/api/v1/namespaces/{self.namespace}/configmaps"

    def in_group(self, group: str, plural: str) -> str:
        """Return the path of a kind in the namespace, *group* with its version."""
        return f"/apis/{group}/namespaces/{self.namespace}/{plural}"

    def open_namespace(self) -> None:
        """Create the probe's namespace."""
        self.must("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def close_namespace(self) -> None:
        """Delete the probe's namespace with all that is in it."""
        self.send("DELETE", f"/api/v1/namespaces/{self.namespace}")

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Reply:
        """Send a request and return the reply, whatever it is."""
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        sent = {
            **self.headers,
            "Content-Type": kind,
            "Accept": "application/json",
            **(headers or {}),
        }
        data = None if body is None else orjson.dumps(body)
        answer = self._pool.request(method, url, body=data, headers=sent, timeout=30.0)
        read: Obj = {}
        with suppress(orjson.JSONDecodeError):
            read = orjson.loads(answer.data)
        return Reply(answer.status, read, answer.headers)

    def must(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str
    ) -> Obj:
        """Send a request that has to succeed and return its body."""
        reply = self.send(method, path, body, kind, None, **query)
        assert reply.status < 300, reply
        return reply.body

    def events(self, path: str, seconds: int = PATIENCE, **query: str) -> Iterator[tuple[str, Obj]]:
        """Watch *path* for so long and yield (type, object)."""
        wanted = {"watch": "true", "timeoutSeconds": str(seconds), **query}
        answer = self._pool.request(
            "GET",
            f"{self.server}{path}?{urlencode(wanted)}",
            headers=self.headers,
            preload_content=False,
            timeout=seconds + 30.0,
        )
        rest = b""
        try:
            for piece in answer.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, lines):
                    event = orjson.loads(line)
                    yield event["type"], event["object"]
        finally:
            answer.close()

    def until(
        self, path: str, holds: Callable[[Obj], bool], seconds: int = PATIENCE, **query: str
    ) -> Obj:
        """Watch *path* until an object for which *holds* says yes, and return it."""
        for kind, obj in self.events(path, seconds, **query):
            assert kind != "ERROR", obj
            if kind != "DELETED" and holds(obj):
                return obj
        raise AssertionError(f"{path} {query}: it did not come to pass")

    def until_gone(self, collection: str, name: str, uid: str = "") -> None:
        """Watch a *collection* until nothing is called *name* in it, or nothing of that *uid*."""
        listed = self.must("GET", collection, fieldSelector=f"metadata.name={name}")
        if not any(uid in {"", one["metadata"]["uid"]} for one in listed["items"]):
            return
        since = listed["metadata"]["resourceVersion"]
        for kind, _ in self.events(
            collection, fieldSelector=f"metadata.name={name}", resourceVersion=since
        ):
            if kind == "DELETED":
                return
        raise AssertionError(f"{collection}/{name} did not go")


def pod(name: str, **spec: Any) -> Obj:
    """Return a small pod."""
    labels = spec.pop("labels", {})
    container: Obj = {"name": "main", "image": "registry.k8s.io/pause:3.10"}
    if "resources" in spec:
        container["resources"] = spec.pop("resources")
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], **spec},
    }


def ca_bundle(pem: str) -> str:
    """Return a CA as webhook configurations carry it."""
    return base64.b64encode(pem.encode()).decode()
