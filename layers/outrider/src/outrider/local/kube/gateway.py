"""From an HTTP request to an answer: who asks, and what the path names.

Authenticates by bearer token, routes resources to an Exchange, and answers discovery itself. A
refusal is an answer too, as a Status object. Refuses to know sockets, so that it can be asked
directly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

import orjson

from outrider.local.kube import discovery
from outrider.local.kube.api import API
from outrider.local.kube.exchange import Exchange
from outrider.local.kube.messages import JSON, Answer, HttpRequest, Query, Route
from outrider.local.kube.objects import Obj, User
from outrider.local.kube.rbac import Attributes
from outrider.local.kube.status import (
    StatusError,
    forbidden,
    method_not_allowed,
    no_such_path,
    unauthorized,
)

log = logging.getLogger("outrider.local.kube")

Authenticate = Callable[[str], tuple[str, tuple[str, ...]] | None]
_AUTHENTICATED = "system:authenticated"


class Gateway:
    """Answers requests for one API."""

    def __init__(self, api: API, authenticate: Authenticate) -> None:
        self.api = api
        self.address = "127.0.0.1"
        self._authenticate = authenticate

    def answer(self, request: HttpRequest) -> Answer:
        """Answer *request*; a refusal is an answer too."""
        try:
            parts = urlsplit(request.target)
            return self._answer(request, unquote(parts.path), Query(parts.query))
        except StatusError as refusal:
            headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
            return Answer(refusal.code, orjson.dumps(refusal.body()), headers=headers)
        except Exception as cause:
            log.exception("%s %s failed", request.method, request.target)
            broken = StatusError(500, "InternalError", f"Internal error occurred: {cause!r}")
            return Answer(500, orjson.dumps(broken.body()))

    def _answer(self, request: HttpRequest, path: str, query: Query) -> Answer:
        if path in {"/healthz", "/livez", "/readyz"}:
            return Answer(body=b"ok", content_type="text/plain; charset=utf-8")
        user = self._user(request.headers)
        steps = [step for step in path.split("/") if step]
        route = self._route(steps)
        if route is None:
            return self._about(request, path, steps, user)
        return Exchange(self.api, request, route, query, user).answer()

    def _user(self, headers: Mapping[str, str]) -> User:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = self._authenticate(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise unauthorized()
        name, groups = found
        if _AUTHENTICATED not in groups:
            groups = (*groups, _AUTHENTICATED)
        return self._impersonated(User(name, tuple(groups)), headers)

    def _impersonated(self, user: User, headers: Mapping[str, str]) -> User:
        """Return whom *user* acts for (`kubectl --as`), if that is allowed."""
        name = headers.get("impersonate-user")
        if not name:
            return user
        wanted = Attributes(verb="impersonate", resource="users", name=name)
        if not self.api.authoriser.allows(user, wanted):
            raise forbidden("users", "", name, wanted.described(user))
        groups = [one.strip() for one in headers.get("impersonate-group", "").split(",")]
        return User(name, (*filter(None, groups), _AUTHENTICATED))

    def _about(self, request: HttpRequest, path: str, steps: list[str], user: User) -> Answer:
        """Answer what is no resource: discovery, version, OpenAPI."""
        verb = request.method.lower()
        if not self.api.authoriser.allows_path(user, path, verb):
            raise StatusError(403, "Forbidden", f'User "{user.name}" cannot {verb} path "{path}"')
        if request.method != "GET":
            raise method_not_allowed(
                "the server does not allow this method on the requested resource"
            )
        if steps == ["openapi", "v2"] and "json" not in request.headers.get("accept", JSON):
            return Answer(
                body=discovery.openapi_v2_message(), content_type=discovery.OPENAPI_V2_MESSAGE
            )
        found = self._document(steps)
        if found is None:
            raise no_such_path()
        return Answer(body=orjson.dumps(found))

    def _document(self, steps: list[str]) -> Obj | None:
        table = self.api.table
        match steps:
            case ["api", version]:
                return discovery.resources(table, "", version)
            case ["apis", group]:
                return discovery.group(table, group)
            case ["apis", group, version]:
                return discovery.resources(table, group, version)
            case ["openapi", "v3", *rest] if rest:
                return discovery.openapi(table, "/".join(rest))
            case _:
                fixed = self._fixed_documents().get("/".join(steps))
                return fixed() if fixed else None

    def _fixed_documents(self) -> dict[str, Callable[[], Obj]]:
        table = self.api.table
        roots = ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]
        return {
            "": lambda: {"paths": roots},
            "api": lambda: discovery.versions(self.address),
            "apis": lambda: discovery.groups(table),
            "version": lambda: dict(discovery.VERSION),
            "openapi/v2": discovery.openapi_v2,
            "openapi/v3": lambda: discovery.openapi_index(table),
        }

    def _route(self, steps: list[str]) -> Route | None:
        match steps:
            case ["api", version, *rest] if rest:
                group = ""
            case ["apis", group, version, *rest] if rest:
                pass
            case _:
                return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        resource = self.api.table.find(group, version, rest[0])
        if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
            raise no_such_path()
        name, subresource = [*rest[1:], "", ""][:2]
        if subresource and subresource not in resource.subresources:
            raise no_such_path()
        if name and resource.namespaced and not namespace:
            raise no_such_path()
        return Route(resource, namespace, name, subresource)


__all__ = ["Answer", "Authenticate", "Gateway", "HttpRequest"]
