"""How the kubelets reach a cluster: in this process, or over HTTP to an API server that exists.

A small interface over storages (`pods`, `leases.coordination.k8s.io`): enough to be a kubelet and
nothing more. Changes arrive as (type, object, what it was before), the existing objects first as
ADDED. Refuses to know what they are for.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import orjson
import urllib3

from outrider.adapters.kube import kubeconfig
from outrider.local.clock import Clock
from outrider.local.kube.api import API
from outrider.local.kube.calls import Call, Deletion
from outrider.local.kube.objects import Key, Obj, User, key_of
from outrider.local.kube.patch import strategic
from outrider.local.kube.resources import Resource, ResourceTable
from outrider.local.kube.shapes import Typed
from outrider.local.kube.status import StatusError
from outrider.local.kube.store import Change

log = logging.getLogger("outrider.local.kube")

Notice = Callable[[str, Obj, Obj | None], None]


class Client(Protocol):
    """What a kubelet asks of an API server."""

    def get(self, storage: str, key: Key) -> Obj | None:
        """Return an object, None where there is none."""

    def create(self, storage: str, body: Obj) -> Obj:
        """Create *body* in the namespace that it names."""

    def patch(self, storage: str, key: Key, body: Obj, subresource: str = "") -> Obj:
        """Lay a strategic merge patch over an object."""

    def delete(
        self, storage: str, key: Key, *, grace: int | None = None, uid: str | None = None
    ) -> None:
        """Delete an object; one that is gone already is no error."""

    def subscribe(self, storage: str, notice: Notice) -> None:
        """Call *notice* with what exists and with every change."""


class LocalClient:
    """The API in this process."""

    def __init__(self, api: API, user: User, manager: str) -> None:
        self._api = api
        self._call = Call(user=user, manager=manager)

    def get(self, storage: str, key: Key) -> Obj | None:
        """Return an object, None where there is none; it is shared: do not change it."""
        found = self._api.store.get(storage, key)
        return found.object if found else None

    def create(self, storage: str, body: Obj) -> Obj:
        """Create *body* in the namespace that it names."""
        resource = self._api.resource(storage)
        return self._api.create(
            resource, body["metadata"].get("namespace", ""), body, self._call
        ).object

    def patch(self, storage: str, key: Key, body: Obj, subresource: str = "") -> Obj:
        """Lay a strategic merge patch over an object."""
        resource = self._api.resource(storage)

        def change(current: Obj) -> Obj:
            patched: Obj = strategic(current, body, Typed())
            return patched

        return self._api.patch(resource, key, change, self._call, subresource).object

    def delete(
        self, storage: str, key: Key, *, grace: int | None = None, uid: str | None = None
    ) -> None:
        """Delete an object; one that is gone already is no error."""
        try:
            self._api.delete(
                self._api.resource(storage), key, Deletion(grace=grace, uid=uid), self._call
            )
        except StatusError as refusal:
            if refusal.code not in {404, 409}:
                raise

    def subscribe(self, storage: str, notice: Notice) -> None:
        """Call *notice* with what exists and with every change, under the store's lock: be
        brief.
        """

        def heard(change: Change) -> None:
            notice(
                change.type, change.entry.object, change.before.object if change.before else None
            )

        with self._api.store.lock:
            for obj in self._api.store.objects(storage):
                notice("ADDED", obj, None)
            self._api.store.subscribe(storage, heard)


class HttpClient:
    """An API server that exists, by its kubeconfig; watches run on workers of the clock."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._table = ResourceTable()
        self._server, self._headers, context = connection(path)
        self._pool = urllib3.PoolManager(maxsize=16, ssl_context=context)

    def get(self, storage: str, key: Key) -> Obj | None:
        """Return an object, None where there is none."""
        try:
            return self._send("GET", self._path(storage, key))
        except StatusError as refusal:
            if refusal.code == 404:
                return None
            raise

    def create(self, storage: str, body: Obj) -> Obj:
        """Create *body* in the namespace that it names."""
        namespace = body["metadata"].get("namespace", "")
        resource = self._table.named(storage)
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return self._send("POST", self._path(storage, (namespace, "")), whole)

    def patch(self, storage: str, key: Key, body: Obj, subresource: str = "") -> Obj:
        """Lay a strategic merge patch over an object."""
        path = self._path(storage, key) + (f"/{subresource}" if subresource else "")
        return self._send("PATCH", path, body, "application/strategic-merge-patch+json")

    def delete(
        self, storage: str, key: Key, *, grace: int | None = None, uid: str | None = None
    ) -> None:
        """Delete an object; one that is gone already is no error."""
        options: Obj = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._send("DELETE", self._path(storage, key), options)
        except StatusError as refusal:
            if refusal.code not in {404, 409}:
                raise

    def subscribe(self, storage: str, notice: Notice) -> None:
        """Call *notice* with what exists and with every change, from a worker that lists and
        watches.
        """
        known: dict[Key, Obj] = {}
        self._clock.spawn(lambda: self._follow(storage, notice, known), f"watch {storage}")

    def _follow(self, storage: str, notice: Notice, known: dict[Key, Obj]) -> None:
        while True:
            try:
                revision = self._relist(storage, notice, known)
                self._watch(storage, revision, notice, known)
            except (StatusError, urllib3.exceptions.HTTPError, OSError) as cause:
                log.info("watch of %s ended: %s", storage, cause)
            except Exception:
                log.exception("watch of %s", storage)
            self._clock.sleep(1.0)

    def _relist(self, storage: str, notice: Notice, known: dict[Key, Obj]) -> str:
        listed = self._send("GET", self._path(storage, ("", "")))
        present = {key_of(one): one for one in listed.get("items") or ()}
        for key in known.keys() - present.keys():
            gone = known.pop(key)
            _tell(notice, "DELETED", gone, gone)
        for key, obj in present.items():
            before = known.get(key)
            known[key] = obj
            _tell(notice, "MODIFIED" if before else "ADDED", obj, before)
        revision: str = listed["metadata"]["resourceVersion"]
        return revision

    def _watch(self, storage: str, revision: str, notice: Notice, known: dict[Key, Obj]) -> None:
        query = f"watch=true&resourceVersion={revision}&timeoutSeconds=300"
        path = f"{self._path(storage, ('', ''))}?{query}"
        answer = self._pool.request(
            "GET", self._server + path, headers=self._headers, preload_content=False, timeout=330.0
        )
        if answer.status >= 400:
            raise _refused(answer.status, answer.data)
        rest = b""
        for piece in answer.stream(65536):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return
                self._heard(event["type"], event["object"], notice, known)

    @staticmethod
    def _heard(kind: str, obj: Obj, notice: Notice, known: dict[Key, Obj]) -> None:
        key = key_of(obj)
        before = known.pop(key, None) if kind == "DELETED" else known.get(key)
        if kind != "DELETED":
            known[key] = obj
        _tell(notice, kind, obj, before)

    def _path(self, storage: str, key: Key) -> str:
        resource: Resource = self._table.named(storage)
        root = (
            f"/apis/{resource.group}/{resource.version}"
            if resource.group
            else f"/api/{resource.version}"
        )
        namespace, name = key
        where = f"/namespaces/{namespace}" if namespace and resource.namespaced else ""
        return f"{root}{where}/{resource.plural}" + (f"/{name}" if name else "")

    def _send(
        self, method: str, path: str, body: Obj | None = None, kind: str = "application/json"
    ) -> Obj:
        headers = {**self._headers, "Content-Type": kind, "Accept": "application/json"}
        data = None if body is None else orjson.dumps(body)
        try:
            answer = self._pool.request(
                method, self._server + path, body=data, headers=headers, timeout=30.0
            )
        except urllib3.exceptions.HTTPError as cause:
            raise StatusError(503, "ServiceUnavailable", str(cause)) from cause
        if answer.status >= 400:
            raise _refused(answer.status, answer.data)
        read: Obj = orjson.loads(answer.data) if answer.data else {}
        return read


