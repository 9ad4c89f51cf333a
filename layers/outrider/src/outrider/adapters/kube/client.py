"""The way to the Kubernetes API: one keep-alive connection, a bearer token, bounded retries.

Two transports share it. Hot reads go through urllib3 and orjson in pages that are handed on item
by item: a LIST of 10,000 pods costs a quarter of what the typed client takes, and never holds more
than one page of raw JSON. Everything else goes through the official `kubernetes` package
(`official`), imported on the first write, since it costs more than half a second. In the embedded
cloud the same path leads to the embedded API.

Every write of ours is repeatable, so one rule of retries serves reads and writes: no answer, 429
and 5xx are tried again, as `Retry-After` or a doubling wait says; a 401 is tried once with a new
token. Writes that do not depend on each other may be on their way together (`together`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import urllib3

from outrider.adapters.kube import errors
from outrider.errors import Gone, Unreachable

PAGE = 500
TIMEOUT = urllib3.Timeout(connect=3.0, read=15.0)
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API server is, the certificate authority (PEM) that vouches for it, and the files
    of a client's certificate and key where it asks for one. One that is not *verified* is so by
    its owner's wish (`insecure-skip-tls-verify` of a kubeconfig).
    """

    url: str
    ca_pem: str = ""
    certificate: tuple[str, str] | None = None
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    retry_after: float | None = None


@dataclass
class Client:
    """A connection to one API server; `endpoint` is asked once, on first use."""

    endpoint: Callable[[], Endpoint]
    token: Callable[[], str]
    sleep: Callable[[float], None]
    writers: int = 1

    def get(self, path: str, **parameters: str) -> Any:
        """Return the object, or the list, at *path*."""

        def ask(token: str) -> Answer:
            response = self._pool.request(
                "GET",
                self._server.url + path,
                fields=parameters,
                headers={
                    **({"authorization": f"Bearer {token}"} if token else {}),
                    "accept": JSON,
                    "accept-encoding": "gzip",
                },
                timeout=TIMEOUT,
                retries=False,
            )
            return Answer(response.status, response.data, _retry_after(response.headers))

        return orjson.loads(self._persist(ask, f"GET {path}").body)

    def items(self, path: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """Yield the items of the list at *path*, page by page.

        A list whose place has expired (410) is begun again, once.
        """
        try:
            yield from self._pages(path, parameters)
        except Gone as error:
            if error.status != 410:
                raise
            yield from self._pages(path, parameters)

    def send(
        self, method: str, path: str, body: Any = None, *, content_type: str = JSON
    ) -> dict[str, Any]:
        """Send a write through the official client and return what the server made of it."""
        official = self._official

        def ask(token: str) -> Answer:
            headers = {
                "Authorization": f"Bearer {token}",
                "Accept": JSON,
                "Content-Type": content_type,
            }
            request = official.param_serialize(method, path, header_params=headers, body=body)
            response = official.call_api(*request, _request_timeout=(3.0, 15.0))
            return Answer(response.status, response.read(), _retry_after(response.headers))

        answer = self._persist(ask, f"{method} {path}")
        content: dict[str, Any] = orjson.loads(answer.body) if answer.body else {}
        return content

    def together(self, writes: Sequence[Callable[[], None]]) -> None:
        """Make all *writes*, `writers` at a time; the first that fails, in their order, is raised
        once the others have ended.
        """
        if self.writers < 2 or len(writes) < 2:
            for write in writes:
                write()
            return
        with ThreadPoolExecutor(min(self.writers, len(writes))) as pool:
            started = [pool.submit(write) for write in writes]
        for one in started:
            one.result()

    def _pages(self, path: str, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        place = ""
        while True:
            paging = {"limit": str(PAGE), **({"continue": place} if place else {})}
            page = self.get(path, **parameters, **paging)
            place = (page.get("metadata") or {}).get("continue") or ""
            items = page.get("items") or []
            del page  # the raw page may go as soon as its items are projected
            yield from items
            if not place:
                return

    def _persist(self, ask: Callable[[str], Answer], asked: str) -> Answer:
        """Return the first good answer to *ask*, within ATTEMPTS tries."""
        wait = FIRST_WAIT_SECONDS
        trouble: Exception = Unreachable(f"{asked}: no answer")
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(wait)
                wait = min(wait * 3, LONGEST_WAIT_SECONDS)
            try:
                answer = ask(self.token())
            except urllib3.exceptions.HTTPError as error:
                trouble = Unreachable(f"{asked}: {error}")
                trouble.__cause__ = error
                continue
            if answer.status < 400:
                return answer
            trouble = errors.of(answer.status, answer.body, asked)
            unknown = answer.status == 401 and attempt == 0  # STS may be a moment behind
            if not unknown and not isinstance(trouble, Unreachable):
                raise trouble
            wait = min(max(wait, answer.retry_after or 0.0), LONGEST_WAIT_SECONDS)
        raise trouble

    @cached_property
    def _server(self) -> Endpoint:
        return self.endpoint()

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        authority, certificate = self._server.ca_pem, self._server.certificate
        return urllib3.PoolManager(
            maxsize=2,  # reads go one after the other
            cert_reqs="CERT_REQUIRED" if self._server.verified else "CERT_NONE",
            ca_cert_data=authority or None,
            cert_file=certificate[0] if certificate else None,
            key_file=certificate[1] if certificate else None,
        )

    @cached_property
    def _official(self) -> Any:
        """Return the official client's ApiClient; its 250 typed models stay unloaded."""
        from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415 - 0.6 s of import

        configuration = Configuration(host=self._server.url)
        configuration.ca_cert_data = self._server.ca_pem or None
        configuration.retries = False
        return ApiClient(configuration)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for."""
    try:
        return float(headers.get("Retry-After", ""))
    except ValueError:
        return None
