"""The socket side of the API: TLS on loopback, HTTP/1.1 with keep-alive, one thread a connection.

Small on purpose: request line, headers, a body with a length or in chunks, answers with a length,
watches in chunks, gzip for large answers when it is accepted. The certificate authority is made at
start and lives in memory; its dates are fixed and wide, because TLS clients look at the wall's
clock and this cloud does not. Refuses to know Kubernetes.
"""

from __future__ import annotations

import contextlib
import gzip
import ipaddress
import logging
import select
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.local.kube.gateway import Answer, HttpRequest


class Readable(Protocol):
    """The reading side of a connection."""

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, at most *size* bytes of it."""


log = logging.getLogger("outrider.local.kube")

_GZIP_FROM = 128 * 1024  # as kube-apiserver
_MAX_BODY = 16 * 1024 * 1024
_MAX_LINE = 64 * 1024
_HANDSHAKE_SECONDS = 10.0
_VALID = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class BadRequestError(Exception):
    """The bytes are no HTTP request."""


class Authority:
    """A certificate authority in memory, with one server certificate for loopback."""

    def __init__(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        authority = (
            _unsigned(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        self._server_key = ec.generate_private_key(ec.SECP256R1())
        self._server = (
            _unsigned(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]),
                subject,
                self._server_key.public_key(),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        *(x509.DNSName(one) for one in _NAMES),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        self.pem = authority.public_bytes(serialization.Encoding.PEM).decode()

    def server_pem(self) -> tuple[bytes, bytes]:
        """Return the server's certificate and its private key."""
        key = self._server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return self._server.public_bytes(serialization.Encoding.PEM), key

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS context of the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        with tempfile.TemporaryDirectory(prefix="outrider-tls-") as folder:
            path = Path(folder) / "server.pem"  # the ssl module reads certificates from files only
            path.write_bytes(b"".join(self.server_pem()))
            context.load_cert_chain(path)
        return context


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID[0])
        .not_valid_after(_VALID[1])
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Listener:
    """Accepts connections and answers their requests by *respond*."""

    def __init__(self, respond: Callable[[HttpRequest], Answer], authority: Authority) -> None:
        self._respond = respond
        self._context = authority.server_context()
        self._socket: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self, port: int) -> int:
        """Listen on 127.0.0.1 at *port*, or at a free one for 0; return the port."""
        listening = socket.create_server(("127.0.0.1", port), backlog=256)
        self._socket = listening
        threading.Thread(
            target=self._accept, args=(listening,), name="kube-accept", daemon=True
        ).start()
        bound: int = listening.getsockname()[1]
        return bound

    def stop(self) -> None:
        """Close the port and every connection."""
        listening, self._socket = self._socket, None
        if listening is not None:
            _shut(listening)
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            _shut(connection, close=False)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), name="kube-conn", daemon=True
            ).start()

    def _serve(self, raw: socket.socket) -> None:
        connection = raw
        with self._lock:
            self._connections.add(raw)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.settimeout(_HANDSHAKE_SECONDS)
            connection = self._context.wrap_socket(raw, server_side=True)
            connection.settimeout(None)
            with self._lock:
                self._connections.discard(raw)
                self._connections.add(connection)
            with connection.makefile("rb", 65536) as stream:
                while self._socket is not None and self._exchange(connection, stream):
                    pass
        except (OSError, ValueError):
            pass  # the peer went away, or never spoke TLS
        finally:
            with self._lock:
                self._connections -= {raw, connection}
            _shut(connection)

    def _exchange(self, connection: socket.socket, stream: Readable) -> bool:
        """Answer one request; return whether the connection goes on."""
        try:
            request = _read_request(connection, stream)
        except BadRequestError as cause:
            connection.sendall(_head(400, {"Connection": "close", "Content-Length": "0"}))
            log.info("bad request: %s", cause)
            return False
        if request is None:
            return False
        answer = self._respond(request)
        keep = request.headers.get("connection", "").lower() != "close"
        if answer.stream is not None:
            self._stream(connection, answer)
            return False
        headers = {"Content-Type": answer.content_type, **answer.headers}
        body = answer.body
        if len(body) >= _GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(body))
        if not keep:
            headers["Connection"] = "close"
        head = _head(answer.code, headers)
        if request.method == "HEAD":
            body = b""
        if len(body) < _GZIP_FROM:
            connection.sendall(head + body)
        else:
            connection.sendall(head)
            connection.sendall(body)
        return keep

    def _stream(self, connection: socket.socket, answer: Answer) -> None:
        stream = answer.stream
        assert stream is not None  # noqa: S101 - the caller looked
        try:
            headers = {"Content-Type": answer.content_type, "Transfer-Encoding": "chunked"}
            connection.sendall(_head(answer.code, {**headers, "Connection": "close"}))
            for piece in stream:
                if piece:
                    connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                elif self._socket is None or _has_left(connection):
                    return
            connection.sendall(b"0\r\n\r\n")
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()


def _shut(connection: socket.socket, *, close: bool = True) -> None:
    with contextlib.suppress(OSError):  # it was never connected, or is closed already
        connection.shutdown(socket.SHUT_RDWR)
    if close:
        connection.close()


def _has_left(connection: socket.socket) -> bool:
    # A client that watches sends nothing more: readable means that it closed its side.
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)


def _head(code: int, headers: dict[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {code} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _read_request(connection: socket.socket, stream: Readable) -> HttpRequest | None:
    line = stream.readline(_MAX_LINE)
    while line in {b"\r\n", b"\n"}:
        line = stream.readline(_MAX_LINE)
    if not line:
        return None
    try:
        method, target, _version = line.decode("latin-1").split()
    except ValueError:
        raise BadRequestError("malformed request line") from None
    headers: dict[str, str] = {}
    while True:
        line = stream.readline(_MAX_LINE)
        if line in {b"\r\n", b"\n"}:
            break
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or len(headers) > 200:
            raise BadRequestError("malformed header")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return HttpRequest(method.upper(), target, headers, _read_body(stream, headers))


def _read_body(stream: Readable, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _read_chunks(stream)
    text = headers.get("content-length", "0")
    if not text.isdigit() or int(text) > _MAX_BODY:
        raise BadRequestError(f"bad Content-Length: {text}")
    body = stream.read(int(text))
    if len(body) != int(text):
        raise BadRequestError("the body ended early")
    if headers.get("content-encoding", "").lower() == "gzip":
        return gzip.decompress(body)
    return body


def _read_chunks(stream: Readable) -> bytes:
    pieces: list[bytes] = []
    total = 0
    while True:
        size = int(stream.readline(_MAX_LINE).split(b";")[0] or b"0", 16)
        total += size
        if total > _MAX_BODY:
            raise BadRequestError("the body is too large")
        if size == 0:
            while stream.readline(_MAX_LINE) not in {b"\r\n", b"\n", b""}:
                pass
            return b"".join(pieces)
        pieces.append(stream.read(size))
        stream.readline(_MAX_LINE)
