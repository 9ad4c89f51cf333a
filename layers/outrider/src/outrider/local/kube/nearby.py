"""Requests of this process to its own API, answered without a socket.

A function in the sandbox talks to the cluster through urllib3, as on AWS. Its pool is told here to
ask the gateway directly: the same request and the same answer, less TLS, compression and a thread
for each connection, which were most of the cost of a large cluster. Watches go over the socket,
for they last. Refuses to know Kubernetes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3

from outrider.local.kube.messages import Answer, HttpRequest

Respond = Callable[[HttpRequest], Answer]


def ask(respond: Respond, method: str, target: str, **options: Any) -> urllib3.HTTPResponse | None:
    """Answer what `urlopen` was asked; None where only a connection can answer."""
    if parse_qs(urlsplit(target).query).get("watch", ["false"])[-1] in {"true", "1"}:
        return None
    body = options.get("body") or b""
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        return None
    answer = respond(HttpRequest(method.upper(), target, _lower(options.get("headers")), body))
    headers = {
        "Content-Type": answer.content_type,
        **answer.headers,
        "Content-Length": str(len(answer.body)),
    }
    whole = options.get("preload_content", True)
    return urllib3.HTTPResponse(
        body=answer.body if whole else io.BytesIO(answer.body),
        headers=headers,
        status=answer.code,
        version=11,
        preload_content=False,
        request_method=method,
        request_url=target,
    )


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): str(value) for name, value in (headers or {}).items()}
