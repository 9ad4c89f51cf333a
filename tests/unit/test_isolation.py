"""The tests' own fence: nothing leaves this machine."""

from __future__ import annotations

import os
import socket

import pytest


def test_a_connection_to_the_world_is_refused_with_its_address() -> None:
    """A test that connects outwards fails at once and says where it wanted to go."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as outward,
        pytest.raises(RuntimeError, match=r"192\.0\.2\.1:443"),
    ):
        outward.connect(("192.0.2.1", 443))


def test_a_name_of_the_world_is_not_resolved() -> None:
    """A test that looks a name up fails at once."""
    with pytest.raises(RuntimeError, match=r"ec2\.us-east-1"):
        socket.getaddrinfo("ec2.us-east-1.amazonaws.com", 443)


def test_loopback_is_open() -> None:
    """Servers of ours on this machine can be reached."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_credentials_are_words() -> None:
    """No test ever holds a credential of the person who runs it."""
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    assert "AWS_PROFILE" not in os.environ
