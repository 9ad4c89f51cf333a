"""Calling admission webhooks, mutating first and validating after, as kube-apiserver does.

Which webhook is asked: its rules (with `matchPolicy: Equivalent`, an object that another version of
the same resource would match is converted to that version), namespaceSelector, objectSelector and
CEL matchConditions. What its silence means: failurePolicy. An answer whose uid is not the request's
is no answer. Calls are made without any lock held; a loopback URL may be plain http, because the
embedded cloud's HttpApi is. Refuses to know what is admitted.
"""

from __future__ import annotations

import base64
import logging
import ssl
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
import urllib3

from outrider.local.kube.cel import ExpressionError, expression
from outrider.local.kube.conversion import to_served, to_stored
from outrider.local.kube.objects import Obj, User, labels_of
from outrider.local.kube.patch import json_patch
from outrider.local.kube.resources import Resource, ResourceTable
from outrider.local.kube.selectors import LabelTest, structured
from outrider.local.kube.status import StatusError, bad_request, internal
from outrider.local.kube.store import Change, Store

log = logging.getLogger("outrider.local.kube")

VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
_OWN_GROUP = "admissionregistration.k8s.io"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class NoAnswerError(Exception):
    """The webhook could not be asked, or did not answer properly."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is about to be written, in the version in which it was sent."""

    operation: str  # CREATE, UPDATE, DELETE, CONNECT
    resource: Resource
    subresource: str
    namespace: str
    name: str
    user: User
    object: Obj | None
    old: Obj | None
    dry_run: bool
    options: Obj


class Transport(Protocol):
    """How a review reaches a webhook; replaced in tests."""

    def __call__(self, client_config: Obj, body: bytes, seconds: float) -> bytes:
        """POST *body* and return the answer's body, or raise NoAnswerError."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One entry of a webhook configuration, its selectors compiled."""

    spec: Obj
    mutating: bool
    namespaces: LabelTest
    objects: LabelTest

    @property
    def name(self) -> str:
        """Return the webhook's name."""
        name: str = self.spec["name"]
        return name

    @property
    def lenient(self) -> bool:
        """Tell whether silence is consent."""
        return bool(self.spec.get("failurePolicy") == "Ignore")


class Webhooks:
    """Every webhook that the cluster has configured, and the way to ask them."""

    def __init__(
        self, store: Store, table: ResourceTable, transport: Transport | None = None
    ) -> None:
        self._store = store
        self._table = table
        self._send: Transport = transport or HttpTransport()
        self._configured: list[Webhook] | None = None
        for storage in (VALIDATING, MUTATING):
            store.subscribe(storage, self._forget)

    def admit(self, request: Request) -> Obj | None:
        """Ask every webhook that matches; return the object as mutating ones leave it, or
        refuse.
        """
        found = self._webhooks()
        if not found or request.resource.group == _OWN_GROUP:
            return request.object
        for webhook in found:
            served = self._match(webhook, request)
            if served is None or not self._selected(webhook, request):
                continue
            request = self._ask(webhook, request, served)
        return request.object

    def _forget(self, _change: Change) -> None:
        self._configured = None

    def _webhooks(self) -> list[Webhook]:
        found = self._configured
        if found is None:
            with self._store.lock:  # no configuration may change between reading and keeping
                found = self._configured = [*self._read(MUTATING), *self._read(VALIDATING)]
        return found

    def _read(self, storage: str) -> Iterator[Webhook]:
        for configuration in sorted(
            self._store.objects(storage), key=lambda one: one["metadata"]["name"]
        ):
            for spec in configuration.get("webhooks") or ():
                yield Webhook(
                    spec=spec,
                    mutating=storage == MUTATING,
                    namespaces=structured(spec.get("namespaceSelector") or {}),
                    objects=structured(spec.get("objectSelector") or {}),
                )

    def _match(self, webhook: Webhook, request: Request) -> Resource | None:
        """Return the version in which *webhook* wants the object, None where no rule matches."""
        versions = [request.resource]
        if webhook.spec.get("matchPolicy", "Equivalent") == "Equivalent":
            same = self._table.versions(request.resource.storage)
            versions += [one for one in same if one is not request.resource]
        for version in versions:
            for rule in webhook.spec.get("rules") or ():
                if _rule_matches(rule, version, request):
                    return version
        return None

    def _selected(self, webhook: Webhook, request: Request) -> bool:
        namespace = request.namespace
        if request.resource.storage == "namespaces":
            namespace = request.name
        if namespace:
            entry = self._store.get("namespaces", ("", namespace))
            if not webhook.namespaces(labels_of(entry.object) if entry else {}):
                return False
        candidates = [one for one in (request.object, request.old) if one is not None]
        return not candidates or any(webhook.objects(labels_of(one)) for one in candidates)

    def _ask(self, webhook: Webhook, request: Request, version: Resource) -> Request:
        side_effects = webhook.spec.get("sideEffects")
        if request.dry_run and side_effects not in {"None", "NoneOnDryRun"}:
            raise bad_request(f'admission webhook "{webhook.name}" does not support dry run')
        review = self._review(request, version)
        try:
            if not _conditions_hold(webhook, review["request"]):
                return request
            answer = self._answer(webhook, review)
        except NoAnswerError as cause:
            if webhook.lenient:
                log.warning("failed calling webhook %r, failing open: %s", webhook.name, cause)
                return request
            raise internal(f'failed calling webhook "{webhook.name}": {cause}') from cause
        if not answer.get("allowed"):
            raise _denial(webhook.name, answer.get("status") or {})
        if webhook.mutating and answer.get("patch"):
            return self._patched(request, version, answer["patch"])
        return request

    def _patched(self, request: Request, version: Resource, patch: str) -> Request:
        served = to_served(request.object or {}, version)
        changed = json_patch(served, orjson.loads(base64.b64decode(patch)))
        stored = to_stored(changed, version, self._table.named(version.storage))
        return Request(
            **{
                **{name: getattr(request, name) for name in Request.__slots__},
                "object": to_served(stored, request.resource),
            }
        )

    def _review(self, request: Request, version: Resource) -> Obj:
        def shown(obj: Obj | None) -> Obj | None:
            if (
                obj is None
                or version is request.resource
                or obj.get("kind") != request.resource.kind
            ):
                return obj
            return to_served(
                to_stored(obj, request.resource, self._table.named(version.storage)), version
            )

        sent = request.resource
        body: Obj = {
            "uid": str(uuid.uuid4()),
            "kind": _kind(version),
            "resource": _resource(version),
            "requestKind": _kind(sent),
            "requestResource": _resource(sent),
            "operation": request.operation,
            "userInfo": {"username": request.user.name, "groups": list(request.user.groups)},
            "object": shown(request.object),
            "oldObject": shown(request.old),
            "dryRun": request.dry_run,
            "options": request.options,
        }
        if request.subresource:
            body["subResource"] = body["requestSubResource"] = request.subresource
        if request.name:
            body["name"] = request.name
        if request.namespace:
            body["namespace"] = request.namespace
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": body}

    def _answer(self, webhook: Webhook, review: Obj) -> Obj:
        seconds = float(webhook.spec.get("timeoutSeconds") or 10)
        body = self._send(webhook.spec.get("clientConfig") or {}, orjson.dumps(review), seconds)
        try:
            response = orjson.loads(body)["response"]
        except (ValueError, KeyError, TypeError) as cause:
            raise NoAnswerError("the answer is no AdmissionReview") from cause
        if not isinstance(response, dict) or response.get("uid") != review["request"]["uid"]:
            raise NoAnswerError("the answer's uid is not the request's")
        return response


