"""`outrider local up --kubeconfig` as people run it: a process of its own beside a cluster.

It gets a control plane of its own, since two outriders in one cluster would both answer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import pytest

from tests.conformance.probe import pod
from tests.e2e.real.admin import Administrator
from tests.e2e.real.controlplane import ControlPlane
from tests.e2e.real.karpenter import node_pool, wish
from tests.e2e.real.test_story import GPU_CLASS

ROOT = Path(__file__).parents[3]
START_SECONDS = 90.0
POD_SECONDS = 180  # two ticks of a minute, should a hint and a join watch be late, and a boot
STOP_SECONDS = 30.0


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Administrator]:
    """Give the administrator of a cluster in which nothing is installed."""
    with ControlPlane(tmp_path) as plane:
        admin = Administrator(plane.kubeconfig)
        admin.open_namespace()
        yield admin


@contextmanager
def local_up(kubeconfig: Path) -> Iterator[tuple[subprocess.Popen[str], Queue[str]]]:
    """Run the command; give its process and what it prints, line by line."""
    program = Path(sys.executable).with_name("outrider")
    command = [str(program), "local", "up", "--port", "0"]
    with subprocess.Popen(
        [*command, "--kubeconfig", str(kubeconfig)],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        lines: Queue[str] = Queue()
        assert process.stdout is not None
        printed = process.stdout

        def listen() -> None:
            for line in printed:
                lines.put(line.strip())

        threading.Thread(target=listen, daemon=True).start()
        try:
            yield process, lines
        finally:
            process.kill()


def said(lines: Queue[str], start: str) -> str:
    """Return the first of *lines* that begins with *start*, without it."""
    try:
        while not (line := lines.get(timeout=START_SECONDS)).startswith(start):
            pass
    except Empty:
        raise AssertionError(f"no line begins with {start!r}") from None
    return line.removeprefix(start)


def test_the_command_serves_a_cluster_that_exists(alone: Administrator) -> None:
    """It installs itself, says where it is, gives a pending pod its node, and ends when asked."""
    with local_up(alone.kubeconfig) as (process, lines):
        assert said(lines, "export AWS_ENDPOINT_URL=").startswith("http://127.0.0.1:")
        assert said(lines, "export KUBECONFIG=") == str(alone.kubeconfig)
        alone.apply(GPU_CLASS)
        wishes = [
            wish("karpenter.k8s.aws/instance-category", "In", "c", "m"),
            wish("kubernetes.io/arch", "In", "amd64"),
        ]
        alone.apply(node_pool("plain", wishes, node_class="gpu"))
        room = {"requests": {"cpu": "1"}}
        alone.must("POST", alone.pods, pod("asks", resources=room))
        try:
            bound = alone.until(
                alone.pods,
                lambda one: one["status"]["phase"] == "Running",
                seconds=POD_SECONDS,
                fieldSelector="metadata.name=asks",
            )
        except AssertionError as lost:
            told = "\n".join(lines.get() for _ in range(lines.qsize()))
            raise AssertionError(f"{lost}; what the command told:\n{told}") from None
        node = alone.must("GET", f"/api/v1/nodes/{bound['spec']['nodeName']}")
        assert node["metadata"]["labels"]["karpenter.sh/nodepool"] == "plain"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
