"""The AWS endpoint: every call of boto3, the CLI, the functions and the state machines goes through
here.

A call is answered by the first who wants it: a fault, an operation of our own (what moto lacks or
does otherwise than AWS), or moto. moto is not thread-safe, so one lock is around all of it; our
operations take it where they touch moto's state. `moto_call` asks moto alone. Calls of this process
do not travel over HTTP: `in_process` serves botocore's before-send event.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

from outrider.local import mototime
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Answer, Call, Refused, answer, parameters, understand

__all__ = ["ACCOUNT", "REGION", "Endpoint"]

log = logging.getLogger("outrider.local")

# moto's dispatcher names some services by module, or not at all.
_HOSTS = {
    "s3": f"s3.{REGION}.amazonaws.com",
    "dynamodb": f"dynamodb.{REGION}.amazonaws.com",
    "dynamodbstreams": f"streams.dynamodb.{REGION}.amazonaws.com",
}

Result = Mapping[str, Any] | None
Operation = Callable[[dict[str, Any], Call], Result]


class Gatekeeper(Protocol):
    """Who may refuse a call before anybody serves it: the faults."""

    def refuse(self, call: Call) -> Exception | None:
        """Return the error to answer with, or None."""


class Endpoint:
    """One account's APIs behind one address."""

    def __init__(self) -> None:
        mototime.install()
        from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse
        from moto.core.config import default_user_config
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        default_user_config["stepfunctions"] = {"execute_state_machine": True}
        default_user_config["lambda"] = {"use_docker": False}
        self.lock = threading.RLock()
        self.url = ""
        self.gatekeeper: Gatekeeper | None = None
        self._operations: dict[str, Operation] = {}
        self._after: dict[str, list[Callable[[Call], None]]] = {}
        self._remembered: dict[str, dict[bytes, Answer]] = {}
        self._until: dict[str, set[str]] = {}
        self._stubber = BotocoreStubber()
        self._dispatcher = DomainDispatcherApplication(create_backend_app)
        self._raw_response = MockRawResponse

    def serve(self, name: str, operation: Operation) -> None:
        """Answer `service:Operation` by *operation*; one that returns None leaves the call
        to moto.
        """
        self._operations[name] = operation

    def after(self, name: str, observer: Callable[[Call], None]) -> None:
        """Tell *observer* of each `service:Operation` that moto answered without an error."""
        self._after.setdefault(name, []).append(observer)

    def remember(self, name: str, *, until: str = "") -> None:
        """Answer an equal `service:Operation` request as the first time.

        Its answers never change, or only with what a service does: after each call to the service
        *until* that is not a mere look, and whenever somebody says `changed`.
        """
        self._remembered[name] = {}
        if until:
            self._until.setdefault(until, set()).add(name)

    def changed(self, service: str) -> None:
        """Forget the answers that hold until something changes in *service*."""
        for name in self._until.get(service, ()):
            # Not cleared: who answers at this moment writes into the old one, where nobody looks.
            self._remembered[name] = {}

    def handle(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request."""
        call = understand(method, url, headers, body)
        try:
            return self._handle(call)
        finally:
            if not call.operation.startswith(("Describe", "Get", "List")):
                self.changed(call.service)

    def _handle(self, call: Call) -> Answer:
        if call.operation and self.gatekeeper and (error := self.gatekeeper.refuse(call)):
            return answer(call, error)
        operation = self._operations.get(call.name)
        if operation is not None:
            from moto.core.exceptions import ServiceException

            try:
                result = operation(parameters(call), call)
            except ServiceException as error:
                return answer(call, error)
            except Exception:
                log.exception("%s failed", call.name)
                return answer(call, Refused("InternalError", f"{call.name} failed"))
            if result is not None:
                return answer(call, result)
        remembered = self._remembered.get(call.name)
        if remembered is not None and call.body in remembered:
            return remembered[call.body]
        reply = self._moto(call)
        if reply[0] < 300:
            if remembered is not None:
                remembered[call.body] = reply
            for observer in self._after.get(call.name, ()):
                observer(call)
        return reply

    def _moto(self, call: Call) -> Answer:
        """Let moto answer, alone."""
        parts = urlsplit(call.url)
        environ = {
            "HTTP_AUTHORIZATION": call.headers.get("authorization"),
            "HTTP_X_AMZ_TARGET": call.headers.get("x-amz-target"),
            "HTTP_HOST": call.headers.get("host", parts.netloc),
            "PATH_INFO": parts.path,
        }
        with self.lock:
            try:
                host = self._dispatcher.infer_service_region_host(environ, parts.path)
                host = _HOSTS.get(host or "s3", host)
                query = f"?{parts.query}" if parts.query else ""
                request = AWSPreparedRequest(
                    method=call.method,
                    url=f"https://{host}{parts.path or '/'}{query}",
                    headers=_headers(call.headers),
                    body=call.body,
                    stream_output=False,
                )
                reply = self._stubber.process_request(request)
            except NotImplementedError as error:
                log.warning("%s is not implemented: %s", call.name, error)
                said = Refused("UnsupportedOperation", f"{call.name} is not implemented here")
                return answer(call, said) if call.operation else (501, {}, str(said).encode())
            except Exception:
                log.exception("%s failed in moto", call.name)
                return 500, {}, f"{call.name} failed".encode()
        status, headers, body = reply if reply is not None else (404, {}, "no such service")
        payload = body if isinstance(body, bytes) else str(body).encode("utf-8")
        return int(status), {str(key): str(value) for key, value in headers.items()}, payload

    def in_process(self, request: AWSPreparedRequest, **_event: Any) -> AWSResponse | None:
        """Answer a request that botocore is about to send to this endpoint."""
        if not self.url or not request.url.startswith(self.url):
            return None
        headers = {
            key: value.decode() if isinstance(value, bytes) else str(value)
            for key, value in request.headers.items()
        }
        status, reply_headers, body = self.handle(
            request.method, request.url, headers, _body(request.body)
        )
        return AWSResponse(
            request.url, status, HTTPHeaders.from_dict(reply_headers), self._raw_response(body)
        )


def _headers(headers: Mapping[str, str]) -> HTTPHeaders:
    kept = HTTPHeaders()
    for key, value in headers.items():
        if key not in ("host", "transfer-encoding", "connection", "expect"):
            kept[key] = value
    return kept


def _body(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8")
    return body if isinstance(body, bytes) else bytes(body.read())