def _kind(resource: Resource) -> Obj:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _resource(resource: Resource) -> Obj:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def _rule_matches(rule: Obj, version: Resource, request: Request) -> bool:
    def listed(name: str, value: str) -> bool:
        values = rule.get(name) or ()
        return "*" in values or value in values

    scope = rule.get("scope", "*")
    namespaced = version.namespaced
    return (
        listed("operations", request.operation)
        and listed("apiGroups", version.group)
        and listed("apiVersions", version.version)
        and scope in {"*", "Namespaced" if namespaced else "Cluster"}
        and any(
            _names(pattern, version.plural, request.subresource)
            for pattern in rule.get("resources") or ()
        )
    )


def _names(pattern: str, plural: str, subresource: str) -> bool:
    wanted, _, wanted_sub = pattern.partition("/")
    if wanted not in {"*", plural}:
        return False
    return wanted_sub in {subresource, "*"}


def _conditions_hold(webhook: Webhook, request: Obj) -> bool:
    conditions = webhook.spec.get("matchConditions") or ()
    if not conditions:
        return True
    variables = {
        "request": {
            name: value for name, value in request.items() if name not in {"object", "oldObject"}
        },
        "object": request["object"],
        "oldObject": request["oldObject"],
    }
    error: ExpressionError | None = None
    for condition in conditions:
        compiled = expression(condition["expression"])
        try:
            if compiled is not None and not compiled.holds(variables):
                return False
        except ExpressionError as cause:
            error = cause
        if compiled is None:
            error = ExpressionError(f"{condition['name']}: does not compile")
    if error is not None:
        raise NoAnswerError(f"matchConditions: {error}")
    return True


def _denial(name: str, status: Obj) -> StatusError:
    """Return the refusal that a webhook's own *status* asks for; 400 where it names no error."""
    code = max(int(status.get("code") or 0), 400)
    said = status.get("message") or status.get("reason")
    message = f'admission webhook "{name}" denied the request'
    message += f": {said}" if said else " without explanation"
    return StatusError(code, status.get("reason") or "", message)


class HttpTransport:
    """POST over urllib3, with the webhook's own CA or the system's roots."""

    def __init__(self) -> None:
        self._pools: dict[str, urllib3.PoolManager] = {}

    def __call__(self, client_config: Obj, body: bytes, seconds: float) -> bytes:
        """POST *body* to the webhook's URL and return what it answers."""
        url = client_config.get("url")
        if not url:
            raise NoAnswerError(
                "no endpoints available: the embedded cluster has no service network"
            )
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise NoAnswerError(f"{parts.scheme} is for loopback only")
        try:
            pool = self._pool(client_config.get("caBundle") or "")
            answer = pool.request(
                "POST",
                url,
                body=body,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                timeout=urllib3.Timeout(total=seconds),
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as cause:
            raise NoAnswerError(str(cause)) from cause
        if answer.status != 200:
            raise NoAnswerError(f"the server answered {answer.status}")
        data: bytes = answer.data
        return data

    def _pool(self, ca_bundle: str) -> urllib3.PoolManager:
        pool = self._pools.get(ca_bundle)
        if pool is None:
            context: Any = None
            if ca_bundle:
                context = ssl.create_default_context(cadata=base64.b64decode(ca_bundle).decode())
            pool = self._pools[ca_bundle] = urllib3.PoolManager(maxsize=16, ssl_context=context)
        return pool


Admit = Callable[[Request], Obj | None]
