"""The programs of a Kubernetes control plane: found as envtest finds them, or built once.

Each is looked for where TEST_ASSET_<PROGRAM> points, in KUBEBUILDER_ASSETS, on PATH, and in a cache
folder outside the repository whose name carries the version. `python -m tests.e2e.real.binaries`
says what was found; with `build` it fills the cache from the Go module tests/e2e/controlplane. What
can neither be found nor built is named, and the run fails: a control plane that is not there is
never a test that passes.

etcd is built like the others: the newest in a Python package (3.5.1) lacks the progress requests
that kube-apiserver's watch cache waits for, and its watches end after three seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

MODULE = Path(__file__).parents[1] / "controlplane"
KUBERNETES = ("kube-apiserver", "kube-scheduler", "kube-controller-manager")
PROGRAMS = ("etcd", *KUBERNETES)
OLDEST_ETCD = (3, 5, 13)  # kube-apiserver trusts the progress requests of no 3.5 before it
CACHE_VARIABLE = "OUTRIDER_E2E_CACHE"
NOT_THERE = 3  # the exit status by which .ci/run knows it from any other failure


class MissingProgram(RuntimeError):
    """A program of the control plane is nowhere, and here is what would bring it."""


class WrongProgram(RuntimeError):
    """A variable points at what is no program: for its owner to mend, not to be left out."""


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
    """Return where *program* is, None where it is nowhere; raise where a variable is wrong."""
    variable = f"TEST_ASSET_{program.upper().replace('-', '_')}"
    if asset := os.environ.get(variable):
        if shutil.which(asset) is None:
            raise WrongProgram(f"{variable} is {asset}, which is no program; mend or unset it")
        return Path(asset)
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
            f" {cache()}; `make e2e-build` builds them there; {_means()}"
        )
    present = {program: place for program, place in places.items() if place is not None}
    if _is_too_old(present["etcd"]):
        oldest = ".".join(map(str, OLDEST_ETCD))
        raise MissingProgram(f"{present['etcd']} is older than {oldest}: take it off the way")
    return present


def build() -> None:
    """Fill the cache with what is found nowhere."""
    missing = [program for program in PROGRAMS if find(program) is None]
    if not missing:
        return
    go = shutil.which("go")
    if go is None:
        raise MissingProgram(f"not found: {', '.join(missing)}; and {_means()}")
    stamp = "k8s.io/component-base/version"
    major, minor, _ = version().removeprefix("v").split(".", 2)
    stamps = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X {stamp}.{name}={value}" for name, value in stamps.items())
    cache().mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-p", "2", "-ldflags", f"-s -w {flags}", "-o", f"{cache()}/"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    sources = [f"./{program}" for program in missing]
    done = subprocess.run([*command, *sources], cwd=MODULE, env=environment, check=False)
    if done.returncode:
        raise MissingProgram(f"`go build {' '.join(sources)}` in {MODULE} did not succeed")


def _means() -> str:
    go = shutil.which("go")
    return f"Go is {go}" if go else "that needs Go >= 1.26 on PATH: there is none"


def _is_too_old(etcd: Path) -> bool:
    said = subprocess.run([etcd, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    return number is None or tuple(map(int, number.groups())) < OLDEST_ETCD


def main(arguments: list[str]) -> int:
    """Say what is there; build before, if asked to; return 3 where something is missing, 1 where
    a variable is wrong.
    """
    began = time.monotonic()
    try:
        if arguments == ["build"]:
            build()
        for program, place in found().items():
            print(f"{program}: {place}")  # noqa: T201
    except (MissingProgram, WrongProgram) as trouble:
        print(f"control plane {version()}: {trouble}", file=sys.stderr)  # noqa: T201
        return NOT_THERE if isinstance(trouble, MissingProgram) else 1
    if arguments == ["build"]:
        print(f"control plane {version()}: {time.monotonic() - began:.0f} s")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
