"""What holds for every test: no network but loopback, no account, no accidental configuration.

The fence falls only where KUBECONFIG_CONFORMANCE names an API server. It sits below everything
that opens a connection, so that a forgotten fake is an error with
the address in it and not a slow test. Children get the environment too, with words for credentials.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

REGION = "us-east-1"
LOOPBACK_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})
# Whatever the person at the keyboard has configured must not reach a test.
UNSET = (
    "AWS_CONFIG_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "KUBECONFIG",
)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "SAM_CLI_TELEMETRY": "0",
}


class NetworkBlockedError(RuntimeError):
    """A test reached for the world."""


def _is_loopback(host: str) -> bool:
    if host in LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _guard_address(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return socket's *function*, refusing addresses outside this machine."""

    def guarded(self: socket.socket, address: Any) -> Any:
        local = self.family == getattr(socket, "AF_UNIX", None)
        if not local and not _is_loopback(str(address[0])):
            raise NetworkBlockedError(f"a test reached for {address[0]}:{address[1]}")
        return function(self, address)

    return guarded


def _guard_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return getaddrinfo's *function*, refusing to resolve names outside this machine."""

    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_loopback(str(name)) and str(name) != "0.0.0.0":
            raise NetworkBlockedError(f"a test looked up {name}")
        return function(host, *args, **kwargs)

    return guarded


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-golden`: write what came out where golden files say what should."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite golden files with what the code gives now; read the diff before committing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Close the network and the environment before anything is imported by a test."""
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT)
    if "KUBECONFIG_CONFORMANCE" in os.environ:
        return  # the API server that was named may be anywhere
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _guard_address(socket.socket.connect))
    patch.setattr(socket.socket, "connect_ex", _guard_address(socket.socket.connect_ex))
    patch.setattr(socket, "getaddrinfo", _guard_name(socket.getaddrinfo))
    config.add_cleanup(patch.undo)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Return whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))
