"""What goes over HTTP, without sockets: a request, an answer, a query, and what a path names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from outrider.local.kube.objects import Key
from outrider.local.kube.resources import Resource
from outrider.local.kube.status import bad_request

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(slots=True)
class Answer:
    """One answer; *stream* replaces *body* for a watch."""

    code: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What a path names."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """Return the key of the object named."""
        return self.namespace, self.name


class Query:
    """Query parameters, the last value of each."""

    def __init__(self, text: str) -> None:
        self._values = {
            name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()
        }

    def text(self, name: str) -> str:
        """Return a parameter, "" where it is absent."""
        return self._values.get(name, "")

    def flag(self, name: str) -> bool:
        """Tell whether a parameter is true."""
        return self._values.get(name, "").lower() in {"true", "1"}

    def number(self, name: str) -> int | None:
        """Return an integer parameter, None where it is absent."""
        text = self._values.get(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise bad_request(f"strconv.ParseInt: parsing {name}={text}: invalid syntax") from None
