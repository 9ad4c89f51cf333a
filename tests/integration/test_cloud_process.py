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
    mine = {key: value for key, value in os.environ.items() if key != "AWS_ENDPOINT_URL"}
    return {**mine, "TMPDIR": str(folder), "HOME": str(home)}


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
        assert down(tmp_path).returncode == 0
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "the cloud was ended by SIGTERM" in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused(tmp_path, port)
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("how", ["exported", "--port", "--all"])
def test_of_several_down_ends_the_one_that_is_meant(tmp_path: Path, how: str) -> None:
    """Which one is said by the variable that `up` printed, or by --port; else nobody is ended."""
    with up(tmp_path, "--port", "0") as one, up(tmp_path, "--port", "0") as other:
        ports = {place[1]["AWS_ENDPOINT_URL"].rpartition(":")[2] for place in (one, other)}
        asked = down(tmp_path)
        assert asked.returncode == 2
        assert ports <= set(re.findall(r"port (\d+)", asked.stderr))
        assert (one[0].poll(), other[0].poll()) == (None, None)
        if how == "exported":
            assert down(tmp_path, AWS_ENDPOINT_URL=one[1]["AWS_ENDPOINT_URL"]).returncode == 0
        elif how == "--port":
            port = one[1]["AWS_ENDPOINT_URL"].rpartition(":")[2]
            assert down(tmp_path, "--port", port).returncode == 0
        else:
            assert down(tmp_path, "--all").returncode == 0
            assert other[0].wait(timeout=20) == 0
        assert one[0].wait(timeout=20) == 0
        if how != "--all":
            assert other[0].poll() is None
            assert down(tmp_path).returncode == 0
            assert other[0].wait(timeout=20) == 0
    assert not left_behind(tmp_path)


def test_a_note_whose_process_is_another_by_now_counts_for_nothing(tmp_path: Path) -> None:
    """A cloud that was killed leaves its note; who has its number now is not ended for it."""
    note = tmp_path / f"outrider-local-{os.getuid()}-4566.json"
    for pid in (os.getpid(), 1):  # of this user, and of nobody that it may ask
        note.write_text(json.dumps({"pid": pid, "port": 4566, "began": "1"}))
        assert "no embedded cloud runs" in down(tmp_path).stderr
    assert not left_behind(tmp_path)


def down(folder: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `outrider local down` and return how it ended."""
    ended = subprocess.run(
        [*COMMAND, "down", *more],
        env={**environment(folder), **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "Traceback" not in ended.stderr
    return ended


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
