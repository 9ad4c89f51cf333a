"""API Gateway HTTP APIs: routes to functions, payload format 2.0, the stage's throttle.

An API is served under `/_api/<api id>` of the cloud's own endpoint; `local` turns the address that
the template's Outputs give into that one. A token bucket on the clock answers 429 as the stage's
rate and burst say; a function's error is a 500 as API Gateway gives it. Refuses to know what the
routes are for.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from outrider.local.clock import Clock
from outrider.local.functions import Function, Registry, TooManyRequests
from outrider.local.region import ACCOUNT, REGION
from outrider.local.server import Reply

PREFIX = "/_api/"
# API Gateway's own limit for a request.
LARGEST_BODY = 10 * 1024 * 1024
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Route:
    """One route: a method (or ANY), a path with `{parameters}`, its function."""

    method: str
    path: str
    function: Function

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Return the path parameters when the route takes the request."""
        if self.method not in (method, "ANY"):
            return None
        if self.path == "/$default":
            return {}
        pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", re.escape(self.path))
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
        found = re.fullmatch(pattern, path)
        return None if found is None else found.groupdict()


@dataclass(slots=True)
class _Api:
    routes: list[Route]
    rate: float = 10_000.0
    burst: int = 5_000
    stage: str = "$default"
    tokens: float = 5_000.0
    at: float = 0.0


@dataclass(slots=True)
class Gateway:
    """Every HTTP API of the stack."""

    clock: Clock
    functions: Registry
    url: str = ""
    _apis: dict[str, _Api] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, api_id: str, routes: list[Route]) -> None:
        """Serve *routes*, the most literal first."""
        self._apis[api_id] = _Api(sorted(routes, key=lambda route: route.path.count("{")))

    def throttle(self, api_id: str, rate: float, burst: int, stage: str) -> None:
        """Set the token bucket of an API's stage."""
        api = self._apis[api_id]
        api.rate, api.burst, api.tokens, api.stage = rate, burst, float(burst), stage

    def local(self, text: str) -> str:
        """Return *text* with the addresses of our APIs as they are here."""
        for api_id in self._apis:
            away = f"https://{api_id}.execute-api.{REGION}.amazonaws.com"
            text = text.replace(away, f"{self.url}{PREFIX}{api_id}")
        return text

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one request whose path begins with the prefix."""
        parts = urlsplit(path)
        api_id, _, rest = parts.path.removeprefix(PREFIX).partition("/")
        api = self._apis.get(api_id)
        route_path = "/" + rest
        if api is None:
            return _said(403, "Forbidden")
        if not self._admitted(api):
            return _said(429, "Too Many Requests")
        if len(body) > LARGEST_BODY:
            return _said(413, "Request Entity Too Large")
        for route in api.routes:
            found = route.match(method, route_path)
            if found is not None:
                event = self._event(api_id, api, route, method, parts, headers, body, found)
                return self._invoke(route.function, event)
        return _said(404, "Not Found")

    def _admitted(self, api: _Api) -> bool:
        with self._lock:
            now = self.clock.at()
            api.tokens = min(api.tokens + (now - api.at) * api.rate, float(api.burst))
            api.at = now
            if api.tokens < 1.0:
                return False
            api.tokens -= 1.0
            return True

    def _event(
        self,
        api_id: str,
        api: _Api,
        route: Route,
        method: str,
        parts: Any,
        headers: Mapping[str, str],
        body: bytes,
        path_parameters: Mapping[str, str],
    ) -> dict[str, Any]:
        """Return the request in payload format 2.0."""
        path = "/" + parts.path.removeprefix(PREFIX).partition("/")[2]
        now = self.clock.now()
        try:
            text, encoded = body.decode("utf-8"), False
        except UnicodeDecodeError:
            text, encoded = base64.b64encode(body).decode(), True
        folded = {key.lower(): value for key, value in headers.items()}
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": f"{route.method} {route.path}",
            "rawPath": path,
            "rawQueryString": parts.query,
            "headers": folded,
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": api_id,
                "domainName": f"{api_id}.execute-api.{REGION}.amazonaws.com",
                "domainPrefix": api_id,
                "http": {
                    "method": method,
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1",
                    "userAgent": folded.get("user-agent", ""),
                },
                "requestId": str(uuid.uuid4()),
                "routeKey": f"{route.method} {route.path}",
                "stage": api.stage,
                "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
                "timeEpoch": int(now.timestamp() * 1000),
            },
            "isBase64Encoded": encoded,
        }
        if text:
            event["body"] = text
        if parts.query:
            event["queryStringParameters"] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if path_parameters:
            event["pathParameters"] = {
                key: unquote(value) for key, value in path_parameters.items()
            }
        return event

    def _invoke(self, function: Function, event: dict[str, Any]) -> Reply:
        try:
            outcome = self.functions.invoke(function, event)
        except TooManyRequests:
            return _said(503, "Service Unavailable")
        if outcome.error is not None:
            return _said(500, "Internal Server Error")
        return _response(outcome.payload)


def _response(payload: Any) -> Reply:
    """Return what a function's payload means; one without statusCode is the body itself."""
    if not isinstance(payload, dict) or "statusCode" not in payload:
        body = payload if isinstance(payload, str) else json.dumps(payload)
        return 200, _JSON, body.encode()
    body = payload.get("body") or ""
    raw = base64.b64decode(body) if payload.get("isBase64Encoded") else str(body).encode()
    headers = {str(key): str(value) for key, value in (payload.get("headers") or {}).items()}
    headers.setdefault("Content-Type", "application/json")
    return int(payload["statusCode"]), headers, raw


def _said(status: int, message: str) -> Reply:
    return status, _JSON, json.dumps({"message": message}).encode()
