"""A person's kubeconfig: which server, whose authority, which token."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider.adapters.kube import kubeconfig
from outrider.errors import Denied, InvalidManifest


def _written(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    path = folder / "config"
    encoded = base64.b64encode(b"PEM").decode()
    found = {"server": "https://example/", "certificate-authority-data": encoded, **cluster}
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": found}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def test_a_token_is_read(tmp_path: Path) -> None:
    """Server and authority of the current context, its user's token."""
    endpoint, token = kubeconfig.read(_written(tmp_path, {"token": "abc"}))
    assert (endpoint().url, endpoint().ca_pem) == ("https://example", "PEM")
    assert token() == "abc"


def test_a_token_s_file_is_read_each_time(tmp_path: Path) -> None:
    """A projected token is renewed in place."""
    _, token = kubeconfig.read(_written(tmp_path, {"tokenFile": "token"}))
    for text in ("one", "two"):
        (tmp_path / "token").write_text(f"{text}\n")
        assert token() == text


def test_a_command_gives_the_token(tmp_path: Path) -> None:
    """As `aws eks update-kubeconfig` writes it; one that fails is said."""
    script = "import json, os; print(json.dumps({'status': {'token': os.environ['WHO']}}))"
    command = {"command": sys.executable, "args": ["-c", script]}
    given = {"exec": {**command, "env": [{"name": "WHO", "value": "me"}]}}
    assert kubeconfig.read(_written(tmp_path, given))[1]() == "me"
    broken = {"exec": {"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]}}
    with pytest.raises(Denied, match="gave no token"):
        kubeconfig.read(_written(tmp_path, broken))[1]()


def test_a_client_certificate_is_for_the_endpoint(tmp_path: Path) -> None:
    """It is written to files that only we can read, since TLS takes nothing else."""
    pem = base64.b64encode(b"KEY").decode()
    user = {"client-certificate-data": pem, "client-key-data": pem}
    endpoint, token = kubeconfig.read(_written(tmp_path, user))
    assert token() == ""
    pair = endpoint().certificate
    assert pair is not None
    for name in pair:
        path = Path(name)
        assert path.read_text() == "KEY"
        assert path.stat().st_mode & 0o077 == 0
        path.unlink()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no mapping"),
        ("{", "while parsing a flow node"),
        ("contexts: []", "'current-context' is missing"),
        ("current-context: y", "'contexts' is missing"),
        ("{current-context: y, contexts: []}", "there is no context 'y'"),
    ],
)
def test_what_is_no_kubeconfig_is_named(tmp_path: Path, text: str, why: str) -> None:
    """One error that names the file and what is wrong with it."""
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InvalidManifest, match=f"config: is no kubeconfig: {why}"):
        kubeconfig.read(path)


def test_an_authority_is_asked_for_unless_its_owner_does_not_wish_it(tmp_path: Path) -> None:
    """As kubectl does: `insecure-skip-tls-verify` is the one way out."""
    assert kubeconfig.read(_written(tmp_path, {}))[0]().verified
    loose = _written(tmp_path, {}, **{"insecure-skip-tls-verify": True})
    assert not kubeconfig.read(loose)[0]().verified
