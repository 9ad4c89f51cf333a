"""A real control plane on loopback: etcd, kube-apiserver, kube-scheduler, kube-controller-manager.

Set up as EKS sets up its own, as far as a machine can: RBAC and nothing else decides, nobody is
anonymous, the admission plugins are the defaults plus NodeRestriction, ExtendedResourceToleration
and OwnerReferencesPermissionEnforcement, controllers run with service accounts of their own, and an
audit log keeps who did what with which answer. There are no kubelets and no cloud: `outrider local
up --kubeconfig` brings both.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import urllib3
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outrider.local.kube.client import connection
from outrider.local.kube.listener import Authority
from tests.e2e.real.audit import AuditLog
from tests.e2e.real.binaries import found

PATIENCE = 60.0
STOP_SECONDS = 5.0
# Users by their tokens' names; only the administrator is above RBAC.
USERS = {
    "admin": ("kubernetes-admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "controllers": ("system:kube-controller-manager", ""),
}
ADMISSION = (
    "NodeRestriction",
    "ExtendedResourceToleration",
    "OwnerReferencesPermissionEnforcement",
)
AUDIT_FILE = "audit.log"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "users": [USERS[one][0] for one in ("scheduler", "controllers")]},
        {"level": "None", "userGroups": ["system:serviceaccounts"]},
        {"level": "None", "namespaces": ["kube-node-lease"]},
        {"level": "Metadata"},
    ],
}


class DidNotStart(RuntimeError):
    """A program ended or kept silent; its last words are in the message."""


class ControlPlane:
    """One cluster without nodes, its files in *folder*; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = found()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._client, self._peer, self._secure = _free_ports(3)
        self.kubeconfig = folder / "admin.kubeconfig"
        self.audit = AuditLog(folder / AUDIT_FILE)
        self.started_in = 0.0
        self.absences: list[tuple[datetime, datetime]] = []

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            self._write()
            self._start("etcd", self._etcd())
            self.start_apiserver()
            self._start("kube-scheduler", self._scheduler())
            self._start("kube-controller-manager", self._controllers())
            self._until("the default namespace", self._has_service_account)
            self._must_run()
        except BaseException:
            self.stop()
            raise
        self.started_in = time.monotonic() - began
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every program, the API server's clients first."""
        for name in reversed(list(self._running)):
            self._end(name)

    def start_apiserver(self) -> None:
        """Start the API server and wait until it says that it is ready."""
        self._start("kube-apiserver", self._apiserver())
        self._until("kube-apiserver", lambda: self.get("/readyz")[0] == 200)

    def restart_apiserver(self) -> None:
        """End the API server without a word, as a crash does, and bring it back.

        Until it is ready again it may refuse what is allowed, its roles unread: see `absences`.
        """
        began = datetime.now(UTC)
        self._running["kube-apiserver"].kill()
        self._running.pop("kube-apiserver").wait(STOP_SECONDS)
        self.start_apiserver()
        self.absences.append((began, datetime.now(UTC)))

    def was_away(self, at: str, *, before: timedelta = timedelta()) -> bool:
        """Return whether the API server was down or starting *at* a moment, or so long *before*."""
        moment = datetime.fromisoformat(at)
        return any(began <= moment <= ended + before for began, ended in self.absences)

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask as the administrator; 0 where nobody answers."""
        server, headers, context = connection(self.kubeconfig)
        with urllib3.PoolManager(ssl_context=context, retries=False, timeout=5.0) as pool:
            try:
                answer = pool.request("GET", server + path, headers=headers)
            except urllib3.exceptions.HTTPError:
                return 0, b""
            return answer.status, answer.data

    def log(self, program: str) -> str:
        """Return what *program* said."""
        return (self._folder / f"{program}.log").read_text(errors="replace")

    def _write(self) -> None:
        """Write certificates, tokens, kubeconfigs and the audit policy."""
        authority = Authority("outrider-e2e")
        certificate, key = authority.server_pem()
        files: Mapping[str, bytes] = {
            "ca.pem": authority.pem.encode(),
            "server.crt": certificate,
            "server.key": key,
            "sa.key": _signing_key(),
            "audit.yaml": yaml.safe_dump(AUDIT).encode(),
            "tokens.csv": "".join(
                f'{name}-token,{user},{user},"{groups}"\n' for name, (user, groups) in USERS.items()
            ).encode(),
        }
        for name, content in files.items():
            self._path(name).write_bytes(content)
            self._path(name).chmod(0o600)
        for name in USERS:
            path = self.kubeconfig if name == "admin" else self._path(f"{name}.kubeconfig")
            path.write_text(yaml.safe_dump(self._access(name)))
            path.chmod(0o600)

    def _access(self, user: str) -> dict[str, Any]:
        server = {"server": f"https://127.0.0.1:{self._secure}"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "e2e",
            "clusters": [
                {
                    "name": "e2e",
                    "cluster": {**server, "certificate-authority": str(self._path("ca.pem"))},
                }
            ],
            "users": [{"name": user, "user": {"token": f"{user}-token"}}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}],
        }

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _etcd(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._client, self._peer))
        return [
            f"--data-dir={self._path('etcd')}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str]:
        service_accounts = self._path("sa.key")
        return [
            f"--etcd-servers=http://127.0.0.1:{self._client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._secure}",
            f"--tls-cert-file={self._path('server.crt')}",
            f"--tls-private-key-file={self._path('server.key')}",
            "--service-cluster-ip-range=10.100.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={service_accounts}",
            f"--service-account-key-file={service_accounts}",
            f"--token-auth-file={self._path('tokens.csv')}",
            "--anonymous-auth=false",
            "--authorization-mode=RBAC",
            f"--enable-admission-plugins={','.join(ADMISSION)}",
            f"--audit-policy-file={self._path('audit.yaml')}",
            f"--audit-log-path={self._path(AUDIT_FILE)}",
            "--endpoint-reconciler-type=none",
            "--profiling=false",
        ]

    def _scheduler(self) -> list[str]:
        return [
            f"--kubeconfig={self._path('scheduler.kubeconfig')}",
            "--leader-elect=false",
            "--secure-port=0",  # nobody asks it; a port that is free now may be taken by then
        ]

    def _controllers(self) -> list[str]:
        return [
            f"--kubeconfig={self._path('controllers.kubeconfig')}",
            "--leader-elect=false",
            "--secure-port=0",  # nobody asks it; a port that is free now may be taken by then
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._path('sa.key')}",
            f"--root-ca-file={self._path('ca.pem')}",
        ]

    def _start(self, name: str, arguments: list[str]) -> None:
        guard = shutil.which("setpriv")  # a test run that is killed leaves nobody behind
        leash = [guard, "--pdeathsig", "KILL"] if guard else []
        with self._path(f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*leash, str(self._programs[name]), *arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, name: str) -> None:
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def _has_service_account(self) -> bool:
        return self.get("/api/v1/namespaces/default/serviceaccounts/default")[0] == 200

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until *what* is there, or until one of the programs has ended."""
        end = time.monotonic() + PATIENCE
        while not holds():
            self._must_run()
            if time.monotonic() > end:
                silent = "".join(self.log(name)[-1000:] for name in self._running)
                raise DidNotStart(f"{what} is not there after {PATIENCE:.0f} s: {silent}")
            time.sleep(0.1)  # a program of the machine's, on the machine's time

    def _must_run(self) -> None:
        """Raise where a program has ended, with the reason that it gave."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise DidNotStart(f"{name} ended: {self.log(name)[-2000:]}")


def _signing_key() -> bytes:
    """Return a key for service account tokens, in the one PEM form that Kubernetes reads."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
