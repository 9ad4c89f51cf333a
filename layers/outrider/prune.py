"""Cut a layer down to what a function imports, and compile it if the runtime's Python is here.

Lambda takes 250 MB unzipped, and reads every file of a cold start over the network. What goes: the
asynchronous half of the Kubernetes client, API descriptions of AWS services that outrider does not
call, tests, type stubs, and outrider's own rooms that only a laptop needs. Nothing is guessed by
name alone: a folder listed here that does not exist ends the build, so that a dependency's new
layout is noticed when it is built and not when it runs.

Bytecode matters: /opt is read-only, so what is not compiled here is compiled at every cold start.
Hash-based and unchecked, since unpacking a layer changes every file's time.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

UNUSED = (
    "kubernetes/aio",
    "aiohttp",
    "outrider/cli",
    "outrider/local",
    "bin",
)
# aiohttp's own family, gone with it; these come and go with its versions.
UNUSED_IF_THERE = (
    "aiohappyeyeballs",
    "aiosignal",
    "frozenlist",
    "multidict",
    "propcache",
    "yarl",
    "boto3/examples",
    "outrider/sim",
)
SERVICES = frozenset(
    {
        "cloudformation",
        "cloudwatch",
        "dynamodb",
        "ec2",
        "ecr",
        "eks",
        "events",
        "iam",
        "pricing",
        "secretsmanager",
        "sqs",
        "ssm",
        "stepfunctions",
        "sts",
    }
)
USELESS_FILES = ("*.pyi", "*.c", "*.pyx", "*.pxd")


def prune(target: Path) -> None:
    """Remove what no function imports from *target*, a folder of installed packages."""
    for name in UNUSED:
        if not (target / name).is_dir():
            sys.exit(f"prune: {name} is not in {target}: mend UNUSED")
        shutil.rmtree(target / name)
    for name in UNUSED_IF_THERE:
        shutil.rmtree(target / name, ignore_errors=True)
    data = target / "botocore" / "data"
    missing = SERVICES - {folder.name for folder in data.iterdir()}
    if missing:
        sys.exit(f"prune: botocore has no {sorted(missing)}: mend SERVICES")
    for folder in data.iterdir():
        if folder.is_dir() and folder.name not in SERVICES:
            shutil.rmtree(folder)
    for folder in [*target.rglob("tests"), *target.rglob("__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in USELESS_FILES:
        for file in target.rglob(pattern):
            file.unlink()


def compile_for(target: Path, runtime: str) -> None:
    """Compile *target* with Python *runtime* if one is here that runs."""
    python = f"python{runtime}"
    if not _runs(python):
        sys.stderr.write(f"prune: no {python} that runs here: the layer goes without bytecode\n")
        return
    how = ["-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([python, *how, str(target)], check=True)


def _runs(python: str) -> bool:
    """Return whether *python* runs; a version manager's shim may be here and not run."""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Run from the layer's Makefile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--runtime", required=True)
    arguments = parser.parse_args()
    prune(arguments.target)
    compile_for(arguments.target, arguments.runtime)


if __name__ == "__main__":
    main()
