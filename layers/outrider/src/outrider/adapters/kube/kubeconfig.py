"""A person's kubeconfig: where its current context leads, and by which token.

Tokens are read from the file, from a file that it names, or from the command that it names (which
is what `aws eks update-kubeconfig` writes). Client certificates become the endpoint's. Refuses to
choose a context.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from outrider.adapters.kube.client import Endpoint
from outrider.errors import Denied, InvalidManifest

Json = Mapping[str, Any]
COMMAND_SECONDS = 30


def read(path: Path) -> tuple[Callable[[], Endpoint], Callable[[], str]]:
    """Return what gives the endpoint and what gives a token for the current context of *path*."""
    try:
        config = yaml.safe_load(path.read_text())
        if not isinstance(config, Mapping):
            raise TypeError("it is no mapping")  # noqa: TRY301 - as what else is wrong with it
        context = _named(config, "context", config["current-context"])
        cluster = _named(config, "cluster", context["cluster"])
        user = _named(config, "user", context["user"])
        endpoint = Endpoint(
            str(cluster["server"]).rstrip("/"),
            _material(cluster, "certificate-authority", path),
            _certificate(user, path),
            verified=not cluster.get("insecure-skip-tls-verify"),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        why = f"{said} is missing" if isinstance(error, KeyError) else said
        raise InvalidManifest(f"is no kubeconfig: {why}", where=str(path)) from error
    return lambda: endpoint, lambda: _token(user, path)


def _named(config: Json, kind: str, name: str) -> Json:
    for one in config[f"{kind}s"]:
        if one["name"] == name:
            found: Json = one[kind]
            return found
    raise ValueError(f"there is no {kind} {name!r}")


def _material(entry: Json, name: str, beside: Path) -> str:
    """Return the PEM that *entry* holds, or names, under *name*; "" where there is none."""
    if entry.get(f"{name}-data"):
        return base64.b64decode(entry[f"{name}-data"]).decode()
    if entry.get(name):
        return (beside.parent / str(entry[name])).read_text()
    return ""


def _certificate(user: Json, beside: Path) -> tuple[str, str] | None:
    """Return the files of a client certificate and its key; OpenSSL takes files only."""
    pems = [_material(user, name, beside) for name in ("client-certificate", "client-key")]
    if not all(pems):
        return None
    files = []
    for pem in pems:
        handle, name = tempfile.mkstemp(prefix="outrider-", suffix=".pem")  # mode 0600
        with os.fdopen(handle, "w") as file:
            file.write(pem)
        files.append(name)
    return files[0], files[1]


def _token(user: Json, beside: Path) -> str:
    if user.get("token"):
        return str(user["token"])
    if user.get("tokenFile"):
        return (beside.parent / str(user["tokenFile"])).read_text().strip()
    if user.get("exec"):
        return _said(user["exec"])
    return ""


def _said(command: Json) -> str:
    """Return the token that a credential plugin prints."""
    extra = {str(one["name"]): str(one["value"]) for one in command.get("env") or ()}
    words = [str(command["command"]), *map(str, command.get("args") or ())]
    try:
        answer = subprocess.run(  # noqa: S603 - the user's own kubeconfig names it
            words,
            env={**os.environ, **extra},
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=True,
        )
        return str(json.loads(answer.stdout)["status"]["token"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise Denied(f"{words[0]} gave no token: {error}", "NoCredentials") from error
