"""outrider on the real control plane: the embedded account in this process, the cluster outside.

`Town` is what `outrider local up --kubeconfig` serves, with kubelets that boot quickly. It runs on
real time, because kube-scheduler and the controllers do; whoever waits, waits by watching. What the
functions did in the cluster is read in the API server's audit log, which no code of ours writes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from outrider.local.clock import ScaledClock
from outrider.local.cloud import Cloud
from outrider.local.existing import ExistingCluster
from outrider.local.kube.kubelets import Timings
from outrider.local.timeline import Entry
from tests.conformance.probe import Obj
from tests.e2e.real.admin import Administrator
from tests.e2e.real.controlplane import ControlPlane

TEMPLATE = Path(__file__).parents[3] / "template.yaml"
# A machine that boots in two seconds: EC2's own part (2 to 5 s) stays as it is.
QUICK = Timings(
    join=0.5,
    join_jitter=0.5,
    ready=0.5,
    devices=0.5,
    start=0.1,
    stop=0.5,
    node_removal=5.0,
    image_bytes=1_000_000,
)
PATIENCE = 90.0
OURS = "outrider:"


class Deed(NamedTuple):
    """What somebody of ours asked of the API server, and the answer's code."""

    group: str
    verb: str
    resource: str
    name: str
    code: int
    at: str


class Town:
    """The embedded account around a real control plane."""

    def __init__(self, plane: ControlPlane, admin: Administrator) -> None:
        self.plane = plane
        self.admin = admin
        self.cloud = Cloud(
            template=TEMPLATE, clock=ScaledClock(), kubeconfig=plane.kubeconfig, seed=1
        )
        self._news = threading.Condition()

    def open(self) -> None:
        """Start it."""
        self.cloud.start()
        cluster = self.cloud.cluster
        assert isinstance(cluster, ExistingCluster)
        cluster.kubelets.timings = QUICK
        self.cloud.timeline.listen(self._heard)

    def close(self) -> None:
        """Take the pods away, then the machines, then the account."""
        self.admin.send("DELETE", self.admin.pods, {"gracePeriodSeconds": 0})
        self.cloud.stop()
        for collection in ("/apis/karpenter.sh/v1/nodeclaims", "/api/v1/nodes"):
            for one in self.admin.must("GET", collection)["items"]:
                path = f"{collection}/{one['metadata']['name']}"
                none = {"metadata": {"finalizers": None}}
                self.admin.send("PATCH", path, none, "application/merge-patch+json")
                self.admin.send("DELETE", path)

    def _heard(self, _entry: Entry) -> None:
        with self._news:
            self._news.notify_all()

    def seen(self, kind: str, since: int = 0, **fields: Any) -> list[Entry]:
        """Return the happenings of a kind."""
        return [
            entry
            for entry in self.cloud.timeline.entries(since)
            if entry["kind"] == kind and fields.items() <= entry.items()
        ]

    def mark(self) -> int:
        """Return the place in the timeline from which to look for what comes."""
        return len(self.cloud.timeline.entries())

    def until(self, what: str, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Wait for happenings until *holds* gives something, and return it."""
        end = time.monotonic() + seconds
        while not (found := holds()):
            if time.monotonic() > end:
                last = "\n".join(str(entry)[:300] for entry in self.cloud.timeline.entries()[-25:])
                raise AssertionError(f"{what} did not come to pass; the last that did:\n{last}")
            with self._news:
                self._news.wait(1.0)
        return found

    def running(self, *names: str, since: int = 0, seconds: float = PATIENCE) -> None:
        """Wait until each of the pods has come to run."""
        wanted = {f"{self.admin.namespace}/{name}" for name in names}

        def all_run() -> bool:
            return wanted <= {entry["pod"] for entry in self.seen("podRunning", since)}

        self.until(f"running {', '.join(sorted(wanted))}", all_run, seconds)

    def tick(self, flow: str) -> None:
        """Let the minute pass for one *flow* now."""
        detail = {"cluster": "local", "flow": flow}
        self.cloud.put_event({"source": "outrider.ticks", "detail-type": "Tick", "detail": detail})

    def node_of(self, pod: str) -> str:
        """Return the Node that a pod is bound to."""
        return str(self.admin.must("GET", f"{self.admin.pods}/{pod}")["spec"]["nodeName"])

    def instance_of(self, node: str) -> str:
        """Return the instance behind a Node."""
        found = self.admin.must("GET", f"/api/v1/nodes/{node}")
        return str(found["spec"]["providerID"]).rpartition("/")[2]

    def deeds(self) -> Iterator[Deed]:
        """Yield what the functions asked of the API server."""
        for event in self.plane.audited():
            groups = event.get("impersonatedUser", {}).get("groups", ())
            for group in groups:
                if group.startswith(OURS):
                    yield deed(group.removeprefix(OURS), event)


def deed(group: str, event: Obj) -> Deed:
    """Read one line of the audit log."""
    about = event.get("objectRef", {})
    resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
    if about.get("apiGroup"):
        resource += f".{about['apiGroup']}"
    code = event.get("responseStatus", {}).get("code", 0)
    at = event["requestReceivedTimestamp"]
    return Deed(group, event["verb"], resource, about.get("name", ""), code, at)


@contextmanager
def opened(plane: ControlPlane, admin: Administrator) -> Iterator[Town]:
    """Open a town and close it again."""
    made = Town(plane, admin)
    try:
        made.open()
        yield made
    finally:
        made.close()
