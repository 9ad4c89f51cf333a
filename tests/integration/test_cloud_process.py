"""`outrider local up` as a process: its two lines, its end, and why it does not start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
import pytest

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-c", "from outrider.cli.local import command; command()"]
PATIENCE = 60.0  # of a machine that does ten other things; the contract's 10 s are a benchmark's


def environment(folder: Path) -> dict[str, str]:
    """Return an environment whose temporary folder is the test's and whose home is read-only."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    home.chmod(0o500)
    return {**os.environ, "TMPDIR": str(folder), "HOME": str(home)}


@contextmanager
def up(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `outrider local up`; give the process and the two variables that it prints."""
    process = subprocess.Popen(
        [*COMMAND, "up", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(folder),
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        found = [re.fullmatch(r"export (\w+)=(.+)\n", line) for line in lines]
        assert all(found), lines
        yield process, {match[1]: match[2] for match in found if match}
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def left_behind(folder: Path) -> list[str]:
    """Return what a cloud left in its temporary folder."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("outrider"))


def test_it_serves_until_ctrl_c_and_leaves_nothing(tmp_path: Path) -> None:
    """Two lines, an AWS endpoint and a kubeconfig that work, then a quiet end."""
    with up(tmp_path, "--port", "0", "--speed", "5") as (process, variables):
        url = variables["AWS_ENDPOINT_URL"]
        clusters = boto3.client("eks", endpoint_url=url).list_clusters()["clusters"]
        assert clusters == ["local"]
        assert Path(variables["KUBECONFIG"]).stat().st_mode & 0o077 == 0
        with urllib.request.urlopen(f"{url}/_outrider/clock", timeout=10) as answer:
            clock = json.load(answer)
        assert clock["speed"] == 5
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert out == "", "standard output is two lines, no more"
        assert "Traceback" not in err
    assert not left_behind(tmp_path)


def test_a_second_one_and_a_taken_port_are_one_clear_line(tmp_path: Path) -> None:
    """Exit status 2 and one line, for a port of ours and for somebody else's; down ends ours."""
    with up(tmp_path, "--port", "0") as (process, variables):
        port = variables["AWS_ENDPOINT_URL"].rpartition(":")[2]
        second = refused(tmp_path, port)
        assert f"runs on port {port} already (process {process.pid})" in second
        down = subprocess.run(
            [*COMMAND, "down"],
            env=environment(tmp_path),
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        assert b"Traceback" not in down.stderr
        assert process.wait(timeout=20) == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused(tmp_path, port)
    assert not left_behind(tmp_path)


def refused(folder: Path, port: str) -> str:
    """Return the one line of a start that is refused."""
    ended = subprocess.run(
        [*COMMAND, "up", "--port", port],
        cwd=folder,
        env=environment(folder),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.strip().splitlines()
    return line


def test_a_start_that_is_interrupted_ends_as_quietly(tmp_path: Path) -> None:
    """Ctrl-C before it is ready: no line, no traceback, nothing left."""
    process = subprocess.Popen(
        [*COMMAND, "up", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE and not left_behind(tmp_path):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert out == ""
    assert "Traceback" not in err
    assert not left_behind(tmp_path)