def _tell(notice: Notice, kind: str, obj: Obj, before: Obj | None) -> None:
    """Call *notice*; one that fails is logged, and whoever watches hears of all else."""
    try:
        notice(kind, obj, before)
    except Exception:
        log.exception("%s of %s", kind, key_of(obj))


def _refused(code: int, body: bytes) -> StatusError:
    """Return what an API server said no with: a Status, or words where a filter of its refused."""
    try:
        status = orjson.loads(body)
        return StatusError(code, status.get("reason", ""), status.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError):
        return StatusError(code, "", body.decode("utf-8", "replace")[:300])


def connection(path: Path) -> tuple[str, dict[str, str], ssl.SSLContext]:
    """Read the current context of the kubeconfig at *path*: server, headers that authenticate, TLS
    context. One that is none is an InvalidManifest.
    """
    endpoint_of, token_of = kubeconfig.read(path)
    endpoint, token = endpoint_of(), token_of()
    tls = ssl.create_default_context(cadata=endpoint.ca_pem or None)
    if not endpoint.verified:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if endpoint.certificate:
        try:
            tls.load_cert_chain(*endpoint.certificate)
        finally:
            for file in endpoint.certificate:  # written for OpenSSL alone, which has read them
                Path(file).unlink()
    return endpoint.url, {"Authorization": f"Bearer {token}"} if token else {}, tls
