"""The server on a socket: TLS, keep-alive, big answers, and kubelets that reach it over HTTP."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import orjson
import pytest
import urllib3
import yaml

from outrider.local.clock import ScaledClock
from outrider.local.kube import KubeAPI, Kubelets, Timings
from outrider.local.kube.chronicle import Chronicle
from outrider.local.kube.client import HttpClient, connection
from outrider.local.kube.listener import Authority
from outrider.local.kube.objects import Obj, is_true
from outrider.local.kube.status import StatusError
from outrider.local.timeline import Timeline
from tests.unit.local_kube.conftest import facts, pod, user_data

PATIENCE = 20.0


@pytest.fixture
def kube() -> Iterator[KubeAPI]:
    """Serve a cluster, a hundred times as fast as the wall."""
    clock = ScaledClock(100.0)
    kube = KubeAPI(clock, Timeline(clock))
    kube.start()
    yield kube
    kube.stop()
    clock.stop()


def told(kube: KubeAPI, storage: str, holds: Callable[[Obj], bool]) -> Obj:
    """Wait until an object of *storage* is as it should be, and return it."""
    seen: SimpleQueue[Obj] = SimpleQueue()
    with kube.store.lock:
        for one in kube.store.objects(storage):
            seen.put(one)
        kube.store.subscribe(storage, lambda change: seen.put(change.entry.object))
    try:
        while not holds(found := seen.get(timeout=PATIENCE)):
            pass
    except Empty:
        raise AssertionError(f"no such {storage}") from None
    return found


def connect(kube: KubeAPI) -> ssl.SSLSocket:
    """Open a verified TLS connection."""
    context = ssl.create_default_context(cadata=kube.ca_pem)
    port = int(kube.url.rpartition(":")[2])
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return context.wrap_socket(raw, server_hostname="localhost")


def exchange(connection: ssl.SSLSocket, text: str) -> tuple[bytes, bytes]:
    """Send a request and return the answer's head and body."""
    connection.sendall(text.encode())
    with connection.makefile("rb") as stream:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = stream.readline()
            if not piece:
                break
            head += piece
        length = [
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ]
        return head, stream.read(length[0]) if length else b""


def test_a_connection_is_kept(kube: KubeAPI) -> None:
    """Several requests go over one connection, pipelined bodies and chunks included."""
    head = f"Host: localhost\r\nAuthorization: Bearer {kube.admin_token}\r\n"
    path = "/api/v1/namespaces/default/configmaps"
    body = orjson.dumps({"metadata": {"name": "c"}}).decode()
    with connect(kube) as connection:
        chunked = f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"
        start, _ = exchange(connection, f"POST {path} HTTP/1.1\r\n{head}{chunked}")
        assert start.startswith(b"HTTP/1.1 201")
        for _ in range(3):
            start, content = exchange(connection, f"GET {path}/c HTTP/1.1\r\n{head}\r\n")
            assert start.startswith(b"HTTP/1.1 200")
            assert orjson.loads(content)["metadata"]["name"] == "c"


