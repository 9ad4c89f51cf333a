"""AWS requests and answers on the wire, for the operations that the embedded cloud answers itself.

botocore's service models say what a request means and how an answer is written; moto's parser and
serialiser work by them, so an operation here is a plain function from parameters to a result. Knows
which service and operation a request names (credential scope, X-Amz-Target, Action, REST path);
refuses to know what any operation does.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from moto.core.exceptions import ServiceException
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request as MotoRequest
from moto.core.request import determine_request_protocol
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model

Answer = tuple[int, dict[str, str], bytes]

# The credential scope says `states`, botocore's model is called `stepfunctions`.
_MODELS = {
    "states": "stepfunctions",
    "monitoring": "cloudwatch",
    "api.ecr": "ecr",
    "servicequotas": "service-quotas",
}
_SCOPE = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_CBOR_PATH = re.compile(r"^/service/[^/]+/operation/(\w+)$")
# Services whose operation is in the path; the rest name it in a header or in the body.
_REST = frozenset({"lambda", "eks", "scheduler", "s3", "efs", "pipes"})


class Refused(ServiceException):  # type: ignore[misc]
    """An operation says no, with AWS's own error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)


@dataclass(slots=True)
class Call:
    """One request to an AWS API, as far as it is understood before it is served."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    service: str = ""
    operation: str = ""
    access_key: str = ""
    region: str = "us-east-1"
    path_values: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return `service:Operation`, as faults and policies write it."""
        return f"{self.service}:{self.operation}"


def understand(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Return the call that a request makes; service and operation are empty where it names none."""
    folded = {key.lower(): value for key, value in headers.items()}
    call = Call(method, url, folded, body)
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    signed = (
        folded.get("authorization", "") or "Credential=" + query.get("X-Amz-Credential", [""])[0]
    )
    if scope := _SCOPE.search(signed):
        call.access_key, call.region = scope[1], scope[2]
        call.service = scope[3].lower()
    target = folded.get("x-amz-target", "")
    if target:
        call.operation = target.rpartition(".")[2]
    elif cbor := _CBOR_PATH.match(parts.path):
        call.operation = cbor[1]
    elif call.service in _REST:
        call.operation, call.path_values = _rest_operation(call.service, method, parts.path)
    else:
        form = body.decode("utf-8", "replace") if body[:1] not in (b"{", b"<", b"") else ""
        action = parse_qs(form).get("Action") or query.get("Action") or [""]
        call.operation = action[0]
    return call


@lru_cache(maxsize=8)
def _rest_routes(service: str) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Return (method, path, operation) of a REST service, the most literal path first."""
    model = get_service_model(_MODELS.get(service, service))
    routes = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = urlsplit(http["requestUri"]).path.rstrip("/") or "/"
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
        pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", pattern)
        routes.append((http["method"], re.compile(f"^{pattern}/?$"), name, path.count("{")))
    routes.sort(key=lambda route: route[3])
    return tuple(route[:3] for route in routes)


def _rest_operation(service: str, method: str, path: str) -> tuple[str, dict[str, str]]:
    for verb, pattern, name in _rest_routes(service):
        if verb == method and (found := pattern.match(path)):
            return name, {key: unquote(value) for key, value in found.groupdict().items()}
    return "", {}


def parameters(call: Call) -> dict[str, Any]:
    """Return the call's parameters by the names that boto3 gives them."""
    model = get_service_model(_MODELS.get(call.service, call.service))
    operation = model.operation_model(call.operation)
    request = MotoRequest.from_primitives(call.method, call.url, call.headers, call.body)
    protocol = determine_request_protocol(model, request.content_type)
    parsed = PROTOCOL_PARSERS[protocol](operation, map_type=dict).parse(
        {
            "method": call.method,
            "values": request.values,
            "headers": request.headers,
            "body": call.body,
            "url_path": request.path,
            "url_params": call.path_values,
        }
    )
    return dict(parsed)


def answer(call: Call, result: Mapping[str, Any] | Exception) -> Answer:
    """Return *result*, or an error, as the service would write it."""
    model = get_service_model(_MODELS.get(call.service, call.service))
    operation = model.operation_model(call.operation)
    protocol = determine_request_protocol(model, call.headers.get("content-type", ""))
    serializer = get_serializer_class(model.service_name, protocol)(operation)
    with warnings.catch_warnings():
        # Every service may throttle, also where its model does not list the error.
        warnings.filterwarnings("ignore", message="Exception", category=UserWarning)
        written = serializer.serialize(result)
    body = written["body"]
    headers = {str(key): str(value) for key, value in written["headers"].items()}
    headers.setdefault("x-amzn-requestid", "00000000-0000-4000-8000-000000000000")
    return (
        int(written["status_code"]),
        headers,
        body if isinstance(body, bytes) else body.encode("utf-8"),
    )


def plain(status: int, document: Any) -> Answer:
    """Return a JSON answer outside any AWS model."""
    body = json.dumps(document, default=str).encode()
    return status, {"Content-Type": "application/json"}, body
