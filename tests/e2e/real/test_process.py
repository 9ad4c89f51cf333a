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
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

import pytest
import urllib3

from tests.conformance.probe import pod
from tests.e2e.real.admin import Administrator
from tests.e2e.real.controlplane import ControlPlane
from tests.e2e.real.karpenter import node_pool, wish
from tests.e2e.real.test_story import CLAIMS, GPU_CLASS

ROOT = Path(__file__).parents[3]
START_SECONDS = 90.0
POD_SECONDS = 180  # two ticks of a minute, should a hint and a join watch be late, and a boot
STOP_SECONDS = 30.0
WORDS = 20_000  # characters of a log that a failure shows


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Administrator]:
    """Give the administrator of a cluster in which nothing is installed."""
    with ControlPlane(tmp_path) as plane:
        admin = Administrator(plane.kubeconfig)
        admin.open_namespace()
        yield admin


@dataclass(frozen=True)
class Command:
    """`outrider local up` at work: its process, what it prints line by line, and its log."""

    process: subprocess.Popen[str]
    lines: Queue[str]
    log: Path

    def said(self, start: str) -> str:
        """Return what follows *start* in the first line that begins with it."""
        try:
            while not (line := self.lines.get(timeout=START_SECONDS)).startswith(start):
                pass
        except Empty:
            raise AssertionError(f"no line begins with {start!r}; {self.last_words()}") from None
        return line.removeprefix(start)

    def last_words(self) -> str:
        """Return the end of its log, and how it ended where it did."""
        status = self.process.poll()
        ended = "it runs" if status is None else f"it ended with {status}"
        return f"{ended}; its log ends:\n{self.log.read_text(errors='replace')[-WORDS:]}"


def environment(folder: Path) -> dict[str, str]:
    """Return an environment without an account, its temporary folder the test's: a `local down`
    elsewhere on the machine ends what it finds there.
    """
    mine = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return {**mine, "TMPDIR": str(folder)}


@contextmanager
def local_up(kubeconfig: Path) -> Iterator[Command]:
    """Run the command beside the cluster of *kubeconfig*, its log in the same folder."""
    program = Path(sys.executable).with_name("outrider")
    command = [str(program), "local", "up", "--port", "0", "--verbose"]
    log = kubeconfig.with_name("local-up.log")
    with (
        log.open("w") as words,
        subprocess.Popen(
            [*command, "--kubeconfig", str(kubeconfig)],
            cwd=ROOT,
            env=environment(kubeconfig.parent),
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
        ) as process,
    ):
        lines: Queue[str] = Queue()
        assert process.stdout is not None
        printed = process.stdout

        def listen() -> None:
            for line in printed:
                lines.put(line.strip())

        threading.Thread(target=listen, daemon=True).start()
        try:
            yield Command(process, lines, log)
        finally:
            process.kill()


def state(admin: Administrator) -> str:
    """Return what a cluster holds that tells why a pod waits, a line each."""
    lines = [
        f"{path}/{one['metadata']['name']}: {one.get('spec')} {one.get('status')}"
        for path in (admin.pods, CLAIMS, "/api/v1/nodes")
        for one in admin.must("GET", path)["items"]
    ]
    events = admin.must("GET", "/api/v1/events")["items"]
    lines += [
        f"{one['metadata']['creationTimestamp']} {one['involvedObject'].get('name')}"
        f" {one.get('reason')}: {one.get('message')}"
        for one in sorted(events, key=lambda one: str(one["metadata"]["creationTimestamp"]))
    ]
    return "\n".join(lines)


def timeline(endpoint: str) -> str:
    """Return the end of the timeline at *endpoint*, or why there is none."""
    try:
        answer = urllib3.request("GET", f"{endpoint}/_outrider/timeline", retries=False)
    except urllib3.exceptions.HTTPError as error:
        return f"no timeline: {error}"
    return answer.data.decode()[-WORDS:]


def test_the_command_serves_a_cluster_that_exists(alone: Administrator) -> None:
    """It installs itself, says where it is, gives a pending pod its node, and ends when asked."""
    with local_up(alone.kubeconfig) as command:
        endpoint = command.said("export AWS_ENDPOINT_URL=")
        assert endpoint.startswith("http://127.0.0.1:")
        assert command.said("export KUBECONFIG=") == str(alone.kubeconfig)
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
            scheduler = alone.kubeconfig.with_name("kube-scheduler.log").read_text()
            facts = state(alone), timeline(endpoint), scheduler[-WORDS:], command.last_words()
            raise AssertionError("\n\n".join((str(lost), *facts))) from None
        node = alone.must("GET", f"/api/v1/nodes/{bound['spec']['nodeName']}")
        assert node["metadata"]["labels"]["karpenter.sh/nodepool"] == "plain"
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(STOP_SECONDS) == 0