@pytest.mark.parametrize(
    "text",
    [
        "rubbish\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(kube: KubeAPI, text: str) -> None:
    """A malformed request gets 400 and the end of its connection; the server lives on."""
    with connect(kube) as connection:
        assert exchange(connection, text)[0].startswith(b"HTTP/1.1 400")
        assert connection.recv(1) == b""
    with connect(kube) as connection:
        assert exchange(connection, "GET /readyz HTTP/1.1\r\n\r\n")[1] == b"ok"


def test_plain_text_does_not_hurt(kube: KubeAPI) -> None:
    """A client that does not speak TLS is dropped, and others are served."""
    port = int(kube.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert not raw.recv(100).startswith(b"HTTP/1.1 200")
    with connect(kube) as connection:
        assert exchange(connection, "GET /readyz HTTP/1.1\r\n\r\n")[1] == b"ok"


def test_big_answers_are_compressed(kube: KubeAPI) -> None:
    """A list of some size comes gzipped to those who accept that."""
    kube.apply(*[pod(f"p{number}") for number in range(300)])
    context = ssl.create_default_context(cadata=kube.ca_pem)
    headers = {"Authorization": f"Bearer {kube.admin_token}", "Accept-Encoding": "gzip"}
    with urllib3.PoolManager(ssl_context=context) as pool:
        answer = pool.request("GET", f"{kube.url}/api/v1/pods", headers=headers)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(orjson.loads(answer.data)["items"]) == 300


def test_the_kubeconfig_says_where_and_who(kube: KubeAPI) -> None:
    """The kubeconfig has the server, its authority and the administrator's token."""
    config: dict[str, Any] = yaml.safe_load(kube.kubeconfig())
    assert config["clusters"][0]["cluster"]["server"] == kube.url
    assert config["users"][0]["user"]["token"] == kube.admin_token


def test_a_client_s_certificate_is_read_and_left_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What kind and minikube write: certificate and key stand in the file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    certificate, key = (base64.b64encode(one).decode() for one in Authority("me").server_pem())
    user = {"client-certificate-data": certificate, "client-key-data": key}
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    server, headers, _context = connection(path)
    assert (server, headers) == ("https://127.0.0.1:1", {})
    assert [one.name for one in tmp_path.iterdir()] == ["kubeconfig"]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_a_token_may_come_from_a_command_and_a_server_go_unverified(
    kube: KubeAPI, tmp_path: Path
) -> None:
    """What `aws eks update-kubeconfig` writes leads here as well, and what kind writes."""
    config = yaml.safe_load(kube.kubeconfig())
    token = json.dumps({"status": {"token": config["users"][0]["user"]["token"]}})
    plugin = {"command": sys.executable, "args": ["-c", f"print({token!r})"]}
    config["users"][0]["user"] = {"exec": plugin}
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(StatusError, match="CERTIFICATE_VERIFY_FAILED"):
        HttpClient(path, kube.clock).get("pods", ("default", "p"))
    config["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    path.write_text(yaml.safe_dump(config))
    assert HttpClient(path, kube.clock).get("pods", ("default", "p")) is None


def test_kubelets_work_over_http(kube: KubeAPI, tmp_path: Path) -> None:
    """Kubelets for an API server that exists: a Node joins, a pod runs, and it leaves."""
    path = tmp_path / "kubeconfig"
    path.write_text(kube.kubeconfig())
    timeline = Timeline(kube.clock)
    client = HttpClient(path, kube.clock)
    quick = Timings(join_jitter=0.0)
    kubelets = Kubelets(
        client, kube.clock, timeline, Chronicle(timeline), cluster_name="local", timings=quick
    )
    kubelets.endpoint = kube.url
    kubelets.instance_running(facts(user_data=user_data(endpoint=kube.url)))
    told(kube, "nodes", lambda one: is_true(one, "Ready"))
    kube.apply(pod("p"))
    told(kube, "pods", lambda one: one["status"]["phase"] == "Running")
    assert client.get("pods", ("default", "p")) is not None
    client.delete("pods", ("default", "p"))
    gone: SimpleQueue[str] = SimpleQueue()
    with kube.store.lock:
        if not kube.store.objects("pods"):
            gone.put("DELETED")
        kube.store.subscribe("pods", lambda change: gone.put(change.type))
    while gone.get(timeout=PATIENCE) != "DELETED":
        pass
    assert client.get("pods", ("default", "p")) is None


def test_a_notice_that_fails_ends_no_watch(kube: KubeAPI, tmp_path: Path) -> None:
    """Whoever watches hears of all others though it stumbles over one again and again."""
    path = tmp_path / "kubeconfig"
    path.write_text(kube.kubeconfig())
    heard: SimpleQueue[str] = SimpleQueue()

    def notice(_kind: str, one: Obj, _before: Obj | None) -> None:
        name = one["metadata"]["name"]
        if name == "stone":
            raise RuntimeError(name)
        heard.put(name)

    kube.apply(pod("stone"), pod("there"))
    HttpClient(path, kube.clock).subscribe("pods", notice)
    assert heard.get(timeout=PATIENCE) == "there"
    kube.apply(pod("next"))
    while heard.get(timeout=PATIENCE) != "next":
        pass


def test_words_of_an_api_server_are_a_refusal_too(
    kube: KubeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter before the API answers in words, not with a Status."""
    path = tmp_path / "kubeconfig"
    path.write_text(kube.kubeconfig())
    client = HttpClient(path, kube.clock)
    said = urllib3.HTTPResponse(b"Too many requests, please try again later.", status=429)
    monkeypatch.setattr(urllib3.PoolManager, "request", lambda *_, **__: said)
    with pytest.raises(StatusError, match="Too many requests") as refusal:
        client.get("pods", ("default", "p"))
    assert refusal.value.code == 429
