"""Registries outside ECR: what they show without a login, and how they say no."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import urllib3

from outrider.adapters.aws.registry import Registry, place
from outrider.adapters.aws.session import Session
from outrider.errors import CloudError, Denied, NotFound

DIGEST = "sha256:" + "1" * 64
BEARER = 'Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull"'


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the body."""
        return json.loads(json.dumps(self.body))


def _manifest(*sizes: int) -> dict[str, Any]:
    return {"schemaVersion": 2, "layers": [{"size": size} for size in sizes]}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> tuple[Registry, list[Any]]:
    """Return a registry's client, and the list of answers that it will get."""
    made, answers = Registry(Session("us-east-1")), []

    def get(_url: str, _headers: object, _fields: object = None) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(made, "_get", get)
    return made, answers


def test_a_public_image_is_measured(registry: tuple[Registry, list[Any]]) -> None:
    """With the anonymous token that registries give to everybody."""
    made, answers = registry
    shown = Answer(200, _manifest(5, 7), {"Docker-Content-Digest": DIGEST})
    answers += [
        Answer(401, headers={"WWW-Authenticate": BEARER}),
        Answer(200, {"token": "t"}),
        shown,
    ]
    found = made.image("quay.io/a/b:1")
    assert (found.digest, found.compressed_bytes) == (DIGEST, 12)


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ([Answer(404)], NotFound, "quay.io has no image a/b:1"),
        ([Answer(403)], Denied, "does not let us read a/b"),
        ([Answer(401)], Denied, "quay.io wants a login, and builders have none"),
        (
            [
                Answer(401, headers={"WWW-Authenticate": BEARER}),
                Answer(200, {"token": "t"}),
                Answer(401),
            ],
            Denied,
            "does not let us read a/b",
        ),
        ([Answer(200, _manifest(1))], NotFound, "has no image"),
        ([urllib3.exceptions.HTTPError("no route")], NotFound, "quay.io does not answer"),
        (
            [
                Answer(
                    200,
                    {"manifests": [{"platform": {"architecture": "s390x", "os": "linux"}}]},
                    {"Docker-Content-Digest": DIGEST},
                )
            ],
            NotFound,
            "no manifest for linux on amd64 or arm64",
        ),
    ],
)
def test_a_refusal_has_a_reason(
    registry: tuple[Registry, list[Any]],
    answers: list[Any],
    error: type[CloudError],
    said: str,
) -> None:
    """What is not there, not ours to see, or not for our nodes is told apart."""
    registry[1].extend(answers)
    with pytest.raises(error, match=said):
        registry[0].image("quay.io/a/b:1")


def test_short_names_are_docker_hub_s() -> None:
    """`nginx` is library/nginx:latest of Docker Hub."""
    found = place("nginx")
    assert (found.registry, found.repository, found.tag) == (
        "registry-1.docker.io",
        "library/nginx",
        "latest",
    )
