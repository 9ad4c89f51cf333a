"""A function's requests to the API of its own process: the same answers, without a socket."""

from __future__ import annotations

from outrider.local.kube import nearby
from outrider.local.kube.messages import Answer, HttpRequest

HEADERS = {"Authorization": "Bearer t", "Accept": "application/json"}


class Gateway:
    """An API that keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[HttpRequest] = []
        self._answer = answer

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer the same every time."""
        self.asked.append(request)
        return self._answer


def test_the_same_request_and_answer() -> None:
    """Method, target, headers and body arrive; status, headers and body come back."""
    gateway = Gateway(Answer(429, b'{"kind":"Status"}', headers={"Retry-After": "1"}))
    found = nearby.ask(gateway, "post", "/api/v1/pods?limit=1", headers=HEADERS, body="{}")
    assert found is not None
    assert gateway.asked == [
        HttpRequest(
            "POST",
            "/api/v1/pods?limit=1",
            {"authorization": "Bearer t", "accept": "application/json"},
            b"{}",
        )
    ]
    assert (found.status, found.data) == (429, b'{"kind":"Status"}')
    assert found.headers["Retry-After"] == "1"
    assert found.headers["Content-Type"] == "application/json"


def test_an_answer_that_is_read_later() -> None:
    """A client that reads piece by piece gets the whole body so."""
    found = nearby.ask(Gateway(Answer(body=b"abcdef")), "GET", "/x", preload_content=False)
    assert found is not None
    assert (found.read(4), found.read()) == (b"abcd", b"ef")


def test_what_lasts_goes_over_the_socket() -> None:
    """A watch, or a body that is a stream, is left to a connection."""
    gateway = Gateway(Answer())
    assert nearby.ask(gateway, "GET", "/api/v1/pods?watch=true") is None
    assert nearby.ask(gateway, "PUT", "/api/v1/pods/a", body=iter([b"{}"])) is None
    assert gateway.asked == []
